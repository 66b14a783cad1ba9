from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from proxy.observe import code_names
from proxy.observe.code_names import CODE_NAMES

TRANSCRIPTS = Path(__file__).parents[1] / "data" / "transcripts"

#: By code, what servers before the rename said.
RENAMED = {64: "WriteConcernFailed", 10107: "NotMaster", 13435: "NotMasterNoSlaveOk"}


def test_every_number_and_every_name_stands_once() -> None:
    """A number that is written twice would be dropped without a word."""
    [table] = [
        node
        for node in ast.walk(ast.parse(Path(code_names.__file__).read_text()))
        if isinstance(node, ast.Dict)
    ]
    written = [ast.literal_eval(key) for key in table.keys if key is not None]
    assert written == sorted(set(written))
    assert len(set(CODE_NAMES.values())) == len(CODE_NAMES)


@pytest.mark.parametrize("path", sorted(TRANSCRIPTS.rglob("*.jsonl")), ids=lambda path: path.name)
def test_recorded_servers_agree(path: Path) -> None:
    for line in path.read_text().splitlines():
        reply = json.loads(line).get("reply", {})
        name = str(reply.get("codeName", "Location"))
        if "code" in reply and not name.startswith("Location"):
            code = int(reply["code"]["$numberInt"])
            assert name in (CODE_NAMES[code], RENAMED.get(code))

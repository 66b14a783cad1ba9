"""Writes the dashboards to ``dashboards/``; with ``--check``, says which of them are out of date.

python -m grafana.build
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from grafana.boards import overview, rules, sessions, transactions, upstream
from grafana.panels import made

BOARDS: Final = {
    "overview": overview.BOARD,
    "sessions": sessions.BOARD,
    "transactions": transactions.BOARD,
    "rules": rules.BOARD,
    "upstream": upstream.BOARD,
}


def files() -> dict[Path, str]:
    """What every file has to hold."""
    folder = Path(__file__).parent / "dashboards"
    return {
        folder / f"{name}.json": json.dumps(made(board), indent=2, ensure_ascii=False) + "\n"
        for name, board in BOARDS.items()
    }


def main(arguments: list[str]) -> int:
    stale = [
        (path, text)
        for path, text in files().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        print(path.name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Real programs that use sessions and exit leave none behind, and are refused nothing.

They end their sessions when they close, some without waiting for an answer (``w: 0``).
"""

from __future__ import annotations

import json

import pytest

from proxy.terminal.client import Endpoint
from tests.clients.harness import MONGOSH, NODE, PYMONGO, Client, embedded, proxied
from tests.patience import wait_until
from tests.ports import free_port

#: Steps that make sessions which nobody ends, end others' or ask for what is refused. Drivers
#: forget a session that was in use when its connection was lost, by their specification.
CONTROL = {
    PYMONGO.name: (
        "61_start_session", "62_kill_sessions", "63_kill_all_sessions", "64_kill_by_pattern",
        "65_bad_session_list", "66_bad_lsid", "72_large_document", "73_too_large_document",
    ),
    NODE.name: (
        "hangUpOnWrite", "hangUpOnRead", "hangUpOnCommit", "startSession", "killSessions",
        "badSessionList", "large",
    ),
    MONGOSH.name: ("refreshSessions", "startSession", "killOther", "badSessionList", "killOwn"),
}  # fmt: skip


@pytest.mark.parametrize("version", ["4.4", "8.0"])
@pytest.mark.parametrize("client", [PYMONGO, NODE, MONGOSH], ids=lambda client: client.name)
def test_no_session_is_left_at_exit_and_nothing_refused(tmp_path, client: Client, version: str):
    client.require()
    config, audit, admin = tmp_path / "config.toml", tmp_path / "audit", f"127.0.0.1:{free_port()}"
    config.write_text(f'[audit]\nfile = "{audit}"\n')
    options = ["--config", str(config), "--admin", admin]
    with (
        embedded(authorization=True, version=version) as upstream,
        proxied(upstream, tmp_path / "log", *options) as through,
    ):
        seen = client.without(*CONTROL[client.name]).run(through.uri())
        assert len(seen) > 20
        endpoint = Endpoint(admin, None)

        def left() -> list[dict[str, object]]:
            return [row for row in endpoint.get("sessions")["sessions"] if row["ended"] is None]

        # Who wants no answer does not wait for what its last message does.
        wait_until(lambda: not left(), f"no session is left: {left()[:3]}")
        assert endpoint.get("sessions")["total"]
        lines = [json.loads(line) for line in audit.read_text().splitlines()]
    ended = [line for line in lines if line["command"] == "endSessions"]
    assert ended
    assert {line["decision"] for line in ended} == {"done"}
    # But for logins that are wrong on purpose.
    rest = [line for line in lines if "claimed" not in line]
    assert [line for line in rest if line["decision"] in ("refused", "failed")] == []

"""What each session command says to whom: a command without a row fails."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.session.caller import Caller
from proxy.session.commands import SESSION_COMMANDS
from proxy.session.identity import NO_OWNER
from proxy.session.plans import Plan, Refusal
from proxy.session.store import SessionStore
from tests.session.sessions import ALICE, BOB, caller, deciding, lsid, request

USER = {"user": "alice", "db": "app"}
OTHER = {"user": "bob", "db": "app"}

#: Nobody where authorization is on, anybody where it is off, and where that is unknown; a user,
#: several at once, who may kill any session, act for others, do both, and another server.
CALLERS: dict[str, Caller] = {
    "nobody": caller(),
    "anybody": caller(authorization=False),
    "unknown": caller(authorization=None),
    "user": caller("alice@app"),
    "several": caller("alice@app", "bob@app"),
    "killer": caller("alice@app", may=("killAnySession",)),
    "impersonator": caller("alice@app", may=("impersonate",)),
    "both": caller("alice@app", may=("killAnySession", "impersonate")),
    "server": caller("__system@local", may=("anyAction", "internal")),
}
NAMES = tuple(CALLERS)
#: Each is allowed (.) or refused with 13 (x), in the order of the callers.
TABLE: list[tuple[str, Any, str]] = [
    ("startSession", 1, "x...x...."),
    ("refreshSessions", [], "x...x...."),
    ("refreshSessions", [lsid(1)], "x...x...."),
    ("refreshSessions", [lsid(1, ALICE)], "x...x...."),
    ("refreshSessions", [lsid(1, BOB)], "x..xxx..."),
    ("endSessions", [lsid(1)], "x...x...."),
    ("endSessions", [lsid(1, BOB)], "x..xxx..."),
    ("killSessions", [], "x........"),
    ("killSessions", [lsid(1)], "x...x...."),
    ("killSessions", [lsid(1, ALICE)], "x...x...."),
    ("killSessions", [lsid(1, BOB)], "x..xx...."),
    ("killAllSessions", [], "x.xxx.x.."),
    ("killAllSessions", [USER], "x.x.x...."),
    ("killAllSessions", [OTHER], "x.xxx.x.."),
    ("killAllSessions", [USER, OTHER], "x.xxx.x.."),
    ("killAllSessionsByPattern", [], "x.xxx.x.."),
    ("killAllSessionsByPattern", [{}], "x.xxx.x.."),
    ("killAllSessionsByPattern", [{"uid": ALICE}], "x.x.x...."),
    ("killAllSessionsByPattern", [{"uid": BOB}], "x.xxx.x.."),
    ("killAllSessionsByPattern", [{"uid": NO_OWNER}], "x..xx.x.."),
    ("killAllSessionsByPattern", [{"lsid": lsid(1)}], "x...x...."),
    ("killAllSessionsByPattern", [{"lsid": lsid(1, BOB)}], "x.xxx.x.."),
    ("killAllSessionsByPattern", [{"uid": ALICE}, {"uid": BOB}], "x.xxx.x.."),
    ("killAllSessionsByPattern", [{"users": [USER]}], "x.xxxxx.."),
    ("killAllSessionsByPattern", [{"users": [], "roles": []}], "x.xxxxx.."),
]


def test_every_command_has_a_row() -> None:
    assert {name for name, _, _ in TABLE} == set(SESSION_COMMANDS)
    assert all(len(row) == len(NAMES) for _, _, row in TABLE)


@pytest.mark.parametrize("who", NAMES)
@pytest.mark.parametrize(("command", "argument", "row"), TABLE)
def test_who_gets_what(command: str, argument: Any, row: str, who: str) -> None:
    decision = deciding(request({command: argument}), CALLERS[who], SessionStore(), native=False)
    if row[NAMES.index(who)] == ".":
        assert isinstance(decision, Plan), decision
    else:
        assert isinstance(decision, Refusal), decision
        assert decision.error.code == 13


@pytest.mark.parametrize("who", NAMES)
@pytest.mark.parametrize(("command", "argument", "row"), TABLE)
def test_nobody_reaches_beyond_what_is_theirs(
    command: str, argument: Any, row: str, who: str
) -> None:
    """Who has no right over others' sessions gets plans about their own alone."""
    decision = deciding(request({command: argument}), CALLERS[who], SessionStore(), native=False)
    if who in ("user", "several") and isinstance(decision, Plan):
        own = CALLERS[who].users
        assert not decision.selection.everything
        assert decision.selection.uids <= own
        assert {key.uid for key in decision.selection.keys} <= own
        assert {key.uid for key in decision.lsids} <= own

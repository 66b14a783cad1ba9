from __future__ import annotations

from typing import Any

import pytest

from policies.kill_guard import KillGuard, holds
from proxy.session.caller import Caller
from proxy.session.identity import NO_OWNER, Identity
from proxy.session.ids import LogicalSessionId
from proxy.session.store import SessionStore
from tests.policies.contexts import context
from tests.session.sessions import (
    ALICE,
    ANYBODY,
    AS_ALICE,
    IMPERSONATOR,
    KILLER,
    caller,
    lsid,
    uuid,
)

#: Nobody, where it could not be found out whether anybody has to be somebody.
UNSURE = caller(authorization=None, may=("killAnySession", "impersonate"))
TRUSTED = caller("boss@admin", may=("killAnySession", "shutdown"))


@pytest.fixture
def store() -> SessionStore:
    made = SessionStore()
    for number in range(3):
        made.use(LogicalSessionId(uuid(number), ALICE), 0.0, "alice@app")
    return made


@pytest.mark.parametrize(
    ("who", "document", "refused"),
    [
        (KILLER, {"killAllSessions": []}, True),
        (KILLER, {"killAllSessionsByPattern": [{}]}, True),
        (ANYBODY, {"killSessions": []}, True),
        (TRUSTED, {"killAllSessions": []}, False),
        (KILLER, {"killAllSessions": [{"user": "alice", "db": "app"}]}, False),
        (AS_ALICE, {"killSessions": []}, False),
        # Where authorization is off, everybody has the digest of nobody.
        *(
            (who, document, refused)
            for who, refused in ((ANYBODY, True), (UNSURE, True), (IMPERSONATOR, False))
            for document in (
                {"killAllSessionsByPattern": [{"uid": NO_OWNER}]},
                {"killAllSessionsByPattern": [{"users": [{"user": "", "db": ""}]}]},
                {"killAllSessionsByPattern": [{"uid": NO_OWNER}, {"lsid": lsid(1, ALICE)}]},
                {"killAllSessions": [{"user": "", "db": ""}]},
            )
        ),
        (ANYBODY, {"killAllSessionsByPattern": [{"uid": ALICE}]}, False),
        (ANYBODY, {"killSessions": [lsid(1, NO_OWNER)]}, False),
        (IMPERSONATOR, {"killAllSessionsByPattern": [{"users": [], "roles": []}]}, True),
        (IMPERSONATOR, {"killAllSessionsByPattern": [{"users": []}]}, True),
        (KILLER, {"endSessions": []}, False),
        (KILLER, {"find": "c"}, False),
    ],
)
def test_everybody_takes_a_permission(
    store: SessionStore, who: Caller, document: dict[str, Any], refused: bool
) -> None:
    rule = KillGuard(KillGuard.Settings(permission="shutdown"))
    error = rule.refuse(context(document, who, store))
    assert (error is not None) is refused
    if error is not None:
        assert (error.code, error.code_name) == (13, "Unauthorized")
        assert error.errmsg.startswith(
            f"not authorized to run {next(iter(document))}: killing everybody's sessions takes"
            " shutdown; it would hit "
        )
    assert KillGuard(KillGuard.Settings()).refuse(context(document, who, store)) is None


@pytest.mark.parametrize(
    ("who", "document", "refused"),
    [
        (AS_ALICE, {"killSessions": []}, True),
        (AS_ALICE, {"killSessions": [lsid(0), lsid(1)]}, False),
        (TRUSTED, {"killAllSessions": []}, False),
        (KILLER, {"killAllSessions": []}, True),
        (KILLER, {"killSessions": []}, False),
    ],
)
def test_very_many_take_it_too(
    store: SessionStore, who: Caller, document: dict[str, Any], refused: bool
) -> None:
    rule = KillGuard(KillGuard.Settings(permission="shutdown", max_sessions=2))
    assert (rule.refuse(context(document, who, store)) is not None) is refused


def test_without_a_permission_nobody_exceeds_the_maximum(store: SessionStore) -> None:
    rule = KillGuard(KillGuard.Settings(max_sessions=2))
    error = rule.refuse(context({"killAllSessions": []}, TRUSTED, store))
    assert error is not None
    assert "killAllSessions: it would hit 3 known sessions with 0 operations" in error.errmsg


def test_permissions_are_actions_or_roles() -> None:
    who = Caller.of(Identity((("a", "b"),), (("boss", "admin"),), frozenset(("shutdown",))), True)
    assert holds(who, "shutdown")
    assert holds(who, "boss@admin")
    assert not holds(who, "boss@app")
    assert not holds(who, "")

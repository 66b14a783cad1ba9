from __future__ import annotations

import pytest

from policies.ownerless_sessions import OwnerlessSessions
from proxy.session.caller import Caller
from proxy.session.identity import NO_OWNER
from proxy.session.ids import LogicalSessionId
from proxy.session.store import SessionStore
from tests.policies.contexts import context
from tests.session.sessions import ALICE, ANYBODY, AS_ALICE, caller, lsid, uuid

RULE = OwnerlessSessions(OwnerlessSessions.Settings())
FIND = {"find": "c", "lsid": lsid(2)}


@pytest.fixture
def store() -> SessionStore:
    """A session from before authorization was turned on."""
    made = SessionStore()
    made.use(LogicalSessionId(uuid(2), NO_OWNER), 0.0, "alice@app")
    return made


@pytest.mark.parametrize(
    "who",
    [ANYBODY, caller("bob@app", authorization=False), caller("alice@app", authorization=None)],
)
def test_anybody_may_use_them_without_authorization(store: SessionStore, who: Caller) -> None:
    assert RULE.refuse(context(FIND, who, store)) is None


def test_they_end_when_authorization_is_turned_on(store: SessionStore) -> None:
    error = RULE.refuse(context(FIND, AS_ALICE, store, ran_open=True))
    assert error is not None
    assert (error.code, error.code_name) == (13, "Unauthorized")
    assert error.errmsg == (
        f"session {LogicalSessionId(uuid(2), NO_OWNER)} has no owner and cannot be used while"
        " authorization is enabled"
    )
    # To operators it is nobody's, whoever asks.
    assert error.session == LogicalSessionId(uuid(2), NO_OWNER)
    assert error.reason == "the session was made before authorization was on, and has no owner"


def test_not_even_by_naming_the_digest(store: SessionStore) -> None:
    who = caller("imp@admin", may=("impersonate",))
    for known in (store, SessionStore()):
        document = {"find": "c", "lsid": lsid(2, NO_OWNER)}
        assert RULE.refuse(context(document, who, known)) is not None


def test_other_sessions_go_on(store: SessionStore) -> None:
    assert RULE.refuse(context({"find": "c"}, AS_ALICE, store, ran_open=True)) is None
    assert (
        RULE.refuse(context({"find": "c", "lsid": lsid(3)}, AS_ALICE, store, ran_open=True)) is None
    )
    store.use(LogicalSessionId(uuid(2), ALICE), 0.0, "alice@app")
    assert RULE.refuse(context(FIND, AS_ALICE, store, ran_open=True)) is None


def test_where_authorization_was_on_all_the_time_nobody_left_any(store: SessionStore) -> None:
    assert RULE.refuse(context(FIND, AS_ALICE, store)) is None

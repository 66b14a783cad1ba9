from __future__ import annotations

from typing import Any

import pytest
from bson import Decimal128, Int64

from policies.ownership import Ownership
from proxy.session.caller import Caller
from proxy.session.ids import LogicalSessionId
from proxy.session.records import CursorId
from proxy.session.store import SessionStore
from tests.policies.contexts import context
from tests.session.sessions import ALICE, ANYBODY, AS_ALICE, BOB, caller, lsid, uuid

LEFT_TO_UPSTREAM = Ownership(Ownership.Settings())
EARLY = Ownership(Ownership.Settings(refuse_early=True))
AS_BOB = caller("bob@app")


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"find": "c"}, None),
        ({"find": "c", "lsid": lsid(2)}, None),
        ({"find": "c", "lsid": lsid(2, BOB)}, 13),
        ({"find": "c", "lsid": 1}, 14),
        ({"find": "c", "lsid": {}}, 40414),
        ({"find": "c", "lsid": lsid(2), "txnNumber": 1}, None),
        ({"find": "c", "txnNumber": Int64(1)}, None),
    ],
)
def test_others_sessions_and_malformed_lsids(document: dict[str, Any], code: int | None) -> None:
    assert LEFT_TO_UPSTREAM.refuse(context(document)) is None
    for rule, how in ((EARLY, {}), (LEFT_TO_UPSTREAM, {"upstream_checks": False})):
        error = rule.refuse(context(document, **how))
        assert (error.code if error else None) == code


@pytest.fixture
def store() -> SessionStore:
    """alice's session with the cursor 7."""
    made = SessionStore()
    session = made.use(LogicalSessionId(uuid(2), ALICE), 0.0)
    assert session is not None
    made.cursor_opened(CursorId("a:1", 7), session, "app.c", 0.0)
    return made


MORE = {"getMore": Int64(7), "collection": "c", "lsid": lsid(2)}


@pytest.mark.parametrize(
    ("who", "document", "upstream", "refused"),
    [
        (AS_ALICE, MORE, "a:1", False),
        (AS_BOB, MORE, "a:1", True),
        (AS_BOB, {"getMore": Int64(7), "collection": "c"}, "a:1", True),
        (AS_BOB, MORE, "b:1", False),
        (AS_BOB, {**MORE, "getMore": Int64(8)}, "a:1", False),
        (AS_BOB, {"getMore": 7.0, "collection": "c"}, "a:1", True),
        (AS_BOB, {"getMore": Decimal128("7"), "collection": "c"}, "a:1", True),
        (AS_BOB, {**MORE, "getMore": "x"}, "a:1", False),
        (AS_BOB, {"find": "c", "lsid": lsid(2)}, "a:1", False),
        (caller("bob@app", may=("impersonate",)), MORE, "a:1", False),
        (ANYBODY, MORE, "a:1", False),
    ],
)
def test_cursors_of_others_sessions(
    store: SessionStore, who: Caller, document: dict[str, Any], upstream: str, refused: bool
) -> None:
    error = LEFT_TO_UPSTREAM.refuse(context(document, who, store, upstream=upstream))
    assert (error is not None) is refused


def test_the_words_are_the_servers(store: SessionStore) -> None:
    opener = LogicalSessionId(uuid(2), ALICE)
    own = LogicalSessionId(uuid(2), BOB)
    for document, used in (
        (MORE, f"({own})"),
        ({"getMore": Int64(7), "collection": "c"}, "(none)"),
    ):
        error = LEFT_TO_UPSTREAM.refuse(context(document, AS_BOB, store, upstream="a:1"))
        assert error is not None
        assert (error.code, error.code_name) == (13, "Unauthorized")
        assert error.errmsg == (
            f"Cursor session id ({opener}) is not the same as the operation context's"
            f" session id {used}"
        )

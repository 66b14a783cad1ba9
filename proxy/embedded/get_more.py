"""The rest of a cursor: getMore and killCursors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bson import Int64

from proxy.embedded.call import Answer, Call, Command, Later
from proxy.embedded.failures import failure, unauthorized
from proxy.embedded.printing import type_name

if TYPE_CHECKING:
    from proxy.embedded.cursors import Cursor
    from proxy.embedded.engine import Document

#: How long an awaitData getMore waits when it names no time.
_AWAIT_SECONDS: Final = 1.0


def _belongs(call: Call, cursor: Cursor) -> None:
    """Refuse a getMore from another session, transaction or user than the cursor's."""
    ours, theirs = call.key, cursor.session
    ours_text, theirs_text = (key and key.text(call.version) for key in (ours, theirs))
    if call.node.authorization:
        users = tuple((user.name, user.database) for user in call.users)
        if ours != theirs and not call.may_on_cluster("impersonate"):
            raise unauthorized(
                f"Cursor session id ({theirs_text or 'none'}) is not the same as the operation "
                f"context's session id ({ours_text or 'none'})"
            )
        if not set(users) & set(cursor.users):
            raise unauthorized(f"cursor id {cursor.id} was not created by the authenticated user")
    prefix = f"Cannot run getMore on cursor {cursor.id}, which was "
    if theirs is None and ours is not None:
        raise failure(50736, f"{prefix}not created in a session, in session {ours_text}")
    if theirs is not None and ours is None:
        raise failure(50737, f"{prefix}created in session {theirs_text}, without an lsid")
    if theirs != ours:
        raise failure(50738, f"{prefix}created in session {theirs_text}, in session {ours_text}")
    if cursor.txn_number is None and call.txn_number is not None:
        raise failure(
            50739, f"{prefix}not created in a transaction, in transaction {call.txn_number}"
        )
    if cursor.txn_number is not None and call.txn_number is None:
        raise failure(
            50740, f"{prefix}created in transaction {cursor.txn_number}, without a txnNumber"
        )
    if cursor.txn_number != call.txn_number:
        raise failure(
            50741,
            f"{prefix}created in transaction {cursor.txn_number}, in transaction {call.txn_number}",
        )


def _get_more(call: Call) -> Answer:
    cursor_id = call.body["getMore"]
    if not isinstance(cursor_id, Int64):
        raise failure(14, "Field 'getMore' must be of type long in: { getMore: ... }")
    name = call.option("collection")
    if not isinstance(name, str):
        raise failure(2, "Field 'collection' must be of type string")
    size = call.number("batchSize") or None
    if size is not None and size < 0:
        raise failure(2, "Batch size for getMore must be positive, but received: " + str(size))
    cursor = call.node.cursors.get(cursor_id, call.now)
    _belongs(call, cursor)
    if cursor.ns != (call.database, name):
        raise unauthorized(
            f"Requested getMore on namespace '{call.database}.{name}', but cursor belongs to a "
            f"different namespace {'.'.join(cursor.ns)}"
        )
    if cursor.tail is not None:
        return _tail(call, cursor, size)
    return _next_batch(call, cursor, size)


def _next_batch(call: Call, cursor: Cursor, size: int | None) -> Document:
    batch = cursor.take(size)
    cursor_id = Int64(cursor.id)
    if cursor.exhausted and cursor.tail is None:
        call.node.cursors.close(cursor.id)
        cursor_id = Int64(0)
    call.more_to_come = call.exhaust and bool(cursor_id)
    return {"cursor": {"nextBatch": batch, "id": cursor_id, "ns": ".".join(cursor.ns)}}


def _tail(call: Call, cursor: Cursor, size: int | None) -> Answer:
    until = call.now
    if cursor.await_data:
        until += call.number("maxTimeMS") / 1000 or _AWAIT_SECONDS

    def attempt(now: float) -> Document | None:
        assert cursor.tail is not None
        if call.node.cursors.find(cursor.id) is not cursor:
            raise failure(237, f"cursor id {cursor.id} was killed")
        cursor.rest = cursor.tail()
        if cursor.exhausted and now < until:
            return None
        return _next_batch(call, cursor, size)

    return attempt(call.now) or Later(until, attempt)


def _kill_cursors(call: Call) -> Answer:
    ids = call.body.get("cursors")
    if not isinstance(ids, list) or not ids:
        raise failure(2, "Must specify at least one cursor id in 'cursors'")
    killed: list[Int64] = []
    missing: list[Int64] = []
    for cursor_id in ids:
        if not isinstance(cursor_id, Int64):
            raise failure(9, f"Expected element of type long, found {type_name(cursor_id)}")
        cursor = call.node.cursors.find(cursor_id)
        if cursor is not None and not _made_it(call, cursor):
            raise call.not_authorized()
    for cursor_id in ids:
        (killed if call.node.cursors.close(cursor_id) else missing).append(cursor_id)
    call.node.wake()
    return {
        "cursorsKilled": killed,
        "cursorsNotFound": missing,
        "cursorsAlive": [],
        "cursorsUnknown": [],
    }


def _made_it(call: Call, cursor: Cursor) -> bool:
    """Whether one of the caller's users opened the cursor, or may do with any."""
    if call.may_on_cluster("killAnyCursor"):
        return True
    return any((user.name, user.database) in cursor.users for user in call.users)


def _may_kill_cursors(call: Call) -> None:
    of_command = str(call.body["killCursors"]).startswith("$cmd.")
    if not of_command and not call.may_on_cluster("killAnyCursor"):
        call.need(call.resource, "killCursors")


COMMANDS: Final = {
    "getMore": Command(_get_more, in_transaction=True, awaits=True),
    "killCursors": Command(_kill_cursors, _may_kill_cursors, in_transaction=True),
}

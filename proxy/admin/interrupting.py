"""Interrupting one operation: by upstream's own killOp where that can be had, else here.

Upstream's own way leaves the connection as it is, and ends writes too. It takes another connection
of the same user's, and an operation that can be told from others: by its session and command. Where
that is not to be had, the client is answered as an interrupted one is and its connection closed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

import bson
import trio

from proxy.admin.asking import UnreachableError, ask_for
from proxy.admin.kill import Reach
from proxy.session.ids import LogicalSessionId

if TYPE_CHECKING:
    from proxy.listing import Row
    from proxy.session.store import SessionStore
    from proxy.wire.replies import Reply

#: Seconds for which upstream may go on with what it was told to end, and between two looks at it.
_PATIENCE: Final = 5.0
_LOOK: Final = 0.05
#: Connections are looked for so often: where none is idle, there is the other way.
_TRIES: Final = 2


class Connections(Reach, Protocol):
    """What is asked of client connections, whichever process has them, by their numbers."""

    @property
    def store(self) -> SessionStore:
        """The sessions that are known."""

    async def catch_up(self) -> bool:
        """Wait for what other processes have not told yet of sessions, no longer than a moment;
        False where nothing can be new."""

    async def connection(self, number: int) -> Row | None:
        """A connection's row, with ``operation`` (the number of the request in flight there, or
        None) and, where that has a session, ``session``, ``uid`` and ``owner``."""

    async def interrupt(self, number: int, request_id: int) -> bool:
        """Answer that request with 11601 and close its connection; False if it is over."""

    async def hang_up(self, number: int) -> bool:
        """Close a connection; False if there is none of that number."""


async def interrupt(connections: Connections, row: Row) -> str:
    """End the operation in a connection's ``row``: ``killOp``, ``closed`` with its connection, or
    ``over`` where it was."""
    number, operation = int(row["conn"]), int(row["operation"])
    if "session" in row and await _kill_op(connections, row):
        with trio.move_on_after(_PATIENCE):
            while True:
                now = await connections.connection(number)
                if now is None or now["operation"] != operation:
                    return "killOp"
                await trio.sleep(_LOOK)
    return "closed" if await connections.interrupt(number, operation) else "over"


async def _kill_op(connections: Connections, row: Row) -> bool:
    """Have upstream interrupt it; False where it cannot be told which one it is, or not asked."""
    upstream, owner = str(row["upstream"]), bytes.fromhex(row["uid"])
    key = LogicalSessionId(UUID(row["session"]).bytes, owner)
    session = connections.store.get(key)
    activity = None if session is None else session.activity
    if activity is not None and len(activity.operations) > 1:
        return False

    def listing(speaks: bytes) -> bytes:
        return _current(key, row, speaks)

    try:
        found = _operations(await ask_for(connections, upstream, owner, listing, _TRIES))
        for one in found:
            command = bson.encode({"killOp": 1, "op": one, "$db": "admin"})
            if not (
                await ask_for(connections, upstream, owner, partial(_same, command), _TRIES)
            ).ok():
                return False
    except UnreachableError:
        return False
    return bool(found)


def _current(key: LogicalSessionId, row: Row, speaks: bytes) -> bytes:
    """What lists the operations of a session's that are this command: one, or one on each shard."""
    wanted = {
        "lsid.id": bson.Binary(key.id, 4),
        "lsid.uid": bson.Binary(key.uid),
        "opid": {"$exists": True},
        f"command.{row['command']}": {"$exists": True},
    }
    stages: list[dict[str, Any]] = [
        # To see those of others takes a privilege that owners need not have; so does a router's
        # view of what its shards do.
        {"$currentOp": {"allUsers": speaks != key.uid, "localOps": True}},
        {"$match": wanted},
        {"$project": {"opid": 1}},
    ]
    return bson.encode({"aggregate": 1, "pipeline": stages, "cursor": {}, "$db": "admin"})


def _same(command: bytes, _speaks: bytes) -> bytes:
    return command


def _operations(reply: Reply) -> list[Any]:
    if not reply.ok():
        return []
    try:
        batch = bson.decode(reply.body_bytes())["cursor"]["firstBatch"]
        return [one["opid"] for one in batch]
    except (bson.errors.InvalidBSON, LookupError, TypeError):
        return []

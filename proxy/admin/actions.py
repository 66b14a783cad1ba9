"""What operators do beside killing sessions: end one transaction, interrupt one operation, close
one connection. Each is a preview unless ``dry_run`` is false."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import trio

from proxy import listing
from proxy.admin.asking import UnreachableError, ask_for, can_ask
from proxy.admin.interrupting import interrupt
from proxy.admin.meant import is_preview, object_in
from proxy.admin.naming import listed, session_name, sessions_named
from proxy.admin.query import QueryError
from proxy.conversation.killed import close_killed
from proxy.session.ids import OpenTransaction
from proxy.session.left import kills_of
from proxy.session.plans import abort_command
from proxy.session.transactions import STEPPED_DOWN, State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from proxy.admin.interrupting import Connections
    from proxy.admin.overview import By
    from proxy.listing import Row
    from proxy.listing.sessions import Transacting
    from proxy.session.records import Session
    from proxy.wire.replies import Reply

_Found = TypeVar("_Found")

#: NoSuchTransaction, TransactionTooOld, TransactionCommitted.
_GONE: Final = frozenset((251, 225))
_COMMITTED: Final = 256

#: What became of a transaction where it is over now, and whose doing that was.
_ENDED: Final = {
    "aborted": (State.ABORTED, "ended by an operator"),
    "over": (State.ABORTED, "it had ended before"),
    "committed": (State.COMMITTED, "its client had committed it"),
}


class _Open(NamedTuple):
    """A transaction that is to end, as it is shown and as its abort names it."""

    session: Transacting
    named: OpenTransaction
    upstream: str
    row: Row


class Actions:
    """``allow`` is called with what is to be done by whom unless it is a preview, and raises where
    that may not be; ``mark`` puts a cluster's name into rows."""

    def __init__(
        self,
        connections: Connections,
        allow: Callable[[str, By], None],
        mark: Callable[[Row], Row],
        looking: trio.Lock,
    ) -> None:
        self._connections = connections
        self._allow = allow
        self._mark = mark
        self._looking = looking

    # ------------------------------------------------------------------ transactions

    async def abort(self, body: bytes, by: By) -> Row:
        """End an open transaction: its session lives. ``session`` names it, with ``uid`` where
        several have that id; ``txn_number`` and ``child`` say which one of the session's.

        Raises:
            QueryError: something in it is wrong, or it names none that is open.
        """
        fields = _fields(body, "session", "uid", "txn_number", "child")
        dry_run = is_preview(fields)
        if not dry_run:
            self._allow("abort", by)
        meant = await self._looked_for(lambda: self._open(fields))
        connections, owner = self._connections, meant.named.key.uid
        document: Row = {"dry_run": dry_run, "transaction": self._mark(meant.row)}
        if dry_run:
            reachable = await can_ask(connections, meant.upstream, owner)
            return document | {"reachable": reachable}
        # Upstream waits for what is in flight before it ends a transaction.
        interrupted = [
            await self._end(one, meant.row["session"]) for one in meant.row["operations"]
        ]
        problem = ""
        try:
            reply = await ask_for(
                connections,
                meant.upstream,
                owner,
                lambda speaks: abort_command(meant.named, speaks),
            )
            outcome, problem = _outcome(reply)
        except UnreachableError as error:
            outcome, problem = "unreachable", str(error)
        reason = problem
        if outcome in _ENDED:
            now = trio.current_time()
            state, how = _ENDED[outcome]
            left = kills_of(meant.named, meant.upstream, connections.store)
            connections.store.transaction_ended(meant.named, now, state)
            await self._kill_cursors(left, meant.upstream, owner)
            reason = f"{outcome}: {how}"
        self._audit(
            by,
            "abort",
            reason,
            meant.row,
            done=outcome in _ENDED,
            upstream=meant.upstream,
            txn_number=meant.named.number,
        )
        return document | {
            "outcome": outcome,
            "problem": problem,
            "interrupted": sum(one != "over" for one in interrupted),
        }

    async def _kill_cursors(self, commands: list[bytes], upstream: str, owner: bytes) -> None:
        """Kill the cursors that a transaction has left behind, as far as somebody can ask."""
        for command in commands:
            try:
                asked = partial(_whoever_asks, command)
                reply = await ask_for(self._connections, upstream, owner, asked)
            except UnreachableError:
                return
            close_killed(self._connections.store, upstream, reply)

    async def _looked_for(self, look: Callable[[], Awaitable[_Found]]) -> _Found:
        """What ``look`` finds, where need be once all is known: what is looked for may have begun a
        moment ago in another process.

        Raises:
            QueryError: it is wrong, or not there.
        """
        try:
            return await look()
        except QueryError:
            if not await self._connections.catch_up():
                raise
        return await look()

    async def _open(self, fields: Row) -> _Open:
        number, child = fields.get("txn_number"), fields.get("child")
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise QueryError("txn_number: has to be a number")
        session = await self._session(fields)
        known = list(_open_ones(session))
        found = [one for one in known if "child" not in fields or child == one.row["child"]]
        if number is None:
            # Of what may be open the newest, as it is shown.
            found = list({one.row["child"]: one for one in reversed(found)}.values())[::-1]
        else:
            found = [one for one in found if one.named.number == number]
        if len(found) == 1:
            return found[0]
        where = listing.uuid_text(session.id)
        if not found:
            raise QueryError(f"{where}: {_why_none(session, known)}")
        raise QueryError(f"{where}: several are open: {_each(found)}; say which, by child")

    async def _session(self, fields: Row) -> Session:
        """The one session that is named.

        Raises:
            QueryError: there is none, or there are several.
        """
        if "session" not in fields:
            raise QueryError("session: has to be said")
        try:
            name = session_name(fields["session"], fields.get("uid"))
        except ValueError:
            text = "session: has to be a UUID or its first 8 digits or more, uid 64 digits"
            raise QueryError(text) from None
        async with self._looking:
            found, _ = await sessions_named([name], self._connections.store)
        if not found:
            raise QueryError(f"{name}: no such session")
        if len(found) > 1:
            raise QueryError(f"{name}: {listed(found)}; say whose, by uid")
        return found[0]

    # ------------------------------------------------------------------ operations

    async def interrupt(self, body: bytes, by: By) -> Row:
        """End what is in flight on the connection ``conn``, or in ``session``; its session and
        transaction live, as far as upstream lets them. ``operation`` is what a preview said of it.

        Raises:
            QueryError: something in it is wrong, or nothing is in flight there.
        """
        fields = _fields(body, "conn", "session", "uid", "operation")
        dry_run = is_preview(fields)
        if not dry_run:
            self._allow("interrupt", by)
        if ("conn" in fields) is ("session" in fields):
            raise QueryError("say which: conn or session")
        if "conn" in fields:
            number = _number(fields, "conn")
        else:
            number = await self._looked_for(lambda: self._where(fields))
        row = await self._connection(number)
        operation = row["operation"]
        if operation is None:
            raise QueryError(f"conn: nothing is in flight on {number}")
        document: Row = {"dry_run": dry_run, "connection": self._mark(row)}
        if dry_run:
            return document
        outcome = "over"
        if _number(fields, "operation", operation) == operation:
            outcome = await interrupt(self._connections, row)
        reason = _INTERRUPTED[outcome]
        if row.get("command"):
            reason += f": {row['command']}, after {row.get('operation_seconds') or 0.0:.1f} s"
        self._audit(by, "interrupt", reason, row, done=outcome != "over")
        return document | {"outcome": outcome}

    async def _where(self, fields: Row) -> int:
        """The connection on which a session has something in flight."""
        session = await self._session(fields)
        operations = () if session.activity is None else session.activity.operations
        numbers = {one.connection for one in operations}
        where = listing.uuid_text(session.id)
        if not numbers:
            raise QueryError(f"{where}: nothing is in flight")
        if len(numbers) > 1:
            known = ", ".join(f"{one.command} on {one.connection}" for one in operations)
            raise QueryError(f"{where}: several are in flight: {known}; say which, by conn")
        return numbers.pop()

    async def _end(self, operation: Row, session: str) -> str:
        """Interrupt an operation of a session's whose transaction is about to end."""
        row = await self._connections.connection(int(operation["conn"]))
        if row is None or row["operation"] is None or row.get("session") != session:
            return "over"
        return await interrupt(self._connections, row)

    # ------------------------------------------------------------------ connections

    async def close(self, body: bytes, by: By) -> Row:
        """Close the client connection ``conn``, upstream's with it: sessions, transactions and
        cursors stay as they are upstream.

        Raises:
            QueryError: something in it is wrong, or there is none of that number.
        """
        fields = _fields(body, "conn")
        dry_run = is_preview(fields)
        if not dry_run:
            self._allow("close", by)
        if "conn" not in fields:
            raise QueryError("conn: has to be said")
        row = await self._connection(_number(fields, "conn"))
        document: Row = {"dry_run": dry_run, "connection": self._mark(row)}
        if dry_run:
            return document
        closed = await self._connections.hang_up(int(row["conn"]))
        reason = "closed by an operator" if closed else _INTERRUPTED["over"]
        self._audit(by, "close", reason, row, done=closed)
        return document | {"outcome": "closed" if closed else "over"}

    async def _connection(self, number: int) -> Row:
        row = await self._connections.connection(number)
        if row is None:
            raise QueryError(f"conn: there is no connection {number}")
        return row

    def _audit(
        self, by: By, what: str, reason: str, row: Row, *, done: bool, **more: object
    ) -> None:
        said: dict[str, Any] = {
            "conn": row["conn"],
            "user": row.get("user", ""),
            "operator": by.operator or None,
            "client": by.client,
            "upstream": row["upstream"],
            "command": what,
            "decision": "done" if done else "failed",
            "reason": reason,
            "rule": None,
            "targets": int(done),
        }
        whose = {name: row[name] for name in ("application", "owner", "session") if name in row}
        self._connections.audit(**said | whose | more)


_INTERRUPTED: Final = {
    "killOp": "interrupted by an operator, with killOp",
    "closed": "interrupted by an operator, and its connection closed",
    "over": "it was over already",
}


def _fields(body: bytes, *known: str) -> Row:
    document = object_in(body)
    unknown = document.keys() - {*known, "dry_run"}
    if unknown:
        there = ", ".join((*known, "dry_run"))
        raise QueryError(f"{min(unknown)}: no such field; there are {there}")
    return document


def _number(fields: Row, name: str, default: int = 0) -> int:
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise QueryError(f"{name}: has to be a number")
    return value


def _open_ones(session: Session) -> Iterable[_Open]:
    """What may be open of a session's and of its child sessions' transactions, of each the newest
    first."""
    now = trio.current_time()
    for one in session.with_children:
        tracker = one.transaction
        for number, upstream, api in () if tracker is None else tracker.open_ones:
            named = OpenTransaction(one.key, number, api, one.child)
            row = listing.transaction_row(one, now)
            yield _Open(one, named, upstream, row | {"txn_number": number, "upstream": upstream})


def _why_none(session: Session, known: list[_Open]) -> str:
    """Why no transaction is the one that is meant."""
    if known:
        return f"that transaction is not open any more, but {_each(known)} is"
    for one in session.with_children:
        if one.state is State.PREPARED:
            return f"{one.txn_number} is prepared: only who coordinates it may end it"
    tracker = session.transaction
    if tracker is None or tracker.state is State.NONE:
        return "no transaction is open"
    return f"no transaction is open; its last one, {tracker.number}, is {tracker.state.value}"


def _each(transactions: Iterable[_Open]) -> str:
    return ", ".join(
        f"{one.named.number} (child {one.row['child']})"
        if one.row["child"]
        else f"{one.named.number}"
        for one in transactions
    )


def _whoever_asks(command: bytes, _speaks: bytes) -> bytes:
    return command


def _outcome(reply: Reply) -> tuple[str, str]:
    """What became of a transaction by upstream's answer to its abort, and what was wrong."""
    if reply.ok():
        return "aborted", ""
    code = reply.integer(b"code")
    if code in _GONE or code in STEPPED_DOWN:
        return "over", ""
    if code == _COMMITTED:
        return "committed", ""
    return "failed", f"upstream refused: {code}"

"""Killing sessions from outside: which ones are meant, what that would hit, and doing it.

The proxy has no credentials of its own. Users may kill their own sessions, so each owner's are
killed through an idle connection of that owner's; whoever has none is reported as unreachable.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

import trio

from proxy.admin.query import QueryError, Test, tests
from proxy.identity import NO_OWNER, NOBODY
from proxy.listing import session_batches, uuid_text
from proxy.session import bsonout
from proxy.session.caller import Caller
from proxy.session.plans import Plan, emulation
from proxy.session.records import Selection
from proxy.session.transactions import State
from proxy.slices import in_slices

if TYPE_CHECKING:
    from proxy.listing import Listing
    from proxy.session.records import Operation, Owner, Session
    from proxy.session.store import SessionStore
    from proxy.upstreams import UpstreamFacts
    from proxy.wire.messages import Reply

#: Seconds that upstream may take for one command.
_PATIENCE: Final = 5.0
#: How often, and how many seconds apart, a connection of an owner's is looked for.
_TRIES: Final = 20
_BETWEEN: Final = 0.05

_MOST_PATTERNS: Final = 100
_MOST_SESSIONS: Final = 10_000

_COMMAND: Final = "killSessions"


class Asker(Protocol):
    """A client connection that can put a question to its upstream."""

    def ask(self, question: bytes, handler: Callable[[Reply, float], None]) -> None:
        """Send a command (BSON); ``handler`` gets the reply, if one comes."""


class Reach(Protocol):
    """What a kill needs of the running proxy."""

    def askers(self) -> Mapping[str, Mapping[bytes, Asker]]:
        """By upstream address and owner's digest, a connection that can ask right now."""

    def facts(self, upstream: str) -> UpstreamFacts:
        """What is known of the process at an address."""

    def end_operation(self, operation: Operation) -> None:
        """Answer an operation in flight with 11601 and close its connection."""

    def audit(self, **what: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Write a line to the audit log."""

    def count_kill(self, result: str, sessions: int) -> None:
        """Count a command that was ``done`` or ``failed``, and how many sessions it named."""


@dataclass(frozen=True, slots=True)
class Meant:
    """What a request to kill says: alternatives, each a list of tests, and sessions by id."""

    dry_run: bool
    patterns: tuple[list[Test[Session]], ...]
    sessions: tuple[tuple[bytes, bytes | None], ...]
    #: As given, for the audit log.
    text: str


def read_kill(body: bytes, listing: Listing[Session], now: float) -> Meant:
    """The request in ``body``: JSON with ``patterns``, ``sessions`` and ``dry_run``.

    A pattern has the listing's filters as fields, all of which must match; patterns are
    alternatives. A session is its UUID, or ``{"session": UUID, "uid": hex}``. It is a preview
    unless ``dry_run`` is false.

    Raises:
        QueryError: something in it is wrong, or it names nothing.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise QueryError("the body is not JSON") from None
    if not isinstance(document, dict):
        raise QueryError("the body has to be an object")
    unknown = document.keys() - {"patterns", "sessions", "dry_run"}
    if unknown:
        raise QueryError(f"{min(unknown)}: no such field; there are patterns, sessions, dry_run")
    dry_run = document.get("dry_run", True)
    if not isinstance(dry_run, bool):
        raise QueryError("dry_run: has to be true or false")
    patterns = [_pattern(one, listing, now) for one in _list(document, "patterns", _MOST_PATTERNS)]
    sessions = [_session(one) for one in _list(document, "sessions", _MOST_SESSIONS)]
    if not patterns and not sessions:
        raise QueryError("name sessions or patterns")
    said = {name: document[name] for name in ("patterns", "sessions") if document.get(name)}
    return Meant(dry_run, tuple(patterns), tuple(dict.fromkeys(sessions)), json.dumps(said)[:2000])


def _list(document: Mapping[str, Any], name: str, most: int) -> list[Any]:
    value = document.get(name, [])
    if not isinstance(value, list) or len(value) > most:
        raise QueryError(f"{name}: has to be a list of at most {most}")
    return value


def _pattern(pattern: object, listing: Listing[Session], now: float) -> list[Test[Session]]:
    if not isinstance(pattern, dict):
        raise QueryError("patterns: each has to be an object")
    if not pattern:
        raise QueryError('patterns: {} would mean everybody; if so, say {"owner": "*"}')
    fields: dict[str, str] = {}
    for name, value in pattern.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise QueryError(f"patterns: {name} has to be a text or a number")
        fields[name] = str(value)
    return tests(listing, fields, now)


def _session(entry: object) -> tuple[bytes, bytes | None]:
    problem = QueryError('sessions: each has to be a UUID, or {"session": UUID, "uid": 64 digits}')
    uid: object = None
    if isinstance(entry, dict):
        if entry.keys() - {"session", "uid"}:
            raise problem
        uid, entry = entry.get("uid"), entry.get("session")
    try:
        if not isinstance(entry, str) or not isinstance(uid, str | None):
            raise problem
        digest = None if uid is None else bytes.fromhex(uid)
        found = UUID(entry).bytes
    except ValueError:
        raise problem from None
    if digest is not None and len(digest) != 32:
        raise problem
    return found, digest


async def resolve(meant: Meant, store: SessionStore) -> tuple[list[Session], list[str]]:
    """The sessions that are meant, and the ids of those that nobody knows."""
    unknown: list[str] = []
    chosen: dict[Session, None] = {}
    for session_id, uid in meant.sessions:
        named = [one for one in store.with_id(session_id) if uid in (None, one.owner.uid)]
        chosen.update(dict.fromkeys(named))
        if not named:
            unknown.append(uuid_text(session_id))
    if meant.patterns:
        for batch in session_batches(store):
            for some in in_slices(batch):
                for session in some:
                    if any(all(test(session) for test in one) for one in meant.patterns):
                        chosen[session] = None
                await trio.lowlevel.checkpoint()
    return list(chosen), unknown


@dataclass(slots=True)
class Result:
    """What became of a kill: sessions, each in one of the three, and what upstream said."""

    killed: list[Session] = field(default_factory=list)
    unreachable: list[Session] = field(default_factory=list)
    failed: list[Session] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)


#: An upstream address and whose sessions are to be killed there.
_Place = tuple[str, "Owner"]


class Kill:
    """One kill on its way. Create it with the sessions and :meth:`run` it once."""

    def __init__(self, targets: list[Session], store: SessionStore, reach: Reach) -> None:
        self._targets = targets
        self._store = store
        self._reach = reach
        self._of_owner: dict[Owner, list[Session]] = {}
        #: What has to be killed where, as something of it is open there.
        self._needed: dict[_Place, set[Session]] = {}
        self._waiting: dict[_Place, list[list[Session]]] = {}
        self._reached: set[Owner] = set()
        self._killed: set[Session] = set()
        self._failed: set[Session] = set()
        self._errors: dict[str, int] = {}

    async def run(self, client: str) -> Result:
        """Kill, and say what became of it; ``client`` is who asked, for the audit log."""
        await self._sort_out()
        tries = _TRIES
        while tries and self._incomplete():
            if await self._round(client):
                tries = _TRIES
            elif self._incomplete():
                tries -= 1
                await trio.sleep(_BETWEEN)
        return await self._result()

    async def _sort_out(self) -> None:
        for some in in_slices(self._targets):
            for session in some:
                self._of_owner.setdefault(session.owner, []).append(session)
                for upstream in _open_at(session):
                    self._needed.setdefault((upstream, session.owner), set()).add(session)
            await trio.lowlevel.checkpoint()

    def _incomplete(self) -> bool:
        """Whether anything is left for which it is worth to wait for a connection."""
        return (
            len(self._reached) < len(self._of_owner)
            or any(self._waiting.values())
            or any(place not in self._waiting for place in self._needed)
        )

    async def _round(self, client: str) -> bool:
        """Send one batch to each place that can be reached now; False if there was none."""
        sent = 0
        async with trio.open_nursery() as nursery:
            for upstream, askers in self._reach.askers().items():
                anyone = self._reach.facts(upstream).authorization is False
                for owner, sessions in self._of_owner.items():
                    speaks = NO_OWNER if anyone else owner.uid
                    asker = askers.get(speaks)
                    if asker is None:
                        continue
                    place = upstream, owner
                    if place not in self._waiting:
                        self._waiting[place] = list(in_slices(sessions))
                        self._reached.add(owner)
                    if not self._waiting[place]:
                        continue
                    batch = self._waiting[place].pop()
                    nursery.start_soon(self._send, asker, speaks, place, batch, client)
                    sent += 1
                    if anyone:
                        # One connection speaks for all owners, but says one thing at a time.
                        break
        return bool(sent)

    async def _send(
        self, asker: Asker, speaks: bytes, place: _Place, batch: list[Session], client: str
    ) -> None:
        upstream, owner = place
        selection = Selection(keys=frozenset(session.key for session in batch))
        native = self._reach.facts(upstream).native
        commands: tuple[bytes, ...]
        if native:
            entries = [bsonout.session(session.key, speaks) for session in batch]
            commands = bsonout.batches(_COMMAND, entries, [bsonout.text("$db", "admin")])
        else:
            users = frozenset((speaks,))
            caller = Caller(NOBODY, None, None, speaks, None, users, owner.name)
            plan = Plan(_COMMAND, caller, (), selection=selection)
            emulated = emulation(plan, self._store, upstream)
            for operation in emulated.operations:
                self._reach.end_operation(operation)
            commands = tuple(
                errand.as_owner if errand.owner == speaks else errand.as_caller
                for errand in emulated.errands
            )
        done = trio.Event()
        problem = "no answer from upstream"

        def finished(replies: list[Reply], now: float) -> None:
            nonlocal problem
            refused = replies[-1] if native and not replies[-1].ok() else None
            if refused is None:
                self._store.kill(selection, now, upstream)
                problem = ""
            else:
                problem = f"upstream refused: {refused.integer(b'code')}"
            done.set()

        if commands:
            _ask_in_turn(asker, commands, finished)
        else:
            self._store.kill(selection, trio.current_time(), upstream)
            problem = ""
            done.set()
        with trio.move_on_after(_PATIENCE):
            await done.wait()
        if problem:
            self._failed.update(batch)
            self._errors[f"{upstream}: {problem}"] = self._errors.get(
                f"{upstream}: {problem}", 0
            ) + len(batch)
        else:
            self._killed.update(batch)
            if place in self._needed:
                self._needed[place].difference_update(batch)
        decision = "failed" if problem else "done"
        self._reach.count_kill(decision, len(batch))
        self._reach.audit(
            conn=None,
            owner=owner.name,
            client=client,
            upstream=upstream,
            command=_COMMAND,
            decision=decision,
            reason=problem or "killed by an operator",
            rule=None,
            targets=len(batch),
        )

    async def _result(self) -> Result:
        missing: set[Session] = set()
        for sessions in self._needed.values():
            missing |= sessions
        result = Result(errors=self._errors)
        for some in in_slices(self._targets):
            for session in some:
                if session in self._failed:
                    result.failed.append(session)
                elif session in missing or session not in self._killed:
                    result.unreachable.append(session)
                else:
                    result.killed.append(session)
            await trio.lowlevel.checkpoint()
        return result


def _open_at(session: Session) -> set[str]:
    """The upstream addresses where something of a session is open."""
    places: set[str] = set()
    if session.activity is not None:
        places.update(cursor.upstream for cursor in session.activity.cursors)
        places.update(operation.upstream for operation in session.activity.operations)
    tracker = session.transaction
    if tracker is not None and tracker.state is State.IN_PROGRESS:
        places.add(tracker.upstream)
    return places


def _ask_in_turn(
    asker: Asker, commands: tuple[bytes, ...], then: Callable[[list[Reply], float], None]
) -> None:
    """Put one command after the other; no request of the client's comes between them."""
    replies: list[Reply] = []

    def answered(reply: Reply, now: float) -> None:
        replies.append(reply)
        if len(replies) < len(commands):
            asker.ask(commands[len(replies)], answered)
        else:
            then(replies, now)

    asker.ask(commands[0], answered)

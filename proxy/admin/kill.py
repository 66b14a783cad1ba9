"""Killing sessions from outside: which ones are meant, what that would hit, and doing it.

The proxy has no credentials of its own. Users may kill their own sessions, so each owner's are
killed through an idle connection of that owner's, or where there is none through one that may kill
for everybody. Sessions of whoever has neither are reported as unreachable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

import trio

from proxy.listing import uuid_text
from proxy.listing.slices import in_slices
from proxy.session import bsonout
from proxy.session.caller import Caller
from proxy.session.identity import EVERYBODY, NO_OWNER, NOBODY
from proxy.session.plans import Plan, emulating
from proxy.session.records import Selection
from proxy.session.steps import STEP, Steps, in_one_go

if TYPE_CHECKING:
    from proxy.conversation.facts import UpstreamFacts
    from proxy.session.across import Control
    from proxy.session.ids import LogicalSessionId
    from proxy.session.records import InFlight
    from proxy.wire.replies import Reply

T = TypeVar("T")

#: Seconds that upstream may take for one command.
_PATIENCE: Final = 5.0
#: Connections without an answer after which no others are tried.
_MOST_SILENT: Final = 3
#: How often, and how many seconds apart, a connection of an owner's is looked for.
_TRIES: Final = 20
_BETWEEN: Final = 0.05

_COMMAND: Final = "killSessions"


class Asker(Protocol):
    """A client connection that can put a question to its upstream."""

    @property
    def speaks_for(self) -> bytes | None:
        """The owner (a digest) as whom it could ask now; None where it could not."""

    def ask(self, question: bytes, handler: Callable[[Reply, float], None]) -> None:
        """Send a command (BSON); ``handler`` gets the reply, if one comes."""


class Reach(Protocol):
    """What a kill needs of the running proxy."""

    async def askers(self) -> Mapping[str, Mapping[bytes, Sequence[Asker]]]:
        """By upstream address and owner's digest, the connections that can ask right now.

        Those that may kill anybody's sessions are also under :data:`EVERYBODY`.
        """

    def facts(self, upstream: str) -> UpstreamFacts:
        """What is known of the process at an address."""

    def end_operation(self, operation: InFlight) -> None:
        """Answer an operation in flight with 11601 and close its connection."""

    def audit(self, **what: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Write a line to the audit log."""

    def count_kill(self, decision: str, sessions: int) -> None:
        """Count a command that was ``done`` or ``failed``, and the sessions it was first to hit."""


class Target(NamedTuple):
    """A session to kill. ``user`` made it; at the upstream addresses in ``open_at`` it has
    something open."""

    key: LogicalSessionId
    user: str
    open_at: frozenset[str]

    @property
    def owner(self) -> _Owner:
        return self.key.uid, self.user


@dataclass(slots=True)
class Result:
    """What became of a kill: sessions, each in one of the three, and what upstream said."""

    killed: list[Target] = field(default_factory=list)
    unreachable: list[Target] = field(default_factory=list)
    failed: list[Target] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)


#: Sessions that one line of the audit log names.
_NAMED: Final = 80

#: The digest and the name of whoever made sessions.
_Owner = tuple[bytes, str]
#: An upstream address and whose sessions are to be killed there.
_Place = tuple[str, _Owner]


class Kill:
    """One kill on its way. Create it with the sessions and :meth:`run` it once.

    Neither the sessions nor the connections have to be this process's own: all that is known of
    either is here, in ``store``'s answers and in ``reach``'s.
    """

    def __init__(self, targets: list[Target], store: Control, reach: Reach) -> None:
        self._targets = targets
        self._store = store
        self._reach = reach
        self._of_owner: dict[_Owner, list[LogicalSessionId]] = {}
        #: What has to be killed where, as something of it is open there.
        self._needed: dict[_Place, set[LogicalSessionId]] = {}
        self._waiting: dict[_Place, list[list[LogicalSessionId]]] = {}
        self._reached: set[_Owner] = set()
        self._killed: set[LogicalSessionId] = set()
        self._failed: set[LogicalSessionId] = set()
        self._errors: dict[str, int] = {}
        #: Connections that were asked and have not answered in time.
        self._silent: set[Asker] = set()
        self._operator = ""

    async def run(self, client: str, operator: str = "") -> Result:
        """Kill, and say what became of it. For the audit log, ``client`` is the address of whoever
        asked, and ``operator`` the name."""
        self._operator = operator
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
            for target in some:
                self._of_owner.setdefault(target.owner, []).append(target.key)
                for upstream in target.open_at:
                    self._needed.setdefault((upstream, target.owner), set()).add(target.key)
            await trio.lowlevel.checkpoint()

    def _incomplete(self) -> bool:
        """Whether anything is left for which it is worth to wait for a connection."""
        return (
            len(self._reached) < len(self._of_owner)
            or any(self._waiting.values())
            or any(place not in self._waiting for place in self._needed)
        )

    async def _round(self, client: str) -> bool:
        """Send one batch to each place that can be reached now; False if that changed nothing."""
        before = self._left()
        reachable = await self._reach.askers()
        async with trio.open_nursery() as nursery:
            for upstream, askers in reachable.items():
                anyone = self._reach.facts(upstream).authorization is False
                spare = [] if anyone else self._audible(askers.get(EVERYBODY, ()))
                stand_ins = ((one, who) for one in spare if (who := one.speaks_for) is not None)
                for owner, keys in self._of_owner.items():
                    place = upstream, owner
                    if place in self._waiting and not self._waiting[place]:
                        continue
                    uid = NO_OWNER if anyone else owner[0]
                    own = self._audible(askers.get(uid, ()))
                    idle = ((one, uid) for one in own if one.speaks_for == uid)
                    asker, speaks = next(idle, None) or next(stand_ins, (None, uid))
                    if asker is None:
                        continue
                    if place not in self._waiting:
                        self._waiting[place] = list(in_slices(keys))
                        self._reached.add(owner)
                    batch = self._waiting[place].pop()
                    others = len(self._silent) < _MOST_SILENT and any(
                        one is not asker for one in (*own[:2], *spare[:2])
                    )
                    nursery.start_soon(self._send, asker, others, speaks, place, batch, client)
                    if anyone:
                        # One connection speaks for all owners, but says one thing at a time.
                        break
        return self._left() != before

    def _audible(self, askers: Sequence[Asker]) -> list[Asker]:
        """Those that have always answered."""
        return [one for one in askers if one not in self._silent]

    def _left(self) -> tuple[int, int]:
        return len(self._waiting), sum(map(len, self._waiting.values()))

    async def _send(
        self,
        asker: Asker,
        others: bool,
        speaks: bytes,
        place: _Place,
        batch: list[LogicalSessionId],
        client: str,
    ) -> None:
        upstream = place[0]
        selection = Selection(keys=frozenset(batch))
        if asker.speaks_for != speaks:
            # Its client has asked something itself in the meantime.
            self._waiting[place].append(batch)
            return
        native = self._reach.facts(upstream).native
        commands, operations = await self._commands(place, batch, selection, speaks, native)
        if asker.speaks_for != speaks:
            self._waiting[place].append(batch)
            return
        done = trio.Event()
        problem = "no answer from upstream"
        said_at, late = trio.current_time(), False

        def finished(last: Reply, now: float) -> None:
            nonlocal problem, said_at
            if native and not last.ok():
                problem = f"upstream refused: {last.integer(b'code')}"
            else:
                problem, said_at = "", now
                if late:
                    in_one_go(self._store.killing(selection, now, upstream))
            done.set()

        if not _Series(asker, commands, finished).put_next():
            problem = ""
            done.set()
        await self._interrupt(operations)
        with trio.move_on_after(_PATIENCE):
            await done.wait()
        if not done.is_set():
            late = True
            self._silent.add(asker)
            if others:
                self._waiting[place].append(batch)
                return
        elif not problem:
            await _in_turns(self._store.killing(selection, said_at, upstream))
        self._finished(place, batch, problem, client)

    async def _commands(
        self,
        place: _Place,
        batch: list[LogicalSessionId],
        selection: Selection,
        speaks: bytes,
        native: bool,
    ) -> tuple[Iterator[bytes], tuple[InFlight, ...]]:
        """What to send as ``speaks``, and the operations that upstream cannot interrupt itself."""
        upstream, (_, user) = place
        if native:
            entries = [bsonout.session(key, speaks) for key in batch]
            kill = bsonout.document(bsonout.array(_COMMAND, entries), bsonout.text("$db", "admin"))
            return iter((kill,)), ()
        caller = Caller(NOBODY, None, None, speaks, None, frozenset((speaks,)), user)
        plan = Plan(_COMMAND, caller, (), selection=selection)
        emulated = await _in_turns(emulating(plan, self._store, upstream))
        commands = (
            errand.as_owner if errand.owner == speaks else errand.as_caller
            for errand in emulated.errands
        )
        return commands, emulated.operations

    async def _interrupt(self, operations: Sequence[InFlight]) -> None:
        for some in in_slices(operations, STEP):
            for operation in some:
                self._reach.end_operation(operation)
            await trio.lowlevel.checkpoint()

    def _finished(
        self, place: _Place, batch: list[LogicalSessionId], problem: str, client: str
    ) -> None:
        """Note, count and write down what became of one batch."""
        upstream, (_, user) = place
        # One that is killed on several upstreams is one killed session.
        first = sum(key not in self._killed for key in batch)
        if problem:
            self._failed.update(batch)
            error = f"{upstream}: {problem}"
            self._errors[error] = self._errors.get(error, 0) + len(batch)
        else:
            self._killed.update(batch)
            if place in self._needed:
                self._needed[place].difference_update(batch)
        decision = "failed" if problem else "done"
        self._reach.count_kill(decision, first)
        for some in in_slices(batch, _NAMED):
            self._reach.audit(
                conn=None,
                user="",
                operator=self._operator or None,
                owner=user,
                client=client,
                upstream=upstream,
                command=_COMMAND,
                decision=decision,
                reason=problem or "killed by an operator",
                rule=None,
                targets=len(some),
                sessions=[uuid_text(key.id) for key in some],
            )

    async def _result(self) -> Result:
        missing: set[LogicalSessionId] = set()
        for keys in self._needed.values():
            missing |= keys
        result = Result(errors=self._errors)
        for some in in_slices(self._targets):
            for target in some:
                if target.key in self._failed:
                    result.failed.append(target)
                elif target.key in missing or target.key not in self._killed:
                    result.unreachable.append(target)
                else:
                    result.killed.append(target)
            await trio.lowlevel.checkpoint()
        return result


@dataclass(slots=True)
class _Series:
    """Commands that are put one after the other; no request of the client's comes between them.
    ``then`` gets the last reply."""

    asker: Asker
    commands: Iterator[bytes]
    then: Callable[[Reply, float], None]

    def put_next(self) -> bool:
        """Put the next one; False if there is none."""
        command = next(self.commands, None)
        if command is not None:
            self.asker.ask(command, self.answered)
        return command is not None

    def answered(self, reply: Reply, now: float) -> None:
        """Go on."""
        if not self.put_next():
            self.then(reply, now)


async def _in_turns(steps: Steps[T]) -> T:
    """What is found in steps, with other work in between."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found
        await trio.lowlevel.checkpoint()

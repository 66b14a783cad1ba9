"""txnNumber, statements and transaction state of one session, as a table.

The view is a lower bound: it holds what was seen accepted, and a session may be older than the
proxy. Only :attr:`Tracker.number` may therefore cause a refusal (reference section 5).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.session.transactions import TRANSITIONS, Outcome, State, Step

#: What became of it nobody has said.
_UNSEEN: Final = (State.UNKNOWN, State.TIMED_OUT)

#: Ranges of statement ids kept for one txnNumber; what comes after them is not listed.
MAX_RANGES: Final = 8

#: Doubts kept beside the newest one; drivers have none.
MAX_HIDDEN: Final = 8


class Open(NamedTuple):
    """A transaction that may be open at an upstream address, and its first command's API
    parameters."""

    number: int
    upstream: str
    api: bytes


class Tracker:
    """One session's highest accepted txnNumber and what belongs to it.

    ``number`` is -1 before anything was accepted. ``started`` and ``last_use`` are times of the
    open transaction; ``upstream`` is where it is open and ``connection`` the number of the client
    connection that used it last. ``starting`` counts starts that wait for their reply. ``doubt``
    is a txnNumber under which a transaction may be open at ``doubt_at`` though no reply has said
    so, as the one to its start or its end never came, or none was due before it timed out, or who
    got it has died; else -1, and never below ``number``. ``hidden`` are those of which the same was
    true before it, the newest last: what came later may have begun nothing.
    ``api`` are the API parameters of that transaction's first command (raw elements), which its
    abort has to repeat, and ``doubt_api`` those of the one in doubt.
    ``statements`` are ranges of executed statement ids, None before there are any. ``attempted``
    is the txnNumber of the latest retryable write if that did not succeed, else -1. ``changed``
    is when it was last learnt from, where several processes join what they know. ``mark`` is what
    the retryable write with txnNumber ``marked`` is known again by, 0 where that cannot be told.
    ``ran`` counts the transaction's commands that have succeeded.
    """

    __slots__ = (
        "api",
        "attempted",
        "changed",
        "connection",
        "doubt",
        "doubt_api",
        "doubt_at",
        "hidden",
        "last_use",
        "mark",
        "marked",
        "number",
        "ran",
        "started",
        "starting",
        "state",
        "statements",
        "upstream",
    )

    def __init__(self) -> None:
        self.number = -1
        self.state = State.NONE
        self.statements: list[range] | None = None
        self.started = 0.0
        self.last_use = 0.0
        self.upstream = ""
        self.connection = 0
        self.starting = 0
        self.doubt = -1
        self.doubt_at = ""
        self.hidden: tuple[Open, ...] = ()
        self.attempted = -1
        self.changed = 0.0
        self.api = b""
        self.doubt_api = b""
        self.marked = -1
        self.mark = 0
        self.ran = 0

    @property
    def may_be_open(self) -> bool:
        """Whether a transaction may be open that can be aborted, by all that upstream has said."""
        return self.doubt >= 0 or self.state is State.IN_PROGRESS

    @property
    def counts(self) -> bool:
        """Whether limits count it: what may be open, what is prepared and what is under way."""
        state = self.state
        if state is State.IN_PROGRESS or self.doubt >= 0 or self.starting > 0:
            return True
        return state is State.PREPARED

    @property
    def open_ones(self) -> list[Open]:
        """All that may be open, of which one is at the most; the newest first."""
        found = list(self.hidden[::-1])
        if self.doubt >= 0:
            found.insert(0, Open(self.doubt, self.doubt_at, self.doubt_api))
        if self.state is State.IN_PROGRESS:
            found.append(Open(self.number, self.upstream, self.api))
        return found

    def may_go_on(self, number: int) -> bool:
        """Whether the transaction ``number`` is one of :attr:`open_ones`."""
        if number == self.number and self.state is State.IN_PROGRESS:
            return True
        return 0 <= number == self.doubt or any(one.number == number for one in self.hidden)

    def goes_on(self, number: int) -> bool:
        """Whether the transaction ``number`` is the one that is seen open, and none in doubt."""
        return number == self.number and self.state is State.IN_PROGRESS and self.doubt < 0

    def apply(
        self,
        step: Step,
        outcome: Outcome,
        number: int,
        now: float,
        upstream: str = "",
        connection: int = 0,
        api: bytes = b"",
    ) -> None:
        """Learn from one reply to a request with txnNumber ``number``.

        ``api`` are its API parameters, if it may be the first one that was seen of the number.
        That a transaction is over only the process can say where it is open.
        """
        if number < self.number:
            return
        if step is Step.START and outcome is Outcome.LOST:
            self._doubt_start(number, now, upstream, connection, api)
            return
        state = TRANSITIONS.get((step, outcome))
        if state is None:
            return
        accepted = outcome is Outcome.OK or outcome is Outcome.COMMITTED
        known = None
        # Mostly it is the one that is seen open, and nothing else may be.
        if self.may_be_open and not (self.goes_on(number) and not self.hidden):
            known = next((one for one in self.open_ones if one.number == number), None)
        doubted = known is not None and number > self.number
        where = self.upstream if known is None else known.upstream
        if self.may_be_open and not accepted and upstream != where:
            return
        if state is State.UNKNOWN:
            if number == self.number and self.lose(state):
                self.last_use = now
            return
        if accepted or known is not None or step is Step.START:
            self._no_doubt(number, accepted or step is Step.START)
        if number > self.number:
            # A failed start may not have taken the number, so it must not raise the mark.
            if accepted:
                self.number = number
                self.statements = None
                self.api = api if known is None else known.api
                if not doubted:
                    self.started = now
            elif step is Step.START and self.state is State.IN_PROGRESS:
                self.statements = None
            else:
                return
        elif step is Step.WRITE and self.state is not State.NONE:
            return
        if state is State.IN_PROGRESS:
            self.upstream = upstream
            self.connection = connection
            if step is Step.START:
                self.api = api
        self.state = state
        self.last_use = now

    def _doubt_start(
        self, number: int, now: float, upstream: str, connection: int, api: bytes
    ) -> None:
        """A start went without an answer: it may be open, or what was open before still is."""
        if number <= max(self.number, self.doubt):
            return
        if not self.may_be_open:
            self.started = self.last_use = now
            self.connection = connection
        if self.doubt >= 0:
            newest = Open(self.doubt, self.doubt_at, self.doubt_api)
            self.hidden = (*self.hidden[1 - MAX_HIDDEN :], newest)
        self.doubt, self.doubt_at, self.doubt_api = number, upstream, api

    def _no_doubt(self, number: int, nor_older: bool) -> None:
        """There is none any more about this one, nor about those before it if that is so."""
        if self.hidden:
            self.hidden = tuple(
                one
                for one in self.hidden
                if one.number > number or (one.number < number and not nor_older)
            )
        if number == self.doubt or (number > self.doubt and nor_older):
            self._next_doubt()

    def _next_doubt(self) -> None:
        """There is none any more about the newest."""
        self.doubt = -1
        if self.hidden:
            *rest, last = self.hidden
            self.hidden = tuple(rest)
            self.doubt, self.doubt_at, self.doubt_api = last

    def kill(self, upstream: str | None = None) -> bool:
        """Abort what is open at ``upstream`` (None: everywhere), as a kill there does; prepared
        transactions survive. True if it was seen open."""
        if self.hidden:
            self.hidden = tuple(
                one for one in self.hidden if upstream is not None and one.upstream != upstream
            )
        if self.doubt >= 0 and (upstream is None or self.doubt_at == upstream):
            self._next_doubt()
        if self.state is not State.IN_PROGRESS or upstream not in (None, self.upstream):
            return False
        self.state = State.ABORTED
        return True

    def lose(self, state: State) -> bool:
        """What is open is probably over without anybody's having said so (``TIMED_OUT``,
        ``UNKNOWN``); it may be open all the same. True if it was seen open."""
        if self.state is not State.IN_PROGRESS:
            return False
        self.state = state
        if self.doubt < 0:
            self.doubt, self.doubt_at, self.doubt_api = self.number, self.upstream, self.api
        else:
            seen = Open(self.number, self.upstream, self.api)
            self.hidden = (seen, *self.hidden[1 - MAX_HIDDEN :])
        return True

    def give_up(self) -> None:
        """Nobody will follow what is open any more."""
        self.doubt, self.hidden = -1, ()
        self.starting = 0
        self.state = State.UNKNOWN

    def settle(self, number: int, state: State) -> bool:
        """Upstream was asked: the transaction ``number`` is over. True if it was seen open."""
        self._no_doubt(number, False)
        seen = self.state is State.IN_PROGRESS
        if number != self.number or not (seen or self.state in _UNSEEN):
            return False
        self.state = state
        return seen

    def marks(self, number: int, mark: int) -> bool:
        """A retryable write goes upstream; whether another one did with the same number."""
        if number == self.marked:
            return mark != self.mark and mark != 0 and self.mark != 0
        if number > self.marked:
            self.marked, self.mark = number, mark
        return False

    def is_replay(self, number: int, statements: list[range] | None) -> bool:
        """Whether a retryable write with these statements has been sent before."""
        if number == self.attempted:
            return True
        return number == self.number and any(
            one.start < known.stop and known.start < one.stop
            for known in self.statements or ()
            for one in statements or ()
        )

    def executed_statements(self, statements: list[range]) -> None:
        """Record statement ids that upstream has executed under the current number."""
        kept = self.statements
        if kept is None:
            kept = self.statements = []
        for one in statements:
            if kept and kept[-1].stop == one.start:
                kept[-1] = range(kept[-1].start, one.stop)
            elif len(kept) < MAX_RANGES and one not in kept:
                kept.append(one)

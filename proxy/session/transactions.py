"""txnNumber, statements and transaction state of one session, as a table.

The view is a lower bound: it holds what was seen accepted, and a session may be older than the
proxy. Only :attr:`Tracker.number` may therefore cause a refusal (reference section 5).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from proxy.wire.fields import ARRAY, integer

if TYPE_CHECKING:
    from proxy.session.info import OperationSessionInfo
    from proxy.wire.edges import Verdict
    from proxy.wire.replies import Reply


class State(Enum):
    """What became of the transaction with the current txnNumber.

    ``NONE`` also stands for a retryable write; ``UNKNOWN`` for an outcome that never arrived;
    ``TIMED_OUT`` for one that was open for longer than upstream lets any be, though nobody said so.
    """

    NONE = "none"
    IN_PROGRESS = "in progress"
    COMMITTED = "committed"
    ABORTED = "aborted"
    PREPARED = "prepared"
    UNKNOWN = "unknown"
    TIMED_OUT = "timed out"


class Step(Enum):
    """What a request asks of its session's transaction."""

    WRITE = "retryable write"
    START = "start"
    CONTINUE = "continue"
    COMMIT = "commit"
    ABORT = "abort"
    PREPARE = "prepare"


class Outcome(Enum):
    """What upstream's reply says about the step."""

    OK = "ok"
    GONE = "no such transaction, or one that this error aborted"
    COMMITTED = "already committed"
    REJECTED = "refused before it touched the transaction"
    FAILED = "failed"
    LOST = "no reply"


#: What became of it nobody has said.
_UNSEEN: Final = (State.UNKNOWN, State.TIMED_OUT)

#: The state after a step and its outcome; what is not here leaves the state alone.
TRANSITIONS: Final[dict[tuple[Step, Outcome], State]] = {
    (Step.WRITE, Outcome.OK): State.NONE,
    (Step.START, Outcome.OK): State.IN_PROGRESS,
    # startTransaction begins the transaction even where the command then fails and aborts it.
    (Step.START, Outcome.GONE): State.ABORTED,
    (Step.CONTINUE, Outcome.OK): State.IN_PROGRESS,
    (Step.CONTINUE, Outcome.GONE): State.ABORTED,
    (Step.CONTINUE, Outcome.COMMITTED): State.COMMITTED,
    (Step.COMMIT, Outcome.OK): State.COMMITTED,
    (Step.COMMIT, Outcome.GONE): State.ABORTED,
    (Step.COMMIT, Outcome.COMMITTED): State.COMMITTED,
    (Step.COMMIT, Outcome.FAILED): State.UNKNOWN,
    (Step.COMMIT, Outcome.LOST): State.UNKNOWN,
    (Step.ABORT, Outcome.OK): State.ABORTED,
    (Step.ABORT, Outcome.GONE): State.ABORTED,
    (Step.ABORT, Outcome.COMMITTED): State.COMMITTED,
    (Step.ABORT, Outcome.LOST): State.UNKNOWN,
    (Step.PREPARE, Outcome.OK): State.PREPARED,
    (Step.PREPARE, Outcome.GONE): State.ABORTED,
    (Step.PREPARE, Outcome.COMMITTED): State.COMMITTED,
    (Step.PREPARE, Outcome.FAILED): State.UNKNOWN,
    (Step.PREPARE, Outcome.LOST): State.UNKNOWN,
}

_BY_COMMAND: Final = {
    "commitTransaction": Step.COMMIT,
    "abortTransaction": Step.ABORT,
    "prepareTransaction": Step.PREPARE,
    # A mongos asks the shard that coordinates, which then commits its own part without a word.
    "coordinateCommitTransaction": Step.COMMIT,
}

#: Commands that end a transaction, or are to.
ENDING: Final = frozenset(_BY_COMMAND)

#: Steps by which it may be over.
_ENDS: Final = frozenset((Step.COMMIT, Step.ABORT, Step.PREPARE))

#: Codes for which nothing was executed and no transaction touched, whatever their labels say:
#: upstream sheds load, does not take the API parameters or the opcode, or the login has expired.
_TURNED_AWAY: Final = frozenset(
    (322, 323, 324, 347, 352, 391, 433, 449, 450, 462, 498870, 4886600, 4937700)
)
#: Codes for a request that is wrong in itself or not allowed: it cannot have ended anything.
_REJECTIONS: Final = frozenset(
    (
        *(2, 9, 12, 13, 14, 20, 22, 40, 59, 72, 73, 117, 125, 207, 217, 225, 261, 263),
        *(40413, 40414, 40415, 40472, 40571, 50768, 50773, 50841, 50889),
    )
)
#: Codes that only a command inside the transaction can come to, which aborts it: write conflicts,
#: snapshots that are gone, duplicate keys, failed validation, the limits of its life and size.
#: What is not here may have been refused at the door (2, 9, 13, 14, 50, 72 and others stand for
#: both), and then the transaction goes on: it is open until upstream says that it is over.
_ABORTING: Final = frozenset((112, 121, 239, 246, 250, 272, 290, 365, 388, 11000, 11001))
_NO_SUCH_TRANSACTION: Final = 251
_TRANSACTION_COMMITTED: Final = 256
#: A server that is no primary, or on its way out, has no transaction open any more.
STEPPED_DOWN: Final = frozenset((91, 189, 10107, 11600, 11602, 13435, 13436))

_TRANSIENT: Final = b"\0TransientTransactionError\0"
#: Both together: upstream sheds load and has done nothing.
_OVERLOAD: Final = (b"\0SystemOverloadedError\0", b"\0RetryableError\0")
#: An array without elements.
_EMPTY_SIZE: Final = 5

#: Ranges of statement ids kept for one txnNumber; what comes after them is not listed.
MAX_RANGES: Final = 8

#: Commands whose statements a txnNumber makes retryable, with their batch's field name.
RETRYABLE_WRITES: Final = {
    "insert": b"documents",
    "update": b"updates",
    "delete": b"deletes",
    "findAndModify": None,
    "findandmodify": None,
    "bulkWrite": b"ops",
}


def step_of(command: str, info: OperationSessionInfo) -> Step | None:
    """What a request with ``info`` asks of the transaction; None without a txnNumber."""
    if info.txn_number is None:
        return None
    if info.autocommit is None:
        return Step.WRITE
    if info.start_transaction or info.starts_or_continues:
        return Step.START
    return _BY_COMMAND.get(command, Step.CONTINUE)


def outcome_of(reply: Reply | None, step: Step) -> Outcome:
    """What ``reply`` (None: the connection ended without one) says about its ``step``.

    A transaction counts as aborted only by what is known to abort it. An end that fails may
    have come about all the same; any other failure says nothing.
    """
    if reply is None:
        return Outcome.LOST
    if reply.ok():
        failed = step is not Step.WRITE and _has_write_errors(reply)
        return Outcome.GONE if failed else Outcome.OK
    code = integer(reply.message, reply.fields.get(b"code"))
    labels = reply.fields.get(b"errorLabels")
    listed = b""
    if labels is not None and labels.type == ARRAY:
        listed = reply.message[labels.value : labels.end]
    return _outcome_of_error(code, listed)


def outcome_at_length(verdict: Verdict | None, step: Step) -> Outcome:
    """As :func:`outcome_of`, of a reply that was too long to be looked into.

    None for what nobody has seen: it has succeeded then, but nothing is over by that.
    """
    if verdict is None:
        return Outcome.FAILED if step in _ENDS else Outcome.OK
    return Outcome.OK if verdict.ok else _outcome_of_error(verdict.code, verdict.labels)


def _outcome_of_error(code: int | None, listed: bytes) -> Outcome:
    """``listed`` are its labels, an array's bytes."""
    if code == _TRANSACTION_COMMITTED:
        return Outcome.COMMITTED
    if code in _TURNED_AWAY:
        return Outcome.REJECTED
    if code == _NO_SUCH_TRANSACTION:
        return Outcome.GONE
    if all(one in listed for one in _OVERLOAD):
        return Outcome.REJECTED
    if code in _ABORTING or _TRANSIENT in listed:
        return Outcome.GONE
    return Outcome.REJECTED if code in _REJECTIONS else Outcome.FAILED


def _has_write_errors(reply: Reply) -> bool:
    """Whether a statement of a batch has failed, which aborts the transaction it is in."""
    message = reply.message
    if b"writeErrors" not in message and b"nErrors" not in message:
        return False  # nearly always, and much sooner than by reading the fields
    errors = reply.fields.get(b"writeErrors")
    if errors is not None and errors.type == ARRAY and errors.end - errors.value > _EMPTY_SIZE:
        return True
    return bool(integer(message, reply.fields.get(b"nErrors")))


class Tracker:
    """One session's highest accepted txnNumber and what belongs to it.

    ``number`` is -1 before anything was accepted. ``started`` and ``last_use`` are times of the
    open transaction; ``upstream`` is where it is open and ``connection`` the number of the client
    connection that used it last. ``starting`` counts starts that wait for their reply. ``doubt``
    is a txnNumber under which a transaction may be open at ``doubt_at`` though no reply has said
    so, as the one to its start or its end never came, or none was due before it timed out, or who
    got it has died; else -1, and never below ``number``.
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
    def open_number(self) -> int:
        """The txnNumber that may be open; of two the newer, whose end comes first."""
        return self.doubt if self.doubt >= 0 else self.number

    @property
    def open_at(self) -> str:
        """The upstream address where :attr:`open_number` may be open."""
        return self.doubt_at if self.doubt >= 0 else self.upstream

    @property
    def open_api(self) -> bytes:
        """The API parameters of :attr:`open_number`."""
        return self.doubt_api if self.doubt >= 0 else self.api

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
        doubted = number == self.doubt
        where = self.doubt_at if doubted else self.upstream
        if self.may_be_open and not accepted and upstream != where:
            return
        if state is State.UNKNOWN:
            if number == self.number and self.lose(state):
                self.last_use = now
            return
        if doubted or (number > self.doubt and (accepted or step is Step.START)):
            self.doubt = -1
        if number > self.number:
            # A failed start may not have taken the number, so it must not raise the mark.
            if accepted:
                self.number = number
                self.statements = None
                self.api = self.doubt_api if doubted else api
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
        self.doubt, self.doubt_at, self.doubt_api = number, upstream, api

    def kill(self) -> bool:
        """Abort what is open, as a kill does; prepared transactions survive. True if it was seen
        open."""
        self.doubt = -1
        if self.state is not State.IN_PROGRESS:
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
        return True

    def give_up(self) -> None:
        """Nobody will follow what is open any more."""
        self.doubt = -1
        self.starting = 0
        self.state = State.UNKNOWN

    def settle(self, number: int, state: State) -> bool:
        """Upstream was asked: the transaction ``number`` is over. True if it was seen open."""
        if number == self.doubt:
            self.doubt = -1
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

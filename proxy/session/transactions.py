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
    from proxy.wire.replies import Reply


class State(Enum):
    """What became of the transaction with the current txnNumber.

    ``NONE`` also stands for a retryable write; ``UNKNOWN`` for an outcome that never arrived.
    """

    NONE = "none"
    IN_PROGRESS = "in progress"
    COMMITTED = "committed"
    ABORTED = "aborted"
    PREPARED = "prepared"
    UNKNOWN = "unknown"


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


#: The state after a step and its outcome; what is not here leaves the state alone.
TRANSITIONS: Final[dict[tuple[Step, Outcome], State]] = {
    (Step.WRITE, Outcome.OK): State.NONE,
    (Step.START, Outcome.OK): State.IN_PROGRESS,
    # startTransaction begins the transaction even where the command then fails and aborts it.
    (Step.START, Outcome.GONE): State.ABORTED,
    (Step.START, Outcome.FAILED): State.ABORTED,
    (Step.START, Outcome.LOST): State.UNKNOWN,
    (Step.CONTINUE, Outcome.OK): State.IN_PROGRESS,
    (Step.CONTINUE, Outcome.GONE): State.ABORTED,
    (Step.CONTINUE, Outcome.COMMITTED): State.COMMITTED,
    (Step.CONTINUE, Outcome.FAILED): State.ABORTED,
    (Step.CONTINUE, Outcome.LOST): State.UNKNOWN,
    (Step.COMMIT, Outcome.OK): State.COMMITTED,
    (Step.COMMIT, Outcome.GONE): State.ABORTED,
    (Step.COMMIT, Outcome.COMMITTED): State.COMMITTED,
    (Step.COMMIT, Outcome.FAILED): State.UNKNOWN,
    (Step.COMMIT, Outcome.LOST): State.UNKNOWN,
    (Step.ABORT, Outcome.OK): State.ABORTED,
    (Step.ABORT, Outcome.GONE): State.ABORTED,
    (Step.ABORT, Outcome.COMMITTED): State.COMMITTED,
    (Step.ABORT, Outcome.FAILED): State.UNKNOWN,
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
}

#: Codes that upstream gives before a transaction is touched (reference 1.3 and section 5).
_REJECTIONS: Final = frozenset(
    (
        *(2, 9, 12, 13, 14, 20, 22, 40, 59, 72, 73, 117, 125, 207, 217, 225, 261, 263, 323),
        *(10107, 13435, 13436, 11600, 91, 189),
        *(40413, 40414, 40415, 50768, 50773, 50841, 50889),
    )
)
_NO_SUCH_TRANSACTION: Final = 251
_TRANSACTION_COMMITTED: Final = 256

#: Ranges of statement ids kept for one txnNumber; what comes after them is not listed.
_MAX_RANGES: Final = 256

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
    if info.start_transaction:
        return Step.START
    return _BY_COMMAND.get(command, Step.CONTINUE)


def outcome_of(reply: Reply | None) -> Outcome:
    """What ``reply`` (None: the connection ended without one) says about its step."""
    if reply is None:
        return Outcome.LOST
    if reply.ok():
        return Outcome.OK
    code = integer(reply.message, reply.fields.get(b"code"))
    if code == _TRANSACTION_COMMITTED:
        return Outcome.COMMITTED
    if code == _NO_SUCH_TRANSACTION:
        return Outcome.GONE
    if code in _REJECTIONS:
        return Outcome.REJECTED
    labels = reply.fields.get(b"errorLabels")
    if (
        labels is not None
        and labels.type == ARRAY
        and b"\0TransientTransactionError\0" in reply.message[labels.value : labels.end]
    ):
        return Outcome.GONE
    return Outcome.FAILED


class Tracker:
    """One session's highest accepted txnNumber and what belongs to it.

    ``number`` is -1 before anything was accepted. ``started`` and ``last_use`` are times of the
    open transaction; ``upstream`` is where it is open and ``connection`` the number of the client
    connection that used it last. ``statements`` are ranges of executed
    statement ids, None before there are any. ``attempted`` is the txnNumber of the latest
    retryable write if that did not succeed, else -1.
    """

    __slots__ = (
        "attempted",
        "connection",
        "last_use",
        "number",
        "started",
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
        self.attempted = -1

    def apply(
        self,
        step: Step,
        outcome: Outcome,
        number: int,
        now: float,
        upstream: str = "",
        connection: int = 0,
    ) -> None:
        """Learn from one reply to a request with txnNumber ``number``."""
        if number < self.number:
            return
        state = TRANSITIONS.get((step, outcome))
        if state is None:
            return
        if number > self.number:
            # A failed start may not have taken the number, so it must not raise the mark.
            if outcome in (Outcome.OK, Outcome.COMMITTED):
                self.number = number
            elif self.state is not State.IN_PROGRESS or step is not Step.START:
                return
            self.statements = None
            self.started = now
        elif step is Step.WRITE and self.state is not State.NONE:
            return
        if state is State.IN_PROGRESS:
            if self.state is not State.IN_PROGRESS:
                self.started = now
            self.upstream = upstream
            self.connection = connection
        self.state = state
        self.last_use = now

    def kill(self) -> bool:
        """Abort what is open, as a kill does; prepared transactions survive. True if it was."""
        if self.state is not State.IN_PROGRESS:
            return False
        self.state = State.ABORTED
        return True

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
            elif len(kept) < _MAX_RANGES and one not in kept:
                kept.append(one)


def statement_ranges(info: OperationSessionInfo, count: int) -> list[range]:
    """The ids of a write command's ``count`` statements: given, from a base, or from 0."""
    if info.stmt_ids is None:
        base = info.stmt_id or 0
        return [range(base, base + count)] if count else []
    ranges: list[range] = []
    for number in info.stmt_ids:
        if ranges and ranges[-1].stop == number:
            ranges[-1] = range(ranges[-1].start, number + 1)
        else:
            ranges.append(range(number, number + 1))
    return ranges

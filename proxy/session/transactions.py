"""Steps of a transaction, what replies say of them, and the state that follows, as a table."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from proxy.wire.fields import ARRAY, integer

if TYPE_CHECKING:
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

#: Commands whose statements a txnNumber makes retryable, with their batch's field name.
RETRYABLE_WRITES: Final = {
    "insert": b"documents",
    "update": b"updates",
    "delete": b"deletes",
    "findAndModify": None,
    "findandmodify": None,
    "bulkWrite": b"ops",
}


class Numbered(Protocol):
    """Of :class:`~proxy.session.info.OperationSessionInfo`, what says what a request is in its
    transaction: of requests that were only written down rules see something else."""

    @property
    def txn_number(self) -> int | None: ...

    @property
    def autocommit(self) -> bool | None: ...

    @property
    def start_transaction(self) -> bool | None: ...

    @property
    def starts_or_continues(self) -> bool: ...


def step_of(command: str, info: Numbered) -> Step | None:
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

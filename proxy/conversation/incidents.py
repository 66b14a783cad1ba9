"""Uses of a session that no driver makes: signs of a bug or of an attack.

Told apart by what a driver can do, by itself and behind any network: it comes from several
addresses (a balancer's nodes), asks again on another connection or member while what it asked
first still runs (with the same txnNumber, or for a read the same again), leaves the connection
that it gave up, and kills cursors, ends sessions and aborts beside anything else. What it never
does: say of itself now this and now that, count a txnNumber twice, send on a session while it
waits for an answer there, and go on with both connections.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from zlib import crc32

from proxy.counting import OTHER
from proxy.session.beside import IN_TRANSACTION, Use, beside, in_words
from proxy.session.statements import STATEMENTS
from proxy.session.suspicion import Suspicion
from proxy.session.transactions import RETRYABLE_WRITES, State
from proxy.wire.fields import STRING
from proxy.wire.opcodes import CHECKSUM_PRESENT, INT32

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.session.ids import LogicalSessionId, Origin
    from proxy.session.info import OperationSessionInfo
    from proxy.session.records import Operation
    from proxy.session.tracker import Tracker
    from proxy.wire.messages import Request

SHARED: Final = "shared"
BACKWARDS: Final = "txn_number_backwards"
REUSED: Final = "txn_number_reused"

#: Operations in flight that another one is held against.
_MOST_LOOKED_AT: Final = 20

_int32 = INT32.unpack_from

_FOUND_AND_MODIFIED: Final = (b"query", b"update", b"remove")

#: Bytes of a write's statements, at their beginning and at their end, by which it is known again.
_FIRST: Final = 1_024
_LAST: Final = 128

#: Binary data that is encrypted, which a driver that asks again may do anew; and how much of a
#: message is searched for it. What comes between is looked at once, whatever it is.
_ENCRYPTED: Final = re.compile(rb"\x05[^\0\x05]+\0....\x06", re.DOTALL)
_SEARCHED: Final = 100_000


def of_one_process(one: Origin, other: Origin) -> bool:
    """Whether a driver may come from both. The address tells nothing: it may be a balancer's.

    What is built on a driver may add its own name behind the driver's at any time, and then parts
    of what was said before may be left out.
    """
    if OTHER in (one.client, other.client):
        return True  # It was not remembered who that was.
    if one.application != other.application:
        return False
    if one.driver == other.driver and one.driver_version == other.driver_version:
        return _extends(one.platform, other.platform)
    return _extends(one.driver, other.driver) and _extends(one.driver_version, other.driver_version)


def _extends(one: str, other: str) -> bool:
    """Whether one of them is the other, or that with something added."""
    return one == other or one.startswith(f"{other}|") or other.startswith(f"{one}|")


def shared(
    made_by: Origin, owner: str, origin: Origin, user: str, command: str, lsid: LogicalSessionId
) -> Suspicion:
    """A session that ``owner`` made from one origin is used by ``user`` from another one."""
    one, other = _told_apart(made_by, owner, origin, user)
    return Suspicion(SHARED, f"made by {one}, now used by {other}", command, lsid)


def _told_apart(one: Origin, owner: str, other: Origin, user: str) -> tuple[str, str]:
    """Who both are in words: application and address, and what else differs."""
    found = []
    for origin, name in ((one, owner), (other, user)):
        said = origin.application or "no application name"
        if owner != user:
            said = f"{name or 'nobody'}, {said}"
        if one[2:4] != other[2:4]:
            said += f" with {origin.driver} {origin.driver_version}".rstrip()
        elif one.platform != other.platform:
            said += f" on {origin.platform}"
        found.append(f"{said} at {origin.client}")
    return found[0], found[1]


def concurrent(
    use: Use, lsid: LogicalSessionId, connection: int, running: Iterable[Operation]
) -> tuple[Suspicion, Operation] | None:
    """The first of the operations in flight that a request must not come beside, if there is one.

    ``connection`` is where it comes: what is in flight there is answered first.
    """
    for number, other in enumerate(running):
        if number == _MOST_LOOKED_AT:
            break
        if other.connection == connection:
            continue
        there = other.use
        kind = beside(use, there)
        if kind:
            reason = in_words(kind, use, connection, there, other.connection)
            # In a transaction it is wrong whatever becomes of it.
            left = 0 if kind == IN_TRANSACTION else 2
            return Suspicion(kind, reason, use.command, lsid, left), other
    return None


def counted_twice(
    command: str,
    info: OperationSessionInfo,
    lsid: LogicalSessionId,
    tracker: Tracker,
    another: bool = False,
) -> Suspicion | None:
    """What is wrong with a request's txnNumber, by all that is known of its session's.

    ``another`` says that a write with the same number went upstream before, and that it was
    another one. A transaction's number was accepted before it counts here.
    """
    number = info.txn_number
    if number is None or number < 0 or info.child or info.starts_or_continues:
        return None
    if number < tracker.number:
        # An abort is tried whatever has happened since. What comes late was given up.
        if command == "abortTransaction":
            return None
        reason = (
            f"txnNumber {number} came when {tracker.number} had been accepted: upstream refuses it"
        )
        return Suspicion(BACKWARDS, reason, command, lsid, 1)
    reason = ""
    if info.autocommit is None:
        if another:
            reason = (
                f"another write came with txnNumber {number} before: upstream takes this one for"
                " its repetition and does not carry it out"
            )
        elif number == tracker.number and tracker.state is not State.NONE:
            reason = f"a transaction had txnNumber {number} before this write"
    elif info.start_transaction and number == tracker.number:
        reason = f"txnNumber {number} was used before the transaction that begins with it"
    return Suspicion(REUSED, reason, command, lsid) if reason else None


def mark_of(request: Request) -> int:
    """What a retryable write is known again by when it is repeated: a number.

    0 where that cannot be told, as with statement ids, of which a part may be sent again.
    """
    message, body = request.message, request.body
    name = RETRYABLE_WRITES[request.command]
    # The first field names command and collection.
    value = message.index(0, body + 5) + 1
    end = value + 4
    if message[body + 4] == STRING:
        end += _int32(message, value)[0]
    mark = crc32(message[body + 4 : end])
    if not request.layout.usual and not request.fields.keys().isdisjoint(STATEMENTS):
        return 0
    if request.sequences:
        # Mostly all that follows the command.
        start = body + _int32(message, body)[0]
        end = len(message) - 4 if request.flags & CHECKSUM_PRESENT else len(message)
        if start == end:
            return 0
        mark = _marked(message, start, end, mark)
    elif name is not None:
        element = request.fields.get(name)
        if element is None:
            return 0
        mark = _marked(message, element.value, element.end, mark)
    else:
        for part in _FOUND_AND_MODIFIED:
            if (element := request.fields.get(part)) is not None:
                mark = _marked(message, element.start, element.end, mark)
    return mark or 1


def may_be_encrypted(request: Request) -> bool:
    """Whether parts of it are encrypted, or it is too long to tell."""
    message = request.message
    return len(message) > _SEARCHED or _ENCRYPTED.search(message) is not None


def _marked(message: bytes, start: int, end: int, mark: int) -> int:
    size = end - start
    if size <= _FIRST + _LAST:
        return crc32(message[start:end], mark)
    mark = crc32(message[start : start + _FIRST], mark)
    return crc32(message[end - _LAST : end], mark) ^ size

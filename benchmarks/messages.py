"""The requests of the load and the responder's canned replies, made before they are needed.

A request's id says which reply it wants: 0x0B, then 18 bits of a cursor's number, then 6 bits
of :class:`Kind`. The responder therefore finds the reply without reading the request, and
clients can tell by ``responseTo`` that they were sent the right one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import Any, Final

import bson
from bson import Binary, Int64, ObjectId, Timestamp

HEADER: Final = Struct("<iiii")
INT64: Final = Struct("<q")
OP_MSG: Final = 2013
MORE_TO_COME: Final = 2

#: The largest cursor number; the numbers of one run are all different.
MAX_NUMBER: Final = (1 << 18) - 1

_OURS: Final = 0x0B
_NAMESPACE: Final = "bench.things"
_CLUSTER_TIME: Final = Timestamp(1_700_000_000, 1)
_TIMES: Final = {
    "operationTime": _CLUSTER_TIME,
    "$clusterTime": {
        "clusterTime": _CLUSTER_TIME,
        "signature": {"hash": Binary(bytes(20)), "keyId": Int64(0)},
    },
}


class Kind(IntEnum):
    """What a request is, and with that what its reply looks like."""

    FIND = 1
    INSERT = 2
    FIND_100K = 3
    FIND_1M = 4
    STATEMENT = 5
    COMMIT = 6
    UNACKNOWLEDGED = 7
    PING = 8
    FIND_CURSOR = 9
    GET_MORE = 10
    GET_MORE_LAST = 11
    CONTROL = 12
    FIND_VARIED = 13


def request_id(kind: Kind, number: int = 0) -> int:
    """The id of a request of this kind; ``number`` is its cursor's, if it has one."""
    return _OURS << 24 | number << 6 | kind


def op_msg(
    own_id: int,
    response_to: int,
    document: dict[str, Any],
    *,
    flags: int = 0,
    documents: Sequence[bytes] = (),
) -> bytes:
    """An OP_MSG with a body and, if there are ``documents``, a sequence of this name."""
    payload = flags.to_bytes(4, "little") + b"\0" + bson.encode(document)
    if documents:
        sequence = b"documents\0" + b"".join(documents)
        payload += b"\1" + (len(sequence) + 4).to_bytes(4, "little") + sequence
    return HEADER.pack(HEADER.size + len(payload), own_id, response_to, OP_MSG) + payload


# ---------------------------------------------------------------------- replies


def hello(port: int) -> dict[str, Any]:
    """What the only member of a replica set answers, listening on ``port`` of 127.0.0.1."""
    name = f"127.0.0.1:{port}"
    return {
        "hosts": [name],
        "setName": "bench",
        "setVersion": 1,
        "ismaster": True,
        "secondary": False,
        "primary": name,
        "me": name,
        "electionId": ObjectId("7fffffff0000000000000001"),
        "maxBsonObjectSize": 16_777_216,
        "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000,
        "logicalSessionTimeoutMinutes": 30,
        "minWireVersion": 0,
        "maxWireVersion": 8,
        "readOnly": False,
        "ok": 1.0,
        **_TIMES,
    }


def _document(size: int) -> dict[str, Any]:
    """A document of about ``size`` bytes."""
    return {"_id": ObjectId(), "name": "x" * 40, "n": 7, "data": "y" * max(0, size - 100)}


#: Collections of :func:`varied_batch`: names as applications have them, of several lengths.
VARIED: Final = (
    "users",
    "orders",
    "events",
    "invoices",
    "customers",
    "shipments",
    "audit_log",
    "line_items",
)


def varied_id(number: int) -> str:
    """Strings of 4 to 67 bytes, each length as often as any other."""
    return f"{number:04d}{'k' * (number * 37 % 64)}"


def varied_batch(number: int) -> dict[str, Any]:
    """One document of 30 to 800 bytes from one of the collections."""
    found = {"_id": varied_id(number), "data": "y" * (number * 71 % 770)}
    namespace = f"bench.{VARIED[number % len(VARIED)]}"
    cursor = {"firstBatch": [found], "id": Int64(0), "ns": namespace}
    return {"cursor": cursor, "ok": 1.0, **_TIMES}


def _batch(size: int, each: int, *, first: bool = True, cursor: int = 0) -> dict[str, Any]:
    documents = [_document(each)] * max(1, size // each)
    name = "firstBatch" if first else "nextBatch"
    return {"cursor": {name: documents, "id": Int64(cursor), "ns": _NAMESPACE}, "ok": 1.0, **_TIMES}


def reply(own_request_id: bytes) -> bytes | None:
    """The reply to the request with this id (its 4 bytes on the wire).

    b"" where none is expected; None for a request that is not of the load.
    """
    number = int.from_bytes(own_request_id, "little")
    if number >> 24 != _OURS:
        return None
    kind, cursor = Kind(number & 0x3F), number >> 6 & MAX_NUMBER
    if kind is Kind.UNACKNOWLEDGED:
        return b""
    documents: dict[Kind, Callable[[], dict[str, Any]]] = {
        Kind.FIND: lambda: _batch(300, 300),
        Kind.FIND_100K: lambda: _batch(100_000, 1000),
        Kind.FIND_1M: lambda: _batch(1_000_000, 1000),
        Kind.INSERT: lambda: {"n": 10, "ok": 1.0, **_TIMES},
        Kind.STATEMENT: lambda: {"n": 1, "ok": 1.0, **_TIMES},
        Kind.FIND_VARIED: lambda: varied_batch(cursor),
        Kind.FIND_CURSOR: lambda: _batch(16_000, 160, cursor=cursor),
        Kind.GET_MORE: lambda: _batch(16_000, 160, first=False, cursor=cursor),
        Kind.GET_MORE_LAST: lambda: _batch(16_000, 160, first=False),
    }
    document = documents.get(kind, lambda: {"ok": 1.0, **_TIMES})()
    return op_msg(0x5EED, number, document)


# ---------------------------------------------------------------------- requests


@dataclass(slots=True)
class Step:
    """What one connection sends before it waits for one reply: ``count`` messages in all."""

    data: bytearray
    awaited: int
    count: int = 1


@dataclass(slots=True)
class Script:
    """The steps that one connection repeats, in a session of its own.

    ``advance`` is called before each repetition: a new transaction has a new txnNumber.
    """

    steps: list[Step]
    _numbers: list[tuple[bytearray, int]] = field(default_factory=list)
    _next: int = 1

    def advance(self) -> None:
        """Give the transaction of the coming repetition its number."""
        if self._numbers:
            self._next += 1
            for data, offset in self._numbers:
                INT64.pack_into(data, offset, self._next)


def new_lsid() -> dict[str, Any]:
    """A session id as drivers make them."""
    return {"id": Binary.from_uuid(uuid.uuid4())}


def _command(kind: Kind, number: int, lsid: dict[str, Any], document: dict[str, Any]) -> bytes:
    whole = {**document, "lsid": lsid, "$clusterTime": _TIMES["$clusterTime"], "$db": "bench"}
    return op_msg(request_id(kind, number), 0, whole)


def _step(kind: Kind, lsid: dict[str, Any], document: dict[str, Any], number: int = 0) -> Step:
    data = bytearray(_command(kind, number, lsid, document))
    return Step(data, request_id(kind, number))


def _find(kind: Kind, lsid: dict[str, Any]) -> Step:
    return _step(kind, lsid, {"find": "things", "filter": {"_id": ObjectId()}, "limit": 1})


#: How many different requests :func:`_find_varied` has in all, and how many one connection.
_VARIANTS: Final = 1000
_OF_ONE: Final = 64


def _find_varied(lsid: dict[str, Any], number: int) -> Script:
    """Finds as an application sends them: no two of the same size after each other.

    Collections and what is asked for have names of different lengths, and so have the replies.
    """
    steps = []
    for n in range(number * _OF_ONE, (number + 1) * _OF_ONE):
        n %= _VARIANTS
        find = {"find": VARIED[n % len(VARIED)], "filter": {"_id": varied_id(n)}, "limit": 1}
        steps.append(_step(Kind.FIND_VARIED, lsid, find, n))
    return Script(steps)


def _insert(lsid: dict[str, Any]) -> Step:
    number = request_id(Kind.INSERT)
    whole = {"insert": "things", "ordered": True, "lsid": lsid, "$db": "bench"}
    documents = [bson.encode(_document(1000)) for _ in range(10)]
    return Step(bytearray(op_msg(number, 0, whole, documents=documents)), number)


def _unacknowledged(lsid: dict[str, Any]) -> Step:
    """Twenty writes that nobody answers and a ping that says when they were taken."""
    whole = {"insert": "things", "ordered": False, "writeConcern": {"w": 0}, "$db": "bench"}
    write = op_msg(
        request_id(Kind.UNACKNOWLEDGED),
        0,
        whole,
        flags=MORE_TO_COME,
        documents=[bson.encode(_document(300))],
    )
    ping = _step(Kind.PING, lsid, {"ping": 1})
    return Step(bytearray(write * 20 + ping.data), ping.awaited, 21)


#: Where :func:`_transaction` leaves room for the number: no other bytes are like these.
_PLACE: Final = 0x7E57_BE4C_0FFE_E123


def _transaction(lsid: dict[str, Any]) -> Script:
    txn: dict[str, Any] = {"txnNumber": Int64(_PLACE), "autocommit": False}
    update = {"q": {"_id": 1}, "u": {"$inc": {"n": 1}}}
    steps = [
        _step(
            Kind.STATEMENT,
            lsid,
            {"update": "things", "updates": [update], "startTransaction": True, **txn},
        ),
        _step(Kind.STATEMENT, lsid, {"update": "things", "updates": [update], **txn}),
        _step(Kind.FIND, lsid, {"find": "things", "filter": {"_id": 1}, "limit": 1, **txn}),
        _step(Kind.COMMIT, lsid, {"commitTransaction": 1, **txn}),
    ]
    steps[-1].data = bytearray(steps[-1].data.replace(b"$db\0\x06\0\0\0bench\0", _ADMIN))
    return Script(steps, [(step.data, step.data.index(INT64.pack(_PLACE))) for step in steps])


#: As long as ``bench``, so that no length changes.
_ADMIN: Final = b"$db\0\x06\0\0\0admin\0"


def _get_more(lsid: dict[str, Any], number: int) -> Script:
    more = {"getMore": Int64(number), "collection": "things"}
    first = {"find": "things", "filter": {}, "batchSize": 100}
    return Script(
        [
            _step(Kind.FIND_CURSOR, lsid, first, number),
            _step(Kind.GET_MORE, lsid, more, number),
            _step(Kind.GET_MORE, lsid, more, number),
            _step(Kind.GET_MORE_LAST, lsid, more, number),
        ]
    )


def _session_control(lsid: dict[str, Any]) -> Script:
    def control(document: dict[str, Any]) -> Step:
        number = request_id(Kind.CONTROL)
        return Step(bytearray(op_msg(number, 0, {**document, "$db": "admin"})), number)

    return Script(
        [
            control({"startSession": 1}),
            control({"refreshSessions": [lsid]}),
            control({"killSessions": [lsid]}),
            control({"endSessions": [lsid]}),
        ]
    )


#: Workloads by name: the session and a number of its own make one connection's script.
WORKLOADS: Final[dict[str, Callable[[dict[str, Any], int], Script]]] = {
    "find-300B": lambda lsid, number: Script([_find(Kind.FIND, lsid)]),
    "find-varied": _find_varied,
    "insert": lambda lsid, number: Script([_insert(lsid)]),
    "find-100KB": lambda lsid, number: Script([_find(Kind.FIND_100K, lsid)]),
    "find-1MB": lambda lsid, number: Script([_find(Kind.FIND_1M, lsid)]),
    "transaction": lambda lsid, number: _transaction(lsid),
    "unacknowledged": lambda lsid, number: Script([_unacknowledged(lsid)]),
    "getMore": _get_more,
    "session-control": lambda lsid, number: _session_control(lsid),
}


def handshake() -> Step:
    """The hello that a driver begins with."""
    client = {
        "application": {"name": "bench"},
        "driver": {"name": "benchmarks", "version": "1"},
        "os": {"type": "Linux"},
        "platform": f"pid {os.getpid()}",
    }
    number = 1
    return Step(
        bytearray(op_msg(number, 0, {"hello": 1, "client": client, "$db": "admin"})), number
    )


def control_of_many(command: str, count: int, first: int = 0) -> Step:
    """``command`` (endSessions and the like) with ``count`` ids, numbered from ``first``."""
    ids = [{"id": Binary(n.to_bytes(16, "big"), 4)} for n in range(first, first + count)]
    number = request_id(Kind.CONTROL)
    return Step(bytearray(op_msg(number, 0, {command: ids, "$db": "admin"})), number)

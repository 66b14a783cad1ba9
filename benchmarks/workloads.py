"""The requests of the load, made before they are needed: what each workload sends."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import bson
from bson import Binary, Int64, ObjectId

from benchmarks.messages import (
    COMPRESSED,
    COMPRESSORS,
    INT64,
    MORE_TO_COME,
    TIMES,
    VARIED,
    Kind,
    document_of_size,
    op_msg,
    request_id,
    varied_id,
)
from proxy.wire.compression import deflate


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


#: The user whose sessions :func:`_find_uid` names, as a mongos does to the members behind it.
_UID: Final = Binary(hashlib.sha256(b"app@admin").digest())


def _command(kind: Kind, number: int, lsid: dict[str, Any], document: dict[str, Any]) -> bytes:
    whole = {**document, "lsid": lsid, "$clusterTime": TIMES["$clusterTime"], "$db": "bench"}
    return op_msg(request_id(kind, number), 0, whole)


def _step(kind: Kind, lsid: dict[str, Any], document: dict[str, Any], number: int = 0) -> Step:
    data = _command(kind, number, lsid, document)
    if kind in COMPRESSED:
        data = deflate(data, COMPRESSED[kind])
    return Step(bytearray(data), request_id(kind, number))


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
    documents = [bson.encode(document_of_size(1000)) for _ in range(10)]
    return Step(bytearray(op_msg(number, 0, whole, documents=documents)), number)


def _unacknowledged(lsid: dict[str, Any]) -> Step:
    """Twenty writes that nobody answers and a ping that says when they were taken."""
    whole = {"insert": "things", "ordered": False, "writeConcern": {"w": 0}, "$db": "bench"}
    write = op_msg(
        request_id(Kind.UNACKNOWLEDGED),
        0,
        whole,
        flags=MORE_TO_COME,
        documents=[bson.encode(document_of_size(300))],
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
    "find-uid": lambda lsid, number: Script([_find(Kind.FIND, {**lsid, "uid": _UID})]),
    "find-snappy": lambda lsid, number: Script([_find(Kind.FIND_SNAPPY, lsid)]),
    "find-zstd": lambda lsid, number: Script([_find(Kind.FIND_ZSTD, lsid)]),
    "find-100KB-snappy": lambda lsid, number: Script([_find(Kind.FIND_100K_SNAPPY, lsid)]),
    "find-100KB-zstd": lambda lsid, number: Script([_find(Kind.FIND_100K_ZSTD, lsid)]),
    "find-100KB": lambda lsid, number: Script([_find(Kind.FIND_100K, lsid)]),
    "find-1MB": lambda lsid, number: Script([_find(Kind.FIND_1M, lsid)]),
    "transaction": lambda lsid, number: _transaction(lsid),
    "unacknowledged": lambda lsid, number: Script([_unacknowledged(lsid)]),
    "getMore": _get_more,
    "session-control": lambda lsid, number: _session_control(lsid),
}


def handshake(workload: str = "") -> Step:
    """The hello that a driver begins with; where ``workload`` is compressed, it offers that."""
    client = {
        "application": {"name": "bench"},
        "driver": {"name": "benchmarks", "version": "1"},
        "os": {"type": "Linux"},
        "platform": f"pid {os.getpid()}",
    }
    number = 1
    offered = [name for name in COMPRESSORS if workload.endswith(f"-{name}")]
    hello = {"hello": 1, "client": client, "compression": offered, "$db": "admin"}
    return Step(bytearray(op_msg(number, 0, hello)), number)


def control_of_many(command: str, count: int, first: int = 0) -> Step:
    """``command`` (endSessions and the like) with ``count`` ids, numbered from ``first``."""
    ids = [{"id": Binary(n.to_bytes(16, "big"), 4)} for n in range(first, first + count)]
    number = request_id(Kind.CONTROL)
    return Step(bytearray(op_msg(number, 0, {command: ids, "$db": "admin"})), number)

"""What the load and the responder say to each other: ids, and the canned replies.

A request's id says which reply it wants: 0x0B, then 18 bits of a cursor's number, then 6 bits
of :class:`Kind`. The responder therefore finds the reply without reading the request, and
clients can tell by ``responseTo`` that they were sent the right one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from enum import IntEnum
from struct import Struct
from typing import Any, Final

import bson
from bson import Binary, Int64, ObjectId, Timestamp

from proxy.wire.compression import SNAPPY, ZSTD, deflate, inflate

HEADER: Final = Struct("<iiii")
INT64: Final = Struct("<q")
OP_MSG: Final = 2013
OP_COMPRESSED: Final = 2012
MORE_TO_COME: Final = 2

#: The largest cursor number; the numbers of one run are all different.
MAX_NUMBER: Final = (1 << 18) - 1

_OURS: Final = 0x0B
_NAMESPACE: Final = "bench.things"
_CLUSTER_TIME: Final = Timestamp(1_700_000_000, 1)
TIMES: Final = {
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
    FIND_SNAPPY = 14
    FIND_ZSTD = 15
    FIND_100K_SNAPPY = 16
    FIND_100K_ZSTD = 17


#: Compressors by the names that end those workloads, and the kinds whose replies they make.
COMPRESSORS: Final = {"snappy": SNAPPY, "zstd": ZSTD}
COMPRESSED: Final = {
    Kind.FIND_SNAPPY: SNAPPY,
    Kind.FIND_ZSTD: ZSTD,
    Kind.FIND_100K_SNAPPY: SNAPPY,
    Kind.FIND_100K_ZSTD: ZSTD,
}


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


def document_of(message: bytes) -> dict[str, Any]:
    """The body of an OP_MSG, which may be compressed.

    Raises:
        bson.errors.InvalidBSON: it has none.
    """
    if HEADER.unpack_from(message)[3] == OP_COMPRESSED:
        message = inflate(message)
    document: dict[str, Any] = bson.decode(message[HEADER.size + 5 :])
    return document


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
        "compression": [*COMPRESSORS],
        "ok": 1.0,
        **TIMES,
    }


def document_of_size(size: int) -> dict[str, Any]:
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
    return {"cursor": cursor, "ok": 1.0, **TIMES}


_WORDS: Final = (*VARIED, "paid", "open", "Berlin", "Lisbon", "2026-11-28", "true", "EUR", "n/a")


def _documents_of_words(number: int) -> list[dict[str, Any]]:
    """Documents of about 1 KB that can be compressed as text can be, and no better."""
    chosen = random.Random(number)
    return [
        {"_id": ObjectId(), "data": " ".join(chosen.choices(_WORDS, k=130))} for _ in range(number)
    ]


def _batch(
    size: int,
    each: int,
    *,
    first: bool = True,
    cursor: int = 0,
    documents: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    documents = documents or [document_of_size(each)] * max(1, size // each)
    name = "firstBatch" if first else "nextBatch"
    return {"cursor": {name: documents, "id": Int64(cursor), "ns": _NAMESPACE}, "ok": 1.0, **TIMES}


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
        Kind.INSERT: lambda: {"n": 10, "ok": 1.0, **TIMES},
        Kind.STATEMENT: lambda: {"n": 1, "ok": 1.0, **TIMES},
        Kind.FIND_VARIED: lambda: varied_batch(cursor),
        Kind.FIND_SNAPPY: lambda: _batch(300, 300),
        Kind.FIND_ZSTD: lambda: _batch(300, 300),
        Kind.FIND_100K_SNAPPY: lambda: _batch(0, 1, documents=_documents_of_words(100)),
        Kind.FIND_100K_ZSTD: lambda: _batch(0, 1, documents=_documents_of_words(100)),
        Kind.FIND_CURSOR: lambda: _batch(16_000, 160, cursor=cursor),
        Kind.GET_MORE: lambda: _batch(16_000, 160, first=False, cursor=cursor),
        Kind.GET_MORE_LAST: lambda: _batch(16_000, 160, first=False),
    }
    document = documents.get(kind, lambda: {"ok": 1.0, **TIMES})()
    message = op_msg(0x5EED, number, document)
    return deflate(message, COMPRESSED[kind]) if kind in COMPRESSED else message

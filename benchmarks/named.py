"""Canned replies for a real driver, whose requests have its own numbers: found by the name."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from struct import Struct
from typing import Any, Final

import bson

from benchmarks.messages import (
    HEADER,
    INT64,
    VARIED,
    Kind,
    hello,
    op_msg,
    reply,
    request_id,
    varied_batch,
)

OP_REPLY: Final = 1
OP_QUERY: Final = 2004

_INT32: Final = Struct("<i")
_REPLY: Final = Struct("<iqii")

#: Where the name of an OP_MSG's command stands, if the body is its first section.
_NAME: Final = HEADER.size + 10
_BATCH_SIZE: Final = b"\x10batchSize\0"

#: A cursor's number as it stands in the canned replies, to be replaced.
_PLACE: Final = 0x2_BE4C

_VARIED_FIND: Final = tuple(b"\x02find\0" + _INT32.pack(len(v) + 1) + v.encode() for v in VARIED)
_VARIANTS: Final = 1000


def _canned(kind: Kind) -> bytes:
    data = reply(INT64.pack(request_id(kind, _PLACE))[:4])
    assert data is not None
    return data


_FIND: Final = _canned(Kind.FIND)
_FIND_CURSOR: Final = _canned(Kind.FIND_CURSOR).split(INT64.pack(_PLACE))
_GET_MORE: Final = _canned(Kind.GET_MORE).split(INT64.pack(_PLACE))
_GET_MORE_LAST: Final = _canned(Kind.GET_MORE_LAST)
#: A cursor has three more batches, on average: nobody keeps count of each.
_more: Final = itertools.cycle((_GET_MORE, _GET_MORE, None))
_DONE: Final = _canned(Kind.COMMIT)
_WRITTEN: Final = _canned(Kind.STATEMENT)
_VARIED: Final = tuple(op_msg(0x5EED, 0, varied_batch(n)) for n in range(_VARIANTS))


def _find(frame: bytes) -> bytes:
    if _BATCH_SIZE in frame:
        # The number of the request will do for the cursor that it opens.
        return (frame[4:8] + bytes(4)).join(_FIND_CURSOR)
    if frame.startswith(_VARIED_FIND, _NAME - 1):
        return _VARIED[_INT32.unpack_from(frame, 4)[0] % _VARIANTS]
    return _FIND


def _get_more(frame: bytes) -> bytes:
    more = next(_more)
    if more is None:
        return _GET_MORE_LAST
    number = _NAME + len(b"getMore\0")
    return frame[number : number + 8].join(more)


_BY_NAME: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"find": _find,
    b"getMore": _get_more,
    b"insert": lambda _: _WRITTEN,
    b"update": lambda _: _WRITTEN,
    b"commitTransaction": lambda _: _DONE,
}


def answer(frame: bytes, port: int) -> bytes:
    """The answer to a command that is not of the load's own, by a server on this port."""
    _, number, _, opcode = HEADER.unpack_from(frame)
    if opcode == OP_QUERY:  # isMaster, with which drivers begin
        payload = _REPLY.pack(8, 0, 0, 1) + bson.encode(hello(port))
        return HEADER.pack(HEADER.size + len(payload), 0x5EED, number, OP_REPLY) + payload
    name = frame[_NAME : frame.index(0, _NAME)]
    find_reply = _BY_NAME.get(name)
    if find_reply is not None:
        found = find_reply(frame)
        return found[:8] + frame[4:8] + found[12:]
    document: dict[str, Any] = {"ok": 1.0}
    if name in (b"hello", b"isMaster", b"ismaster"):
        document = hello(port)
    elif name == b"connectionStatus":
        nobody: dict[str, Any] = {"authenticatedUsers": [], "authenticatedUserRoles": []}
        document = {"authInfo": {**nobody, "authenticatedUserPrivileges": []}, "ok": 1.0}
    return op_msg(0x5EED, number, document)

"""Whatever was learnt before, from whomever: a document is what reading it gives.

Shapes are shared by all clients, so that one may teach what another one's messages are compared
with. Every history here comes from a number, and is the same each time.
"""

from __future__ import annotations

from random import Random
from struct import pack, pack_into, unpack_from

import pytest

from proxy.errors import WireError
from proxy.wire.fields import walk
from proxy.wire.layouts import PLAIN_LSID, read_answer, read_command
from proxy.wire.shapes import Shapes
from tests.build import raw_document

_COMMAND = [
    b"find",
    b"$db",
    b"lsid",
    b"txnNumber",
    b"autocommit",
    b"startTransaction",
    b"a",
    b"",
    b"stmtId",
]
_ANSWER = [b"cursor", b"cursor", b"ok", b"id", b"ns", b"firstBatch", b"a", b""]
_USUAL = {
    b"lsid": 3,
    b"txnNumber": 18,
    b"autocommit": 8,
    b"startTransaction": 8,
    b"cursor": 3,
    b"ok": 1,
    b"id": 18,
    b"ns": 2,
}
#: All types there are; those whose lengths are declared more often than the others.
_TYPES = bytes.fromhex("0102020203030304050508090a101012120b0c0d0e0f0607137fff11")
#: Numbers, and what looks like an element where a number is expected.
_EIGHT = [bytes(8), pack("<d", 1), pack("<q", 1), pack("<q", -1), b"\5\0\0\0\x02a\0\0"]


def _string(random: Random) -> bytes:
    size = random.choice([1, 1, 2, 3, 4, 8, 30])
    text = bytes(random.choices(b"ab\0\x02\x03\x10", k=size - 1))
    return pack("<i", size) + text + random.choice([b"\0", b"\0", b"x"])


def _lsid(random: Random) -> bytes:
    uuid = random.choice([bytes(16), b"\x03lsid\0\x1e\0\0\0\x05id\0\x10\0\0", random.randbytes(16)])
    if random.randrange(2):
        return PLAIN_LSID + uuid + b"\0"
    parts = [PLAIN_LSID[4:] + uuid, b"\x05uid\0\x20\0\0\0\0" + random.randbytes(32)]
    if random.randrange(2):
        if random.randrange(2):
            parts.append(b"\x12txnNumber\0" + random.choice(_EIGHT))
        parts.append(b"\x05txnUUID\0\x10\0\0\0\x04" + random.randbytes(16))
    return raw_document(*parts)


def _embedded(random: Random, names: list[bytes], depth: int) -> bytes:
    kind = random.randrange(8)
    if kind < 2:
        return _lsid(random)
    if kind < 4:
        cursor = b"\x12id\0" + random.choice(_EIGHT), b"\x02ns\0" + _string(random)
        batch = b"\x04firstBatch\0" + _embedded(random, names, depth + 1)
        return raw_document(*([batch, *cursor] if random.randrange(2) else cursor))
    count = 0 if depth > 2 else random.choice([0, 1, 1, 2, 3])
    inner = bytearray(raw_document(*(_element(random, names, depth + 1) for _ in range(count))))
    if kind == 4:
        # One that is not what it says; its own length is left alone.
        inner[random.randrange(4, len(inner))] ^= 1 << random.randrange(8)
    return bytes(inner)


def _value(random: Random, kind: int, names: list[bytes], depth: int) -> bytes:
    match kind:
        case 0x01 | 0x09 | 0x11 | 0x12:
            return random.choice(_EIGHT)
        case 0x02 | 0x0D | 0x0E:
            return _string(random)
        case 0x03 | 0x04 | 0x0F:
            return _embedded(random, names, depth)
        case 0x05:
            size = random.choice([0, 0, 1, 3, 16])
            return pack("<iB", size, random.choice([0, 2, 4])) + random.randbytes(size)
        case 0x07:
            return bytes(12)
        case 0x08:
            return bytes([random.choice([0, 1, 1, 2])])
        case 0x0B:
            return random.choice([b"a\0\0", b"\0\0", b"\0i\0", b"ab\0x\0"])
        case 0x0C:
            return _string(random) + bytes(12)
        case 0x10:
            return random.choice([pack("<i", 1), bytes(4), pack("<i", -1), b"\x02a\0\1"])
        case 0x13:
            return bytes(16)
    return b""


def _element(random: Random, names: list[bytes], depth: int = 0) -> bytes:
    name = random.choice(names)
    usual = _USUAL.get(name)
    kind = usual if usual and random.random() < 0.7 else random.choice(_TYPES)
    return bytes([kind]) + name + b"\0" + _value(random, kind, names, depth)


def _varied(random: Random, elements: list[bytes], names: list[bytes]) -> bytes:
    """The same names and types, with other values."""
    varied = []
    for one in elements:
        head = one[: one.index(0, 1) + 1]
        if random.randrange(2):
            lsid = head == b"\x03lsid\0" and random.random() < 0.8
            one = head + (_lsid(random) if lsid else _value(random, head[0], names, 0))
        varied.append(one)
    return raw_document(*varied)


def _add(data: bytearray, at: int, by: int) -> None:
    size = unpack_from("<i", data, at)[0] + by
    pack_into("<i", data, at, max(-(2**31), min(2**31 - 1, size)))


def _attacked(random: Random, data: bytes, others: list[bytes]) -> bytes:
    """With a length or two that lie, a byte changed, or cut and put together anew."""
    changed = bytearray(data)
    at = random.randrange(len(changed) - 3)
    match random.randrange(8):
        case 0:
            ends = [where for where, byte in enumerate(changed) if not byte]
            where = random.choice([random.randrange(len(changed)), *ends[-4:]])
            changed[where] = random.choice(b"\0\1\2\3\5\x08\x10\x12a\xff")
        case 1:
            wrong = [0, -1, 1, -4, -5, 5, 4, 2**31 - 1, -(2**31), random.randrange(-40, 400)]
            pack_into("<i", changed, at, random.choice(wrong))
        case 2:
            _add(changed, at, random.choice([-9, -4, -2, -1, 1, 2, 4, 9]))
        case 3 | 4:
            # One longer and another one shorter: behind both, everything stands where it did.
            places = range(len(changed) - 3)
            lengths = [n for n in places if 0 <= unpack_from("<i", changed, n)[0] <= len(data)]
            by = random.choice([1, 2, 4, 7, 11, 30])
            for where, more in zip(random.choices(lengths or [0], k=2), (by, -by), strict=True):
                _add(changed, where, more)
        case 5:
            del changed[random.randrange(len(changed)) :]
        case 6:
            other = random.choice(others)
            changed[random.randrange(4, len(changed)) :] = other[random.randrange(len(other)) :]
            pack_into("<i", changed, 0, len(changed))
        case 7:
            changed[at + 4 : at + 4 + random.randrange(3)] = random.choice([b"", b"\0", b"\x02a\0"])
            pack_into("<i", changed, 0, len(changed))
    return bytes(changed)


def _found(find, data: bytes, start: int, limit: int) -> object:
    try:
        found = find(data, start, limit)
    except WireError as error:
        return type(error), str(error)
    if not isinstance(found, tuple):
        return found.layout
    layout, base, fields, aside = found
    if fields is not None:
        walked = walk(data, start, limit)
        assert list(fields.items()) == list(walked.items())
        assert (fields.duplicates, fields.repeats) == (walked.duplicates, walked.repeats)
    return layout.moved(start - base, start - aside)


def _history(random: Random, names: list[bytes]) -> list[bytes]:
    kinds: list[list[bytes]] = [[]]
    for _ in range(random.choice([1, 2, 3, 6])):
        elements = list(random.choice(kinds)) if random.random() < 0.4 else []
        for _ in range(random.choice([1, 1, 2, 4, 6])):
            elements.insert(random.randrange(len(elements) + 1), _element(random, names))
        kinds.append(elements)
    documents = [raw_document(*elements) for elements in kinds]
    history = []
    for _ in range(120):
        elements = random.choice(kinds)
        data = (
            _varied(random, elements, names) if random.random() < 0.7 else raw_document(*elements)
        )
        if random.random() < 0.4:
            data = _attacked(random, data, documents)
        history += [data] * random.choice([1, 1, 2, 3])
    return history


@pytest.mark.parametrize(("read", "names"), [(read_command, _COMMAND), (read_answer, _ANSWER)])
def test_no_history_changes_what_a_document_is(read, names):
    reads = 0

    def counted(data, start, limit):
        nonlocal reads
        reads += 1
        return read(data, start, limit)

    documents = 0
    for seed in range(100):
        random = Random(seed)
        known = Shapes(counted, most=random.choice([1, 2, 5, 1000, 1000]))
        for document in _history(random, names):
            before, after = random.choice([(b"", b""), (b"head", b"tail"), (b"head", b"\5\0\0\0")])
            data = before + document + after
            where = data, len(before), len(data) - random.choice([0, len(after)])
            assert _found(known.read, *where) == _found(read, *where), (seed, document)
            documents += 1
        remembered = set(map(id, known._known.values()))
        assert all(id(one) in remembered for alike in known._alike.values() for one in alike)
    # Else nothing was tried.
    assert documents // 5 < reads < documents * 4 // 5

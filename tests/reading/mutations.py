"""Changes to requests on the level of their parts: what a hostile or odd client might send.

A frame is taken apart, something is done to one or a few of its parts, and it is put together again
with lengths that fit, so that most of what comes out is read to its end. Some changes are to the
bytes themselves.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from random import Random

from tests.reading import documents
from tests.reading.documents import ARRAY, OBJECT, STRING, Broken, Document, Element
from tests.reading.envelopes import COMMAND, MSG, QUERY
from tests.reading.parts import Parts, compressed, put_together, take_apart
from tests.reading.vocabulary import NAMES, PIECES, VALUES

# ---------------------------------------------------------------------- elements


def mutate_elements(random: Random, elements: Document, depth: int = 0) -> None:
    """Do one thing to the elements, or to what stands in one of them."""
    if elements and depth < 3 and random.random() < 0.3:
        nested = [i for i, e in enumerate(elements) if e.type in (OBJECT, ARRAY)]
        if nested:
            at = random.choice(nested)
            inner = documents.whole(elements[at].value)
            mutate_elements(random, inner, depth + 1)
            elements[at] = elements[at]._replace(value=documents.write(inner))
            return
    what = random.randrange(12)
    at = random.randrange(len(elements)) if elements else 0
    if not elements or what == 0:
        elements.insert(random.randrange(len(elements) + 1), random.choice(PIECES))
    elif what == 1:
        elements.insert(
            random.randrange(len(elements) + 1),
            random.choice(VALUES)._replace(name=random.choice(NAMES)),
        )
    elif what == 2:
        del elements[at]
    elif what == 3:
        elements.insert(random.randrange(len(elements) + 1), elements[at])
    elif what == 4:
        again = random.choice(VALUES)._replace(name=elements[at].name)
        elements.insert(random.randrange(len(elements) + 1), again)
    elif what == 5:
        elements.insert(random.randrange(len(elements)), elements.pop(at))
    elif what == 6:
        elements[at] = elements[at]._replace(name=random.choice(NAMES))
    elif what == 7:
        elements[at] = elements[at]._replace(name=_respelt(random, elements[at].name))
    elif what == 8:
        kind = random.choice((1, 2, 3, 4, 5, 6, 8, 10, 16, 18, 19, 13, 14, 15, 127, 255, 32, 0))
        elements[at] = elements[at]._replace(type=kind)
    elif what == 9:
        elements[at] = _bent(random, elements[at])
    else:
        elements[at] = random.choice(VALUES)._replace(name=elements[at].name)


def _respelt(random: Random, name: bytes) -> bytes:
    return random.choice(
        (name.swapcase(), name + b" ", b" " + name, name[:-1], name.lower(), b"$" + name, b"0x0")
    )


def _bent(random: Random, element: Element) -> Element:
    """A value with its own length wrong, or a string with a NUL in it."""
    value = element.value
    if element.type == STRING and random.random() < 0.7:
        text = value[4:-1]
        text = random.choice((text + b"\0", text + b"\0x", b"\0" + text, text[:-1], text + b"\xff"))
        return element._replace(value=struct.pack("<i", len(text) + 1) + text + b"\0")
    if element.type in (OBJECT, ARRAY):
        return element._replace(type=OBJECT + ARRAY - element.type)
    if len(value) >= 4:
        size = struct.unpack_from("<i", value)[0] ^ random.choice((1, 2, 2**20, -(2**31)))
        return element._replace(value=struct.pack("<i", size) + value[4:])
    return element._replace(value=value + b"\0")


# ---------------------------------------------------------------------- messages


def _move_into_options(random: Random, parts: Parts) -> None:
    body = parts.body
    moved = [e for e in body[1:] if random.random() < 0.5]
    if random.random() < 0.3:
        moved = list(body)
    left = [e for e in body if e not in moved]
    inner = documents.write(moved + random.choices(PIECES, k=random.randrange(2)))
    left.insert(random.randrange(len(left) + 1), Element(OBJECT, b"$queryOptions", inner))
    body[:] = left


def _wrap(random: Random, parts: Parts) -> None:
    body = parts.body
    kind = random.choice((OBJECT, OBJECT, OBJECT, ARRAY))
    wrapper = Element(kind, random.choice((b"$query", b"query", b"$query")), documents.write(body))
    body[:] = [wrapper, *random.choices(PIECES, k=random.randrange(3))]
    if random.random() < 0.2:
        body.reverse()


def _change_form(random: Random, parts: Parts) -> None:
    """The same command in another form."""
    body = parts.body
    if not body:
        return
    if parts.opcode == MSG:
        found = documents.first(body, b"$db")
        database = documents.text(found) if found and found.type == STRING else b"app"
        body[:] = [e for e in body if e.name != b"$db"]
        for kind, name, listed in parts.sections:
            if kind == 1:
                value = documents.write(
                    [Element(OBJECT, b"%d" % i, documents.write(d)) for i, d in enumerate(listed)]
                )
                body.append(Element(ARRAY, name, value))
        parts.sections = [(0, b"", [body])]
        parts.flags, parts.checksum = 0, False
        if random.random() < 0.6:
            parts.opcode, parts.namespace, parts.numbers = QUERY, database + b".$cmd", (0, -1)
        else:
            parts.opcode, parts.namespace = COMMAND, database
            parts.command, parts.metadata = body[0].name if body else b"ping", []
    else:
        parts.namespace = parts.namespace.partition(b".")[0]
        parts.opcode, parts.flags, parts.tail = MSG, 0, b""
        name = struct.pack("<i", len(parts.namespace) + 1) + parts.namespace + b"\0"
        body.append(Element(STRING, b"$db", name))


def _mutate_msg(random: Random, parts: Parts) -> None:
    what = random.randrange(9)
    sections = parts.sections
    if what == 0:
        parts.flags ^= 1 << random.choice((1, 1, 1, 2, 15, 16, 16, 17, 31))
    elif what == 1:
        parts.checksum = not parts.checksum
    elif what == 2:
        random.shuffle(sections)
    elif what == 3 and sections:
        sections.append(random.choice(sections))
    elif what == 4:
        name = random.choice((b"documents", b"updates", b"ops", b"lsid", b"lsid.id", b"x", b""))
        listed = [[random.choice(PIECES)] for _ in range(random.randrange(4))]
        sections.insert(random.randrange(len(sections) + 1), (1, name, listed))
    elif what == 5:
        lists = [e for e in parts.body if e.type == ARRAY]
        if lists:
            moved = random.choice(lists)
            entries = documents.whole(moved.value)
            if all(e.type == OBJECT for e in entries):
                parts.body[:] = [e for e in parts.body if e is not moved]
                sections.append((1, moved.name, [documents.whole(e.value) for e in entries]))
    elif what == 6:
        parts.tail = random.choice((b"\0", b"\1", b"\2token\0", b"\3", b"\0\5\0\0\0\0"))
    elif what == 7 and sections:
        at = random.randrange(len(sections))
        kind = random.choice((0, 1, 2, 3, 255))
        sections[at] = (kind, *sections[at][1:])
    elif sections:
        del sections[random.randrange(len(sections))]


def _mutate_query(random: Random, parts: Parts) -> None:
    what = random.randrange(7)
    if what < 2:
        _move_into_options(random, parts)
    elif what < 4:
        _wrap(random, parts)
    elif what == 4:
        parts.flags ^= 1 << random.choice((1, 2, 2, 3, 4, 5, 6, 7))
    elif what == 5:
        parts.numbers = (random.choice((0, 1, -1)), random.choice((1, -1, 0, 2, -(2**31))))
    else:
        parts.namespace = random.choice(
            (
                *(b"admin.$cmd", b"app.c", b"$cmd", b".$cmd", b"a.b.$cmd", b"admin.$CMD", b""),
                *(b"admin.$cmd.sys.inprog", b"a" * 70 + b".$cmd", b"\xff.$cmd", b"$external.$cmd"),
            )
        )
        parts.tail = random.choice((b"", b"", documents.write([]), b"\0", b"\5\0\0\0\1"))


def _mutate_command(random: Random, parts: Parts) -> None:
    what = random.randrange(4)
    if what == 0 and parts.metadata is not None:
        mutate_elements(random, parts.metadata)
    elif what == 1:
        moved = [e for e in parts.body[1:] if random.random() < 0.5]
        parts.body[:] = [e for e in parts.body if e not in moved]
        parts.metadata = moved + (parts.metadata or [])
    elif what == 2:
        parts.command = random.choice((parts.command, parts.command + b"x", b"", b"find"))
    else:
        parts.tail = b"\5\0\0\0\0"


def _mutate_bytes(random: Random, frame: bytes) -> bytes:
    """Some bytes other, more or fewer; the header's length is made good."""
    data = bytearray(frame[16:])
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(data) + 1)
        what = random.randrange(4)
        if what == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif what == 1:
            data[at:at] = random.choice((b"\0", b"\1", b"\xff", b"\5\0\0\0\0"))
        elif what == 2:
            del data[at : at + random.choice((1, 1, 4))]
        elif what == 3 and at < len(data):
            data[at] = random.choice((0, 1, 2, 3, 4, 5, 16, 255))
    return struct.pack("<i", 16 + len(data)) + frame[4:16] + bytes(data)


def _mutate_header(random: Random, frame: bytes) -> bytes:
    what = random.randrange(4)
    head = bytearray(frame[:16])
    if what == 0:
        opcode = random.choice((0, 1, 1000, 2001, 2002, 2003, 2004, 2005, 2006, 2007, 2010, 2011))
        struct.pack_into("<i", head, 12, random.choice((opcode, opcode, 2013, 2012, 2014, -1)))
    elif what == 1:
        struct.pack_into("<i", head, 8, random.choice((1, -1, 7)))
    elif what == 2:
        struct.pack_into("<i", head, 4, random.choice((0, -1, -(2**31), 2**30)))
    else:
        opcode = struct.unpack_from("<i", head, 12)[0]
        size = len(frame) - 16 + random.choice((0, 0, 1, -1, -len(frame), 2**30))
        inner = compressed(frame[16:], opcode, random.randrange(6), size)
        inner += random.choice((b"", b"", b"\0"))
        return struct.pack("<i", 16 + len(inner)) + frame[4:12] + struct.pack("<i", 2012) + inner
    return bytes(head) + frame[16:]


def mutated(random: Random, seed: bytes) -> bytes:
    """``seed`` with one to four changes."""
    parts = take_apart(seed)
    if not parts.raw:
        for _ in range(random.choice((1, 1, 2, 2, 3, 4))):
            _change(random, parts)
    frame = put_together(parts)
    chance = random.random()
    if chance < 0.08 or parts.raw:
        frame = _mutate_bytes(random, frame)
    if chance > 0.94:
        frame = _mutate_header(random, frame)
    return frame


def _change(random: Random, parts: Parts) -> None:
    with suppress(Broken):  # an earlier change has left something that cannot be taken apart
        _change_one(random, parts)


def _change_one(random: Random, parts: Parts) -> None:
    chance = random.random()
    if chance < 0.55:
        lists = [found for _, _, listed in parts.sections for found in listed]
        mutate_elements(random, random.choice(lists) if lists and chance < 0.2 else parts.body)
    elif chance < 0.65:
        _change_form(random, parts)
    elif chance < 0.70:
        parts.compressor = random.choice((None, 0, 1, 2, 3))
    elif parts.opcode == MSG:
        _mutate_msg(random, parts)
    elif parts.opcode == QUERY:
        _mutate_query(random, parts)
    else:
        _mutate_command(random, parts)


def framed(data: bytes) -> bytes:
    """Any bytes as a frame whose length is right: servers close on others."""
    head = data[:16].ljust(16, b"\0")
    # Ids in the range of the proxy's own questions would be taken for those.
    number = bytes((*head[4:7], head[7] & 0x3F))
    return struct.pack("<i", max(16, len(data))) + number + head[8:] + data[16:]

"""Every way in which a message can be wrong, and what servers do about it.

``reading`` is what :func:`proxy.wire.messages.read_request` makes of it: ``framing`` (no frame
at all), ``wire`` (an error: the server closes too), ``problem`` (no command can be told) or
``command`` (readable; it is upstream that refuses). ``reaction`` is the server's: ``close``,
``code`` with the error's number, or ``answer`` for what is only odd.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import cramjam
from backports import zstd

from proxy.wire.compression import deflate
from proxy.wire.opcodes import INT32, MAX_MESSAGE_SIZE, OP_COMPRESSED, OP_MSG, UINT32
from tests.build import (
    body,
    command,
    document,
    element,
    frame,
    op_command,
    op_compressed,
    op_msg,
    op_query,
    raw_document,
    sequence,
    with_length,
)

Reading = Literal["framing", "wire", "problem", "command"]


@dataclass(frozen=True)
class Malformed:
    """One broken request; ``codes`` are the error numbers that servers give, any of them."""

    name: str
    frame: bytes
    reading: Reading
    reaction: Literal["close", "code", "answer"]
    codes: tuple[int, ...] = ()


PING = {"ping": 1, "$db": "admin"}
_PING = body(PING)
_PLAIN = command(PING)[16:]
_MEGABYTE = bytes(1_000_000)


def _overrun(section: bytes, by: int) -> bytes:
    """A section whose length (behind the kind) is ``by`` more than its bytes."""
    return section[:1] + INT32.pack(INT32.unpack_from(section, 1)[0] + by) + section[5:]


FRAMING = [
    Malformed(f"length {length}", with_length(command(PING), length), "framing", "close")
    for length in (-(2**31), -1, 0, 15, MAX_MESSAGE_SIZE + 1, 2**31 - 1)
]

UNREADABLE = (
    [
        Malformed(f"OP_MSG of {16 + n} bytes", frame(OP_MSG, bytes(n)), "wire", "close")
        for n in range(4)
    ]
    + [
        Malformed(f"opcode {opcode}", frame(opcode, _PLAIN), "wire", "close")
        for opcode in (0, 1, 1000, 2003, 2008, 2011, 2014, -1)
    ]
    + [
        Malformed(name, message, "wire", "close")
        for name, message in {
            "no room for the compression prefix": frame(OP_COMPRESSED, bytes(8)),
            "unknown compressor": op_compressed(_PLAIN, len(_PLAIN), 4),
            "compressor 255": op_compressed(_PLAIN, len(_PLAIN), 255),
            "nested compression": op_compressed(
                command(PING), len(command(PING)), 0, opcode=OP_COMPRESSED
            ),
            "negative inflated size": op_compressed(_PLAIN, -1, 0),
            "inflated size over the limit": op_compressed(_PLAIN, MAX_MESSAGE_SIZE - 15, 0),
            "noop, one byte less than declared": op_compressed(_PLAIN, len(_PLAIN) + 1, 0),
            "noop, one byte more than declared": op_compressed(_PLAIN, len(_PLAIN) - 1, 0),
            "snappy, one byte less than declared": op_compressed(
                bytes(cramjam.snappy.compress_raw(_PLAIN)), len(_PLAIN) + 1, 1
            ),
            "snappy, one byte more than declared": op_compressed(
                bytes(cramjam.snappy.compress_raw(_PLAIN)), len(_PLAIN) - 1, 1
            ),
            "zlib, one byte less than declared": op_compressed(
                zlib.compress(_PLAIN), len(_PLAIN) + 1, 2
            ),
            "zlib, one byte more than declared": op_compressed(
                zlib.compress(_PLAIN), len(_PLAIN) - 1, 2
            ),
            "zstd, one byte less than declared": op_compressed(
                zstd.compress(_PLAIN), len(_PLAIN) + 1, 3
            ),
            "zstd, one byte more than declared": op_compressed(
                zstd.compress(_PLAIN), len(_PLAIN) - 1, 3
            ),
            "snappy of nothing": op_compressed(b"", len(_PLAIN), 1),
            "snappy garbage": op_compressed(bytes([len(_PLAIN)]) + b"\xff" * 20, len(_PLAIN), 1),
            "zlib of nothing": op_compressed(b"", len(_PLAIN), 2),
            "zlib garbage": op_compressed(b"\xff" * 20, len(_PLAIN), 2),
            "zlib cut short": op_compressed(zlib.compress(_PLAIN)[:-1], len(_PLAIN), 2),
            "zstd of nothing": op_compressed(b"", len(_PLAIN), 3),
            "zstd garbage": op_compressed(b"\xff" * 20, len(_PLAIN), 3),
            "zstd cut short": op_compressed(zstd.compress(_PLAIN)[:-1], len(_PLAIN), 3),
            "zstd and a byte more": op_compressed(zstd.compress(_PLAIN) + b"x", len(_PLAIN), 3),
            "zlib bomb": op_compressed(zlib.compress(_MEGABYTE), len(_PLAIN), 2),
            "zstd bomb": op_compressed(zstd.compress(_MEGABYTE), len(_PLAIN), 3),
            "snappy bomb": op_compressed(
                bytes(cramjam.snappy.compress_raw(_MEGABYTE)), len(_PLAIN), 1
            ),
            "OP_MSG without flags, compressed": deflate(frame(OP_MSG, bytes(3)), 2),
        }.items()
    ]
)

SECTIONS = [
    Malformed("required flag 2", op_msg(_PING, flags=1 << 2), "command", "close"),
    Malformed("required flag 15", op_msg(_PING, flags=1 << 15), "command", "close"),
    Malformed(
        "three sequences",
        op_msg(_PING, sequence("a"), sequence("b"), sequence("c")),
        "problem",
        "close",
    ),
    Malformed("two bodies", op_msg(_PING, _PING), "problem", "code", (40430,)),
    Malformed(
        "one identifier twice",
        op_msg(_PING, sequence("a"), sequence("a")),
        "command",
        "code",
        (40431,),
    ),
    Malformed("section kind 3", op_msg(_PING, b"\3"), "problem", "code", (40432,)),
    Malformed("section kind 255 first", op_msg(b"\xff", _PING), "problem", "code", (40432,)),
    Malformed("a token", op_msg(_PING, b"\2token\0"), "command", "code", (13, 40432)),
    Malformed(
        "a sequence that is also a field",
        op_msg(body({"insert": "c", "documents": [], "$db": "t"}), sequence("documents", {})),
        "command",
        "code",
        (40433,),
    ),
    Malformed(
        "a sequence that is also a field by its path",
        op_msg(body({"insert": "c", "a": {"b": 1}, "$db": "t"}), sequence("a.b", {})),
        "command",
        "code",
        (40433,),
    ),
    Malformed("no sections", op_msg(), "problem", "code", (40587,)),
    Malformed("no body", op_msg(sequence("documents", {})), "problem", "code", (40587,)),
]

_LONG = document({"ping": 1, "$db": "admin", "s": "text"})

OVERRUNS = [
    Malformed(name, message, "problem", "code", (22, 10, 17, 40430))
    for name, message in {
        "a body one byte longer than the message": op_msg(_overrun(_PING, 1)),
        "a body of 2 GB": op_msg(_overrun(_PING, 2**31 - 1000)),
        "a body of negative length": op_msg(b"\0" + INT32.pack(-5) + _PING[5:]),
        "a body of 4 bytes": op_msg(b"\0" + INT32.pack(4)),
        "a body cut in its length": op_msg(b"\0\5\0"),
        "a kind byte and no body": op_msg(b"\0"),
        "a body without its NUL": op_msg(_PING[:-1] + b"\1"),
        "a sequence one byte longer than the message": op_msg(
            _PING, _overrun(sequence("a", {}), 1)
        ),
        "a sequence of 4 bytes": op_msg(_PING, b"\1" + INT32.pack(4) + b"\0"),
        "a sequence of negative length": op_msg(_PING, b"\1" + INT32.pack(-1) + b"a\0"),
        "a sequence of length 0": op_msg(_PING, b"\1" + INT32.pack(0) + b"a\0"),
        "a sequence without the NUL of its identifier": op_msg(
            _PING, b"\1" + INT32.pack(6) + b"aa"
        ),
        "a sequence cut in its length": op_msg(_PING, b"\1\5\0"),
        "a token without its NUL": op_msg(_PING, b"\2token"),
        "trailing zeros": op_msg(_PING, b"\0\0\0"),
        "a string longer than its document": op_msg(
            b"\0" + _LONG.replace(b"\5\0\0\0text", b"\xff\0\0\0text")
        ),
        "a string of length 0": op_msg(b"\0" + _LONG.replace(b"\5\0\0\0text", b"\0\0\0\0text")),
        "a string of negative length": op_msg(
            b"\0" + _LONG.replace(b"\5\0\0\0text", b"\xff\xff\xff\xfftext")
        ),
        "a name that never ends": op_msg(b"\0" + raw_document(b"\x08" + b"n" * 20)),
        "a value that is missing": op_msg(b"\0" + raw_document(b"\x10n\0")),
        "an unknown type": op_msg(b"\0" + raw_document(element("ping", 1), b"\x20a\0")),
        "type 0 inside": op_msg(b"\0" + raw_document(b"\0\0", element("ping", 1))),
        "binary data of negative length": op_msg(
            b"\0" + raw_document(b"\x05b\0" + INT32.pack(-1) + b"\0")
        ),
        "a nested document of 4 bytes": op_msg(b"\0" + raw_document(b"\x03d\0" + INT32.pack(4))),
        "a nested document that overruns": op_msg(
            b"\0" + raw_document(b"\x03d\0" + INT32.pack(6) + b"\0")
        ),
        "half a regular expression": op_msg(b"\0" + raw_document(b"\x0br\0a\0")),
    }.items()
]

_CHECKED = op_msg(_PING, checksum=True)

CHECKSUMS = [
    Malformed(
        "a wrong checksum", _CHECKED[:-1] + bytes([_CHECKED[-1] ^ 1]), "command", "code", (288,)
    ),
    Malformed("a checksum flag and nothing else", op_msg(flags=1), "problem", "code", (51251,)),
    Malformed(
        "a checksum flag and three bytes",
        frame(OP_MSG, UINT32.pack(1) + b"abc"),
        "problem",
        "code",
        (51251,),
    ),
    Malformed(
        "a checksum and no sections", op_msg(checksum=True), "problem", "code", (51251, 40587)
    ),
    Malformed(
        "a checksum flag on a body without one",
        op_msg(_PING, flags=1),
        "problem",
        "code",
        (22, 288),
    ),
]

COMMANDS = [
    Malformed("no $db", command({"ping": 1}), "command", "code", (40571,)),
    Malformed("$db of another type", command({"ping": 1, "$db": 1}), "command", "code", (14,)),
    Malformed("an empty document", command({}), "problem", "code", (40571, 59)),
    Malformed("an unknown command", command({"nix": 1, "$db": "t"}), "command", "code", (59,)),
    Malformed(
        "OP_QUERY without the end of its namespace",
        frame(2004, UINT32.pack(0) + b"admin.$cmd"),
        "problem",
        "close",
    ),
    Malformed(
        "OP_QUERY that ends behind its namespace",
        frame(2004, UINT32.pack(0) + b"admin.$cmd\0" + bytes(8)),
        "problem",
        "close",
    ),
    Malformed(
        "OP_QUERY whose document overruns",
        op_query("admin.$cmd", b"\xff\0\0\0" + document({"ping": 1})[4:]),
        "problem",
        "close",
    ),
    Malformed("OP_QUERY without a body", frame(2004, b""), "problem", "close"),
    Malformed(
        "OP_COMMAND with two names", op_command("admin", "ping", {"find": 1}), "problem", "close"
    ),
    Malformed(
        "OP_COMMAND with more than metadata",
        frame(2010, op_command("admin", "ping", {"ping": 1})[16:] + b"\5\0\0\0\0" * 2),
        "problem",
        "close",
    ),
    Malformed("OP_COMMAND without a body", frame(2010, b""), "problem", "close"),
    Malformed("OP_COMMAND without arguments", frame(2010, b"admin\0ping\0"), "problem", "close"),
]

ODD = [
    Malformed("optional flag 17", op_msg(_PING, flags=1 << 17), "command", "answer"),
    Malformed("optional flag 31", op_msg(_PING, flags=1 << 31), "command", "answer"),
]

ALL = [*FRAMING, *UNREADABLE, *SECTIONS, *OVERRUNS, *CHECKSUMS, *COMMANDS, *ODD]

"""Other protocols by their first bytes, for whoever has to find out why nothing works.

Nothing is decided by it: what is none of MongoDB's ends the connection in any case. What begins
with text has a length, read as MongoDB's, that people search for: 1347703880 is HTTP.
"""

from __future__ import annotations

from typing import Final

from proxy.wire import opcodes
from proxy.wire.opcodes import HEADER, HEADER_SIZE, MAX_MESSAGE_SIZE

MONGODB: Final = "MongoDB"
HTTP: Final = "HTTP"
TLS: Final = "TLS"
PROXY: Final = "PROXY protocol"

#: What stands in a place for a protocol where the other side closed and said nothing.
NOTHING: Final = "nothing"

#: By the first four bytes that one side says, client or server. As lengths all are far too large.
_BEGINNINGS: Final = {
    start.encode(): name
    for name, starts in {
        HTTP: (
            "GET ",
            "POST",
            "PUT ",
            "HEAD",
            "OPTI",
            "DELE",
            "PATC",
            "TRAC",
            "CONN",
            "PRI ",
            "HTTP",
        ),
        PROXY: ("PROX", "\r\n\r\n"),
        "SSH": ("SSH-",),
        "Redis": (
            *(f"*{count}\r\n" for count in range(1, 10)),
            *("PING", "INFO", "AUTH", "-ERR", "-NOA", "-DEN", "+OK\r", "+PON"),
        ),
        "AMQP": ("AMQP",),
        "FTP or SMTP": ("220 ", "220-", "EHLO", "HELO", "USER"),
        "memcached": ("ERRO",),
    }.items()
    for start in starts
}

#: How TLS begins its records, where the version stands between kind and length.
_VERSIONS: Final = frozenset(bytes((3, minor)) for minor in range(5))
_HANDSHAKE: Final = b"\x16"
_ALERT: Final = b"\x15\0\2"

#: By what follows the length of PostgreSQL's first messages: version 3, and requests for
#: encryption and to cancel.
_POSTGRESQL: Final = (
    b"\0\3\0\0",
    b"\0\3\0\2",
    b"\x04\xd2\x16\x2f",
    b"\x04\xd2\x16\x30",
    b"\x04\xd2\x16\x2e",
)

_OPCODES: Final = frozenset(
    number for name, number in vars(opcodes).items() if name.startswith("OP_")
)


def protocol_of(data: bytes) -> str:
    """The protocol whose first bytes these are: a name for people, "" where none is known."""
    if len(data) >= HEADER_SIZE:
        length, _, _, opcode = HEADER.unpack_from(data)
        if HEADER_SIZE <= length <= MAX_MESSAGE_SIZE and opcode in _OPCODES:
            return MONGODB
    known = _BEGINNINGS.get(data[:4])
    if known is not None:
        return known
    # A handshake or an alert, which has two bytes, of SSL 3.0 to TLS 1.3.
    kind, version = data[:1], data[1:3]
    if version in _VERSIONS and (kind == _HANDSHAKE or kind + data[3:5] == _ALERT):
        return TLS
    if data[4:8] in _POSTGRESQL and data[:2] == b"\0\0":
        return "PostgreSQL"
    # A server's greeting: three bytes of length, number 0, protocol 10, its version as text.
    if data[3:5] == b"\0\x0a" and data[5:6].isdigit():
        return "MySQL"
    if data[:1] == b"\x10" and b"\0\4MQTT" in data[2:10]:
        return "MQTT"
    return ""

"""The PROXY protocol's header, versions 1 and 2: whose connection a balancer hands on.

It stands in front of everything else, TLS included, as HAProxy's "proxy-protocol.txt" says. No
message of MongoDB's and no record of TLS begins as it does: what begins so is a header, or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import Final

import google_crc32c

from proxy.addresses import Address
from proxy.errors import WireError

#: How a header of version 2 begins, and one of version 1.
SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
WORD: Final = b"PROXY "

#: The longest header that is taken, in bytes. Version 1 needs 107 at the most; version 2 could have
#: 65,551, and what balancers say beside the addresses fits many times into this.
LONGEST: Final = 4_096
_LONGEST_LINE: Final = 107

_LENGTH_AT: Final = 14
_FIXED: Final = 16
_length = Struct(">H").unpack_from
_ports = Struct(">HH").unpack_from

#: Version and command, the high and the low half of a byte.
_LOCAL: Final = 0x20
_PROXY: Final = 0x21

#: Family, the high half of the next byte, and bytes that one of its addresses takes.
_SIZES: Final = {1: 4, 2: 16, 3: 108}
_UNIX: Final = 3
#: Its low half: unspecified, a stream or datagrams.
_TRANSPORTS: Final = 2
_STREAM: Final = 1

#: The field with a CRC-32C over the whole header, in which it counts as 0.
_CHECKSUM: Final = 0x03


class HeaderError(WireError):
    """What came begins as a header does, and is none."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A whole header of ``size`` bytes. Behind it comes what the client says.

    ``source`` is the client and ``destination`` what it has reached; None where the header does not
    say it, and a unix socket's path may be empty. With ``local`` the sender speaks for itself.
    """

    size: int
    source: Address | None = None
    destination: Address | None = None
    local: bool = False


def may_begin(data: bytes) -> bool:
    """Whether ``data``, which may be cut anywhere, begins as headers do."""
    return _agrees(data, SIGNATURE) or _agrees(data, WORD)


def _agrees(data: bytes, start: bytes) -> bool:
    length = min(len(data), len(start))
    return data[:length] == start[:length]


def read_header(data: bytes) -> ProxyHeader | None:
    """The header that ``data`` begins with; None if more bytes are needed to say.

    Raises:
        HeaderError: it begins with none, or with one that is not as it should be.
    """
    if _agrees(data, SIGNATURE):
        return _binary(data)
    if _agrees(data, WORD):
        return _line(data)
    raise HeaderError("no PROXY header")


# ---------------------------------------------------------------------- version 1


def _line(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(data) < _LONGEST_LINE:
            return None
        raise HeaderError(f"a line of more than {_LONGEST_LINE} bytes")
    try:
        words = data[:end].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise HeaderError("a line that is not ASCII") from None
    size = end + 2
    family = words[1]
    if family == "UNKNOWN":
        return ProxyHeader(size)  # whatever stands behind it
    if family not in ("TCP4", "TCP6") or len(words) != 6:
        raise HeaderError("a line without a family, two addresses and two ports")
    kind = IPv4Address if family == "TCP4" else IPv6Address
    hosts = [_host(kind, word) for word in words[2:4]]
    ports = [_port(word) for word in words[4:6]]
    return ProxyHeader(size, Address(hosts[0], ports[0]), Address(hosts[1], ports[1]))


def _host(kind: type[IPv4Address | IPv6Address], word: str) -> str:
    try:
        if "%" in word:
            raise ValueError
        return _shown(kind(word))
    except ValueError:
        raise HeaderError("an address that is none of its family") from None


def _port(word: str) -> int:
    # At most five digits, none of them in front without need.
    if not (word.isascii() and word.isdigit()) or len(word) > 5 or str(int(word)) != word:
        raise HeaderError("a port that is no number")
    if int(word) > 65_535:
        raise HeaderError("a port above 65535")
    return int(word)


def _shown(address: IPv4Address | IPv6Address) -> str:
    """One client has one name, also where a balancer listens with IPv6 for both."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


# ---------------------------------------------------------------------- version 2


def _binary(data: bytes) -> ProxyHeader | None:
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        raise HeaderError(f"version {data[12] >> 4}, command {data[12] & 15}: not known")
    if len(data) < _FIXED:
        return None
    size = _FIXED + int(_length(data, _LENGTH_AT)[0])
    if size > LONGEST:
        raise HeaderError(f"{size} bytes, where {LONGEST} is the most")
    if len(data) < size:
        return None
    family, transport = data[13] >> 4, data[13] & 15
    if family > _UNIX or transport > _TRANSPORTS:
        raise HeaderError(f"family {family}, transport {transport}: not known")
    wide = _SIZES.get(family, 0)
    fields = _FIXED + 2 * wide + (4 if wide and family != _UNIX else 0)
    if data[12] == _LOCAL:
        # Whatever addresses it has are nobody's.
        if not wide:
            _check_fields(data[:size], fields, strict=False)
        return ProxyHeader(size, local=True)
    if fields > size:
        raise HeaderError("too short for its addresses")
    _check_fields(data[:size], fields, strict=bool(wide))
    if not wide or transport != _STREAM:
        return ProxyHeader(size)
    first, second = data[_FIXED : _FIXED + wide], data[_FIXED + wide : _FIXED + 2 * wide]
    if family == _UNIX:
        return ProxyHeader(size, Address(path=_path(first)), Address(path=_path(second)))
    here, there = _ports(data, _FIXED + 2 * wide)
    return ProxyHeader(
        size,
        Address(_shown(ip_address(first)), here),
        Address(_shown(ip_address(second)), there),
    )


def _path(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")


def _check_fields(header: bytes, at: int, *, strict: bool) -> None:
    """Go over the fields behind the addresses, of which the checksum alone matters.

    Without ``strict`` there may be something else, as addresses of an unknown kind.
    """
    while at < len(header):
        length = int(_length(header, at + 1)[0]) if at + 3 <= len(header) else LONGEST
        if at + 3 + length > len(header):
            if strict:
                raise HeaderError("a field that is longer than the header")
            return
        if header[at] == _CHECKSUM and (strict or length == 4):
            _check(header, at + 3, length)
        at += 3 + length


def _check(header: bytes, at: int, length: int) -> None:
    said = header[at : at + length]
    blank = header[:at] + bytes(length) + header[at + length :]
    if length != 4 or int.from_bytes(said, "big") != int(google_crc32c.value(blank)):
        raise HeaderError("the checksum is wrong")


# ---------------------------------------------------------------------- writing

#: For a connection that nobody else is behind.
LOCAL_HEADER: Final = SIGNATURE + bytes((_LOCAL, 0, 0, 0))

_UNSPECIFIED: Final = SIGNATURE + bytes((_PROXY, 0, 0, 0))
_begin = Struct(">12sBBH").pack
_write_ports = Struct(">HH").pack


def header_for(source: Address | None, destination: Address | None) -> bytes:
    """The header, version 2, of a client's connection; of any kind where no address is known.

    Both are numeric. Where their families differ, the IPv4 one is written as IPv6 has it.
    """
    if source is None or destination is None or not source.host or not destination.host:
        return _UNSPECIFIED
    ends = ip_address(source.host), ip_address(destination.host)
    if all(isinstance(end, IPv4Address) for end in ends):
        family, hosts = 0x11, [end.packed for end in ends]
    else:
        family, hosts = 0x21, [_wide(end) for end in ends]
    body = b"".join(hosts) + _write_ports(source.port, destination.port)
    return _begin(SIGNATURE, _PROXY, family, len(body)) + body


def _wide(address: IPv4Address | IPv6Address) -> bytes:
    return bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed

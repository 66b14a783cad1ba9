"""PROXY headers as HAProxy, nginx and network balancers write them, and what is none."""

from __future__ import annotations

from ipaddress import ip_address

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.addresses import Address
from proxy.wire.proxy_header import (
    LOCAL_HEADER,
    LONGEST,
    SIGNATURE,
    HeaderError,
    ProxyHeader,
    header_for,
    may_begin,
    read_header,
)
from tests.build import command

CLIENT, REACHED = Address("192.0.2.7", 50_001), Address("198.51.100.9", 27_017)
CLIENT6, REACHED6 = Address("2001:db8::7", 50_001), Address("2001:db8::9", 27_017)
TCP4 = bytes((192, 0, 2, 7, 198, 51, 100, 9)) + b"\xc3\x51\x69\x89"
TCP6 = ip_address("2001:db8::7").packed + ip_address("2001:db8::9").packed + b"\xc3\x51\x69\x89"
UNIX = b"/run/a.sock".ljust(108, b"\0") + bytes(108)


def v2(
    command: int = 0x21, family: int = 0x11, body: bytes = TCP4, length: int | None = None
) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes((command, family)) + size.to_bytes(2, "big") + body


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def summed(family: int = 0x11, body: bytes = TCP4, more: bytes = b"", off: int = 0) -> bytes:
    """A header with a checksum, which is ``off`` by so much."""
    header = v2(0x21, family, body + tlv(3, bytes(4)) + more)
    value = (int(google_crc32c.value(header)) + off) % (1 << 32)
    at = len(header) - len(more) - 4
    return header[:at] + value.to_bytes(4, "big") + header[at + 4 :]


#: What is taken, and what it says: source, destination, local.
TAKEN = {
    "1, IPv4": (b"PROXY TCP4 192.0.2.7 198.51.100.9 50001 27017\r\n", CLIENT, REACHED, False),
    "1, IPv6": (b"PROXY TCP6 2001:db8::7 2001:DB8:0::9 50001 27017\r\n", CLIENT6, REACHED6, False),
    "1, IPv4 as IPv6": (
        b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.9 50001 27017\r\n",
        CLIENT,
        REACHED,
        False,
    ),
    "1, the longest": (
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535".ljust(105, b"f") + b"\r\n",
        None,
        None,
        False,
    ),
    "1, unknown": (b"PROXY UNKNOWN\r\n", None, None, False),
    "2, IPv4": (v2(), CLIENT, REACHED, False),
    "2, IPv6": (v2(family=0x21, body=TCP6), CLIENT6, REACHED6, False),
    "2, unix": (v2(family=0x31, body=UNIX), Address(path="/run/a.sock"), Address(), False),
    "2, datagrams": (v2(family=0x12), None, None, False),
    "2, unspecified": (v2(family=0, body=b""), None, None, False),
    "2, unspecified, something behind": (v2(family=0, body=b"\3\0\0abc"), None, None, False),
    "2, local": (v2(0x20, 0, b""), None, None, True),
    "2, local with addresses": (v2(0x20, 0x11), None, None, True),
    "2, local with a part of them": (v2(0x20, 0x11, b"abc"), None, None, True),
    "2, fields": (
        v2(body=TCP4 + tlv(1, b"h2") + tlv(0x20, b"\1" + bytes(4)) + tlv(4, b"")),
        CLIENT,
        REACHED,
        False,
    ),
    "2, a checksum": (summed(), CLIENT, REACHED, False),
    "2, a checksum in front of others": (summed(more=tlv(4, b"abc")), CLIENT, REACHED, False),
    "2, a checksum alone": (summed(0, b""), None, None, False),
    "2, the longest": (v2(body=TCP4 + tlv(4, bytes(LONGEST - 31))), CLIENT, REACHED, False),
}

#: What is refused, by a part of the words.
REFUSED = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", "no PROXY header"),
    "a message": (command({"hello": 1, "$db": "admin"}, 1), "no PROXY header"),
    "1, no end": (b"PROXY TCP4 " + b"1" * 96, "107 bytes"),
    "1, no family": (b"PROXY \r\n", "family"),
    "1, another family": (b"PROXY UDP4 192.0.2.7 198.51.100.9 1 2\r\n", "family"),
    "1, lower case": (b"PROXY tcp4 192.0.2.7 198.51.100.9 1 2\r\n", "family"),
    "1, a space too much": (b"PROXY TCP4  192.0.2.7 198.51.100.9 1 2\r\n", "family"),
    "1, a word too much": (b"PROXY TCP4 192.0.2.7 198.51.100.9 1 2 3\r\n", "family"),
    "1, the wrong family": (b"PROXY TCP4 2001:db8::7 198.51.100.9 1 2\r\n", "address"),
    "1, a zone": (b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", "address"),
    "1, a name": (b"PROXY TCP4 localhost 198.51.100.9 1 2\r\n", "address"),
    "1, zeros in front": (b"PROXY TCP4 192.0.2.007 198.51.100.9 1 2\r\n", "address"),
    "1, a port too large": (b"PROXY TCP4 192.0.2.7 198.51.100.9 65536 2\r\n", "65535"),
    "1, a port below 0": (b"PROXY TCP4 192.0.2.7 198.51.100.9 -1 2\r\n", "port"),
    "1, a port with zeros": (b"PROXY TCP4 192.0.2.7 198.51.100.9 01 2\r\n", "port"),
    "1, no ASCII": (b"PROXY TCP4 192.0.2.7 198.51.100.9 \xd9\xa1 2\r\n", "ASCII"),
    "1, lines without return": (b"PROXY UNKNOWN\n" + bytes(100), "107 bytes"),
    "2, version 1": (v2(0x11), "version 1"),
    "2, another command": (v2(0x22), "command 2"),
    "2, another family": (v2(family=0x41), "family 4"),
    "2, another transport": (v2(family=0x13), "transport 3"),
    "2, too short": (v2(body=TCP4[:-1]), "too short"),
    "2, too short for IPv6": (v2(family=0x21), "too short"),
    "2, too long": (v2(body=TCP4 + tlv(4, bytes(LONGEST - 30))), f"{LONGEST} is the most"),
    "2, far too long": (v2(length=65_535), f"{LONGEST} is the most"),
    "2, half a field": (v2(body=TCP4 + b"\4\0"), "a field"),
    "2, a field without end": (v2(body=TCP4 + b"\4\0\2a"), "a field"),
    "2, a wrong checksum": (summed(off=1), "checksum"),
    "2, a wrong checksum alone": (summed(0, b"", off=1), "checksum"),
    "2, a short checksum": (v2(body=TCP4 + tlv(3, b"abc")), "checksum"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_headers_are_taken_however_they_are_cut(case: str) -> None:
    data, source, destination, local = TAKEN[case]
    whole = ProxyHeader(len(data), source, destination, local)
    assert may_begin(data)
    assert read_header(data) == whole
    assert read_header(data + b"\x3a\0\0\0 and so on") == whole
    for end in range(len(data)):
        assert read_header(data[:end]) is None, end


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_header_is_refused_with_a_reason(case: str) -> None:
    data, words = REFUSED[case]
    with pytest.raises(HeaderError, match=words):
        read_header(data)


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_as_soon_as_it_can_be_seen_and_never_taken_on_the_way(case: str) -> None:
    data, _ = REFUSED[case]
    refused = False
    for end in range(len(data) + 1):
        try:
            assert read_header(data[:end]) is None
            assert not refused
        except HeaderError:
            refused = True
    assert refused


def test_no_message_begins_as_a_header_does() -> None:
    assert not may_begin(command({"hello": 1, "$db": "admin"}, 1))
    assert not may_begin(b"\r\1\0\0")
    assert not may_begin(bytes.fromhex("160301"))
    assert may_begin(b"")
    assert may_begin(b"\r\n")
    assert may_begin(b"PRO")


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_refused_or_not_enough(data: bytes) -> None:
    for begun in (data, SIGNATURE + data, SIGNATURE + b"\x21\x11\0" + data, b"PROXY " + data):
        _read(begun)


@given(st.sampled_from(sorted(TAKEN)), st.integers(0, 4_200), st.binary(max_size=4), st.booleans())
def test_damaged_headers_are_taken_refused_or_not_enough(
    case: str, at: int, what: bytes, insert: bool
) -> None:
    data = TAKEN[case][0]
    at %= len(data)
    _read(data[:at] + what + data[at if insert else at + len(what) :])


def _read(data: bytes) -> None:
    try:
        header = read_header(data)
    except HeaderError:
        return
    if header is None:
        assert len(data) < LONGEST
    else:
        assert 15 <= header.size <= min(len(data), LONGEST)


addresses = st.ip_addresses().map(str)
ports = st.integers(0, 65_535)


@given(addresses, ports, addresses, ports)
def test_what_is_written_is_read(here: str, port: int, there: str, reached: int) -> None:
    source, destination = Address(here, port), Address(there, reached)
    header = header_for(source, destination)
    read = read_header(header)
    assert read is not None
    assert read.size == len(header)
    assert read.source is not None
    assert read.destination is not None
    for found, meant in zip((read.source, read.destination), (source, destination), strict=True):
        assert found.port == meant.port
        address = ip_address(meant.host)
        mapped = getattr(address, "ipv4_mapped", None) or address
        assert ip_address(found.host) == mapped


@pytest.mark.parametrize(
    ("source", "destination"),
    [(None, REACHED), (CLIENT, None), (Address(path="/a"), REACHED), (CLIENT, Address(path="/a"))],
)
def test_without_both_addresses_none_is_written(
    source: Address | None, destination: Address | None
) -> None:
    header = header_for(source, destination)
    assert header == v2(family=0, body=b"")
    assert read_header(header) == ProxyHeader(16)


def test_a_connection_of_ones_own_is_local() -> None:
    assert read_header(LOCAL_HEADER) == ProxyHeader(16, local=True)
    assert header_for(CLIENT, REACHED) == v2()
    assert header_for(CLIENT6, REACHED6) == v2(family=0x21, body=TCP6)

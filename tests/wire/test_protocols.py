from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.frames import FrameBuffer, FramingError
from proxy.wire.protocols import MONGODB, protocol_of
from tests.build import command, recorded

#: What people connect by mistake: first bytes of clients and of servers.
KNOWN = [
    (b"GET / HTTP/1.1\r\n", "HTTP"),
    (b"POST /write HTTP/1.1\r\n", "HTTP"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP"),
    (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
    (bytes.fromhex("1603010200010001fc0303") + bytes(32), "TLS"),
    (bytes.fromhex("16030100c6"), "TLS"),
    (bytes.fromhex("15030100020246"), "TLS"),
    (bytes.fromhex("15030300020228"), "TLS"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "PROXY protocol"),
    (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "PROXY protocol"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
    (b"*1\r\n$4\r\nPING\r\n", "Redis"),
    (b"-ERR unknown command\r\n", "Redis"),
    (b"PING\r\n", "Redis"),
    (bytes.fromhex("0000000804d2162f"), "PostgreSQL"),
    (b"\0\0\0\x29\0\3\0\0user\0app\0", "PostgreSQL"),
    (b"\x4a\0\0\0\x0a8.0.36\0" + bytes(60), "MySQL"),
    (b"AMQP\0\0\x09\1", "AMQP"),
    (b"\x10\x1a\0\4MQTT\4\2\0\x3c", "MQTT"),
    (b"220 mail.example.net ESMTP\r\n", "FTP or SMTP"),
    (b"ERROR\r\n", "memcached"),
    (command({"hello": 1, "$db": "admin"}, 1), MONGODB),
    (b"", ""),
    (b"G", ""),
    (b"\x16\x03", ""),
    (b"lorem ipsum dolor sit amet", ""),
]


@pytest.mark.parametrize(("data", "name"), KNOWN)
def test_first_bytes_are_known(data: bytes, name: str) -> None:
    assert protocol_of(data) == name


def test_every_recorded_message_is_mongodbs() -> None:
    assert {protocol_of(data) for _, data in recorded()} == {MONGODB}


@given(st.binary(max_size=80))
def test_any_bytes_have_a_name_or_none(data: bytes) -> None:
    assert isinstance(protocol_of(data), str)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"HTTP/1.1 400", "message length 1347703880 is out of range: this is HTTP"),
        (b"GET / HTTP/1", "message length 542393671 is out of range: this is HTTP"),
        (b"SSH-2.0-x", "message length 759714643 is out of range: this is SSH"),
        (b"\xff\xff\xff\xff", "message length -1 is out of range"),
    ],
)
@pytest.mark.parametrize("size", [3, 4, 100])
def test_a_length_that_cannot_be_is_named_with_what_it_is(
    data: bytes, says: str, size: int
) -> None:
    buffer = FrameBuffer()
    if size < 4:
        assert not buffer.feed(data[:size])
        data = data[size:]
    with pytest.raises(FramingError) as caught:
        buffer.feed(data)
    assert str(caught.value) == says
    assert caught.value.protocol == says.partition("this is ")[2]

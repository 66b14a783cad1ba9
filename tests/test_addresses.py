from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.addresses import Address, Srv, UpstreamUri, parse_address, parse_upstream


@pytest.mark.parametrize(
    ("text", "expected", "written"),
    [
        ("localhost", Address("localhost", 27017), "localhost:27017"),
        ("Db1.Example:27018", Address("db1.example", 27018), "db1.example:27018"),
        ("127.0.0.1:0", Address("127.0.0.1", 0), "127.0.0.1:0"),
        ("[::1]", Address("::1", 27017), "[::1]:27017"),
        ("[FE80::1%eth0]:65535", Address("fe80::1%eth0", 65535), "[fe80::1%eth0]:65535"),
        ("/tmp/mongodb-27017.sock", Address(path="/tmp/mongodb-27017.sock"), None),
        ("/tmp/Two Words:1", Address(path="/tmp/Two Words:1"), None),
    ],
)
def test_addresses_are_read_and_written(text: str, expected: Address, written: str | None) -> None:
    address = parse_address(text)
    assert address == expected
    assert str(address) == (text if written is None else written)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no host"),
        (":27017", "no host"),
        ("host:", "port"),
        ("host:x", "port"),
        ("host:+1", "port"),
        ("host:²", "port"),
        ("host:65536", "port"),
        ("host:000000001", "port"),
        ("::1", "brackets"),
        ("fe80::1:27017", "brackets"),
        ("[::1", "IPv6"),
        ("[::1]27017", "IPv6"),
        ("[host]:1", "IPv6"),
        ("a b", "host name"),
        ("host\n", "host name"),
        ("host\x00", "host name"),
        ("user@host", "host name"),
        ("a,b", "host name"),
        ("tmp/x.sock", "host name"),
        ("/tmp/\0", "NUL"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_address(text)


def test_a_port_can_be_demanded() -> None:
    assert parse_address("host:1", None) == Address("host", 1)
    with pytest.raises(ValueError, match="has no port"):
        parse_address("host", None)
    with pytest.raises(ValueError, match="has no port"):
        parse_address("[::1]", None)


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address


ONE = (Address("a", 27017),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", UpstreamUri(ONE)),
        ("/run/mongodb.sock", UpstreamUri((Address(path="/run/mongodb.sock"),))),
        ("mongodb://A", UpstreamUri(ONE)),
        ("mongodb://a/", UpstreamUri(ONE)),
        ("mongodb://a?replicaSet=rs%2B0", UpstreamUri(ONE, replica_set="rs+0")),
        (
            "mongodb://b:1,[::1]:2,%2Ftmp%2Fx.sock,a/?replicaset=rs0",
            UpstreamUri(
                (Address("b", 1), Address("::1", 2), Address(path="/tmp/x.sock"), *ONE),
                replica_set="rs0",
            ),
        ),
        ("mongodb://a/?ssl=true&tls=true", UpstreamUri(ONE, tls=True)),
        ("mongodb://a/?directConnection=true", UpstreamUri(ONE, direct=True)),
        ("mongodb+srv://DB.Example", UpstreamUri((), Srv("db.example"), tls=True)),
        (
            "mongodb+srv://db.example./?srvServiceName=Customname&tls=false&replicaSet=rs",
            UpstreamUri((), Srv("db.example", "customname"), replica_set="rs"),
        ),
        (
            "mongodb://a/?tls=true&tlsCAFile=%2Fca.pem&tlsCertificateKeyFile=/my.pem"
            "&tlsAllowInvalidHostnames=true",
            UpstreamUri(
                ONE,
                tls=True,
                tls_ca_file="/ca.pem",
                tls_certificate_key_file="/my.pem",
                tls_allow_invalid_hostnames=True,
            ),
        ),
        ("mongodb://a/?tlsCAFile=ca.pem", UpstreamUri(ONE, tls=True, tls_ca_file="ca.pem")),
        (
            "mongodb://a/?tlsInsecure=true",
            UpstreamUri(
                ONE,
                tls=True,
                tls_allow_invalid_certificates=True,
                tls_allow_invalid_hostnames=True,
            ),
        ),
    ],
)
def test_upstreams_are_read(text: str, expected: UpstreamUri) -> None:
    assert parse_upstream(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mongodb+srv://", "takes one name"),
        ("mongodb+srv://a.example,b.example", "takes one name"),
        ("mongodb+srv://a.example:27017", "without a port"),
        ("mongodb+srv://a.example:0", "without a port"),
        ("mongodb+srv://[::1]", "takes one name"),
        ("mongodb+srv://%2Fa.sock", "without a port"),
        ("mongodb+srv://a.example/?directConnection=true", "one seed"),
        ("mongodb+srv://a.example/app", "leave the database out"),
        ("mongodb://a/?srvServiceName=x", "srvServiceName"),
        ("http://a", "mongodb://"),
        ("mongodb://", "a host is missing"),
        ("mongodb://a,", "a host is missing"),
        ("mongodb://a,,b", "a host is missing"),
        ("mongodb://a:1,A:1", "named twice"),
        ("mongodb://a:0", "port 0"),
        ("a:0", "port 0"),
        ("mongodb://a/app", "leave the database out"),
        ("mongodb://a/?foo=1", "option 'foo' is for clients"),
        ("mongodb://a/?maxPoolSize=5", "maxPoolSize"),
        ("mongodb://a/?tls=maybe", "true or false"),
        ("mongodb://a/?tls=true&ssl=false", "contradicts"),
        ("mongodb://a/?replicaSet=a&replicaSet=b", "contradicts"),
        ("mongodb://a/?replicaSet=", "empty"),
        ("mongodb://a/?tls=false&tlsCAFile=x", "beside tls=false"),
        ("mongodb://a,b/?directConnection=true", "one seed"),
    ],
)
def test_what_makes_no_sense_for_a_proxy_is_refused_by_name(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_upstream(text)


@pytest.mark.parametrize(
    "text",
    [
        "mongodb://alice:hunter2@a/?tls=true",
        "mongodb://alice:hun/ter2@a",
        "mongodb://alice:hun?ter2@a",
        "alice:hunter2@a",
        "alice:hunter2@a:27017",
        "mongodb://alice:hunter2@a:0",
        "mongodb+srv://alice:hunter2@a",
        "http://alice:hunter2@a",
        "mongodb://alice:hunter2@a/app?foo=1",
    ],
)
def test_credentials_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="credentials") as refusal:
        parse_upstream(text)
    assert "hun" not in str(refusal.value)


def test_an_at_sign_may_stand_where_it_is_no_sign_of_credentials() -> None:
    assert parse_upstream("/run/@mongo").seeds == (Address(path="/run/@mongo"),)
    assert parse_upstream("mongodb://a/?tlsCAFile=/a%40b").tls_ca_file == "/a@b"

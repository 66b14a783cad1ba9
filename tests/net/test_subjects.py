from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from proxy.net.subjects import parse_subject, subject_of
from tests.needs import need

KEY = ec.generate_private_key(ec.SECP256R1())
ATTRIBUTES = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "UID": NameOID.USER_ID,
    "DC": NameOID.DOMAIN_COMPONENT,
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "2.5.4.12": NameOID.TITLE,
}


def certificate(name: x509.Name) -> bytes:
    start = datetime.datetime(2020, 1, 1)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(KEY.public_key())
        .serial_number(1 << 150)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=10_000))
        .sign(KEY, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def named(*attributes: tuple[str, str]) -> bytes:
    """A certificate whose subject holds these (type, value) in the order of the bytes."""
    return certificate(
        x509.Name([x509.NameAttribute(ATTRIBUTES[kind], value) for kind, value in attributes])
    )


@pytest.mark.parametrize(
    ("attributes", "subject"),
    [
        ([("O", "example"), ("OU", "clients"), ("CN", "alice")], "CN=alice,OU=clients,O=example"),
        ([("CN", "alice")], "CN=alice"),
        ([], ""),
        ([("DC", "org"), ("DC", "example"), ("UID", "al")], "UID=al,DC=example,DC=org"),
        (
            [("C", "DE"), ("ST", "BE"), ("L", "Berlin"), ("STREET", "1"), ("emailAddress", "a@b")],
            "emailAddress=a@b,STREET=1,L=Berlin,ST=BE,C=DE",
        ),
        ([("2.5.4.12", "Dr"), ("CN", "a")], "CN=a,2.5.4.12=Dr"),
        ([("CN", "Zoë 💐")], "CN=Zoë 💐"),
        ([("CN", 'a,b+c"d\\e;f<g>=h')], r"CN=a\,b\+c\"d\\e\;f\<g\>=h"),
        ([("CN", "#1 ")], r"CN=\#1\ "),
        ([("CN", " a b#")], r"CN=\ a b#"),
        (
            [("CN", "a" * 64), ("OU", "b" * 64), ("O", "c" * 64)],
            ",".join(["O=" + "c" * 64, "OU=" + "b" * 64, "CN=" + "a" * 64]),
        ),
    ],
)
def test_subjects_are_written_as_mongodb_does(
    attributes: list[tuple[str, str]], subject: str
) -> None:
    assert subject_of(named(*attributes)) == subject


def test_a_part_with_several_attributes() -> None:
    name = x509.Name(
        [
            x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o")]),
            x509.RelativeDistinguishedName(
                [
                    x509.NameAttribute(NameOID.COMMON_NAME, "a"),
                    x509.NameAttribute(NameOID.USER_ID, "u"),
                ]
            ),
        ]
    )
    subject = subject_of(certificate(name))
    assert subject in ("CN=a+UID=u,O=o", "UID=u+CN=a,O=o")
    assert parse_subject(subject) == parse_subject("uid=u + cn=a, O=o")


def tlv(tag: int, *content: bytes) -> bytes:
    inner = b"".join(content)
    assert len(inner) < 128
    return bytes([tag, len(inner)]) + inner


@pytest.mark.parametrize("version", [b"", tlv(0xA0, tlv(2, b"\2"))], ids=["1", "3"])
@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (12, "Zoë".encode()),
        (20, "Zoë".encode("latin-1")),
        (28, "Zoë".encode("utf-32-be")),
        (30, "Zoë".encode("utf-16-be")),
        (19, b"Zoe"),
        (22, b"Zoe"),
        (18, b"123"),
        (26, b"Zoe"),
    ],
)
def test_every_type_of_string_in_every_version(tag: int, text: bytes, version: bytes) -> None:
    subject = tlv(0x30, tlv(0x31, tlv(0x30, tlv(6, b"\x55\4\3"), tlv(tag, text))))
    parts = (version, tlv(2, b"\1"), tlv(0x30), tlv(0x30), tlv(0x30), subject)
    found = subject_of(tlv(0x30, tlv(0x30, *parts)))
    assert found == "CN=" + {18: "123"}.get(tag, "Zoe" if text == b"Zoe" else "Zoë")


def test_openssl_writes_the_same(tmp_path: Path) -> None:
    der = tmp_path / "certificate.der"
    attributes = [("O", "ex, ample"), ("OU", "#clients"), ("CN", 'al "i" ce ')]
    der.write_bytes(named(*attributes))
    openssl = need("openssl")
    shown = subprocess.run(
        [
            openssl,
            "x509",
            "-in",
            der,
            "-inform",
            "DER",
            "-noout",
            "-subject",
            "-nameopt",
            "RFC2253",
        ],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert shown.strip("\n") == f"subject={subject_of(der.read_bytes())}"


@given(st.binary(max_size=100))
def test_garbage_is_no_certificate(garbage: bytes) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        subject_of(garbage)


WHOLE = named(("O", "example"), ("CN", "alice"))


@given(st.integers(0, len(WHOLE) - 1))
def test_a_cut_certificate_is_none(length: int) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        subject_of(WHOLE[:length])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["CN", "O", "OU", "L"]),
            st.text(
                st.characters(exclude_categories=("Cs",), exclude_characters="\0"),
                min_size=1,
                max_size=12,
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_parses_to_the_same_attributes(attributes: list[tuple[str, str]]) -> None:
    parsed = parse_subject(subject_of(named(*attributes)))
    expected = [frozenset([(ATTRIBUTES[kind].dotted_string, value)]) for kind, value in attributes]
    assert parsed == tuple(reversed(expected))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CN=a,O=b", "cn=a, o=b"),
        ("CN=a,O=b", "CN = a , O = b "),
        ("CN=a", "2.5.4.3=a"),
        (r"CN=a\,b", r"CN=a\2cb"),
        (r"CN=Zo\C3\AB", "CN=Zoë"),
        (r"CN=a\ ", r"CN=a\20"),
        ("emailAddress=x", "EMAILADDRESS=x"),
        ("CN=a=b", r"CN=a\=b"),
        ("CN=", "CN= "),
    ],
)
def test_spellings_of_one_subject(one: str, other: str) -> None:
    assert parse_subject(one) == parse_subject(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CN=a,O=b", "O=b,CN=a"),
        ("CN=a,O=b", "CN=a+O=b"),
        ("CN=a", "CN=A"),
        ("CN=a", "CN=a\\ "),
        ("CN=a", "CN=a,O="),
        (r"CN=a\,O=b", "CN=a,O=b"),
        (r"CN=a\\", "CN=a"),
    ],
)
def test_different_subjects(one: str, other: str) -> None:
    assert parse_subject(one) != parse_subject(other)


@pytest.mark.parametrize(
    "text", ["", "alice", "CN=a,", "CN=a,,O=b", ",CN=a", "=a", "CN=a+", "CN=a\\"]
)
def test_what_is_no_subject(text: str) -> None:
    with pytest.raises(ValueError, match="is no subject"):
        parse_subject(text)

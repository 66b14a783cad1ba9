from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import Phase, given, settings
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
    "street": NameOID.STREET_ADDRESS,
    "UID": NameOID.USER_ID,
    "DC": NameOID.DOMAIN_COMPONENT,
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "title": NameOID.TITLE,
    "SN": NameOID.SURNAME,
    "GN": NameOID.GIVEN_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "1.2.3.4": x509.ObjectIdentifier("1.2.3.4"),
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
            [("C", "DE"), ("ST", "BE"), ("L", "Berlin"), ("street", "1"), ("emailAddress", "a@b")],
            "emailAddress=a@b,street=1,L=Berlin,ST=BE,C=DE",
        ),
        ([("title", "Dr"), ("SN", "b"), ("GN", "a")], "GN=a,SN=b,title=Dr"),
        ([("1.2.3.4", "x"), ("serialNumber", "7")], "serialNumber=7,1.2.3.4=x"),
        ([("CN", "Zoë 💐")], r"CN=Zo\C3\AB \F0\9F\92\90"),
        ([("CN", "a\nb\x00\x7f")], r"CN=a\0Ab\00\7F"),
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
    # DER sorts them, and MongoDB writes the last one first.
    assert subject == "UID=u+CN=a,O=o"
    assert parse_subject(subject) == parse_subject("uid=u + cn=a, O=o")


def with_value(tag: int, text: bytes) -> bytes:
    """A certificate whose common name is this string, of this type of eight bytes."""
    whole = named(("CN", "ABCDEFGH"))
    at = whole.rindex(b"ABCDEFGH")
    assert len(text) == 8
    return whole[: at - 2] + bytes([tag, 8]) + text + whole[at + 8 :]


@pytest.mark.parametrize(
    ("tag", "text", "value"),
    [
        (12, "Zoë4567".encode(), r"Zo\C3\AB4567"),
        (28, "Zë".encode("utf-32-be"), r"Z\C3\AB"),
        (30, "Zoë4".encode("utf-16-be"), r"Zo\C3\AB4"),
        (19, b"Zoe45678", "Zoe45678"),
        (20, b"Zoe45678", "Zoe45678"),
        (22, b"Zoe45678", "Zoe45678"),
        (18, b"12345678", "12345678"),
        (26, b"Zoe45678", "Zoe45678"),
    ],
)
def test_every_type_of_string(tag: int, text: bytes, value: str) -> None:
    assert subject_of(with_value(tag, text)) == f"CN={value}"


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (12, b"Zo\xff45678"),
        (30, b"\xd8\x00345678"),
        (20, "Zoë45678".encode("latin-1")),
        (3, b"\x00aaaaaaa"),
        (5, b"aaaaaaaa"),
    ],
    ids=["no UTF-8", "half a character", "T.61", "bits", "null"],
)
def test_what_is_no_text_is_refused_in_words(tag: int, text: bytes) -> None:
    with pytest.raises(ValueError, match="no certificate with a readable subject: "):
        subject_of(with_value(tag, text))


def test_bits_where_they_belong_are_refused_too() -> None:
    kind = x509.NameOID.X500_UNIQUE_IDENTIFIER
    attribute = x509.NameAttribute(kind, b"\0bits", _ASN1Type.BitString)
    with pytest.raises(ValueError, match="45 is no text"):
        subject_of(certificate(x509.Name([attribute])))


def openssl_writes(folder: Path, shown: list[bytes]) -> list[str]:
    """The subjects as OpenSSL writes them, of all these certificates."""
    openssl, lines = need("openssl"), []
    for number, der in enumerate(shown):
        file = folder / f"{number}.der"
        file.write_bytes(der)
        command = [openssl, "x509", "-in", file, "-inform", "DER", "-noout", "-subject"]
        told = subprocess.run(
            [*command, "-nameopt", "RFC2253"], capture_output=True, check=True, text=True
        ).stdout
        lines.append(told.removesuffix("\n").removeprefix("subject="))
    return lines


def test_openssl_writes_the_same(tmp_path: Path) -> None:
    text = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
    kinds = st.sampled_from([kind for kind in ATTRIBUTES if kind not in ("C", "1.2.3.4")])
    attribute = st.builds(lambda kind, value: (ATTRIBUTES[kind], value), kinds, text)
    part = st.lists(attribute, min_size=1, max_size=3, unique_by=lambda pair: pair[0].dotted_string)
    found = [
        named(("O", "ex, ample"), ("OU", "#clients"), ("CN", 'al "i" ce ')),
        named(("CN", " ")),
        named(*((kind, "DE" if kind == "C" else "x") for kind in ATTRIBUTES if kind[0] != "1")),
    ]

    @settings(max_examples=40, phases=[Phase.generate], database=None, derandomize=True)
    @given(st.lists(part, min_size=1, max_size=4))
    def collect(parts: list[list[tuple[x509.ObjectIdentifier, str]]]) -> None:
        # Not of the type that takes only ASCII.
        rdns = [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(kind, value, _ASN1Type.UTF8String) for kind, value in one]
            )
            for one in parts
        ]
        found.append(certificate(x509.Name(rdns)))

    collect()
    assert [subject_of(der) for der in found] == openssl_writes(tmp_path, found)


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
                st.characters(exclude_categories=("Cs",)),
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
        ("SN=a,GN=b,title=c", "surname=a,givenName=b,2.5.4.12=c"),
        ("STREET=a,ST=b", "street=a,stateOrProvinceName=b"),
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
    ("text", "problem"),
    [
        ("colour=a", "'colour' is no type of attribute"),
        ("CN=a,2.=b", "'2.' is no type of attribute"),
        (r"CN=a\FF", "escapes what is not UTF-8"),
    ],
)
def test_what_no_certificate_could_equal(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_subject(text)


@pytest.mark.parametrize(
    "text", ["", "alice", "CN=a,", "CN=a,,O=b", ",CN=a", "=a", "CN=a+", "CN=a\\"]
)
def test_what_is_no_subject(text: str) -> None:
    with pytest.raises(ValueError, match="is no subject"):
        parse_subject(text)

"""Certificate subjects as MongoDB writes them: RFC 4514, last part first.

``X509`` users of a server are named so (``CN=alice,OU=clients,O=example``), and that is what
``openssl x509 -subject -nameopt RFC2253`` prints. The ssl module tells the parts of a subject
by long names that differ from these and only of certificates that it verified, hence the
look into the certificate itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.x509 import NameAttribute

#: The names that OpenSSL, and so a server, writes for attribute types; any other is its number.
_SHORT: Final = {
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.2.840.113549.1.9.2": "unstructuredName",
    **{
        f"2.5.4.{number}": name
        for number, name in {
            **{3: "CN", 4: "SN", 5: "serialNumber", 6: "C", 7: "L", 8: "ST", 9: "street", 10: "O"},
            **{11: "OU", 12: "title", 13: "description", 15: "businessCategory"},
            **{16: "postalAddress", 17: "postalCode", 18: "postOfficeBox", 20: "telephoneNumber"},
            **{41: "name", 42: "GN", 43: "initials", 44: "generationQualifier"},
            **{46: "dnQualifier", 65: "pseudonym", 72: "role", 97: "organizationIdentifier"},
        }.items()
    },
}

#: What else people write; a server takes these too.
_LONG: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "givenName": "GN",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "street",
    "surname": "SN",
    "userId": "UID",
}
_DOTTED: Final = {short.upper(): number for number, short in _SHORT.items()}
_DOTTED.update({long.upper(): _DOTTED[short.upper()] for long, short in _LONG.items()})

_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_SPECIAL: Final = re.compile(r'[\\"+,;<>]|\A[ #]| \Z|[^ -~]')
_ATTRIBUTE: Final = re.compile(r" *([\w.]+) *= *((?:\\.|[^\\,+])*)([,+]|\Z)", re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)

#: A subject to compare by: sets of (dotted type, value), in the order of the text.
Subject = tuple[frozenset[tuple[str, str]], ...]


def subject_of(certificate: bytes) -> str:
    """The subject of a DER certificate; "" where it is empty.

    Raises:
        ValueError: this is no certificate, or its subject is not text.
    """
    # Only who maps certificates needs it, and it takes 50 ms: settings bring it in (tls.py).
    from cryptography import x509

    try:
        name = x509.load_der_x509_certificate(certificate).subject
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"no certificate with a readable subject: {error}") from error
    parts = (map(_written, reversed(list(part))) for part in reversed(name.rdns))
    return ",".join("+".join(part) for part in parts)


def parse_subject(text: str) -> Subject:
    """A written subject in a form that compares equal however it was spaced and escaped.

    Raises:
        ValueError: it is not ``type=value`` pairs with commas (or ``+``) between them.
    """
    parts: list[frozenset[tuple[str, str]]] = []
    attributes: set[tuple[str, str]] = set()
    pos, separator = 0, ","
    while separator:
        match = _ATTRIBUTE.match(text, pos)
        if match is None:
            raise ValueError(f"{text!r} is no subject like CN=alice,O=example")
        kind, value, separator = match.groups()
        attributes.add((_number(kind), _unescape(_trimmed(value))))
        if separator != "+":
            parts.append(frozenset(attributes))
            attributes = set()
        pos = match.end()
    return tuple(parts)


def _number(kind: str) -> str:
    number = _DOTTED.get(kind.upper())
    if number is None:
        if not _NUMBER.fullmatch(kind):
            raise ValueError(f"{kind!r} is no type of attribute like CN or 2.5.4.3")
        number = kind
    return number


def _written(attribute: NameAttribute[str | bytes]) -> str:
    dotted, value = attribute.oid.dotted_string, attribute.value
    if isinstance(value, bytes):
        raise ValueError(f"no certificate with a readable subject: {dotted} is no text")
    return f"{_SHORT.get(dotted, dotted)}={_SPECIAL.sub(_escape, value)}"


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if " " <= character <= "~":
        return "\\" + character
    return "".join(f"\\{byte:02X}" for byte in character.encode())


def _trimmed(value: str) -> str:
    trimmed = value.rstrip(" ")
    # A space that is escaped belongs to the value.
    odd = (len(trimmed) - len(trimmed.rstrip("\\"))) % 2
    return trimmed + " " if odd and len(trimmed) < len(value) else trimmed


def _unescape(value: str) -> str:
    def character(match: re.Match[bytes]) -> bytes:
        return bytes.fromhex(match[1].decode()) if len(match[1]) == 2 else match[1]

    try:
        return _ESCAPED.sub(character, value.encode()).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{value!r} escapes what is not UTF-8") from error

"""Certificate subjects as MongoDB writes them: RFC 2253, last part first.

``X509`` users of a server are named so (``CN=alice,OU=clients,O=example``), and that is what
``openssl x509 -subject -nameopt RFC2253`` prints. The ssl module tells the parts of a subject
by long names that differ from these and only of certificates that it verified, hence the
look into the certificate itself (X.690; RFC 5280, section 4.1). It is one that OpenSSL read
before.
"""

from __future__ import annotations

import re
from typing import Final

#: Short names of attribute types; any other is written as its dotted number.
_SHORT: Final = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_DOTTED: Final = {short.upper(): number for number, short in _SHORT.items()}

#: String types and how their characters are encoded; the others are ASCII.
_ENCODINGS: Final = {12: "utf-8", 20: "latin-1", 28: "utf-32-be", 30: "utf-16-be"}

#: Bytes of a subject, and of an attribute's type. Both are read in quadratic time.
_LONGEST: Final = 16_384
_LONGEST_IDENTIFIER: Final = 64

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0

_SPECIAL: Final = re.compile(r'[\\"+,;<>]|\A[ #]| \Z')
_ATTRIBUTE: Final = re.compile(r" *([\w.]+) *= *((?:\\.|[^\\,+])*)([,+]|\Z)", re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)

#: A subject to compare by: sets of (dotted type, value), in the order of the text.
Subject = tuple[frozenset[tuple[str, str]], ...]


def subject_of(certificate: bytes) -> str:
    """The subject of a DER certificate; "" where it is empty.

    Raises:
        ValueError: this is no certificate.
    """
    try:
        _, whole, _ = _take(certificate)
        _, signed, _ = _take(whole)
        tag, _, rest = _take(signed)
        if tag == _VERSION:
            _, _, rest = _take(rest)
        # What is taken: the serial number (above), then algorithm, issuer, validity.
        for _ in range(3):
            tag, _, rest = _take(rest)
            if tag != _SEQUENCE:
                raise ValueError("a part is no sequence")
        _, name, _ = _take(rest)
        if len(name) > _LONGEST:
            raise ValueError("the subject is too long")
        parts = []
        while name:
            _, part, name = _take(name)
            attributes = []
            while part:
                _, attribute, part = _take(part)
                _, identifier, value = _take(attribute)
                tag, text, _ = _take(value)
                dotted = _dotted(identifier)
                decoded = text.decode(_ENCODINGS.get(tag, "ascii"))
                attributes.append(f"{_SHORT.get(dotted, dotted)}={_escape(decoded)}")
            parts.append("+".join(attributes))
    except (IndexError, ValueError) as error:
        raise ValueError(f"no certificate: {error}") from error
    return ",".join(reversed(parts))


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
        kind = kind.upper()
        attributes.add((_DOTTED.get(kind, kind), _unescape(_trimmed(value))))
        if separator != "+":
            parts.append(frozenset(attributes))
            attributes = set()
        pos = match.end()
    return tuple(parts)


def _take(data: bytes) -> tuple[int, bytes, bytes]:
    """The tag and the content of the first DER value, and what follows it."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("a value is cut short")
    return tag, data[start : start + length], data[start + length :]


def _dotted(identifier: bytes) -> str:
    if len(identifier) > _LONGEST_IDENTIFIER:
        raise ValueError("an identifier is too long")
    numbers: list[int] = []
    number = 0
    for byte in identifier:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _escape(value: str) -> str:
    return _SPECIAL.sub(lambda match: "\\" + match[0], value)


def _trimmed(value: str) -> str:
    trimmed = value.rstrip(" ")
    # A space that is escaped belongs to the value.
    odd = (len(trimmed) - len(trimmed.rstrip("\\"))) % 2
    return trimmed + " " if odd and len(trimmed) < len(value) else trimmed


def _unescape(value: str) -> str:
    def character(match: re.Match[bytes]) -> bytes:
        return bytes.fromhex(match[1].decode()) if len(match[1]) == 2 else match[1]

    return _ESCAPED.sub(character, value.encode()).decode("utf-8", "replace")

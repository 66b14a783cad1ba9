"""What the proxy reads in ``hello`` and authentication commands, and what it changes in hello.

Every change is a splice: bytes that need no change are the bytes that came. Which reply
fields name members is from the "Server Discovery And Monitoring" specification; mechanisms
and speculative authentication from its "Authentication".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.errors import WireError
from proxy.wire import compression
from proxy.wire.fields import (
    ARRAY,
    DOCUMENT,
    MAX_ELEMENTS,
    OBJECT_ID,
    STRING,
    Element,
    Fields,
    every,
    in_order,
    text,
    walk,
)
from proxy.wire.opcodes import INT32

if TYPE_CHECKING:
    from proxy.wire.messages import Request
    from proxy.wire.replies import Reply

#: The spellings that servers know; any other case is another command to them.
HELLO_COMMANDS: Final = frozenset({"hello", "isMaster", "ismaster"})

#: Commands after which somebody else may be authenticated on the connection.
AUTHENTICATION_COMMANDS: Final = frozenset({"saslStart", "saslContinue", "authenticate", "logout"})

#: What a connection begins with. It changes no data, and who it is comes out of it only.
BEGINNING: Final = HELLO_COMMANDS | AUTHENTICATION_COMMANDS

#: The longest text taken over from client metadata, in characters. The server's own bounds
#: are 128 bytes for the application's name and 512 bytes for the whole document.
MAX_METADATA_TEXT: Final = 128

_LISTS: Final = (b"hosts", b"passives", b"arbiters")
#: What a driver says of the system, as far as that tells machines apart.
_SYSTEM: Final = (b"type", b"name", b"architecture", b"version")
#: Mechanisms that prove more than who holds the TLS connection, in the server's spelling.
_OTHER_MECHANISMS: Final = frozenset(
    (
        b"SCRAM-SHA-1",
        b"SCRAM-SHA-256",
        b"MONGODB-CR",
        b"PLAIN",
        b"GSSAPI",
        b"MONGODB-AWS",
        b"MONGODB-OIDC",
    )
)
#: "none" is what the Node driver offers for no compressor at all; no server has one of the name.
_COMPRESSORS: Final = frozenset(name.encode() for name in (*compression.NAMES, "none"))
_NESTED: Final = (DOCUMENT, ARRAY)

#: Compressors that a hello may offer; there are four. A longer list is taken for none.
_MOST_COMPRESSORS: Final = 64


# ---------------------------------------------------------------------- authentication


def is_authentication(request: Request) -> bool:
    """Whether the reply may change who is authenticated: a step of it, logout, or hello with
    ``speculativeAuthenticate``."""
    if request.command in HELLO_COMMANDS:
        return b"speculativeAuthenticate" in request.fields
    return request.command in AUTHENTICATION_COMMANDS


def names_x509(request: Request) -> bool:
    """Whether ``request`` is, or may be read as, authentication by MONGODB-X509.

    It is not where everything that says the mechanism is a string and names another one that is
    known. Versions differ in the rest: what a missing one means, whether a NUL or the first of
    equal fields ends the search, and what mechanisms there are.
    """
    if request.command in HELLO_COMMANDS:
        return _speculates_x509(request)
    return request.command in ("authenticate", "saslStart") and _means_x509(
        request.message, request.fields
    )


def _speculates_x509(request: Request) -> bool:
    for element in every(request.fields, b"speculativeAuthenticate"):
        if element.type not in _NESTED:
            return True
        try:
            fields = walk(request.message, element.value, element.end)
        except WireError:
            return True
        if _means_x509(request.message, fields):
            return True
    return False


def _means_x509(message: bytes, fields: Fields) -> bool:
    mechanisms = every(fields, b"mechanism")
    return not mechanisms or any(
        element.type != STRING or _raw_text(message, element) not in _OTHER_MECHANISMS
        for element in mechanisms
    )


def _raw_text(data: bytes, element: Element) -> bytes:
    """As much of a string as anybody compares or shows: it may be megabytes long."""
    start = element.value + 4
    return data[start : min(element.end - 1, start + 4 * MAX_METADATA_TEXT)]


# ---------------------------------------------------------------------- requests


def edited_request(request: Request, *, strip_compression: bool, refuse_x509: bool) -> bytes | None:
    """The hello to forward in place of ``request``; None to forward it as it came.

    Of the compressors it offers, all are taken out (``strip_compression``) or those that the
    proxy could not inflate; the rest keeps the client's order. ``refuse_x509`` takes out a
    speculative authentication that :func:`names_x509`: the client then has to ask for it
    openly, and can be refused.
    """
    edits: dict[bytes, bytes | None] = {}
    offered = request.fields.get(b"compression")
    if offered is not None:
        if strip_compression:
            edits[b"compression"] = None
        elif offered.type in _NESTED:
            element = _known_compressors(request.message, offered)
            repeated = b"compression" in request.fields.duplicates
            if repeated or element != request.message[offered.start : offered.end]:
                edits[b"compression"] = element
    if refuse_x509 and _speculates_x509(request):
        edits[b"speculativeAuthenticate"] = None
    return request.with_fields(edits) if edits else None


def _known_compressors(message: bytes, offered: Element) -> bytes | None:
    """The element ``compression`` as the proxy can carry it; None to leave it out."""
    try:
        elements = _elements(message, offered, _MOST_COMPRESSORS)
    except WireError:
        return None
    # What is no string is upstream's to refuse.
    kept = [e for e in elements if e.type != STRING or _raw_text(message, e) in _COMPRESSORS]
    if len(kept) == len(elements):
        return message[offered.start : offered.end]
    return _array(b"compression", [(e.type, message[e.value : e.end]) for e in kept])


def _elements(data: bytes, element: Element, most: int = MAX_ELEMENTS) -> list[Element]:
    """The elements of a nested array or document in their order, whatever they are called."""
    return in_order(walk(data, element.value, element.end, most))


def _array(name: bytes, values: list[tuple[int, bytes]]) -> bytes:
    """A BSON array element of (type, value bytes) pairs."""
    items = b"".join(b"%c%d\0%b" % (kind, i, value) for i, (kind, value) in enumerate(values))
    return b"%c%b\0" % (ARRAY, name) + INT32.pack(len(items) + 5) + items + b"\0"


def _string(value: str) -> bytes:
    raw = value.encode()
    return INT32.pack(len(raw) + 1) + raw + b"\0"


# ---------------------------------------------------------------------- replies


def process_id(reply: Reply) -> bytes:
    """The id that a process has from its start to its end; b"" where the reply says none."""
    version = reply.fields.get(b"topologyVersion")
    if version is None or version.type != DOCUMENT:
        return b""
    try:
        found = walk(reply.message, version.value, version.end).get(b"processId")
    except WireError:
        return b""
    if found is None or found.type != OBJECT_ID:
        return b""
    return reply.message[found.value : found.end]


def edited_reply(reply: Reply, addresses: Mapping[str, str] | None, own: str) -> bytes | None:
    """The hello reply to hand to the client in place of ``reply``; None for the one that came.

    ``addresses`` maps upstream's names for members, in lower case, to advertised addresses.
    Names that are not in it, or with "", are left out, and so is a list or ``primary`` that has
    none left; ``me`` becomes ``own``, and is left out where that is "" (a unix socket). With None
    for ``addresses`` nothing is changed.
    """
    if addresses is None:
        return None
    message, fields = reply.message, reply.fields
    edits: dict[bytes, bytes | None] = {}
    for name in _LISTS:
        if name in fields:
            edits[name] = _mapped_list(message, name, fields[name], addresses)
    if b"primary" in fields:
        primary = text(message, fields[b"primary"])
        mapped = None if primary is None else addresses.get(primary.lower())
        edits[b"primary"] = b"\x02primary\0" + _string(mapped) if mapped else None
    if b"me" in fields:
        edits[b"me"] = b"\x02me\0" + _string(own) if own else None
    if not any(
        new != message[fields[name].start : fields[name].end] or name in fields.duplicates
        for name, new in edits.items()
    ):
        return None
    return reply.with_fields(edits)


def _mapped_list(
    message: bytes, name: bytes, element: Element, addresses: Mapping[str, str]
) -> bytes | None:
    if element.type != ARRAY:
        return None
    try:
        members = _elements(message, element)
    except WireError:
        return None
    if not members:
        return message[element.start : element.end]
    values = []
    for member in members:
        mapped = addresses.get((text(message, member) or "").lower())
        if mapped:
            values.append((STRING, _string(mapped)))
    return _array(name, values) if values else None


def names_in_reply(reply: Reply) -> list[str]:
    """Upstream's names for members in a hello reply, in lower case, each once, in order."""
    message = reply.message
    names: dict[str, None] = {}
    for name in _LISTS:
        for element in every(reply.fields, name):
            if element.type == ARRAY:
                try:
                    members = _elements(message, element)
                except WireError:
                    continue
                names.update(dict.fromkeys(text(message, member) or "" for member in members))
    for name in (b"primary", b"me"):
        for element in every(reply.fields, name):
            names[text(message, element) or ""] = None
    return list(dict.fromkeys(name.lower() for name in names if name))


# ---------------------------------------------------------------------- client metadata


@dataclass(frozen=True, slots=True)
class ClientMetadata:
    """What a client says of itself in its first hello: for people to read, never to decide by.

    Texts are printable and at most :data:`MAX_METADATA_TEXT` long; "" where missing. Drivers are
    called as they call themselves: ``PyMongo|c`` with the version ``4.20.1``. ``platform`` is what
    it says of system, processor and language; ``internal`` that it claims to be a server.
    """

    application: str = ""
    driver: str = ""
    driver_version: str = ""
    os: str = ""
    platform: str = ""
    internal: bool = False


def client_metadata(request: Request) -> ClientMetadata:
    """The metadata in a hello request; malformed parts read as missing."""
    message = request.message
    client = _nested(message, request.fields.get(b"client"))
    application = _nested(message, client.get(b"application"))
    driver = _nested(message, client.get(b"driver"))
    system = _nested(message, client.get(b"os"))
    return ClientMetadata(
        _printable(message, application.get(b"name")),
        _parts(_printable(message, driver.get(b"name"))),
        _parts(_printable(message, driver.get(b"version"))),
        _printable(message, system.get(b"type")),
        _platform(message, system, client.get(b"platform")),
        b"internalClient" in request.fields,
    )


def _platform(message: bytes, system: Mapping[bytes, Element], platform: Element | None) -> str:
    """All that is said of it, each thing once; the language comes last."""
    parts = [_printable(message, system.get(name)) for name in _SYSTEM]
    parts.append(_parts(_printable(message, platform)))
    return " ".join(dict.fromkeys(part for part in parts if part))[: 2 * MAX_METADATA_TEXT]


def _parts(text: str) -> str:
    """A driver's name or version: those of what is built on it stand behind a ``|`` each, and
    some drivers say ``4.20.1|`` where nothing follows."""
    return "|".join(part for part in text.split("|") if part)


def _nested(data: bytes, element: Element | None) -> Mapping[bytes, Element]:
    if element is None or element.type != DOCUMENT:
        return {}
    try:
        return walk(data, element.value, element.end)
    except WireError:
        return {}


def _printable(data: bytes, element: Element | None) -> str:
    if element is None or element.type != STRING:
        return ""
    text = _raw_text(data, element).decode("utf-8", "replace")[:MAX_METADATA_TEXT]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)

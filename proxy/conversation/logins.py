"""Whom a client claims to be while it logs in: for the audit log, never to decide anything by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.conversation.hello import HELLO_COMMANDS
from proxy.errors import WireError
from proxy.session.caller import owner_name
from proxy.texts import decoded
from proxy.wire.fields import BINARY, DOCUMENT, text, walk

if TYPE_CHECKING:
    from proxy.wire.fields import Fields
    from proxy.wire.messages import Request

#: A client's first message in SCRAM, up to the name (RFC 5802, 7).
_SCRAM: Final = re.compile(rb"[nyp][^,]{0,100},[^,]{0,1000},n=([^,]{1,1000}),")
#: The name in the only message of PLAIN, in front of the password (RFC 4616, 2).
_PLAIN: Final = re.compile(rb"[^\0]{0,1000}\0([^\0]{1,1000})\0")


def claimed(request: Request) -> str:
    """``user@db`` as a step of authentication names it; "" where it names nobody."""
    message, fields = request.message, request.fields
    database = request.text(b"$db") or ""
    if request.command in HELLO_COMMANDS:
        element = fields.get(b"speculativeAuthenticate")
        if element is None or element.type != DOCUMENT:
            return ""
        try:
            fields = walk(message, element.value, element.end)
        except WireError:
            return ""
        database = text(message, fields.get(b"db")) or database
    name = text(message, fields.get(b"user")) or _named(message, fields)
    return owner_name(name, database) if name else ""


def _named(message: bytes, fields: Fields) -> str:
    payload = fields.get(b"payload")
    if payload is None or payload.type != BINARY:
        return ""
    mechanism = text(message, fields.get(b"mechanism")) or ""
    shape = _PLAIN if mechanism == "PLAIN" else _SCRAM if mechanism.startswith("SCRAM-") else None
    # Behind the binary's length and subtype.
    said = shape and shape.match(
        message[payload.value + 5 : min(payload.end, payload.value + 4000)]
    )
    return decoded(said[1]).replace("=2C", ",").replace("=3D", "=") if said else ""

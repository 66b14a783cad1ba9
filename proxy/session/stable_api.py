"""The Stable API: what ``apiVersion``, ``apiStrict`` and ``apiDeprecationErrors`` decide.

Servers from 4.9 on (hello's maxWireVersion 12) look at them before anything else of a command. The
texts are what a recorded 4.9 server answered; the longer one of 323 is of 6.0 and later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import bson

from proxy.errors import CommandError
from proxy.session import idl, refusals
from proxy.wire.fields import BOOL, STRING, text, walk

if TYPE_CHECKING:
    from proxy.wire.fields import Element
    from proxy.wire.messages import Request

#: maxWireVersion from which on servers know the parameters.
_KNOWN_FROM: Final = 12
_LONGER_FROM: Final = 17

_VERSION: Final = b"apiVersion"
_OPTIONS: Final = (b"apiStrict", b"apiDeprecationErrors")
_ONLY_VERSION: Final = "1"

#: Of the session commands those that API version 1 has.
_IN_VERSION_1: Final = frozenset(("endSessions", "refreshSessions"))

#: Where a command is given without a version and upstream demands one.
REQUIRED: Final = 498870
_REQUIRED: Final = CommandError(
    REQUIRED,
    "Location498870",
    "The apiVersion parameter is required, please configure your MongoClient's API version",
)
_WITHOUT_VERSION: Final = CommandError(
    4886600,
    "Location4886600",
    "Provided apiStrict and/or apiDeprecationErrors without passing apiVersion",
)
_MORE: Final = (
    ". Information on supported commands and migrations in API Version 1 can be found at"
    " https://dochub.mongodb.org/core/manual-versioned-api."
)

_ELEMENT: Final = bson.encode({"apiVersion": _ONLY_VERSION})[4:-1]

#: maxWireVersion from which on each command of a transaction repeats the parameters of its first
#: one. Those of 4.9 want them there and nowhere else, older ones know none.
_REPEATED_FROM: Final = 13


def _form(strict: bool | None, deprecations: bool | None) -> bytes:
    options = {"apiStrict": strict, "apiDeprecationErrors": deprecations}
    given = {name: value for name, value in options.items() if value is not None}
    return bson.encode({"apiVersion": _ONLY_VERSION, **given})[4:-1]


#: Raw elements by apiStrict and apiDeprecationErrors; None where one is not given, which is not the
#: same as false.
_FORMS: Final = {
    (strict, deprecations): _form(strict, deprecations)
    for strict in (None, False, True)
    for deprecations in (None, False, True)
}

#: How an abort of the proxy's own begins.
_ABORT: Final = b"\x10abortTransaction\0"


def is_known(wire_version: int | None) -> bool:
    """Whether servers of this maxWireVersion know the parameters; not where it is unknown."""
    return wire_version is not None and wire_version >= _KNOWN_FROM


def names_version(request: Request) -> bool:
    """Whether a request gives ``apiVersion``."""
    return not idl.is_absent(request.fields.get(_VERSION))


def repeats_parameters(wire_version: int | None) -> bool:
    """Whether each command of a transaction has to repeat the parameters of its first one.

    Also where the version is unknown: they are kept only where upstream has taken them.
    """
    return wire_version is None or wire_version >= _REPEATED_FROM


def parameters(request: Request) -> bytes:
    """A request's parameters as raw elements, to be repeated in what belongs to it.

    Empty where it has none, or has what no server takes.
    """
    fields, data = request.fields, request.message
    version = fields.get(_VERSION)
    if version is None or version.type != STRING or text(data, version) != _ONLY_VERSION:
        return b""
    strict, deprecations = (_option(data, fields.get(name)) for name in _OPTIONS)
    return _FORMS[strict, deprecations]


def _option(data: bytes, element: Element | None) -> bool | None:
    if element is None or element.type != BOOL:
        return None
    return data[element.value] != 0


def refusal(request: Request, wire_version: int | None, required: bool) -> CommandError | None:
    """What a server of this maxWireVersion has against a session command's parameters.

    ``required`` says that it runs with requireApiVersion. None for servers that know no
    parameters, or of which nothing is known.
    """
    if wire_version is None or not is_known(wire_version):
        return None
    fields, data = request.fields, request.message
    version = fields.get(_VERSION)
    if version is None or idl.is_absent(version):
        if required:
            return _REQUIRED.again()
        given = any(not idl.is_absent(fields.get(name)) for name in _OPTIONS)
        return _WITHOUT_VERSION.again() if given else None
    if version.type != STRING:
        return _wrong_type(_VERSION, version.type, "string")
    for name in _OPTIONS:
        option = fields.get(name)
        if option is not None and not idl.is_absent(option) and option.type != BOOL:
            return _wrong_type(name, option.type, "bool")
    asked = text(data, version)
    if asked != _ONLY_VERSION:
        return CommandError(322, "APIVersionError", f"Cannot accept API version {asked}")
    strict = fields.get(b"apiStrict")
    if strict is None or strict.type != BOOL or not data[strict.value]:
        return None
    if request.command in _IN_VERSION_1:
        return None
    words = f"Provided apiStrict:true, but the command {request.command} is not in API Version 1"
    return CommandError(323, "APIStrictError", words + _MORE * (wire_version >= _LONGER_FROM))


def versioned(document: bytes) -> bytes:
    """A command of the proxy's own (BSON) with ``apiVersion``, if it has none yet.

    An abort stays as it is: it says what its transaction's first command said, or nothing.
    """
    if document.startswith(_ABORT, 4) or _VERSION in walk(document, 0, len(document)):
        return document
    return (
        (len(document) + len(_ELEMENT)).to_bytes(4, "little")
        + document[4:-1]
        + _ELEMENT
        + document[-1:]
    )


def _wrong_type(name: bytes, found: int, expected: str) -> CommandError:
    path = f"APIParametersFromClient.{name.decode()}"
    return refusals.wrong_type(path, idl.type_name(found), expected)

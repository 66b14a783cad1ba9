"""The message around a session command: what servers have against it, as none will see it here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from proxy.errors import CommandError, WireError
from proxy.session.refusals import duplicate_field, duplicate_key
from proxy.texts import decoded
from proxy.wire.around import (
    documents_of,
    is_wrapped_beside,
    numbers_to_return,
    repeated_in_metadata,
)
from proxy.wire.opcodes import (
    INT32,
    KNOWN_REQUIRED,
    OP_COMMAND,
    OP_MSG,
    OP_QUERY,
    QUERY_EXHAUST,
)
from proxy.wire.sections import MSG_BODY, has_token

if TYPE_CHECKING:
    from proxy.wire.messages import Request

#: Of a longer body only the top level and what decides are looked at: upstream gets nothing else,
#: or judges it.
_DECODED: Final = 65_536

#: Servers take any text, and dates beyond the year 9999.
_ANY_VALUE: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    unicode_decode_error_handler="replace", datetime_conversion=DatetimeConversion.DATETIME_MS
)

#: From which version on (4.2, 5.1, by maxWireVersion) servers close where OP_COMMAND comes, and
#: take by OP_QUERY no more than what begins a connection.
_NO_OP_COMMAND_FROM: Final = 8
_NO_OP_QUERY_FROM: Final = 14

#: What an OP_QUERY has beside its command; servers before 5.0 put it behind the command's fields,
#: and refuse what is doubled then.
_READ_PREFERENCE: Final = b"$readPreference"
_NO_DOUBLED_PREFERENCE_BEFORE: Final = 13


def is_plain(request: Request) -> bool:
    """Whether a command is all of an OP_MSG without flags: nothing that is looked for here can be
    wrong with that, but for what :func:`invalid` looks for."""
    return (
        request.opcode == OP_MSG
        and not request.flags
        and request.body == MSG_BODY
        and INT32.unpack_from(request.message, MSG_BODY)[0] == len(request.message) - MSG_BODY
    )


def broken(request: Request, version: int) -> str:
    """Why a server would close the connection; "" where it would not.

    ``version`` is upstream's maxWireVersion, 0 where unknown.
    """
    if not request.has_valid_checksum():
        return "the checksum is wrong"
    if request.opcode == OP_MSG and request.flags & 0xFFFF & ~KNOWN_REQUIRED:
        return "a required flag is unknown"
    if request.opcode == OP_COMMAND and version >= _NO_OP_COMMAND_FROM:
        return "OP_COMMAND, which upstream does not know"
    return ""


def wrong_form(request: Request, version: int) -> CommandError | None:
    """What a server would refuse it with; ``version`` as above."""
    if request.opcode == OP_MSG:
        if has_token(request.message, request.flags):
            return CommandError(40432, "Location40432", "Unknown section kind 2")
        return None
    if request.opcode == OP_COMMAND:
        repeated = b"$db" if b"$db" in request.fields else repeated_in_metadata(request)
        if repeated is not None:
            return duplicate_field(f"OperationSessionInfo.{decoded(repeated)}")
    if request.opcode == OP_QUERY:
        if version >= _NO_OP_QUERY_FROM:
            text = (
                f"Unsupported OP_QUERY command: {request.command}. The client driver may require an"
                " upgrade. For more details see"
                " https://dochub.mongodb.org/core/legacy-opcode-removal"
            )
            return CommandError(352, "UnsupportedOpQueryCommand", text)
        if request.flags & QUERY_EXHAUST:
            text = "The 'exhaust' OP_QUERY flag is invalid for commands"
            return CommandError(18527, "Location18527", text)
        count = numbers_to_return(request.message)
        if count not in (1, -1):
            text = f"bad numberToReturn ({count}) for $cmd type ns - can only be 1 or -1"
            return CommandError(16979, "Location16979", text)
        if is_wrapped_beside(request, b"$maxTimeMS"):
            text = "cannot use $maxTimeMS query option with commands; use maxTimeMS command option"
            return CommandError(72, "InvalidOptions", f"{text} instead")
        if (
            0 < version < _NO_DOUBLED_PREFERENCE_BEFORE
            and _READ_PREFERENCE in request.fields
            and is_wrapped_beside(request, _READ_PREFERENCE)
        ):
            return duplicate_key(decoded(_READ_PREFERENCE))
        if b"$db" in request.fields:
            text = "$db is not allowed in OP_QUERY requests"
            return CommandError(40621, "Location40621", text)
    return None


def invalid(request: Request) -> CommandError | None:
    """What a server would refuse it with for values that cannot be, however deep in it."""
    try:
        for document in documents_of(request, _DECODED):
            bson.decode(document, _ANY_VALUE)
    except (WireError, BSONError) as error:
        return CommandError(22, "InvalidBSON", str(error))
    return None

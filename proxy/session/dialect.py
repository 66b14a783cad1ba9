"""The words of the version at hand: what the proxy says itself is said as upstream would say it.

Refusals are made as a server 4.2 words them, of which most was recorded. What later versions say in
other words, or under another name, is put into them here, where the answer is made. By hello's
maxWireVersion: 9 is 4.4, 12 is 4.9, 13 is 5.0, 17 is 6.0, 21 is 7.0, 25 is 8.0. Where it is not
established when a text changed, the older one is kept.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.errors import CommandError

#: By code, the names that parsers' errors have since the IDL's got names of their own.
_PARSERS: Final = {
    40413: "IDLDuplicateField",
    40414: "IDLFailedToParse",
    40415: "IDLUnknownField",
}
_NAMED_PARSERS_FROM: Final = 25

_NOT_RETRYABLE: Final = 50768
_NAMED_NOT_RETRYABLE_FROM: Final = 13

_FULL: Final = (
    "Unable to add session into the cache because the number of active sessions is too high"
)
_FULL_FROM: Final = 9

_BIN_DATA_FROM: Final = 13

_NEEDS_LOGIN: Final = re.compile(r"command \S+ requires authentication")
_CAPITAL_FROM: Final = 21


def said_by(error: CommandError, wire_version: int | None) -> CommandError:
    """``error`` as a server of this maxWireVersion says it; as 4.2 does where that is unknown."""
    if wire_version is None:
        return error
    code, name, text = error.code, error.code_name, error.errmsg
    if code in _PARSERS and wire_version >= _NAMED_PARSERS_FROM:
        name = _PARSERS[code]
    elif code == _NOT_RETRYABLE and wire_version >= _NAMED_NOT_RETRYABLE_FROM:
        name = "NotARetryableWriteCommand"
    elif code == 261 and wire_version >= _FULL_FROM:
        text = _FULL
    elif code == 14 and wire_version >= _BIN_DATA_FROM:
        text = text.replace(" is the wrong bindData type ", " is the wrong binData type ", 1)
    elif code == 13 and wire_version >= _CAPITAL_FROM and _NEEDS_LOGIN.fullmatch(text):
        text = f"C{text[1:]}"
    if (name, text) == (error.code_name, error.errmsg):
        return error
    return replace(error, code_name=name, errmsg=text)

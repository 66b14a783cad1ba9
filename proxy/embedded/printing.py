"""BSON values as the server prints them in its error messages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

_TYPE_NAMES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "bool"),
    (Int64, "long"),
    (int, "int"),
    (float, "double"),
    (Code, "javascript"),
    (str, "string"),
    (bytes, "binData"),
    (Mapping, "object"),
    (list, "array"),
    (ObjectId, "objectId"),
    (datetime, "date"),
    (DatetimeMS, "date"),
    (Timestamp, "timestamp"),
    (Regex, "regex"),
    (Decimal128, "decimal"),
    (MinKey, "minKey"),
    (MaxKey, "maxKey"),
)

_SUBTYPES: Final = {
    0: "general",
    1: "function",
    2: "byte(deprecated)",
    3: "UUID(deprecated)",
    4: "UUID",
    5: "MD5",
    128: "Custom",
}


def type_name(value: object) -> str:
    """A decoded value's BSON type as ``$type`` spells it."""
    for kind, name in _TYPE_NAMES:
        if isinstance(value, kind):
            return name
    return "null"


def subtype(value: bytes) -> int:
    """The subtype of decoded binary data (the decoder turns subtype 0 into ``bytes``)."""
    return value.subtype if isinstance(value, Binary) else 0


def subtype_name(value: bytes) -> str:
    """A binary subtype as the server's parsers spell it."""
    return _SUBTYPES.get(subtype(value), "invalid")


def _binary(value: bytes) -> str:
    kind = subtype(value)
    if kind == 4 and len(value) == 16:
        return f'UUID("{UUID(bytes=bytes(value))}")'
    return f"BinData({kind}, {value.hex().upper()})"


def printed(value: object) -> str:
    """``value`` in the notation of the server's BSONObj::toString."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        return "{ " + ", ".join(f"{name}: {printed(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list):
        return "[ " + ", ".join(map(printed, value)) + " ]" if value else "[]"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bytes):
        return _binary(value)
    if isinstance(value, ObjectId):
        return f"ObjectId('{value}')"
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return f"new Date({round(moment.timestamp() * 1000)})"
    if isinstance(value, DatetimeMS):
        return f"new Date({int(value)})"
    if isinstance(value, Timestamp):
        return f"Timestamp({value.time}, {value.inc})"
    if isinstance(value, Regex):
        return f"/{value.pattern!s}/"
    if isinstance(value, MinKey | MaxKey):
        return type(value).__name__
    return str(value)


#: Batches that the server abbreviates to their length when it prints a command.
_BATCHES: Final = ("documents", "updates", "deletes")
_SECRETS: Final = ("pwd", "payload")


def printed_command(body: Mapping[str, Any]) -> str:
    """A whole command as the authorization error shows it."""
    shown: dict[str, Any] = {}
    for name, value in body.items():
        if name in _BATCHES and isinstance(value, list) and len(value) > 1:
            shown[name] = len(value)
        else:
            shown[name] = "xxx" if name in _SECRETS else value
    return printed(shown)

"""Parsing of the session fields that any command may have, and of lists of sessions.

The order of checks and every text is what the recorded servers answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from bson import Int64

from proxy.embedded.failures import failure, type_mismatch
from proxy.embedded.printing import subtype, subtype_name
from proxy.embedded.sessions import ClientLsid

if TYPE_CHECKING:
    from proxy.embedded.versions import Version


def _binary(path: str, value: object, wanted: int, expected: str, version: Version) -> bytes:
    if not isinstance(value, bytes):
        raise type_mismatch(path, value, "binData")
    if subtype(value) != wanted:
        kind = "binData" if version.bin_data else "bindData"
        raise failure(
            14,
            f"BSON field '{path}' is the wrong {kind} type '{subtype_name(value)}', "
            f"expected type '{expected}'",
        )
    return bytes(value)


def parse_uuid(path: str, value: object, version: Version) -> bytes:
    """A session id's 16 bytes.

    Raises:
        CommandError: 14 or 207.
    """
    found = _binary(path, value, 4, "UUID", version)
    if len(found) != 16:
        raise failure(207, "uuid must be a 16-byte binary field with UUID (4) subtype")
    return found


def parse_uid(path: str, value: object, version: Version) -> bytes:
    """An owner digest's 32 bytes.

    Raises:
        CommandError: 14 or 12.
    """
    found = _binary(path, value, 0, "general", version)
    if len(found) != 32:
        raise failure(12, f"Unsupported SHA256Block hash length: {len(found)}")
    return found


def _long(path: str, value: object) -> int:
    if not isinstance(value, Int64):
        raise type_mismatch(path, value, "long")
    return int(value)


def unknown_field(path: str, name: str) -> Exception:
    """40415 for a field of the document at ``path``."""
    return failure(40415, f"BSON field '{path}.{name}' is an unknown field.")


def missing_field(path: str, name: str) -> Exception:
    """40414 for a field of the document at ``path``."""
    return failure(40414, f"BSON field '{path}.{name}' is missing but a required field")


def parse_lsid(path: str, value: Mapping[str, Any], version: Version) -> ClientLsid:
    """An lsid's fields, strictly. ``path`` is where it stands: ``KillSessionsCmd.killSessions``."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        if name not in ("id", "uid") and not (
            version.child_sessions and name in ("txnNumber", "txnUUID")
        ):
            raise unknown_field(path, name)
        if item is None:
            continue
        if name == "txnNumber":
            found[name] = _long(f"{path}.{name}", item)
        else:
            parse = parse_uid if name == "uid" else parse_uuid
            found[name] = parse(f"{path}.{name}", item, version)
    if "id" not in found:
        raise missing_field(path, "id")
    return ClientLsid(found["id"], found.get("uid"), found.get("txnNumber"), found.get("txnUUID"))


def parse_array(root: str, name: str, value: object, version: Version) -> list[Mapping[str, Any]]:
    """A command's array of documents; nulls are skipped.

    ``name`` is the array's own path below ``root`` (``killSessions``, ``users``).
    """
    path = f"{root}.{name}"
    if value is None and version.null_is_missing:
        raise missing_field(root, name)
    if isinstance(value, Mapping) and not version.strict_lists:
        value = _as_list(path, value)
    elif not isinstance(value, list):
        if version.strict_lists and value is not None:
            raise type_mismatch(path, value, "array")
        raise failure(10065, f"invalid parameter: expected an object ({name.rpartition('.')[2]})")
    for index, item in enumerate(value):
        if item is not None and not isinstance(item, Mapping):
            raise type_mismatch(f"{path}.{index}", item, "object")
    return [item for item in value if item is not None]


def _as_list(path: str, value: Mapping[str, Any]) -> list[Any]:
    """A document that passes for an array."""
    for index, key in enumerate(value):
        if not key.isdecimal():
            raise failure(
                40422,
                f"BSON array field '{path}' has an invalid value '{key}' for an array field name.",
            )
        if key != str(index):
            raise failure(
                40423,
                f"BSON array field '{path}' has a non-sequential value '{key}' "
                f"for an array field name, expected value '{index}'.",
            )
    return list(value.values())


class SessionInfo(NamedTuple):
    """The generic session fields of one command, parsed but not yet judged."""

    lsid: ClientLsid | None = None
    txn_number: int | None = None
    autocommit: bool | None = None
    start_transaction: bool | None = None
    txn_retry_counter: int | None = None


def session_root(command: str, version: Version) -> str:
    """What errors about the generic session fields call the document that they stand in."""
    return command if version.generic_arguments else "OperationSessionInfo"


def parse_session_info(command: str, body: Mapping[str, Any], version: Version) -> SessionInfo:
    """The types of ``lsid``, ``txnNumber``, ``autocommit`` and ``startTransaction``.

    Raises:
        CommandError: 14, 40414, 40415, 207 or 12, for the first that is wrong.
    """
    found: dict[str, Any] = {}
    root = session_root(command, version)
    for name, value in body.items():
        if value is None:
            continue
        if name == "lsid":
            if not isinstance(value, Mapping):
                raise type_mismatch(f"{root}.lsid", value, "object")
            found[name] = parse_lsid(f"{root}.lsid", value, version)
        elif name == "txnNumber":
            found[name] = _long(f"{root}.{name}", value)
        elif name in ("autocommit", "startTransaction"):
            if not isinstance(value, bool):
                raise type_mismatch(f"{root}.{name}", value, "bool")
            found[name] = value
        elif name == "txnRetryCounter" and version.child_sessions:
            if isinstance(value, Int64) or type(value) is not int:
                raise type_mismatch(f"{root}.{name}", value, "int")
            found[name] = value
    return SessionInfo(
        found.get("lsid"),
        found.get("txnNumber"),
        found.get("autocommit"),
        found.get("startTransaction"),
        found.get("txnRetryCounter"),
    )


def judge_transaction_fields(info: SessionInfo, *, replica_set: bool) -> None:
    """What ``txnNumber``, ``autocommit`` and ``startTransaction`` require of each other.

    Raises:
        CommandError: 72; 20 on a standalone.
    """
    if info.txn_number is not None:
        if info.lsid is None:
            raise failure(72, "Transaction number requires a session ID to also be specified")
        if not replica_set:
            raise failure(
                20, "Transaction numbers are only allowed on a replica set member or mongos"
            )
        if info.txn_number < 0:
            raise failure(72, "Transaction number cannot be negative")
    elif info.autocommit is not None:
        raise failure(72, "'autocommit' field requires a transaction number to also be specified")
    if info.autocommit:
        raise failure(72, "Specifying autocommit=true is not allowed.")
    if info.start_transaction is not None:
        if info.autocommit is None:
            raise failure(
                72, "'startTransaction' field requires 'autocommit' field to also be specified"
            )
        if not info.start_transaction:
            raise failure(72, "Specifying startTransaction=false is not allowed.")


def judge_retry_counter(info: SessionInfo, *, internal: bool) -> None:
    """``txnRetryCounter`` is for other servers, in transactions (72)."""
    if info.txn_retry_counter is None:
        return
    if not internal:
        raise failure(72, "txnRetryCounter is only allowed for internal clients")
    if info.autocommit is None:
        raise failure(72, "txnRetryCounter is only supported in transactions")
    if info.txn_retry_counter < 0:
        raise failure(72, "Transaction retry counter cannot be negative")

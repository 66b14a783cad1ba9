"""What a kill does, and the patterns of killAllSessionsByPattern."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from proxy.embedded.failures import failure, type_mismatch, unauthorized
from proxy.embedded.lsids import (
    missing_field,
    parse_array,
    parse_lsid,
    parse_uid,
    unknown_field,
)
from proxy.embedded.sessions import SessionKey

if TYPE_CHECKING:
    from proxy.embedded.call import Answer, Call
    from proxy.embedded.versions import Version

_INTERRUPTED: Final = failure(11601, "operation was interrupted")


def kill(call: Call, wanted: Callable[[SessionKey], bool]) -> None:
    """Abort the sessions' transactions, interrupt their commands, close their cursors.

    What belongs to a child session goes with its parent.
    """
    node = call.node
    for session in node.sessions.matching(wanted):
        session.abort(node.locks)
    for operation in node.operations.values():
        if operation.session is not None and wanted(operation.session):
            operation.killed = _INTERRUPTED
    node.cursors.close_where(
        lambda cursor: cursor.session is not None and wanted(cursor.session.parent)
    )
    node.wake()


def strings(path: str, item: Mapping[str, Any], first: str) -> tuple[str, str]:
    """A strict document of two strings, ``first`` and ``db``."""
    for name, value in item.items():
        if name not in (first, "db"):
            raise unknown_field(path, name)
        if not isinstance(value, str):
            raise type_mismatch(f"{path}.{name}", value, "string")
    for name in (first, "db"):
        if name not in item:
            raise missing_field(path, name)
    return (item[first], item["db"])


class _Pattern(NamedTuple):
    """One pattern: what it matches, and how many users it names, None without users and roles.

    As on the server, users and roles select nothing: a pattern of only these is everything.
    """

    matches: Callable[[SessionKey], bool]
    impersonated: int | None


def _pattern(path: str, item: Mapping[str, Any], version: Version) -> _Pattern:
    key: SessionKey | None = None
    uid: bytes | None = None
    named: dict[str, int] = {}
    for name, value in item.items():
        if name == "lsid":
            key = _pattern_lsid(f"{path}.lsid", value, version)
        elif name == "uid":
            uid = parse_uid(f"{path}.uid", value, version)
        elif name in ("users", "roles"):
            inner, _, below = path.partition(".")
            entries = parse_array(inner, f"{below}.{name}", value, version)
            for entry in entries:
                strings(f"{path}.{name}", entry, name[:-1])
            named[name] = len(entries)
        else:
            raise unknown_field(path, name)
    impersonated = named.get("users", 0) if named else None
    if uid is not None:
        return _Pattern(lambda k: k.uid == uid, impersonated)
    if key is not None:
        return _Pattern(lambda k: k == key, impersonated)
    return _Pattern(lambda k: True, impersonated)


def _pattern_lsid(path: str, value: object, version: Version) -> SessionKey:
    if not isinstance(value, Mapping):
        raise type_mismatch(path, value, "object")
    lsid = parse_lsid(path, value, version)
    if lsid.uid is None:
        raise missing_field(path, "uid")
    if lsid.txn_uuid is not None or lsid.txn_number is not None:
        raise failure(72, "Cannot kill a child session")
    return SessionKey(lsid.id, lsid.uid)


def kill_by_pattern(call: Call) -> Answer:
    """The command killAllSessionsByPattern, as a client or a mongos sends it."""
    root = "KillAllSessionsByPatternCmd"
    items = parse_array(root, call.name, call.body[call.name], call.version)
    patterns = [_pattern(f"{root}.{call.name}", item, call.version) for item in items]
    if any(pattern.impersonated is not None for pattern in patterns) and not call.may_on_cluster(
        "impersonate"
    ):
        raise unauthorized("Not authorized to impersonate in killAllSessionsByPattern")
    crowded = [pattern for pattern in patterns if (pattern.impersonated or 0) > 1]
    if call.version.one_impersonated and any(
        call.node.sessions.matching(pattern.matches) for pattern in crowded
    ):
        raise failure(2, "Too many users in impersonation data")
    kill(call, lambda key: not patterns or any(pattern.matches(key) for pattern in patterns))
    return {}

"""The six session commands and the end of transactions, as a 4.2 server treats them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import uuid4

from bson import Binary

from proxy.embedded.call import Answer, Call, Command, nothing
from proxy.embedded.failures import failure, type_mismatch, unauthorized
from proxy.embedded.sessions import (
    TIMEOUT_MINUTES,
    SessionKey,
    missing_field,
    parse_array,
    parse_lsid,
    parse_uid,
    parse_uuid,
    unknown_field,
    user_digest,
)

_INTERRUPTED: Final = failure(11601, "operation was interrupted")


def _start(call: Call) -> Answer:
    key = SessionKey(uuid4().bytes, call.own_digest(check_length=False))
    call.node.sessions.vivify(key, call.owner_name(), call.now)
    return {"id": {"id": Binary(key.id, 4)}, "timeoutMinutes": TIMEOUT_MINUTES}


def _one_user(call: Call) -> None:
    if call.node.authorization and len(call.users) != 1:
        raise call.not_authorized()


def _keys(call: Call, root: str, *actions: str) -> list[SessionKey]:
    items = parse_array(root, call.name, call.body[call.name])
    lsids = [parse_lsid(f"{root}.{call.name}", item) for item in items]
    return [call.session_key(lsid, *actions) for lsid in lsids]


def _refresh(call: Call) -> Answer:
    for key in _keys(call, "RefreshSessionsCmdFromClient", "impersonate"):
        call.node.sessions.vivify(key, call.owner_name(), call.now)
    return {}


def _end(call: Call) -> Answer:
    call.node.sessions.end(_keys(call, "EndSessionsCmdFromClient", "impersonate"))
    return {}


def kill(call: Call, wanted: Callable[[SessionKey], bool]) -> None:
    """Abort the sessions' transactions, interrupt their commands, close their cursors."""
    node = call.node
    for session in node.sessions.matching(wanted):
        session.transaction.abort(node.locks)
    for operation in node.operations.values():
        if operation.session is not None and wanted(operation.session):
            operation.killed = _INTERRUPTED
    node.cursors.close_where(lambda cursor: cursor.session is not None and wanted(cursor.session))
    node.wake()


def _kill_sessions(call: Call) -> Answer:
    keys = set(_keys(call, "KillSessionsCmd", "killAnySession", "impersonate"))
    if keys:
        kill(call, keys.__contains__)
    elif call.node.authorization:
        owners = {user_digest(user.name, user.database) for user in call.users}
        kill(call, lambda key: key.uid in owners)
    else:
        kill(call, lambda key: True)
    return {}


def _strings(path: str, item: Mapping[str, Any], first: str) -> tuple[str, str]:
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


def _may_kill_any(call: Call) -> None:
    if not call.may_on_cluster("killAnySession"):
        raise call.not_authorized()


def _kill_all(call: Call) -> Answer:
    root = "KillAllSessionsCmd"
    items = parse_array(root, call.name, call.body[call.name])
    named = [_strings(f"{root}.{call.name}", item, "user") for item in items]
    if not named:
        kill(call, lambda key: True)
        return {}
    found = [call.node.users.get(*user) for user in named]
    owners = {user_digest(user.name, user.database) for user in found}
    kill(call, lambda key: key.uid in owners)
    return {}


_Pattern = Callable[[SessionKey], bool]


def _pattern(path: str, item: Mapping[str, Any]) -> tuple[_Pattern, bool]:
    """What one pattern matches, and whether it names users or roles.

    As on the server, users and roles select nothing: a pattern of only these is everything.
    """
    key: SessionKey | None = None
    uid: bytes | None = None
    impersonates = False
    for name, value in item.items():
        if name == "lsid":
            key = _pattern_lsid(f"{path}.lsid", value)
        elif name == "uid":
            uid = parse_uid(f"{path}.uid", value)
        elif name in ("users", "roles"):
            impersonates = True
            inner, _, below = path.partition(".")
            for entry in parse_array(inner, f"{below}.{name}", value):
                _strings(f"{path}.{name}", entry, name[:-1])
        else:
            raise unknown_field(path, name)
    if uid is not None:
        return (lambda k: k.uid == uid), impersonates
    if key is not None:
        return (lambda k: k == key), impersonates
    return (lambda k: True), impersonates


def _pattern_lsid(path: str, value: object) -> SessionKey:
    if not isinstance(value, Mapping):
        raise type_mismatch(path, value, "object")
    found: dict[str, bytes] = {}
    for name, item in value.items():
        if name == "id":
            found[name] = parse_uuid(f"{path}.id", item)
        elif name == "uid":
            found[name] = parse_uid(f"{path}.uid", item)
        else:
            raise unknown_field(path, name)
    for name in ("id", "uid"):
        if name not in found:
            raise missing_field(path, name)
    return SessionKey(found["id"], found["uid"])


def _kill_by_pattern(call: Call) -> Answer:
    root = "KillAllSessionsByPatternCmd"
    items = parse_array(root, call.name, call.body[call.name])
    patterns = [_pattern(f"{root}.{call.name}", item) for item in items]
    if any(names for _, names in patterns) and not call.may_on_cluster("impersonate"):
        raise unauthorized("Not authorized to impersonate in killAllSessionsByPattern")
    kill(call, lambda key: not patterns or any(matches(key) for matches, _ in patterns))
    return {}


def _end_transaction(call: Call) -> Answer:
    if call.txn_number is None or call.session is None:
        raise failure(125, f"{call.name} must be run within a transaction")
    transaction = call.session.transaction
    if call.name == "abortTransaction":
        transaction.abort(call.node.locks)
    elif transaction.commit(call.node.engine, call.node.locks):
        call.node.advance(call.now)
    call.node.wake()
    return {}


_ENDING: Final = Command(
    _end_transaction,
    admin_only=True,
    in_transaction=True,
    write_concern=True,
    ends_transaction=True,
)

COMMANDS: Final = {
    "startSession": Command(_start, nothing),
    "refreshSessions": Command(_refresh, _one_user),
    "endSessions": Command(_end, _one_user),
    "killSessions": Command(_kill_sessions),
    "killAllSessions": Command(_kill_all, _may_kill_any),
    "killAllSessionsByPattern": Command(_kill_by_pattern, _may_kill_any),
    "commitTransaction": _ENDING,
    "abortTransaction": _ENDING,
}

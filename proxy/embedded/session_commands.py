"""The six session commands and the end of transactions."""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from bson import Binary

from proxy.embedded.call import Answer, Call, Command, nothing
from proxy.embedded.failures import failure
from proxy.embedded.generic import GENERIC
from proxy.embedded.kills import kill, kill_by_pattern, strings
from proxy.embedded.lsids import parse_array, parse_lsid, unknown_field
from proxy.embedded.sessions import (
    TIMEOUT_MINUTES,
    ClientLsid,
    SessionKey,
    user_digest,
)
from proxy.embedded.transactions import State, Transaction


def _start(call: Call) -> Answer:
    key = SessionKey(uuid4().bytes, call.own_digest(check_length=False))
    call.node.sessions.vivify(key, call.owner_name(key), call.now)
    return {"id": {"id": Binary(key.id, 4)}, "timeoutMinutes": TIMEOUT_MINUTES}


def _one_user(call: Call) -> None:
    if call.node.authorization and len(call.users) != 1:
        raise call.not_authorized()


def _lsids(call: Call, root: str) -> list[ClientLsid]:
    items = parse_array(root, call.name, call.body[call.name], call.version)
    return [parse_lsid(f"{root}.{call.name}", item, call.version) for item in items]


def _own_lsids(call: Call) -> list[ClientLsid]:
    """The sessions that a refreshSessions or endSessions names."""
    command = call.name[0].upper() + call.name[1:]
    return _lsids(call, call.name if call.version.typed_sessions else f"{command}CmdFromClient")


def _parse_typed(call: Call) -> None:
    """Judge the arguments of a typed command, before its session counts as used."""
    if call.version.typed_sessions:
        for name in call.body:
            if name != call.name and name not in GENERIC:
                raise unknown_field(call.name, name)
        _own_lsids(call)


def _refresh(call: Call) -> Answer:
    for key in [call.session_key(lsid, "impersonate") for lsid in _own_lsids(call)]:
        call.node.sessions.vivify(key.parent, call.owner_name(key), call.now)
    return {}


def _end(call: Call) -> Answer:
    keys = [call.session_key(lsid, "impersonate") for lsid in _own_lsids(call)]
    for key in keys:
        if key.txn_uuid is not None:
            raise failure(72, f"Cannot specify a child session id {key.text(call.version)}")
    call.node.sessions.end(keys)
    return {}


def _kill_sessions(call: Call) -> Answer:
    lsids = _lsids(call, "KillSessionsCmd")
    keys = {call.session_key(lsid, "killAnySession", "impersonate") for lsid in lsids}
    if keys:
        # A child's key is nobody's, as what is killed is compared as a parent.
        kill(call, keys.__contains__)
    elif call.node.authorization:
        owners = {user_digest(user.name, user.database) for user in call.users}
        kill(call, lambda key: key.uid in owners)
    else:
        kill(call, lambda key: True)
    return {}


def _may_kill_any(call: Call) -> None:
    if not call.may_on_cluster("killAnySession"):
        raise call.not_authorized()


def _kill_all(call: Call) -> Answer:
    root = "KillAllSessionsCmd"
    items = parse_array(root, call.name, call.body[call.name], call.version)
    named = [strings(f"{root}.{call.name}", item, "user") for item in items]
    if not named:
        kill(call, lambda key: True)
        return {}
    if not call.version.kills_unknown_users:
        for user in named:
            call.node.users.get(*user)
    owners = {user_digest(*user) for user in named}
    kill(call, lambda key: key.uid in owners)
    return {}


def _tell_parent(call: Call, transaction: Transaction) -> None:
    """What a child did for a retryable write of its parent counts as done by the parent."""
    key, session = call.key, call.session
    if key is None or session is None or key.txn_number is None:
        return
    parent = session.transaction
    same = parent.number == key.txn_number and parent.state is State.RETRYABLE
    if same or parent.number < key.txn_number:
        label = session.key.text(call.version)
        parent.begin_retryable(key.txn_number, label, call.node.locks, call.version)
        parent.executed.update(transaction.executed)


def _end_transaction(call: Call) -> Answer:
    transaction = call.state
    if call.txn_number is None or transaction is None:
        raise failure(125, f"{call.name} must be run within a transaction")
    if call.name == "abortTransaction":
        transaction.abort(call.node.locks)
    else:
        if transaction.commit(call.node.engine, call.node.locks):
            call.node.advance(call.now)
        _tell_parent(call, transaction)
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
    "refreshSessions": Command(_refresh, _one_user, _parse_typed),
    "endSessions": Command(_end, _one_user, _parse_typed),
    "killSessions": Command(_kill_sessions, kills=True),
    "killAllSessions": Command(_kill_all, _may_kill_any, kills=True),
    "killAllSessionsByPattern": Command(kill_by_pattern, _may_kill_any, kills=True),
    "commitTransaction": _ENDING,
    "abortTransaction": _ENDING,
}

"""A command and its session: what the session fields say, and entering its transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.embedded import stable_api
from proxy.embedded.failures import failure
from proxy.embedded.lsids import (
    SessionInfo,
    judge_retry_counter,
    judge_transaction_fields,
    parse_session_info,
)

if TYPE_CHECKING:
    from proxy.embedded.call import Call, Command
    from proxy.embedded.sessions import SessionKey

_NO_TRANSACTION_DATABASES: Final = ("config", "local")
_NO_START: Final = {
    "commitTransaction": "Cannot start a transaction with a commit",
    "abortTransaction": "Cannot start a transaction with an abort",
    "killCursors": "Cannot run killCursors as the first operation in a multi-document transaction.",
}


def bind_session(call: Call, command: Command) -> None:
    """Judge the command's session fields and note that its session was used.

    Raises:
        CommandError: as a server does, in its order.
    """
    info = parse_session_info(call.name, call.body, call.version)
    if command.serves_anybody(call):
        if info.autocommit is not None:
            raise failure(263, "This command is not supported in transactions")
        if info.txn_number is not None:
            raise failure(50889, "It is illegal to provide a txnNumber for this command")
    if call.node.authorization and not call.users:
        return
    key = None if info.lsid is None else call.session_key(info.lsid, "impersonate")
    if command.kills and call.version.detached_kills:
        return
    if key is not None:
        _judge_child(call, key, info)
        call.session = call.node.sessions.vivify(key.parent, call.owner_name(key), call.now)
        call.key = key
    judge_transaction_fields(info, replica_set=call.node.replica_set)
    judge_retry_counter(info, internal=call.may_on_cluster("internal"))
    call.txn_number = info.txn_number
    if info.txn_number is not None:
        _may_have_number(call, command, info)


def _judge_child(call: Call, key: SessionKey, info: SessionInfo) -> None:
    if key.txn_uuid is None:
        return
    if not call.may_on_cluster("internal"):
        raise failure(72, "Internal sessions are only allowed for internal clients")
    if info.txn_number is None or info.autocommit is not False:
        raise failure(72, "Internal sessions are not supported outside of transactions")


def _may_have_number(call: Call, command: Command, info: SessionInfo) -> None:
    if info.autocommit is None:
        if not command.retryable:
            raise failure(
                50768,
                "txnNumber may only be provided for multi-document transactions and retryable "
                "write commands. autocommit:false was not provided, and "
                f"{call.name} is not a retryable write command.",
            )
    elif not (command.in_transaction or (command.schema and call.version.schema_in_transactions)):
        text = f"Cannot run '{call.name}' in a multi-document transaction."
        if call.name == "count":
            text += (
                " Please see http://dochub.mongodb.org/core/transaction-count for a recommended "
                "alternative."
            )
        raise failure(263, text)
    elif call.database in _NO_TRANSACTION_DATABASES or (
        call.database == "admin"
        and not command.admin_only
        and call.name not in ("getMore", "killCursors")
    ):
        raise failure(
            263, f"Cannot run command against the '{call.database}' database in a transaction"
        )


def enter_transaction(call: Call, command: Command) -> None:
    """Begin or continue what the command's txnNumber names.

    Raises:
        CommandError: 72, 117, 217, 225, 251, 256, 263, 347 or 4937700.
    """
    state, key = call.state, call.key
    assert state is not None
    assert key is not None
    assert call.txn_number is not None
    label, locks = key.text(call.version), call.node.locks
    if call.body.get("autocommit") is None:
        state.begin_retryable(call.txn_number, label, locks, call.version)
        return
    starts = call.body.get("startTransaction") is True
    if call.version.start_or_continue and call.body.get("startOrContinueTransaction") is True:
        starts = call.txn_number > state.number
    if starts and (command.ends_transaction or call.name == "killCursors"):
        raise failure(263, _NO_START[call.name])
    if not starts and call.option("readConcern"):
        raise failure(72, "Only the first command in a transaction may specify a readConcern")
    if call.option("writeConcern") is not None and not command.ends_transaction:
        raise failure(72, "writeConcern is not allowed within a multi-statement transaction")
    if starts:
        state.begin(call.txn_number, label, call.now, locks, call.version)
        state.api = stable_api.parameters(call.body)
    else:
        stable_api.check_first_only(call)
        commit = call.name == "commitTransaction"
        state.expire(call.now, locks, call.node.transaction_lifetime)
        state.resume(call.txn_number, label, commit=commit, version=call.version)
        stable_api.check_same(call, state)
    if not command.ends_transaction:
        call.transaction = state

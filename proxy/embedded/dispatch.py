"""From a command document to its reply: lookup, order of checks, generic fields."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.embedded import stable_api
from proxy.embedded.binding import bind_session, enter_transaction
from proxy.embedded.call import Answer, Call, Command, Later
from proxy.embedded.failures import failure, unauthorized
from proxy.embedded.lsids import session_root
from proxy.embedded.node import Operation
from proxy.embedded.printing import printed, type_name
from proxy.errors import CommandError
from proxy.wire.replies import error_document

if TYPE_CHECKING:
    from proxy.embedded.engine import Document
    from proxy.embedded.failpoints import Fault


log = logging.getLogger(__name__)


def failed(call: Call, error: CommandError) -> Document:
    """``error`` as a reply, with the cluster's times where the server puts them."""
    document = error_document(error)
    document["codeName"] = call.version.code_name(error.code, error.code_name)
    times = call.node.times()
    if not times:
        return document
    if call.version.times_last:
        return {**document, **times}
    labels = {"errorLabels": document.pop("errorLabels")} if error.labels else {}
    first = {"operationTime": times["operationTime"]}
    return {**labels, **first, **document, "$clusterTime": times["$clusterTime"]}


def dispatch(call: Call, command: Command | None, duplicates: tuple[str, ...]) -> Answer:
    """Carry out one command. Never raises: what is wrong becomes an error reply.

    ``command`` is its row of the table, None for a name that is not there.
    ``duplicates`` are the top-level names that occur more than once.
    """
    awaits = command is not None and command.awaits
    answer = _guarded(call, call.now, awaits, lambda: _run(call, command, duplicates))
    assert answer is not None
    return answer


def _guarded(
    call: Call, now: float, awaits: bool, work: Callable[[], Answer | None]
) -> Answer | None:
    """``work``'s answer with everything that every reply has, whatever it raises."""
    call.now = now
    call.node.tick(now)
    try:
        answer = work()
    except CommandError as error:
        return _finish_failed(call, error)
    except Exception as error:
        # One client's odd command must not take the others' connections down.
        log.exception("command %s failed", call.name)
        return _finish_failed(call, failure(8, f"{type(error).__name__}: {error}"))
    if isinstance(answer, Later):
        return _waiting(call, answer, awaits)
    return None if answer is None else _finish(call, answer)


def _waiting(call: Call, later: Later, awaits: bool) -> Later:
    """``later``, which a kill and the command's maxTimeMS end too (unless it ``awaits``)."""
    operation = call.operation
    assert operation is not None
    limit = 0 if awaits else call.number("maxTimeMS")
    expires = operation.started + limit / 1000 if limit > 0 else math.inf

    def look(now: float) -> Answer | None:
        if operation.killed is not None:
            raise operation.killed
        answer = later.attempt(now)
        if answer is None and now >= expires:
            raise failure(50, "operation exceeded time limit")
        return answer

    deadline = min(later.deadline, expires)
    return Later(deadline, lambda now: _guarded(call, now, awaits, lambda: look(now)))


def _end_operation(call: Call) -> None:
    if call.operation is not None:
        call.node.operations.pop(call.operation.id, None)


def _finish(call: Call, document: Document) -> Document:
    if call.operation is not None and call.operation.killed is not None:
        return _finish_failed(call, call.operation.killed)
    _end_operation(call)
    return {**document, "ok": 1.0, **call.node.times()}


def _finish_failed(call: Call, error: CommandError) -> Document:
    _end_operation(call)
    if call.transaction is not None:
        call.transaction.abort(call.node.locks)
        call.node.wake()
    return failed(call, error)


def _run(call: Call, command: Command | None, duplicates: tuple[str, ...]) -> Answer:
    if command is None or not call.version.has(call.name):
        raise failure(59, f"no such command: '{call.name}'")
    call.node.counters[call.name] += 1
    stable_api.check(call)
    _may_attempt(call, command)
    if duplicates:
        raise failure(
            40413,
            f"BSON field '{session_root(call.name, call.version)}.{duplicates[0]}' is a duplicate "
            "field",
        )
    if set(call.sequences) - set(command.sequences):
        raise failure(40472, f"The {call.name} command does not support document sequences.")
    if command.parse is not None:
        command.parse(call)
    bind_session(call, command)
    command.check(call)
    _check_generic(call, command)
    _start_operation(call)
    fault = call.node.fail_points.hit(call.name, call.client.app_name)
    if fault is not None:
        if fault.block_seconds:
            until = call.now + fault.block_seconds
            return Later(until, lambda now: None if now < until else _faulty(call, command, fault))
        return _faulty(call, command, fault)
    return _carry_out(call, command)


def _faulty(call: Call, command: Command, fault: Fault) -> Answer:
    if fault.close:
        call.client.closing = True
        raise failure(11600, "connection closed by failCommand")
    if fault.error is not None:
        raise fault.error
    answer = _carry_out(call, command)
    if fault.write_concern_error is not None and not isinstance(answer, Later):
        answer["writeConcernError"] = dict(fault.write_concern_error)
    return answer


def _may_attempt(call: Call, command: Command) -> None:
    if command.admin_only and call.database != "admin":
        raise unauthorized(f"{call.name} may only be run against the admin database.")
    if (
        command.serves_anybody(call)
        or not call.node.authorization
        or call.users
        or call.makes_first_user
    ):
        return
    word = "Command" if call.version.capital_command else "command"
    if call.client.expired is not None:
        raise failure(
            391,
            f"{word} {call.name} requires reauthentication since the current authorization session "
            "has expired. Please re-auth.",
        )
    raise unauthorized(f"{word} {call.name} requires authentication")


def _check_generic(call: Call, command: Command) -> None:
    if call.number("maxTimeMS") < 0:
        raise failure(2, f"{call.number('maxTimeMS')} value for maxTimeMS is out of range")
    if call.option("writeConcern") is not None and not command.write_concern:
        raise failure(72, "Command does not support writeConcern")
    concern = call.option("readConcern")
    if concern is None:
        return
    if not isinstance(concern, dict):
        raise failure(
            14, f'"readConcern" had the wrong type. Expected object, found {type_name(concern)}'
        )
    level = concern.get("level", "local")
    in_transaction = call.body.get("autocommit") is not None
    if not (command.read_concern or in_transaction) and level != "local":
        raise failure(
            72, f"Command does not support read concern {printed({'readConcern': concern})}"
        )


def _start_operation(call: Call) -> None:
    node = call.node
    first = call.body.get(call.name)
    call.operation = Operation(
        node.next_operation_id(),
        call.name,
        f"{call.database}.{first if isinstance(first, str) else '$cmd'}",
        call.client.address,
        call.client.app_name,
        None if call.key is None else call.key.parent,
        tuple(user.full_name for user in call.users),
        call.body,
        call.now,
    )
    node.operations[call.operation.id] = call.operation


def _carry_out(call: Call, command: Command) -> Answer:
    if call.txn_number is not None:
        enter_transaction(call, command)
    return command.run(call)

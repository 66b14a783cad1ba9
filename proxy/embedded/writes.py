"""The write commands insert, update and delete: batches of statements."""

from __future__ import annotations

import math
from functools import partial
from typing import Final

from proxy.embedded.call import Answer, Call, Command, Later, on_collection
from proxy.embedded.engine import Document, DuplicateKeyFailure, Namespace
from proxy.embedded.failures import TRANSIENT, failure, type_mismatch
from proxy.embedded.generic import GENERIC
from proxy.embedded.lsids import missing_field, unknown_field
from proxy.embedded.node import ELECTION_ID
from proxy.embedded.printing import printed
from proxy.embedded.statements import RUN, allow_writes, check_statement, locked, once
from proxy.embedded.words import words
from proxy.errors import CommandError

MAX_BATCH: Final = 100_000
_LISTS: Final = {"insert": "documents", "update": "updates", "delete": "deletes"}


_OWN: Final = words("ordered bypassDocumentValidation stmtId stmtIds let hint")


def _parse(call: Call) -> None:
    """The strict part of a write command's arguments, judged before who asks."""
    name, body = call.name, call.body
    statements = _LISTS[name]
    for field in body:
        if field not in GENERIC and field not in _OWN and field not in (name, statements):
            raise unknown_field(name, field)
    if statements not in body:
        raise missing_field(name, statements)
    batch = body[statements]
    if not isinstance(batch, list):
        raise failure(10065, f"invalid parameter: expected an object ({statements})")
    for index, item in enumerate(batch):
        if not isinstance(item, dict):
            raise type_mismatch(f"{name}.{statements}.{index}", item, "object")
    ids = body.get("stmtIds")
    if ids is not None:
        if not isinstance(ids, list):
            raise failure(10065, "invalid parameter: expected an object (stmtIds)")
        for index, item in enumerate(ids):
            if type(item) is not int:
                raise type_mismatch(f"{name}.stmtIds.{index}", item, "int")
    single = body.get("stmtId")
    if single is not None and type(single) is not int:
        raise type_mismatch(f"{name}.stmtId", single, "int")
    if not 1 <= len(batch) <= MAX_BATCH:
        raise failure(
            16,
            f"Write batch sizes must be between 1 and {MAX_BATCH}. Got {len(batch)} operations.",
        )
    if ids is not None and len(ids) != len(batch):
        raise failure(16, _miscounted(call, len(ids), len(batch)))
    if ids is not None and single is not None:
        text = "May not specify both stmtId and stmtIds in write command"
        if call.version.prints_statement_ids:
            text += f". Got {printed(_given(body))}. Write command: {printed(_shown(body))}"
        raise failure(72, text)


def _miscounted(call: Call, ids: int, operations: int) -> str:
    text = "Number of statement ids must match the number of batch entries"
    if call.version.prints_statement_ids:
        text += (
            f". Got {ids} statement ids but {operations} operations. Statement ids: "
            f"{printed(_given(call.body))}. Write command: {printed(_shown(call.body))}"
        )
    return text


def _given(body: Document) -> Document:
    return {name: body[name] for name in ("stmtId", "stmtIds") if name in body}


def _shown(body: Document) -> Document:
    return {name: value for name, value in body.items() if name not in GENERIC}


def _statement_ids(call: Call, count: int) -> list[int]:
    ids = call.body.get("stmtIds")
    if ids is not None:
        return list(ids)
    base = call.option("stmtId", 0)
    return [base + index for index in range(count)]


def _write(call: Call) -> Answer:
    ns = call.ns
    statements: list[Document] = call.body[_LISTS[call.name]]
    allow_writes(ns)
    if (blocked := _wait_for_locks(call, ns, statements)) is not None:
        return blocked
    return _run_batch(call, ns, statements)


def _wait_for_locks(call: Call, ns: Namespace, statements: list[Document]) -> Later | None:
    """Wait while an open transaction holds a document that this write, outside any, would touch."""
    if call.transaction is not None or not locked(call, call.name, ns, statements):
        return None

    def attempt(now: float) -> Document | None:
        return None if locked(call, call.name, ns, statements) else _run_batch(call, ns, statements)

    return Later(math.inf, attempt)


def _run_batch(call: Call, ns: Namespace, statements: list[Document]) -> Document:
    total, modified, wrote = 0, 0, 0
    errors: list[Document] = []
    upserted: list[Document] = []
    ids = _statement_ids(call, len(statements))
    if call.transaction is None and call.name == "insert" and not call.node.engine.exists(ns):
        call.node.engine.create(ns)
    for index, statement in enumerate(statements):
        try:
            check_statement(call, call.name, statement)
            outcome = once(call, ids[index], partial(RUN[call.name], call, ns, statement))
        except CommandError as error:
            if call.transaction is not None:
                if TRANSIENT in error.labels:
                    raise
                call.transaction.abort(call.node.locks)
            errors.append(_write_error(call, index, error))
            if call.transaction is not None or call.option("ordered", True):
                break
            continue
        total += outcome["n"]
        modified += outcome.get("nModified", 0)
        wrote += outcome["wrote"]
        upserted += [{"index": index, "_id": key} for key in outcome.get("upserted", ())]
    if wrote and call.transaction is None:
        call.node.advance(call.now, wrote)
    return _reply(call, total, modified, errors, upserted)


def _write_error(call: Call, index: int, error: CommandError) -> Document:
    entry: Document = {"index": index, "code": error.code}
    if isinstance(error, DuplicateKeyFailure):
        entry["keyPattern"] = error.pattern
        # 4.2 release candidates leave the names out of keyValue.
        entry["keyValue"] = (
            dict(zip(error.pattern, error.value, strict=True))
            if call.version.tidy_indexes
            else {"": error.value[-1]}
        )
    entry["errmsg"] = error.errmsg
    return entry


def _reply(
    call: Call, total: int, modified: int, errors: list[Document], upserted: list[Document]
) -> Document:
    concern = call.option("writeConcern")
    if isinstance(concern, dict) and concern.get("w") == 0:
        return {}
    reply: Document = {"n": total}
    if upserted:
        reply["upserted"] = upserted
    if call.name == "update":
        reply["nModified"] = modified
        if upserted and call.version.modified_first:
            reply["upserted"] = reply.pop("upserted")
    if errors:
        reply["writeErrors"] = errors
    if call.retried and call.version.retried_statements:
        reply["retriedStmtIds"] = call.retried
    if call.node.replica_set:
        reply["opTime"] = call.node.op_time()
        reply["electionId"] = ELECTION_ID
        if isinstance(concern, dict) and isinstance(concern.get("w"), int) and concern["w"] > 1:
            reply["writeConcernError"] = {
                "code": 100,
                "codeName": "UnsatisfiableWriteConcern",
                "errmsg": "Not enough data-bearing nodes",
            }
    return reply


def _write_command(action: str) -> Command:
    return Command(
        _write,
        on_collection(action),
        _parse,
        sequences=tuple(_LISTS.values()),
        in_transaction=True,
        retryable=True,
        write_concern=True,
    )


COMMANDS: Final = {
    "insert": _write_command("insert"),
    "update": _write_command("update"),
    "delete": _write_command("remove"),
}

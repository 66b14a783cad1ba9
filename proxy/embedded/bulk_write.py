"""The bulkWrite command of 8.0: writes to several collections, with a cursor over the outcomes."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from bson import Int64

from proxy.embedded.call import Answer, Call, Command, Later
from proxy.embedded.failures import TRANSIENT, failure, type_mismatch
from proxy.embedded.generic import GENERIC
from proxy.embedded.lsids import missing_field, unknown_field
from proxy.embedded.printing import printed
from proxy.embedded.queries import first_batch
from proxy.embedded.roles import collection
from proxy.embedded.statements import RUN, allow_writes, check_statement, locked, once
from proxy.embedded.words import words
from proxy.errors import CommandError

if TYPE_CHECKING:
    from proxy.embedded.engine import Document, Namespace

_OWN: Final = words(
    "bulkWrite ops nsInfo ordered errorsOnly bypassDocumentValidation let cursor stmtId stmtIds"
)
_MAX_OPS: Final = 100_000
_NS: Final = ("admin", "$cmd.bulkWrite")
_ACTIONS: Final = {"insert": "insert", "update": "update", "delete": "remove"}
_COUNTS: Final = {
    "nErrors": 0,
    "nInserted": 0,
    "nMatched": 0,
    "nModified": 0,
    "nUpserted": 0,
    "nDeleted": 0,
}


class _Op(NamedTuple):
    """One write, as a statement of the command ``kind`` on ``ns``."""

    kind: str
    ns: Namespace
    statement: Document


def _parse(call: Call) -> None:
    body = call.body
    for field in body:
        if field not in GENERIC and field not in _OWN:
            raise unknown_field("bulkWrite", field)
    for field in ("ops", "nsInfo"):
        if field not in body:
            raise missing_field("bulkWrite", field)
        if not isinstance(body[field], list):
            raise type_mismatch(f"bulkWrite.{field}", body[field], "array")
        for index, item in enumerate(body[field]):
            if not isinstance(item, dict):
                raise type_mismatch(f"bulkWrite.{field}.{index}", item, "object")
    count = len(body["ops"])
    if not 1 <= count <= _MAX_OPS:
        raise failure(
            16, f"Write batch sizes must be between 1 and {_MAX_OPS}. Got {count} operations."
        )
    _check_ids(body, count)
    _ops(call)


def _check_ids(body: Document, count: int) -> None:
    shown = {name: value for name, value in body.items() if name not in GENERIC}
    given = {name: body[name] for name in ("stmtId", "stmtIds") if body.get(name) is not None}
    if len(given) > 1:
        raise failure(
            72,
            f"May not specify both stmtId and stmtIds in bulkWrite command. Got {printed(given)}. "
            f"BulkWrite command: {printed(shown)}",
        )
    ids = given.get("stmtIds")
    if ids is None:
        return
    if not isinstance(ids, list):
        raise type_mismatch("bulkWrite.stmtIds", ids, "array")
    for index, item in enumerate(ids):
        if type(item) is not int:
            raise type_mismatch(f"bulkWrite.stmtIds.{index}", item, "int")
    if len(ids) != count:
        raise failure(
            16,
            f"Number of statement ids must match the number of batch entries. Got {len(ids)} "
            f"statement ids but {count} operations. Statement ids: {printed(given)}. BulkWrite "
            f"command: {printed(shown)}",
        )


def _ops(call: Call) -> list[_Op]:
    namespaces: list[Namespace] = []
    for info in call.body["nsInfo"]:
        if not isinstance(info.get("ns"), str):
            raise missing_field("bulkWrite.nsInfo", "ns")
        database, _, name = info["ns"].partition(".")
        if not database or not name:
            raise failure(73, f"Invalid namespace specified for bulkWrite: '{info['ns']}'")
        namespaces.append((database, name))
    return [_op(op, namespaces) for op in call.body["ops"]]


def _op(op: Document, namespaces: list[Namespace]) -> _Op:
    kind = next(iter(op), "")
    if kind not in _ACTIONS:
        raise unknown_field("bulkWrite.ops", kind)
    index = op[kind]
    if type(index) is not int or not 0 <= index < len(namespaces):
        raise failure(2, f"BulkWrite ops entry {printed(op)} has an invalid nsInfo index.")
    needed = {"insert": ("document",), "update": ("filter", "updateMods"), "delete": ("filter",)}
    for name in needed[kind]:
        if name not in op:
            raise missing_field(f"bulkWrite.ops.{kind}", name)
    if kind == "insert":
        return _Op(kind, namespaces[index], op["document"])
    multi = bool(op.get("multi"))
    if kind == "delete":
        statement = {"q": op["filter"], "limit": 0 if multi else 1}
        return _Op(kind, namespaces[index], statement)
    statement = {"q": op["filter"], "u": op["updateMods"], "multi": multi}
    statement |= {name: op[name] for name in ("upsert", "arrayFilters") if name in op}
    return _Op(kind, namespaces[index], statement)


def _check(call: Call) -> None:
    for op in _ops(call):
        call.need(collection(*op.ns), _ACTIONS[op.kind])


def _bulk_write(call: Call) -> Answer:
    ops = _ops(call)
    for op in ops:
        allow_writes(op.ns)

    def attempt(now: float) -> Document | None:
        blocked = call.transaction is None and any(
            locked(call, op.kind, op.ns, [op.statement]) for op in ops
        )
        return None if blocked else _run(call, ops)

    done = attempt(call.now)
    return Later(math.inf, attempt) if done is None else done


def _run(call: Call, ops: list[_Op]) -> Document:
    counts = dict(_COUNTS)
    outcomes: list[Document] = []
    wrote = 0
    base = call.option("stmtId", 0)
    ids = call.option("stmtIds") or [base + index for index in range(len(ops))]
    for op in ops:
        if call.transaction is None and op.kind == "insert" and not call.node.engine.exists(op.ns):
            call.node.engine.create(op.ns)
    for index, op in enumerate(ops):
        try:
            check_statement(call, op.kind, op.statement)
            done = once(call, ids[index], partial(RUN[op.kind], call, op.ns, op.statement))
        except CommandError as error:
            if call.transaction is not None:
                if TRANSIENT in error.labels:
                    raise
                call.transaction.abort(call.node.locks)
            counts["nErrors"] += 1
            outcomes.append(
                {"ok": 0.0, "idx": index, "code": error.code, "errmsg": error.errmsg, "n": 0}
            )
            if call.transaction is not None or call.option("ordered", True):
                break
            continue
        wrote += done["wrote"]
        outcomes.append(_outcome(index, op.kind, done, counts))
    if wrote and call.transaction is None:
        call.node.advance(call.now, wrote)
    return _reply(call, outcomes, counts)


def _outcome(index: int, kind: str, done: Document, counts: dict[str, int]) -> Document:
    """One entry of the cursor; ``counts`` grow by what it says."""
    outcome: Document = {"ok": 1.0, "idx": index, "n": done["n"]}
    if kind == "insert":
        counts["nInserted"] += done["n"]
    elif kind == "delete":
        counts["nDeleted"] += done["n"]
    else:
        upserted = done["upserted"]
        outcome["nModified"] = done["nModified"]
        counts["nMatched"] += 0 if upserted else done["n"]
        counts["nModified"] += done["nModified"]
        counts["nUpserted"] += len(upserted)
        if upserted:
            outcome["upserted"] = {"_id": upserted[0]}
    return outcome


def _reply(call: Call, outcomes: list[Document], counts: dict[str, int]) -> Document:
    concern = call.option("writeConcern")
    if isinstance(concern, dict) and concern.get("w") == 0:
        return {}
    if call.option("errorsOnly"):
        outcomes = [outcome for outcome in outcomes if not outcome["ok"]]
    size = call.document("cursor").get("batchSize")
    cursor = first_batch(call, _NS, outcomes, None if size is None else int(size))["cursor"]
    reply: Document = {
        "cursor": {
            "id": Int64(cursor["id"]),
            "firstBatch": cursor["firstBatch"],
            "ns": cursor["ns"],
        },
        **counts,
    }
    if call.retried:
        reply["retriedStmtIds"] = call.retried
    return reply


COMMANDS: Final = {
    "bulkWrite": Command(
        _bulk_write,
        _check,
        _parse,
        admin_only=True,
        sequences=("ops", "nsInfo"),
        in_transaction=True,
        retryable=True,
        write_concern=True,
    ),
}

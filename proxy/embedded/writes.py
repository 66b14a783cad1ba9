"""Writing: insert, update, delete and findAndModify, each statement at most once per stmtId."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

from bson import ObjectId

from proxy.embedded.call import Answer, Call, Command, Later, on_collection
from proxy.embedded.engine import Document, DuplicateKeyFailure, Namespace
from proxy.embedded.failures import TRANSIENT, failure, type_mismatch
from proxy.embedded.node import ELECTION_ID
from proxy.embedded.sessions import missing_field, unknown_field
from proxy.embedded.words import words
from proxy.errors import CommandError

MAX_BATCH: Final = 100_000
_LISTS: Final = {"insert": "documents", "update": "updates", "delete": "deletes"}


#: Fields that any command may carry.
_GENERIC: Final = words(
    "$db lsid txnNumber autocommit startTransaction $clusterTime $readPreference "
    "readConcern writeConcern maxTimeMS comment apiVersion apiStrict "
    "apiDeprecationErrors $audit $client $configServerState $oplogQueryData "
    "$queryOptions $replData help allowImplicitCollectionCreation shardVersion "
    "databaseVersion coordinator"
)
_OWN: Final = words("ordered bypassDocumentValidation stmtId stmtIds let hint")


def _parse(call: Call) -> None:
    """The strict part of a write command's arguments, judged before who asks."""
    name, body = call.name, call.body
    statements = _LISTS[name]
    for field in body:
        if field not in _GENERIC and field not in _OWN and field not in (name, statements):
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
        raise failure(16, "Number of statement ids must match the number of batch entries")
    if ids is not None and single is not None:
        raise failure(72, "May not specify both stmtId and stmtIds in write command")


def _statement_ids(call: Call, count: int) -> list[int]:
    ids = call.body.get("stmtIds")
    if ids is not None:
        return list(ids)
    base = call.option("stmtId", 0)
    return [base + index for index in range(count)]


Outcome = Document
Run = Callable[[Call, Namespace, Document], Outcome]


def _once(call: Call, statement_id: int, run: Callable[[], Outcome]) -> Outcome:
    """Run a statement, or give its recorded outcome where this txnNumber has it already."""
    if call.txn_number is None or call.transaction is not None or call.session is None:
        return run()
    executed = call.session.transaction.executed
    if statement_id in executed:
        call.node.counters["retried statements"] += 1
        return {**executed[statement_id], "wrote": 0}
    executed[statement_id] = run()
    return executed[statement_id]


def _insert_one(call: Call, ns: Namespace, statement: Document) -> Outcome:
    key = statement.get("_id", None) if "_id" in statement else ObjectId()
    if isinstance(key, list):
        raise failure(2, "The '_id' value cannot be of type array")
    document = {"_id": key, **{name: value for name, value in statement.items() if name != "_id"}}
    call.engine(ns).insert(ns, document)
    _claim(call, ns, key)
    return {"n": 1, "wrote": 1}


def _update_one(call: Call, ns: Namespace, statement: Document) -> Outcome:
    query, change, multi = statement["q"], statement["u"], bool(statement.get("multi"))
    engine = call.engine(ns)
    if not isinstance(change, dict | list):
        raise failure(9, "Update argument must be either an object or an array")
    replaces = isinstance(change, dict) and not next(iter(change), "").startswith("$")
    if multi and replaces:
        raise failure(9, "multi update is not supported for replacement-style update")
    targets = engine.ids(ns, query, limit=0 if multi else 1)
    for key in targets:
        _claim(call, ns, key)
    done = engine.update(
        ns,
        query,
        change,
        multi=multi,
        upsert=bool(statement.get("upsert")),
        array_filters=statement.get("arrayFilters"),
    )
    for key in done.upserted:
        _claim(call, ns, key)
    return {
        "n": done.matched,
        "nModified": done.modified,
        "upserted": list(done.upserted),
        "wrote": done.modified + len(done.upserted),
    }


def _delete_one(call: Call, ns: Namespace, statement: Document) -> Outcome:
    engine = call.engine(ns)
    keys = engine.ids(ns, statement["q"], limit=int(statement["limit"]))
    for key in keys:
        _claim(call, ns, key)
        engine.delete(ns, key)
    return {"n": len(keys), "wrote": len(keys)}


def _claim(call: Call, ns: Namespace, key: object) -> None:
    if call.transaction is not None:
        call.transaction.claim(call.node.engine, call.node.locks, ns, key)


def _check_statement(call: Call, statement: Document) -> None:
    if call.name == "update":
        for field in ("q", "u"):
            if field not in statement:
                raise missing_field("update.updates", field)
        if call.txn_number is not None and call.transaction is None and statement.get("multi"):
            raise failure(72, "Cannot use (or request) retryable writes with multi=true")
    elif call.name == "delete":
        for field in ("q", "limit"):
            if field not in statement:
                raise missing_field("delete.deletes", field)
        limit = statement["limit"]
        if limit not in (0, 1):
            raise failure(9, f"The limit field in delete objects must be 0 or 1. Got {limit}")
        if call.txn_number is not None and call.transaction is None and not limit:
            raise failure(72, "Cannot use (or request) retryable writes with limit=0")


_RUN: Final[dict[str, Run]] = {
    "insert": _insert_one,
    "update": _update_one,
    "delete": _delete_one,
}


def _write(call: Call) -> Answer:
    ns = call.ns
    statements: list[Document] = call.body[_LISTS[call.name]]
    _allow_writes(ns)
    if (blocked := _wait_for_locks(call, ns, statements)) is not None:
        return blocked
    return _run_batch(call, ns, statements)


def _allow_writes(ns: Namespace) -> None:
    if ns[1].startswith("system.") and ns[0] not in ("config", "local"):
        raise failure(73, f"cannot write to '{ns[0]}.{ns[1]}'")


def _wait_for_locks(call: Call, ns: Namespace, statements: list[Document]) -> Later | None:
    """Wait while an open transaction holds a document that this write, outside any, would touch."""
    if call.transaction is not None or not _locked(call, ns, statements):
        return None

    def attempt(now: float) -> Document | None:
        return None if _locked(call, ns, statements) else _run_batch(call, ns, statements)

    return Later(math.inf, attempt)


def _locked(call: Call, ns: Namespace, statements: list[Document]) -> bool:
    locks = call.node.locks
    if not locks:
        return False
    for statement in statements:
        if call.name == "insert":
            keys = [statement["_id"]] if "_id" in statement else []
        else:
            keys = call.node.engine.ids(ns, statement.get("q", {}))
            key = statement.get("q", {}).get("_id")
            if key is not None and not isinstance(key, dict):
                keys.append(key)
        if any(locks.holder(ns, key) is not None for key in keys):
            return True
    return False


def _run_batch(call: Call, ns: Namespace, statements: list[Document]) -> Document:
    total, modified, wrote = 0, 0, 0
    errors: list[Document] = []
    upserted: list[Document] = []
    ids = _statement_ids(call, len(statements))
    if call.transaction is None and call.name == "insert" and not call.node.engine.exists(ns):
        call.node.engine.create(ns)
    for index, statement in enumerate(statements):
        try:
            _check_statement(call, statement)
            outcome = _once(call, ids[index], partial(_RUN[call.name], call, ns, statement))
        except CommandError as error:
            if call.transaction is not None:
                if TRANSIENT in error.labels:
                    raise
                call.transaction.abort(call.node.locks)
            errors.append(_write_error(index, error))
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


def _write_error(index: int, error: CommandError) -> Document:
    entry: Document = {"index": index, "code": error.code}
    if isinstance(error, DuplicateKeyFailure):
        entry["keyPattern"] = error.pattern
        # 4.2 release candidates leave the names out of keyValue.
        entry["keyValue"] = {"": error.value[-1]}
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
    if errors:
        reply["writeErrors"] = errors
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


def _find_and_modify(call: Call) -> Answer:
    ns = call.ns
    if bool(call.option("remove")) == ("update" in call.body):
        raise failure(9, "Either an update or remove=true must be specified")
    if call.option("remove") and (call.option("upsert") or call.option("new")):
        raise failure(9, "Cannot specify both upsert=true and remove=true")
    _allow_writes(ns)
    query = call.document("query")

    def run() -> Document:
        done = _once(call, call.option("stmtId", 0), lambda: _modify(call, ns, query))
        return {name: value for name, value in done.items() if name != "wrote"}

    if call.transaction is not None or not _locked(call, ns, [{"q": query}]):
        return run()

    def attempt(now: float) -> Document | None:
        return None if _locked(call, ns, [{"q": query}]) else run()

    return Later(math.inf, attempt)


def _modify(call: Call, ns: Namespace, query: Document) -> Document:
    engine = call.engine(ns)
    keys = engine.ids(ns, query, sort=call.document("sort"), limit=1)
    fields = call.document("fields")
    if not keys:
        return _modify_nothing(call, ns, query, fields)
    key = keys[0]
    _claim(call, ns, key)
    where = {"_id": {"$eq": key}}
    old = engine.find(ns, where, projection=fields)[0]
    if call.option("remove"):
        engine.delete(ns, key)
        _wrote(call)
        return {"lastErrorObject": {"n": 1}, "value": old}
    # The query goes along so that the positional operator knows what matched.
    narrowed = query if "_id" in query else {**query, "_id": key}
    engine.update(ns, narrowed, call.body["update"], array_filters=call.option("arrayFilters"))
    _wrote(call)
    value = engine.find(ns, where, projection=fields)[0] if call.option("new") else old
    return {"lastErrorObject": {"n": 1, "updatedExisting": True}, "value": value}


def _modify_nothing(call: Call, ns: Namespace, query: Document, fields: Document) -> Document:
    if call.option("remove"):
        return {"lastErrorObject": {"n": 0}, "value": None}
    if not call.option("upsert"):
        return {"lastErrorObject": {"n": 0, "updatedExisting": False}, "value": None}
    engine = call.engine(ns)
    done = engine.update(ns, query, call.body["update"], upsert=True)
    key = done.upserted[0]
    _claim(call, ns, key)
    _wrote(call)
    value = None
    if call.option("new"):
        value = engine.find(ns, {"_id": {"$eq": key}}, projection=fields)[0]
    last = {"n": 1, "updatedExisting": False, "upserted": key}
    return {"lastErrorObject": last, "value": value}


def _wrote(call: Call) -> None:
    if call.transaction is None:
        call.node.advance(call.now)


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


_FIND_AND_MODIFY: Final = Command(
    _find_and_modify,
    on_collection("find", "update"),
    in_transaction=True,
    retryable=True,
    write_concern=True,
)

COMMANDS: Final = {
    "insert": _write_command("insert"),
    "update": _write_command("update"),
    "delete": _write_command("remove"),
    "findAndModify": _FIND_AND_MODIFY,
    "findandmodify": _FIND_AND_MODIFY,
}

"""Single write statements: carried out once per stmtId, and only on documents free to write."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from typing import Final

from bson import ObjectId

from proxy.embedded.call import Call
from proxy.embedded.engine import Document, Namespace
from proxy.embedded.failures import failure
from proxy.embedded.lsids import missing_field
from proxy.embedded.transactions import State

#: A statement with this id is carried out and not remembered.
_FORGOTTEN: Final = -1

Outcome = Document
Run = Callable[[Call, Namespace, Document], Outcome]


def _executed(call: Call) -> ChainMap[int, Outcome] | None:
    """The statements of the retryable write that the command belongs to; None where to none.

    A child session may work for a retryable write of its parent. What its transaction carries out
    counts for the parent once that has committed, and what the parent carried out counts for it.
    """
    if call.txn_number is None or call.session is None or call.state is None:
        return None
    if call.transaction is None:
        return ChainMap(call.state.executed)
    assert call.key is not None
    if call.key.txn_number is None:
        return None
    parent = call.session.transaction
    same = parent.state is State.RETRYABLE and parent.number == call.key.txn_number
    return ChainMap(call.transaction.executed, parent.executed if same else {})


def once(call: Call, statement_id: int, run: Callable[[], Outcome]) -> Outcome:
    """Run a statement, or give its recorded outcome where this txnNumber has it already."""
    executed = _executed(call)
    if executed is None or statement_id == _FORGOTTEN:
        return run()
    if statement_id in executed:
        call.node.counters["retried statements"] += 1
        call.retried.append(statement_id)
        return {**executed[statement_id], "wrote": 0}
    executed[statement_id] = run()
    return executed[statement_id]


def _insert_one(call: Call, ns: Namespace, statement: Document) -> Outcome:
    key = statement["_id"] if "_id" in statement else ObjectId()
    if isinstance(key, list):
        raise failure(2, "The '_id' value cannot be of type array")
    document = {"_id": key, **{name: value for name, value in statement.items() if name != "_id"}}
    call.engine(ns).insert(ns, document)
    claim(call, ns, key)
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
        claim(call, ns, key)
    done = engine.update(
        ns,
        query,
        change,
        multi=multi,
        upsert=bool(statement.get("upsert")),
        array_filters=statement.get("arrayFilters"),
    )
    for key in done.upserted:
        claim(call, ns, key)
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
        claim(call, ns, key)
        engine.delete(ns, key)
    return {"n": len(keys), "wrote": len(keys)}


def claim(call: Call, ns: Namespace, key: object) -> None:
    """Inside a transaction, make the document that transaction's to write.

    Raises:
        CommandError: 112, labelled transient.
    """
    if call.transaction is not None:
        call.transaction.claim(call.node.engine, call.node.locks, ns, key)


def check_statement(call: Call, kind: str, statement: Document) -> None:
    """Judge one statement of an update or delete (``kind``) by itself.

    Raises:
        CommandError: 40414, 9, or 72 for what cannot be retried.
    """
    if kind == "update":
        for field in ("q", "u"):
            if field not in statement:
                raise missing_field("update.updates", field)
        if call.txn_number is not None and call.transaction is None and statement.get("multi"):
            raise failure(72, "Cannot use (or request) retryable writes with multi=true")
    elif kind == "delete":
        for field in ("q", "limit"):
            if field not in statement:
                raise missing_field("delete.deletes", field)
        limit = statement["limit"]
        if limit not in (0, 1):
            raise failure(9, f"The limit field in delete objects must be 0 or 1. Got {limit}")
        if call.txn_number is not None and call.transaction is None and not limit:
            raise failure(72, "Cannot use (or request) retryable writes with limit=0")


RUN: Final[dict[str, Run]] = {
    "insert": _insert_one,
    "update": _update_one,
    "delete": _delete_one,
}


def allow_writes(ns: Namespace) -> None:
    """Refuse (73) writes to the collections that are the server's own."""
    if ns[1].startswith("system.") and ns[0] not in ("config", "local"):
        raise failure(73, f"cannot write to '{ns[0]}.{ns[1]}'")


def locked(call: Call, kind: str, ns: Namespace, statements: list[Document]) -> bool:
    """Whether an open transaction wrote a document that one of the statements would write.

    ``kind`` is the command that they are statements of.
    """
    locks = call.node.locks
    if not locks:
        return False
    for statement in statements:
        if kind == "insert":
            keys = [statement["_id"]] if "_id" in statement else []
        else:
            query = statement.get("q")
            if not isinstance(query, dict):
                continue
            keys = call.node.engine.ids(ns, query)
            if "_id" in query and not isinstance(query["_id"], dict):
                # It may be a document that only the transaction has yet.
                keys.append(query["_id"])
        if any(locks.holder(ns, key) is not None for key in keys):
            return True
    return False

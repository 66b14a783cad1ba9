"""The findAndModify command."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from proxy.embedded.call import Answer, Call, Command, Later, on_collection
from proxy.embedded.failures import failure
from proxy.embedded.statements import allow_writes, claim, locked, once

if TYPE_CHECKING:
    from proxy.embedded.engine import Document, Namespace


def _find_and_modify(call: Call) -> Answer:
    ns = call.ns
    if bool(call.option("remove")) == ("update" in call.body):
        raise failure(9, "Either an update or remove=true must be specified")
    if call.option("remove") and (call.option("upsert") or call.option("new")):
        raise failure(9, "Cannot specify both upsert=true and remove=true")
    allow_writes(ns)
    query = call.document("query")

    def run() -> Document:
        done = once(call, call.option("stmtId", 0), lambda: _modify(call, ns, query))
        return {name: value for name, value in done.items() if name != "wrote"}

    if call.transaction is not None or not locked(call, call.name, ns, [{"q": query}]):
        return run()

    def attempt(now: float) -> Document | None:
        return None if locked(call, call.name, ns, [{"q": query}]) else run()

    return Later(math.inf, attempt)


def _modify(call: Call, ns: Namespace, query: Document) -> Document:
    engine = call.engine(ns)
    keys = engine.ids(ns, query, sort=call.document("sort"), limit=1)
    fields = call.document("fields")
    if not keys:
        return _modify_nothing(call, ns, query, fields)
    key = keys[0]
    claim(call, ns, key)
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
    claim(call, ns, key)
    _wrote(call)
    value = None
    if call.option("new"):
        value = engine.find(ns, {"_id": {"$eq": key}}, projection=fields)[0]
    last = {"n": 1, "updatedExisting": False, "upserted": key}
    return {"lastErrorObject": last, "value": value}


def _wrote(call: Call) -> None:
    if call.transaction is None:
        call.node.advance(call.now)


_COMMAND: Final = Command(
    _find_and_modify,
    on_collection("find", "update"),
    in_transaction=True,
    retryable=True,
    write_concern=True,
)

COMMANDS: Final = {"findAndModify": _COMMAND, "findandmodify": _COMMAND}

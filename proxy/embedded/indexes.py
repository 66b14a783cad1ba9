"""createIndexes, dropIndexes, listIndexes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bson import Int64

from proxy.embedded.call import Answer, Call, Command, on_collection
from proxy.embedded.catalog import index_ns
from proxy.embedded.failures import failure
from proxy.embedded.printing import printed

if TYPE_CHECKING:
    from proxy.embedded.engine import Document, Namespace


def _create_indexes(call: Call) -> Answer:
    ns, engine = call.ns, call.node.engine
    specs = call.body.get("indexes")
    if not isinstance(specs, list):
        raise failure(10065, "invalid parameter: expected an object (indexes)")
    if not specs:
        raise failure(2, "Must specify at least one index to create")
    created = not engine.exists(ns)
    before = 1 + len(engine.indexes(ns))
    if created:
        engine.create(ns)
    for spec in specs:
        _create_index(call, ns, spec)
    call.node.advance(call.now)
    reply: Document = {
        "createdCollectionAutomatically": created,
        "numIndexesBefore": before,
        "numIndexesAfter": 1 + len(engine.indexes(ns)),
    }
    if reply["numIndexesAfter"] == before:
        reply["note"] = "all indexes already exist"
    return reply


def _create_index(call: Call, ns: Namespace, spec: object) -> None:
    if not isinstance(spec, dict) or not isinstance(spec.get("key"), dict) or not spec["key"]:
        raise failure(9, "The 'key' field is a required property of an index specification")
    name = spec.get("name")
    if not isinstance(name, str):
        raise failure(9, "The 'name' field is a required property of an index specification")
    key = list(spec["key"].items())
    if key == [("_id", 1)]:
        return
    existing = call.node.engine.indexes(ns).get(name)
    if existing is not None:
        if list(existing["key"].items()) != key:
            raise failure(86, f"Index must have unique name. The existing index: {name}")
        if bool(existing.get("unique")) != bool(spec.get("unique")):
            raise failure(85, f"Index with name: {name} already exists with different options")
        return
    call.node.engine.create_index(ns, name, key, spec)


def _drop_indexes(call: Call) -> Answer:
    ns, engine = call.ns, call.node.engine
    if not engine.exists(ns):
        raise failure(26, "ns not found")
    indexes = engine.indexes(ns)
    wanted = call.body.get("index")
    if wanted == "*":
        names = list(indexes)
    elif isinstance(wanted, dict):
        names = [name for name, details in indexes.items() if details["key"] == wanted]
    else:
        names = [wanted] if isinstance(wanted, str) else list(wanted or [])
    if wanted in ("_id_", {"_id": 1}):
        raise failure(72, "cannot drop _id index")
    if not names and wanted != "*":
        raise failure(27, f"can't find index with key: {printed(wanted)}")
    for name in names:
        if name not in indexes:
            raise failure(27, f"index not found with name [{name}]")
    for name in names:
        engine.drop_index(ns, name)
    call.node.advance(call.now)
    return {"nIndexesWas": 1 + len(indexes)}


def _list_indexes(call: Call) -> Answer:
    ns, engine = call.ns, call.node.engine
    if not engine.exists(ns):
        raise failure(26, f"ns does not exist: {ns[0]}.{ns[1]}")
    where = index_ns(call, ns)
    found: list[Document] = [{"v": 2, "key": {"_id": 1}, "name": "_id_", **where}]
    for name, details in engine.indexes(ns).items():
        options = {option: value for option, value in details.items() if option != "key"}
        found.append({"v": 2, "key": details["key"], "name": name, **where, **options})
    return {
        "cursor": {"id": Int64(0), "ns": f"{ns[0]}.$cmd.listIndexes.{ns[1]}", "firstBatch": found}
    }


_DROP: Final = Command(_drop_indexes, on_collection("dropIndex"), write_concern=True)

COMMANDS: Final = {
    "createIndexes": Command(
        _create_indexes, on_collection("createIndex"), write_concern=True, schema=True
    ),
    "dropIndexes": _DROP,
    "deleteIndexes": _DROP,
    "listIndexes": Command(_list_indexes, on_collection("listIndexes")),
}

"""Databases and collections: create, drop, rename, list, statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import bson
from bson import Binary

from proxy.embedded.call import Answer, Call, Command, on_cluster, on_collection, on_database
from proxy.embedded.engine import Document, Engine, Namespace
from proxy.embedded.failures import failure
from proxy.embedded.queries import batch_last, batch_size, first_batch
from proxy.embedded.roles import collection

if TYPE_CHECKING:
    from proxy.embedded.node import Node

_OPTIONS: Final = (
    "capped",
    "size",
    "max",
    "validator",
    "validationLevel",
    "validationAction",
    "collation",
)


def _create(call: Call) -> Answer:
    ns = call.ns
    if call.node.engine.exists(ns):
        raise failure(48, f"a collection '{ns[0]}.{ns[1]}' already exists")
    call.node.engine.create(ns)
    call.node.options[ns] = {name: call.body[name] for name in _OPTIONS if name in call.body}
    call.node.advance(call.now)
    return {}


def _drop(call: Call) -> Answer:
    ns, node = call.ns, call.node
    if not node.engine.exists(ns):
        raise failure(26, "ns not found")
    indexes = 1 + len(node.engine.indexes(ns))
    forget(node, ns)
    node.advance(call.now)
    return {"nIndexesWas": indexes, "ns": f"{ns[0]}.{ns[1]}"}


def forget(node: Node, ns: Namespace) -> None:
    """Remove a collection with its cursors and options."""
    node.engine.drop(ns)
    node.options.pop(ns, None)
    node.uuids.pop(ns, None)
    node.cursors.close_where(lambda cursor: cursor.ns == ns)


def _drop_database(call: Call) -> Answer:
    node = call.node
    names = node.engine.collections(call.database)
    for name in names:
        forget(node, (call.database, name))
    node.advance(call.now)
    return {"dropped": call.database} if names else {}


def _rename(call: Call) -> Answer:
    source, target = call.body["renameCollection"], call.option("to")
    if not isinstance(source, str) or not isinstance(target, str):
        raise failure(14, "renameCollection and to must be strings")
    old, new = _split(source), _split(target)
    node = call.node
    if not node.engine.exists(old):
        raise failure(26, "source namespace does not exist")
    if node.engine.exists(new):
        if not call.option("dropTarget"):
            raise failure(48, "target namespace exists")
        forget(node, new)
    options = node.options.get(old, {})
    node.engine.rename(old, new)
    forget(node, old)
    node.options[new] = options
    node.advance(call.now)
    return {}


def _split(name: str) -> Namespace:
    database, _, rest = name.partition(".")
    if not database or not rest:
        raise failure(73, f"Invalid namespace: {name}")
    return (database, rest)


def _may_rename(call: Call) -> None:
    for field in (call.body["renameCollection"], call.option("to")):
        if isinstance(field, str):
            call.need(collection(*_split(field)), "insert", "dropCollection")


def uuid_of(node: Node, ns: Namespace) -> Binary:
    """The collection's UUID, made when first asked for."""
    if ns not in node.uuids:
        node.uuids[ns] = Binary(uuid4().bytes, 4)
    found: Binary = node.uuids[ns]
    return found


def _filtered(call: Call, documents: list[Document]) -> list[Document]:
    query = call.document("filter")
    if not query:
        return documents
    scratch, ns = Engine(), (call.database, "listing")
    for index, document in enumerate(documents):
        scratch.insert(ns, {**document, "_id": index})
    return [documents[key] for key in scratch.ids(ns, query)]


def _list_collections(call: Call) -> Answer:
    node, found = call.node, []
    for name in sorted(node.engine.collections(call.database)):
        ns = (call.database, name)
        entry: Document = {"name": name, "type": "collection"}
        if not call.option("nameOnly"):
            entry["options"] = node.options.get(ns, {})
            entry["info"] = {"readOnly": False, "uuid": uuid_of(node, ns)}
            entry["idIndex"] = {"v": 2, "key": {"_id": 1}, "name": "_id_", **index_ns(call, ns)}
        found.append(entry)
    ns = (call.database, "$cmd.listCollections")
    size = batch_size(call, call.document("cursor"))
    return batch_last(first_batch(call, ns, _filtered(call, found), size))


def index_ns(call: Call, ns: Namespace) -> Document:
    """The ``ns`` of an index, where the version has it."""
    return {} if call.version.tidy_indexes else {"ns": ".".join(ns)}


def _may_list_collections(call: Call) -> None:
    own = call.option("nameOnly") and call.option("authorizedCollections")
    if not own:
        call.need(collection(call.database, ""), "listCollections")


def _size(engine: Engine, ns: Namespace) -> int:
    return sum(len(bson.encode(document)) for document in engine.find(ns))


def _list_databases(call: Call) -> Answer:
    engine = call.node.engine
    found: list[Document] = []
    everything = call.may_on_cluster("listDatabases")
    for name in engine.databases():
        names = engine.collections(name)
        if not names or not (everything or call.may(collection(name, ""), "find")):
            continue
        entry: Document = {"name": name}
        if not call.option("nameOnly"):
            entry["sizeOnDisk"] = float(sum(_size(engine, (name, each)) for each in names))
            entry["empty"] = False
        found.append(entry)
    found = _filtered(call, found)
    reply: Document = {"databases": found}
    if not call.option("nameOnly"):
        reply["totalSize"] = sum(entry["sizeOnDisk"] for entry in found)
    return reply


def _collection_stats(call: Call) -> Answer:
    ns, engine = call.ns, call.node.engine
    size, count = _size(engine, ns), engine.count(ns)
    reply: Document = {
        "ns": f"{ns[0]}.{ns[1]}",
        "size": size,
        "count": count,
        "storageSize": size,
        "capped": bool(call.node.options.get(ns, {}).get("capped")),
        "nindexes": 1 + len(engine.indexes(ns)) if engine.exists(ns) else 0,
        "totalIndexSize": 0,
        "indexSizes": {"_id_": 0},
    }
    if count:
        reply["avgObjSize"] = size // count
    return reply


def _database_stats(call: Call) -> Answer:
    engine = call.node.engine
    names = [(call.database, name) for name in engine.collections(call.database)]
    size = float(sum(_size(engine, ns) for ns in names))
    objects = sum(engine.count(ns) for ns in names)
    return {
        "db": call.database,
        "collections": len(names),
        "views": 0,
        "objects": objects,
        "avgObjSize": size / objects if objects else 0.0,
        "dataSize": size,
        "storageSize": size,
        "indexes": sum(1 + len(engine.indexes(ns)) for ns in names),
        "indexSize": 0.0,
    }


def _ok(call: Call) -> Answer:
    return {}


def _validate(call: Call) -> Answer:
    ns: Any = call.ns
    if not call.node.engine.exists(ns):
        raise failure(26, "ns not found")
    return {"ns": f"{ns[0]}.{ns[1]}", "nrecords": call.node.engine.count(ns), "valid": True}


COMMANDS: Final = {
    "create": Command(_create, on_collection("createCollection"), write_concern=True, schema=True),
    "drop": Command(_drop, on_collection("dropCollection"), write_concern=True),
    "dropDatabase": Command(_drop_database, on_database("dropDatabase"), write_concern=True),
    "renameCollection": Command(_rename, _may_rename, admin_only=True, write_concern=True),
    "collMod": Command(_ok, on_collection("collMod"), write_concern=True),
    "listCollections": Command(_list_collections, _may_list_collections),
    "listDatabases": Command(_list_databases, admin_only=True),
    "collStats": Command(_collection_stats, on_collection("collStats")),
    "collstats": Command(_collection_stats, on_collection("collStats")),
    "dbStats": Command(_database_stats, on_database("dbStats")),
    "dbstats": Command(_database_stats, on_database("dbStats")),
    "validate": Command(_validate, on_collection("validate")),
    "fsync": Command(_ok, on_cluster("fsync"), admin_only=True),
}

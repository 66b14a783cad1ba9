"""Reading a collection: find, count, distinct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bson import Int64

from proxy.embedded.call import Answer, Call, Command, on_collection
from proxy.embedded.cursors import FIRST_BATCH, Cursor
from proxy.embedded.failures import failure, type_mismatch
from proxy.embedded.printing import type_name

if TYPE_CHECKING:
    from proxy.embedded.engine import Document, Namespace


def first_batch(call: Call, ns: Namespace, documents: list[Document], size: int | None) -> Document:
    """A cursor reply over ``documents``; what does not fit the first batch stays open."""
    cursor = _open(call, ns, documents)
    batch = cursor.take(size)
    cursor_id = Int64(0) if cursor.exhausted else call.node.cursors.keep(cursor)
    return {"cursor": {"firstBatch": batch, "id": cursor_id, "ns": f"{ns[0]}.{ns[1]}"}}


def batch_last(reply: Document) -> Document:
    """A cursor reply in the order of fields that the server has for what is no collection."""
    reply["cursor"]["firstBatch"] = reply["cursor"].pop("firstBatch")
    return reply


def _open(call: Call, ns: Namespace, documents: list[Document]) -> Cursor:
    return call.node.cursors.open(
        ns,
        documents,
        session=call.key,
        # A retryable write's cursor (bulkWrite) is read without the number.
        txn_number=None if call.transaction is None else call.txn_number,
        users=tuple((user.name, user.database) for user in call.users),
        now=call.now,
    )


def batch_size(call: Call, options: Document) -> int:
    """``batchSize`` of a command or of its ``cursor`` document; 101 where it is missing."""
    size = options.get("batchSize")
    if size is None:
        return FIRST_BATCH
    if isinstance(size, bool) or not isinstance(size, int | float):
        raise failure(9, f"Failed to parse: batchSize: wrong type {type_name(size)}")
    if size < 0:
        raise failure(2, "BatchSize value must be non-negative, but received: " + str(int(size)))
    return int(size)


def _find(call: Call) -> Answer:
    ns = call.ns
    query, limit, skip = call.document("filter"), call.number("limit"), call.number("skip")
    if limit < 0 or skip < 0:
        raise failure(2, "Limit and skip values must be non-negative")
    engine = call.engine(ns)

    def run() -> list[Document]:
        return engine.find(
            ns,
            query,
            projection=call.document("projection"),
            sort=call.document("sort"),
            skip=skip,
            limit=limit,
        )

    size = batch_size(call, call.body)
    if call.option("singleBatch"):
        batch = run()[: None if "batchSize" not in call.body else size or None]
        return {"cursor": {"firstBatch": batch, "id": Int64(0), "ns": ".".join(ns)}}
    if not call.option("tailable"):
        reply = first_batch(call, ns, run(), size)
        return reply if engine.exists(ns) else batch_last(reply)
    if not call.node.options.get(ns, {}).get("capped"):
        raise failure(
            2,
            f"error processing query: ns={'.'.join(ns)} tailable cursor requested on non capped "
            "collection",
        )
    cursor = _open(call, ns, run())
    cursor.tail = run
    cursor.await_data = bool(call.option("awaitData"))
    batch = cursor.take(size)
    return {
        "cursor": {"firstBatch": batch, "id": call.node.cursors.keep(cursor), "ns": ".".join(ns)}
    }


def _count(call: Call) -> Answer:
    query = call.document("query")
    limit, skip = abs(call.number("limit")), call.number("skip")
    found = call.node.engine.ids(call.ns, query)[skip:]
    return {"n": min(len(found), limit) if limit else len(found)}


def _distinct(call: Call) -> Answer:
    key = call.option("key")
    if not isinstance(key, str):
        raise type_mismatch("distinct.key", key, "string")
    return {"values": call.engine(call.ns).distinct(call.ns, key, call.document("query"))}


def _explain(call: Call) -> Answer:
    explained = call.body["explain"]
    if not isinstance(explained, dict) or not explained:
        raise failure(14, "explain needs a command document")
    plan = {"stage": "COLLSCAN", "direction": "forward"}
    name = next(iter(explained))
    return {
        "queryPlanner": {
            "plannerVersion": 1,
            "namespace": f"{call.database}.{explained[name]}",
            "indexFilterSet": False,
            "winningPlan": plan,
            "rejectedPlans": [],
        },
        "serverInfo": {"host": call.node.address, "port": 0, "version": "embedded"},
    }


COMMANDS: Final = {
    "find": Command(_find, on_collection("find"), in_transaction=True, read_concern=True),
    "count": Command(_count, on_collection("find"), read_concern=True),
    "distinct": Command(_distinct, on_collection("find"), in_transaction=True, read_concern=True),
    "explain": Command(_explain),
}

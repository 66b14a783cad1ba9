"""Reading: find, aggregate, count, distinct, getMore, killCursors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bson import Int64

from proxy.embedded.call import Answer, Call, Command, Later, on_collection
from proxy.embedded.cursors import FIRST_BATCH, Cursor
from proxy.embedded.engine import Engine
from proxy.embedded.failures import failure, type_mismatch, unauthorized
from proxy.embedded.operations import current_operations
from proxy.embedded.printing import type_name
from proxy.embedded.roles import Resource, collection
from proxy.embedded.session_listing import check_listing, is_listing, list_sessions
from proxy.embedded.words import words

if TYPE_CHECKING:
    from proxy.embedded.engine import Document, Namespace

#: How long an awaitData getMore waits when it names no time.
_AWAIT_SECONDS: Final = 1.0


#: Every stage of a 4.4 server, those that the engine lacks included.
_STAGES: Final = words(
    "$addFields $bucket $bucketAuto $changeStream $collStats $count $currentOp $facet $geoNear "
    "$graphLookup $group $indexStats $limit $listLocalSessions $listSessions $lookup $match $merge "
    "$out $planCacheStats $project $redact $replaceRoot $replaceWith $sample $set $skip $sort "
    "$sortByCount $unionWith $unset $unwind"
)


def first_batch(call: Call, ns: Namespace, documents: list[Document], size: int | None) -> Document:
    """A cursor reply over ``documents``; what does not fit the first batch stays open."""
    cursor = _open(call, ns, documents)
    batch = cursor.take(size)
    cursor_id = Int64(0) if cursor.exhausted else call.node.cursors.keep(cursor)
    return {"cursor": {"firstBatch": batch, "id": cursor_id, "ns": f"{ns[0]}.{ns[1]}"}}


def _open(call: Call, ns: Namespace, documents: list[Document]) -> Cursor:
    return call.node.cursors.open(
        ns,
        documents,
        session=call.key,
        txn_number=call.txn_number,
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
        return first_batch(call, ns, run(), size)
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


def _belongs(call: Call, cursor: Cursor) -> None:
    """Refuse a getMore from another session, transaction or user than the cursor's."""
    ours, theirs = call.key, cursor.session
    if call.node.authorization:
        users = tuple((user.name, user.database) for user in call.users)
        if ours != theirs and not call.may_on_cluster("impersonate"):
            raise unauthorized(
                f"Cursor session id ({theirs or 'none'}) is not the same as the operation "
                f"context's session id ({ours or 'none'})"
            )
        if not set(users) & set(cursor.users):
            raise unauthorized(f"cursor id {cursor.id} was not created by the authenticated user")
    prefix = f"Cannot run getMore on cursor {cursor.id}, which was "
    if theirs is None and ours is not None:
        raise failure(50736, f"{prefix}not created in a session, in session {ours}")
    if theirs is not None and ours is None:
        raise failure(50737, f"{prefix}created in session {theirs}, without an lsid")
    if theirs != ours:
        raise failure(50738, f"{prefix}created in session {theirs}, in session {ours}")
    if cursor.txn_number is None and call.txn_number is not None:
        raise failure(
            50739, f"{prefix}not created in a transaction, in transaction {call.txn_number}"
        )
    if cursor.txn_number is not None and call.txn_number is None:
        raise failure(
            50740, f"{prefix}created in transaction {cursor.txn_number}, without a txnNumber"
        )
    if cursor.txn_number != call.txn_number:
        raise failure(
            50741,
            f"{prefix}created in transaction {cursor.txn_number}, in transaction {call.txn_number}",
        )


def _get_more(call: Call) -> Answer:
    cursor_id = call.body["getMore"]
    if not isinstance(cursor_id, Int64):
        raise failure(14, "Field 'getMore' must be of type long in: { getMore: ... }")
    name = call.option("collection")
    if not isinstance(name, str):
        raise failure(2, "Field 'collection' must be of type string")
    size = call.number("batchSize") or None
    if size is not None and size < 0:
        raise failure(2, "Batch size for getMore must be positive, but received: " + str(size))
    cursor = call.node.cursors.get(cursor_id, call.now)
    _belongs(call, cursor)
    if cursor.ns != (call.database, name):
        raise unauthorized(
            f"Requested getMore on namespace '{call.database}.{name}', but cursor belongs to a "
            f"different namespace {'.'.join(cursor.ns)}"
        )
    if cursor.tail is not None:
        return _tail(call, cursor, size)
    return _next_batch(call, cursor, size)


def _next_batch(call: Call, cursor: Cursor, size: int | None) -> Document:
    batch = cursor.take(size)
    cursor_id = Int64(cursor.id)
    if cursor.exhausted and cursor.tail is None:
        call.node.cursors.close(cursor.id)
        cursor_id = Int64(0)
    call.more_to_come = call.exhaust and bool(cursor_id)
    return {"cursor": {"nextBatch": batch, "id": cursor_id, "ns": ".".join(cursor.ns)}}


def _tail(call: Call, cursor: Cursor, size: int | None) -> Answer:
    until = call.now
    if cursor.await_data:
        until += call.number("maxTimeMS") / 1000 or _AWAIT_SECONDS

    def attempt(now: float) -> Document | None:
        assert cursor.tail is not None
        if call.node.cursors.find(cursor.id) is not cursor:
            raise failure(237, f"cursor id {cursor.id} was killed")
        cursor.rest = cursor.tail()
        if cursor.exhausted and now < until:
            return None
        return _next_batch(call, cursor, size)

    return attempt(call.now) or Later(until, attempt)


def _kill_cursors(call: Call) -> Answer:
    ids = call.body.get("cursors")
    if not isinstance(ids, list) or not ids:
        raise failure(2, "Must specify at least one cursor id in 'cursors'")
    killed: list[Int64] = []
    missing: list[Int64] = []
    for cursor_id in ids:
        if not isinstance(cursor_id, Int64):
            raise failure(9, f"Expected element of type long, found {type_name(cursor_id)}")
        cursor = call.node.cursors.find(cursor_id)
        if cursor is not None and not _made_it(call, cursor):
            raise call.not_authorized()
    for cursor_id in ids:
        (killed if call.node.cursors.close(cursor_id) else missing).append(cursor_id)
    call.node.wake()
    return {
        "cursorsKilled": killed,
        "cursorsNotFound": missing,
        "cursorsAlive": [],
        "cursorsUnknown": [],
    }


def _made_it(call: Call, cursor: Cursor) -> bool:
    """Whether one of the caller's users opened the cursor, or may do with any."""
    if call.may_on_cluster("killAnyCursor"):
        return True
    return any((user.name, user.database) in cursor.users for user in call.users)


def _may_kill_cursors(call: Call) -> None:
    if not call.may_on_cluster("killAnyCursor"):
        call.need(call.resource, "killCursors")


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


def _pipeline(call: Call) -> list[Document]:
    pipeline = call.body.get("pipeline")
    if not isinstance(pipeline, list):
        raise failure(14, "'pipeline' option must be specified as an array")
    for stage in pipeline:
        if not isinstance(stage, dict):
            raise failure(14, "Each element of the 'pipeline' array must be an object")
        if len(stage) != 1:
            raise failure(
                40323, "A pipeline stage specification object must contain exactly one field."
            )
        if next(iter(stage)) not in _STAGES:
            raise failure(40324, f"Unrecognized pipeline stage name: '{next(iter(stage))}'")
    return pipeline


def _check_aggregate(call: Call) -> None:
    pipeline = _pipeline(call)
    first = next(iter(pipeline[0]), "") if pipeline else ""
    if is_listing(first):
        check_listing(call, first, pipeline[0][first])
    elif first == "$currentOp":
        if not call.option("pipeline")[0][first].get("localOps") and not call.may_on_cluster(
            "inprog"
        ):
            raise call.not_authorized()
    else:
        call.need(_source(call), "find")
        for target in _targets(call, pipeline):
            call.need(collection(*target), "insert", "remove")


def _source(call: Call) -> Resource:
    if isinstance(call.body["aggregate"], str):
        return call.resource
    return collection(call.database, "$cmd.aggregate")


def _targets(call: Call, pipeline: list[Document]) -> list[Namespace]:
    out = pipeline[-1].get("$out") if pipeline else None
    return [(call.database, out)] if isinstance(out, str) else []


def _parse_aggregate(call: Call) -> None:
    if "cursor" not in call.body and not call.option("explain"):
        raise failure(
            9, "The 'cursor' option is required, except for aggregate with the explain argument"
        )


def _aggregate(call: Call) -> Answer:
    pipeline = _pipeline(call)
    size = batch_size(call, call.document("cursor"))
    first = next(iter(pipeline[0]), "") if pipeline else ""
    ns = call.ns if isinstance(call.body["aggregate"], str) else (call.database, "$cmd.aggregate")
    if is_listing(first):
        found = list_sessions(call, first, pipeline[0][first])
        return first_batch(call, ns, _rest_of(call, found, pipeline[1:]), size)
    if first == "$currentOp":
        return first_batch(call, ns, _rest_of(call, current_operations(call), pipeline[1:]), size)
    if ns[1] == "$cmd.aggregate":
        raise failure(73, f"{{aggregate: 1}} is not valid for '{first}'; a collection is required.")
    if first == "$changeStream":
        raise failure(115, "The embedded server has no change streams")
    targets = _targets(call, pipeline)
    if call.transaction is not None:
        for name in call.node.engine.collections(call.database):
            call.engine((call.database, name))
    documents = call.engine(ns).aggregate(ns, pipeline)
    if targets:
        call.node.advance(call.now)
        documents = []
    return first_batch(call, ns, documents, size)


def _rest_of(call: Call, documents: list[Document], pipeline: list[Document]) -> list[Document]:
    """Run the remaining stages over documents that come from no collection."""
    if not pipeline:
        return documents
    scratch, ns = Engine(), (call.database, "listing")
    for index, document in enumerate(documents):
        scratch.insert(ns, {"_id": index, "d": document})
    return scratch.aggregate(ns, [{"$replaceRoot": {"newRoot": "$d"}}, *pipeline])


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
    "aggregate": Command(
        _aggregate,
        _check_aggregate,
        _parse_aggregate,
        in_transaction=True,
        read_concern=True,
        write_concern=True,
    ),
    "count": Command(_count, on_collection("find"), read_concern=True),
    "distinct": Command(_distinct, on_collection("find"), in_transaction=True, read_concern=True),
    "getMore": Command(_get_more, in_transaction=True, awaits=True),
    "killCursors": Command(_kill_cursors, _may_kill_cursors, in_transaction=True),
    "explain": Command(_explain),
}

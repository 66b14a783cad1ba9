"""The aggregate command, on collections and on what the server itself lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.embedded.call import Answer, Call, Command
from proxy.embedded.engine import Document, Engine
from proxy.embedded.failures import failure
from proxy.embedded.operations import current_operations
from proxy.embedded.queries import batch_size, first_batch
from proxy.embedded.roles import Resource, collection
from proxy.embedded.session_listing import check_listing, is_listing, list_sessions
from proxy.embedded.words import words

if TYPE_CHECKING:
    from proxy.embedded.engine import Namespace

#: Every stage of a 4.4 server, those that the engine lacks included.
_STAGES: Final = words(
    "$addFields $bucket $bucketAuto $changeStream $collStats $count $currentOp $facet $geoNear "
    "$graphLookup $group $indexStats $limit $listLocalSessions $listSessions $lookup $match $merge "
    "$out $planCacheStats $project $redact $replaceRoot $replaceWith $sample $set $skip $sort "
    "$sortByCount $unionWith $unset $unwind"
)


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
        # One's own operations anybody may see.
        if pipeline[0][first].get("allUsers") and not call.may_on_cluster("inprog"):
            raise call.not_authorized()
    else:
        call.need(_source(call), "find")
        for joined in _joined(call, pipeline):
            call.need(collection(*joined), "find")
        for target in _targets(call, pipeline):
            call.need(collection(*target), "insert", "remove")


def _source(call: Call) -> Resource:
    if isinstance(call.body["aggregate"], str):
        return call.resource
    return collection(call.database, "$cmd.aggregate")


def _targets(call: Call, pipeline: list[Document]) -> list[Namespace]:
    out = pipeline[-1].get("$out") if pipeline else None
    return [(call.database, out)] if isinstance(out, str) else []


def _joined(call: Call, pipeline: list[Document]) -> list[Namespace]:
    joins = [stage.get("$lookup") or stage.get("$graphLookup") for stage in pipeline]
    names = [join.get("from") for join in joins if isinstance(join, dict)]
    return [(call.database, name) for name in names if isinstance(name, str)]


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
        shown = current_operations(call, everybody=bool(pipeline[0][first].get("allUsers")))
        return first_batch(call, ns, _rest_of(call, shown, pipeline[1:]), size)
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


COMMANDS: Final = {
    "aggregate": Command(
        _aggregate,
        _check_aggregate,
        _parse_aggregate,
        in_transaction=True,
        read_concern=True,
        write_concern=True,
    ),
}

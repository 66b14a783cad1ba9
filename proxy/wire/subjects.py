"""What a request is about, the same for every form that it can take: its command, the namespaces
that it names, and whether it may write.

Looked at is no more than names: of commands, collections and stages. What cannot be told counts as
any namespace and as a write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.errors import WireError
from proxy.texts import MOST_SHOWN, shortened
from proxy.wire import opcodes
from proxy.wire.fields import (
    ARRAY,
    DOCUMENT,
    DOUBLE,
    INT32_TYPE,
    INT64_TYPE,
    STRING,
    Element,
    Fields,
    document_end,
    elements,
    text,
    walk,
)
from proxy.wire.layouts import OF_COLLECTIONS, READS_ON
from proxy.wire.opcodes import HEADER_SIZE, OP_GET_MORE, OP_KILL_CURSORS, OP_MSG, OP_QUERY
from proxy.wire.sections import sequence

if TYPE_CHECKING:
    from proxy.wire.messages import Request

#: The place of a namespace that cannot be told.
ANY: Final = ""

#: Stages of a pipeline, and namespaces of a bulkWrite, that are looked at: servers take no more of
#: the one, drivers send a few of the other.
_MOST: Final = 1_000

#: Other names of the same commands, as servers take them.
_ALIASES: Final = {
    "buildinfo": "buildInfo",
    "collstats": "collStats",
    "dbstats": "dbStats",
    "deleteIndexes": "dropIndexes",
    "findandmodify": "findAndModify",
    "getlasterror": "getLastError",
    "mapreduce": "mapReduce",
    "movechunk": "moveChunk",
    "shardcollection": "shardCollection",
}

#: Commands whose own value is a whole namespace, or a database.
_OF_NAMESPACES: Final = frozenset((
    "abortReshardCollection", "balancerCollectionStatus", "cleanupOrphaned",
    "cleanupReshardCollection", "clearJumboFlag", "commitReshardCollection",
    "configureCollectionBalancing", "dataSize", "getShardVersion", "mergeChunks", "moveChunk",
    "moveCollection", "moveRange", "refineCollectionShardKey", "renameCollection",
    "reshardCollection", "shardCollection", "split", "splitChunk", "splitVector",
    "unshardCollection", "updateZoneKeyRange",
))  # fmt: skip
_OF_DATABASES: Final = frozenset(("enableSharding", "movePrimary"))

#: Commands that carry others, or code, or mean another server's collections.
_OPAQUE: Final = frozenset((
    "$eval", "applyOps", "clone", "cloneCollection", "copydb", "doTxn", "eval",
))  # fmt: skip

#: Commands that write no data, whatever else they say. ``aggregate``, ``mapReduce`` and
#: ``explain`` are looked into.
READING: Final = frozenset((
    "abortTransaction", "authenticate", "availableQueryOptions", "balancerCollectionStatus",
    "balancerStatus", "buildInfo", "collStats", "commitTransaction", "connPoolStats",
    "connectionStatus", "count", "currentOp", "dataSize", "dbHash", "dbStats", "distinct",
    "endSessions", "features", "filemd5", "find", "geoNear", "geoSearch", "getClusterParameter",
    "getCmdLineOpts", "getDefaultRWConcern", "getLastError", "getLog", "getMore", "getParameter",
    "getShardMap", "getShardVersion", "getnonce", "group", "hello", "hostInfo", "isMaster",
    "isdbgrid", "ismaster", "killAllSessions", "killAllSessionsByPattern", "killCursors",
    "killSessions", "listCollections", "listCommands", "listDatabases", "listIndexes",
    "listShards", "lockInfo", "logout", "parallelCollectionScan", "ping", "planCacheListFilters",
    "refreshSessions", "replSetGetConfig", "replSetGetStatus", "rolesInfo", "saslContinue",
    "saslStart", "serverStatus", "startSession", "top", "usersInfo", "whatsmyuri",
))  # fmt: skip

#: Those hang on what they carry.
LOOKED_INTO: Final = frozenset(("aggregate", "explain", "mapReduce"))

#: What the opcodes of old stand for.
_OPCODES: Final = {
    opcodes.OP_INSERT: "insert",
    opcodes.OP_UPDATE: "update",
    opcodes.OP_DELETE: "delete",
    OP_QUERY: "find",
    OP_GET_MORE: "getMore",
    OP_KILL_CURSORS: "killCursors",
}
#: And queries of the pseudo-collections that servers had before the commands.
_PSEUDO: Final = {
    "$cmd.sys.inprog": "currentOp",
    "$cmd.sys.killop": "killOp",
    "$cmd.sys.unlock": "fsyncUnlock",
}

_NUMBERS: Final = (DOUBLE, INT32_TYPE, INT64_TYPE)


class Subject(NamedTuple):
    """``command`` is its name, "" for what cannot be read. ``namespaces`` are those that it names
    as its own or as what it writes to, each ``database.collection``, or ``database.$cmd`` where it
    is about no collection; :data:`ANY` stands for what cannot be told. ``writes`` is false only
    for what is known to write no data."""

    command: str
    namespaces: tuple[str, ...]
    writes: bool


UNREADABLE: Final = Subject("", (ANY,), True)


def named(command: str) -> str:
    """The command's own name for any that servers take."""
    return _ALIASES.get(command, command)


def subject_of(request: Request) -> Subject:
    """What the request is about."""
    if not request.command:
        return UNREADABLE if request.problem else _of_opcode(request)
    command = named(request.command)
    if request.fields.duplicates:
        # Which of them counts hangs on the version.
        return Subject(command, (ANY,), True)
    try:
        return _of_command(
            command, request.database or "", request.message, request.fields, request
        )
    except WireError:
        return Subject(command, (ANY,), True)


def _of_command(
    command: str, database: str, message: bytes, fields: Fields, request: Request | None
) -> Subject:
    """:func:`subject_of`, of a command that may stand in another one.

    Raises:
        WireError: what stands in it cannot be read.
    """
    first = next(iter(fields.values()))
    if command == "explain":
        if first.type != DOCUMENT:
            return Subject(command, (ANY,), True)
        inner = walk(message, first.value, first.end)
        if not inner or inner.duplicates:
            return Subject(command, (ANY,), True)
        name = named(next(iter(inner)).decode("utf-8", "replace"))
        if name == command:
            return Subject(command, (ANY,), True)
        within = _of_command(name, database, message, inner, None)
        # A write that is explained is not carried out; what a pipeline does is left open here.
        piped = name in ("aggregate", "mapReduce") and within.writes
        return Subject(command, within.namespaces, piped)
    if not database or command in _OPAQUE:
        return Subject(command, (ANY,), command not in READING)
    names, writes = _namespaces(command, database, message, fields, first, request), False
    if command == "aggregate":
        # It may also stand beside the command, which drivers do not do.
        beside = request is not None and request.sequences
        pipeline = None if beside else fields.get(b"pipeline")
        targets = _pipeline_targets(database, message, pipeline)
        writes = bool(targets)
        names += targets
    elif command == "mapReduce":
        targets = _map_reduce_targets(database, message, fields.get(b"out"))
        writes = bool(targets)
        names += targets
    else:
        writes = command not in READING
    return Subject(command, names, writes)


def _namespaces(
    command: str,
    database: str,
    message: bytes,
    fields: Fields,
    first: Element,
    request: Request | None,
) -> tuple[str, ...]:
    if command == READS_ON:
        return (_in_database(database, message, fields.get(b"collection")),)
    if command == "bulkWrite":
        return _listed(message, fields.get(b"nsInfo"), request)
    if command in _OF_NAMESPACES:
        own = text(message, first)
        names = (_cut(own),)
        if command == "renameCollection":
            return (*names, _cut(text(message, fields.get(b"to"))))
        return names
    if command in _OF_DATABASES:
        own = text(message, first)
        return (_cut(own and f"{own}.$cmd"),)
    if command in OF_COLLECTIONS:
        return (_in_database(database, message, first),)
    return (f"{database}.$cmd",)


def _in_database(database: str, message: bytes, element: Element | None) -> str:
    """A collection by its name; a number stands for the whole database."""
    if element is None:
        return ANY
    if element.type in _NUMBERS:
        return f"{database}.$cmd"
    # Servers also take the id of a collection, which says nothing here.
    name = text(message, element)
    return _cut(f"{database}.{name}") if name else ANY


def _cut(namespace: str | None) -> str:
    # One that is cut is longer than any that there can be.
    return shortened(namespace, MOST_SHOWN) if namespace else ANY


def _listed(message: bytes, array: Element | None, request: Request | None) -> tuple[str, ...]:
    """What a bulkWrite names, in the command or beside it."""
    places: list[tuple[int, int]] = []
    if array is not None:
        if array.type != ARRAY:
            return (ANY,)
        for _, element in elements(message, array.value, array.end):
            if element.type != DOCUMENT or len(places) == _MOST:
                places.append((0, 0))
                break
            places.append((element.value, element.end))
    elif request is not None and request.opcode == OP_MSG:
        for start, end in sequence(message, request.flags, b"nsInfo"):
            while start < end:
                if len(places) == _MOST:
                    places.append((0, 0))
                    break
                stop = document_end(message, start, end)
                places.append((start, stop))
                start = stop
    found = [_ns(message, start, stop) if stop else ANY for start, stop in places]
    return tuple(dict.fromkeys(found)) or (ANY,)


def _ns(message: bytes, start: int, end: int) -> str:
    fields = walk(message, start, end)
    return ANY if fields.duplicates else _cut(text(message, fields.get(b"ns")))


def _pipeline_targets(database: str, message: bytes, pipeline: Element | None) -> tuple[str, ...]:
    """What ``$out`` and ``$merge`` write to."""
    if pipeline is None or pipeline.type != ARRAY:
        return (ANY,)
    found: list[str] = []
    for number, (_, stage) in enumerate(elements(message, pipeline.value, pipeline.end)):
        if stage.type != DOCUMENT or number == _MOST:
            return (*found, ANY)
        fields = walk(message, stage.value, stage.end)
        for name in (b"$out", b"$merge"):
            target = fields.get(name)
            if target is not None:
                found.append(_target(database, message, target, name == b"$merge"))
    return tuple(found)


def _target(database: str, message: bytes, target: Element, merge: bool) -> str:
    if target.type == STRING:
        return _in_database(database, message, target)
    if target.type != DOCUMENT:
        return ANY
    fields = walk(message, target.value, target.end)
    if fields.duplicates:
        return ANY
    into = fields.get(b"into")
    if merge and into is not None:
        return _target(database, message, into, False)
    other = fields.get(b"db")
    if other is not None:
        database = text(message, other) or ""
    if not database:
        return ANY
    return _in_database(database, message, fields.get(b"coll"))


def _map_reduce_targets(database: str, message: bytes, out: Element | None) -> tuple[str, ...]:
    if out is None:
        return (ANY,)
    if out.type != DOCUMENT:
        return (_in_database(database, message, out),)
    fields = walk(message, out.value, out.end)
    if fields.duplicates:
        return (ANY,)
    if len(fields) == 1 and b"inline" in fields:
        return ()
    other = fields.get(b"db")
    if other is not None:
        database = text(message, other) or ""
    names = [fields[name] for name in (b"replace", b"merge", b"reduce") if name in fields]
    if len(names) != 1 or not database:
        return (ANY,)
    return (_in_database(database, message, names[0]),)


def _of_opcode(request: Request) -> Subject:
    command = _OPCODES.get(request.opcode)
    if command is None or request.opcode == OP_KILL_CURSORS:
        return UNREADABLE if command is None else Subject(command, (ANY,), False)
    message, start = request.message, HEADER_SIZE + 4
    end = message.find(0, start)
    if end < 0:
        return Subject(command, (ANY,), True)
    stop = min(end, start + 4 * MOST_SHOWN)
    namespace = message[start:stop].decode("utf-8", "replace")
    if request.opcode == OP_QUERY:
        collection = namespace.partition(".")[2]
        if collection == "$cmd":
            return UNREADABLE
        pseudo = _PSEUDO.get(collection)
        if pseudo is not None:
            database = namespace.partition(".")[0]
            return Subject(pseudo, (f"{database}.$cmd",), pseudo not in READING)
    return Subject(command, (_cut(namespace),), command not in READING)

"""Valid requests of every kind, in every form that a request can take, and the recorded ones."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import bson
from bson import Binary, Decimal128, Int64

from proxy.wire.compression import deflate
from tests import build

ID = Binary(bytes(range(16)), 4)
UID = Binary(bytes(32), 0)
LSID = {"id": ID}
OWNED = {"id": ID, "uid": UID}
CHILD = {"id": ID, "uid": UID, "txnNumber": Int64(3), "txnUUID": Binary(bytes(16), 4)}
RETRY: dict[str, Any] = {"lsid": LSID, "txnNumber": Int64(1)}
STATEMENT: dict[str, Any] = {**RETRY, "autocommit": False}
BEGIN: dict[str, Any] = {**RETRY, "startTransaction": True, "autocommit": False}
_DOCUMENTS = [{"_id": 1}, {"_id": 2}]
_SPECULATION = {
    "saslStart": 1,
    "mechanism": "SCRAM-SHA-256",
    "payload": b"n,,n=u,r=x",
    "db": "admin",
}
_X509 = {"authenticate": 1, "mechanism": "MONGODB-X509", "db": "$external"}

#: (database, command): what clients ask.
COMMANDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("app", {"find": "c", "filter": {"a": 1}, "limit": 3}),
    ("app", {"find": "c", "filter": {}, "lsid": LSID}),
    ("app", {"find": "c", "lsid": LSID, "$readPreference": {"mode": "primary"}}),
    ("app", {"find": "c", "lsid": OWNED, **{k: v for k, v in BEGIN.items() if k != "lsid"}}),
    ("app", {"find": "c", **BEGIN, "readConcern": {"level": "snapshot"}}),
    ("app", {"find": "c", **STATEMENT}),
    ("app", {"find": "c", **BEGIN, "lsid": {**LSID, "txnUUID": None}}),
    ("app", {"find": "c", "lsid": CHILD, "txnNumber": Int64(0), "autocommit": False}),
    ("app", {"getMore": Int64(7), "collection": "c", "lsid": LSID}),
    ("app", {"killCursors": "c", "cursors": [Int64(7)], "lsid": LSID}),
    ("app", {"aggregate": "c", "pipeline": [{"$match": {}}], "cursor": {}, "lsid": LSID}),
    ("admin", {"aggregate": 1, "pipeline": [{"$listLocalSessions": {}}], "cursor": {}}),
    ("config", {"aggregate": "system.sessions", "pipeline": [{"$listSessions": {}}], "cursor": {}}),
    ("app", {"count": "c", "query": {}, "lsid": LSID}),
    ("app", {"distinct": "c", "key": "a", **STATEMENT}),
    ("app", {"insert": "c", "documents": _DOCUMENTS}),
    ("app", {"insert": "c", "documents": _DOCUMENTS, **RETRY}),
    ("app", {"insert": "c", "documents": _DOCUMENTS, **RETRY, "stmtIds": [0, 1]}),
    ("app", {"insert": "c", "documents": _DOCUMENTS, **RETRY, "stmtIds": {"0": 4, "1": 5}}),
    ("app", {"insert": "c", "documents": _DOCUMENTS, **RETRY, "stmtIds": [None, 1, None, 2]}),
    ("app", {"insert": "c", "documents": _DOCUMENTS, **RETRY, "stmtId": 5}),
    ("app", {"insert": "c", "documents": _DOCUMENTS, **BEGIN}),
    ("app", {"update": "c", "updates": [{"q": {}, "u": {"$set": {"a": 1}}}], **RETRY}),
    ("app", {"update": "c", "updates": [{"q": {}, "u": {}}], **RETRY, "stmtIds": [3]}),
    ("app", {"delete": "c", "deletes": [{"q": {}, "limit": 1}], **RETRY, "stmtId": 0}),
    ("app", {"findAndModify": "c", "query": {}, "update": {"a": 1}, **RETRY}),
    ("app", {"findAndModify": "c", "query": {}, "remove": True, **RETRY, "stmtId": 3}),
    (
        "admin",
        {
            "bulkWrite": 1,
            "ops": [{"insert": 0, "document": {}}],
            "nsInfo": [{"ns": "a.c"}],
            **RETRY,
        },
    ),
    (
        "admin",
        {
            **{"bulkWrite": 1, "ops": [{"insert": 0, "document": {}}], "nsInfo": [{"ns": "a.c"}]},
            **{**RETRY, "stmtIds": [2]},
        },
    ),
    ("admin", {"commitTransaction": 1, **STATEMENT, "recoveryToken": {"a": 1}}),
    ("admin", {"abortTransaction": 1, **STATEMENT}),
    ("app", {"create": "d", "lsid": LSID}),
    ("app", {"listCollections": 1, "cursor": {}, "lsid": LSID}),
    ("admin", {"startSession": 1}),
    ("admin", {"startSession": 1, "lsid": LSID}),
    ("admin", {"refreshSessions": [LSID]}),
    ("admin", {"refreshSessions": [LSID, OWNED], "lsid": LSID}),
    ("admin", {"endSessions": [LSID], "$clusterTime": {"clusterTime": bson.Timestamp(1, 1)}}),
    ("admin", {"killSessions": []}),
    ("admin", {"killSessions": [LSID], "help": True}),
    ("admin", {"killSessions": [OWNED], "lsid": LSID}),
    ("admin", {"killAllSessions": [], "help": 1}),
    ("admin", {"killAllSessions": [{"user": "u", "db": "app"}], "help": False}),
    ("admin", {"killAllSessionsByPattern": [{"lsid": OWNED}, {"uid": UID}]}),
    ("admin", {"killAllSessionsByPattern": [{"users": [], "roles": [{"role": "r", "db": "d"}]}]}),
    ("admin", {"hello": 1, "helloOk": True, "lsid": LSID}),
    ("admin", {"isMaster": 1, "compression": ["zstd", "zlib", "snappy", "nix"]}),
    ("admin", {"ismaster": 1, "client": {"driver": {"name": "d", "version": "1"}}}),
    ("admin", {"hello": 1, "topologyVersion": {"counter": Int64(1)}, "maxAwaitTimeMS": 10}),
    ("admin", {"hello": 1, "saslSupportedMechs": "a.u", "speculativeAuthenticate": _SPECULATION}),
    ("admin", {"hello": 1, "speculativeAuthenticate": _X509, "compression": ["zlib"]}),
    ("admin", {"isMaster": 1, "loadBalanced": True, "apiVersion": "1"}),
    ("admin", {"saslStart": 1, "mechanism": "SCRAM-SHA-1", "payload": b"n,,n=u,r=x"}),
    ("admin", {"saslContinue": 1, "conversationId": 1, "payload": b"c=biws"}),
    ("$external", {"authenticate": 1, "mechanism": "MONGODB-X509", "user": "CN=a"}),
    ("$external", {"authenticate": 1, "mechanism": "MONGODB-X509\0"}),
    ("$external", {"saslStart": 1, "mechanism": "PLAIN", "payload": b"\0u\0p"}),
    ("admin", {"logout": 1, "lsid": LSID}),
    ("admin", {"getnonce": 1}),
    ("admin", {"ping": 1, "lsid": LSID}),
    ("admin", {"buildInfo": 1}),
    ("admin", {"connectionStatus": 1, "showPrivileges": True}),
    ("admin", {"currentOp": 1, "help": Decimal128("0")}),
    ("admin", {"nothingOfThis": 1, "lsid": LSID, "comment": "x"}),
    ("app", {"ping": 1, "lsid": None, "txnNumber": None}),
    ("app", {"find": "c", "apiVersion": "1", "apiStrict": True, "maxTimeMS": 5, "lsid": LSID}),
)

_SEQUENCES = {"insert": "documents", "update": "updates", "delete": "deletes", "bulkWrite": "ops"}


def _forms(database: str, command: dict[str, Any]) -> Iterator[bytes]:
    there = {**command, "$db": database}
    name = next(iter(command))
    yield build.command(there)
    yield build.command(there, checksum=True)
    yield build.op_query(f"{database}.$cmd", command)
    yield build.op_query(f"{database}.$cmd", {"$query": command, "$readPreference": {"mode": "x"}})
    yield build.op_command(database, name, command)
    listed = _SEQUENCES.get(name)
    if listed:
        rest = {key: value for key, value in there.items() if key != listed}
        yield build.op_msg(build.sequence(listed, *command[listed]), build.body(rest))
        yield build.op_msg(build.body(rest), build.sequence(listed, *command[listed]), flags=2)
    rest = {key: value for key, value in command.items() if key not in ("lsid", "txnNumber")}
    options = {"$readPreference": {"mode": "primary"}}
    options |= {key: value for key, value in command.items() if key not in rest}
    yield build.op_query(f"{database}.$cmd", {**rest, "$queryOptions": options})


def _numbered_low(frame: bytes) -> bytes:
    """With a request id that cannot be taken for one of the proxy's own questions."""
    return frame if frame[7] < 0x40 else frame[:7] + b"\0" + frame[8:]


@cache
def seeds() -> tuple[bytes, ...]:
    """All of them, always in the same order, each once."""
    found: dict[bytes, None] = {}
    for number, (database, command) in enumerate(COMMANDS):
        for frame in _forms(database, command):
            found[frame] = None
        found[deflate(build.command({**command, "$db": database}), number % 4)] = None
    for frame in (
        build.op_insert("app.c", {"a": 1}),
        build.op_update("app.c", {}, {"a": 1}),
        build.op_delete("app.c", {}),
        build.op_get_more("app.c", 7),
        build.op_kill_cursors(7, 8),
        build.op_query("app.c", {"a": 1}),
        build.op_query("app.c", {"$query": {"a": 1}}, flags=1 << 6, count=0),
        deflate(build.op_insert("app.c", {"a": 1}), 2),
        build.command({"ping": 1, "$db": "admin"}, flags=1 << 16),
        build.command({"refreshSessions": [], "help": 1, "lsid": LSID, "$db": "app\0"}),
        build.op_command("admin", "killSessions", {"killSessions": [], "$a": 1}, {"$a": 1}),
        build.op_command("admin", "ping", {"ping": 1, "lsid": LSID}, {"$a": 1, "$ssm": 1}),
    ):
        found[frame] = None
    for _, frame in build.recorded("request"):
        if len(frame) < 4096:
            found[_numbered_low(frame)] = None
    return tuple(found)

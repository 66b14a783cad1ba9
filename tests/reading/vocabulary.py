"""Names, values and elements that mean something to servers or to the proxy."""

from __future__ import annotations

from typing import Any

import bson
from bson import Binary, Decimal128, Int64

from tests.reading.documents import Element


def _element(name: str, value: Any) -> Element:
    data = bson.encode({name: value})[4:-1]
    return Element(data[0], name.encode(), data[len(name.encode()) + 2 :])


_ID = Binary(bytes(range(16)), 4)
_LSID = {"id": _ID}

#: Names that mean something to somebody.
NAMES = (
    *(
        name.encode()
        for name in (
            *("lsid", "txnNumber", "autocommit", "startTransaction", "stmtId", "stmtIds", "help"),
            *("$db", "$query", "query", "$queryOptions", "$readPreference", "$maxTimeMS", "id"),
            *("uid", "txnUUID", "mechanism", "payload", "speculativeAuthenticate", "client"),
            *("compression", "documents", "updates", "deletes", "ops", "nsInfo", "maxTimeMS"),
            *("saslStart", "saslContinue", "authenticate", "logout", "conversationId"),
            *("hello", "isMaster", "ismaster", "find", "insert", "update", "delete", "bulkWrite"),
            *("findAndModify", "findandmodify", "getMore", "killCursors", "ping", "user", "db"),
            *("killSessions", "killAllSessions", "killAllSessionsByPattern", "startSession"),
            *("refreshSessions", "endSessions", "commitTransaction", "abortTransaction"),
            *("comment", "$clusterTime", "writeConcern", "readConcern", "LSID", "lsId", "Hello"),
            *("killsessions", "apiVersion", "configsvr", "$ssm", "0", "1"),
        )
    ),
    *(b"", b"lsid.id", b"\xff", b"a.b"),
)

#: Values of every type, right and wrong, called "v".
VALUES = (
    *(
        _element("v", value)
        for value in (
            *(0, 1, -1, 2, 2**31 - 1, Int64(0), Int64(1), Int64(-1), Int64(2**62), 0.0, -0.0, 1.0),
            *(float("nan"), True, False, None, "", "x", "c", "admin", "app", "MONGODB-X509"),
            *("MONGODB-X509\0", "SCRAM-SHA-1", "a\0b", "$external", "snappy", b"", b"x"),
            *(
                _ID,
                Binary(bytes(16), 3),
                Binary(bytes(16), 0),
                Binary(bytes(15), 4),
                Binary(b"", 4),
            ),
            *(Binary(bytes(32), 0), Binary(bytes(31), 0), Binary(bytes(32), 5), {}, [], _LSID),
            *({"id": _ID, "uid": Binary(bytes(32), 0)}, {"id": None}, {"id": 1}, {"ID": _ID}),
            *(
                {"id": _ID, "uid": None},
                {"id": _ID, "x": 1},
                {"uid": Binary(bytes(32), 0)},
                [_LSID],
            ),
            *(
                [1],
                [1, 2],
                [2, 1],
                [1, 1],
                [-1, 0],
                [None],
                [None, 1],
                [Int64(1)],
                {"0": 1},
                {"a": 1},
            ),
            *(
                {"0": 3, "1": 3},
                {"0": {"id": _ID}},
                [{"user": "u", "db": "d"}],
                [{}],
                ["zlib", "x"],
            ),
            *({"saslStart": 1, "mechanism": "PLAIN"}, {"mode": "primary"}, {"lsid": _LSID}),
            *({"authenticate": 1, "mechanism": "MONGODB-X509"}, {"help": True, "killSessions": []}),
            *(
                Decimal128("0"),
                Decimal128("1"),
                Decimal128("NaN"),
                Decimal128("-0E+3"),
                _LSID,
                _LSID,
            ),
            *(bson.Timestamp(1, 1), bson.ObjectId(bytes(12)), bson.Regex("a"), bson.Code("f")),
            *(bson.Code("f", {"a": 1}), bson.MinKey(), bson.MaxKey(), bson.DBRef("c", 1)),
        )
    ),
    Element(6, b"v", b""),  # undefined
    Element(14, b"v", b"\2\0\0\0x\0"),  # symbol
    Element(8, b"v", b"\2"),  # a boolean that is none
)

#: Elements that change what a request is.
PIECES = tuple(
    _element(name, value)
    for name, value in (
        *(("lsid", _LSID), ("lsid", {"id": _ID, "uid": Binary(bytes(32), 0)}), ("lsid", None)),
        *(
            ("txnNumber", Int64(1)),
            ("txnNumber", 1),
            ("txnNumber", Int64(2)),
            ("autocommit", False),
        ),
        *(("startTransaction", True), ("stmtIds", [1, 1]), ("stmtIds", [0, 1]), ("stmtId", -1)),
        *(("help", True), ("help", 1), ("$db", "other"), ("killAllSessions", []), ("x", 1)),
        *(
            ("speculativeAuthenticate", {"saslStart": 1, "mechanism": "X"}),
            ("compression", ["zlib"]),
        ),
        *(("mechanism", "MONGODB-X509"), ("$readPreference", {"mode": "nearest"})),
        *(("$queryOptions", {"lsid": _LSID}), ("$queryOptions", {}), ("$query", {"ping": 1})),
        *(("documents", [{"_id": 1}]), ("comment", "x" * 40)),
    )
)

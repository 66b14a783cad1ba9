"""What requests are about, in every form that they can take."""

from __future__ import annotations

from typing import Any

import pytest
from bson import SON, Binary, Int64
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import WireError
from proxy.wire.compression import deflate
from proxy.wire.messages import read_request
from proxy.wire.subjects import ANY, UNREADABLE, Subject, subject_of
from tests import build
from tests.build import (
    body,
    command,
    element,
    frame,
    op_command,
    op_msg,
    op_query,
    raw_document,
    sequence,
)


def about(document: dict[str, Any], database: str = "db") -> Subject:
    return subject_of(read_request(command({**document, "$db": database})))


@pytest.mark.parametrize(
    ("document", "name", "namespaces", "writes"),
    [
        ({"find": "c"}, "find", ("db.c",), False),
        ({"find": "a.b"}, "find", ("db.a.b",), False),
        ({"find": Binary(bytes(16), 4)}, "find", (ANY,), False),
        ({"find": ""}, "find", (ANY,), False),
        ({"insert": "c"}, "insert", ("db.c",), True),
        ({"drop": "c"}, "drop", ("db.c",), True),
        ({"dropDatabase": 1}, "dropDatabase", ("db.$cmd",), True),
        ({"deleteIndexes": "c"}, "dropIndexes", ("db.c",), True),
        ({"findandmodify": "c"}, "findAndModify", ("db.c",), True),
        ({"getMore": Int64(7), "collection": "c"}, "getMore", ("db.c",), False),
        ({"getMore": Int64(7)}, "getMore", (ANY,), False),
        ({"killCursors": "c", "cursors": []}, "killCursors", ("db.c",), False),
        ({"ping": 1}, "ping", ("db.$cmd",), False),
        ({"createUser": "c"}, "createUser", ("db.$cmd",), True),
        ({"renameCollection": "a.b", "to": "c.d"}, "renameCollection", ("a.b", "c.d"), True),
        ({"renameCollection": "a.b"}, "renameCollection", ("a.b", ANY), True),
        ({"shardCollection": "a.b"}, "shardCollection", ("a.b",), True),
        ({"movePrimary": "a"}, "movePrimary", ("a.$cmd",), True),
        ({"movePrimary": 1}, "movePrimary", (ANY,), True),
        ({"applyOps": [{"op": "c"}]}, "applyOps", (ANY,), True),
        ({"makeCoffee": "c"}, "makeCoffee", ("db.$cmd",), True),
        (
            {"bulkWrite": 1, "nsInfo": [{"ns": "a.b"}, {"ns": "c.d"}]},
            "bulkWrite",
            ("a.b", "c.d"),
            True,
        ),
        ({"bulkWrite": 1, "nsInfo": [{"ns": "a.b"}, 3]}, "bulkWrite", ("a.b", ANY), True),
        ({"bulkWrite": 1, "nsInfo": [{"ns": 3}]}, "bulkWrite", (ANY,), True),
        ({"bulkWrite": 1, "nsInfo": "a"}, "bulkWrite", (ANY,), True),
        ({"bulkWrite": 1}, "bulkWrite", (ANY,), True),
        ({"aggregate": "c", "pipeline": []}, "aggregate", ("db.c",), False),
        ({"aggregate": 1, "pipeline": [{"$currentOp": {}}]}, "aggregate", ("db.$cmd",), False),
        ({"aggregate": "c"}, "aggregate", ("db.c", ANY), True),
        ({"aggregate": "c", "pipeline": {}}, "aggregate", ("db.c", ANY), True),
        ({"aggregate": "c", "pipeline": [1]}, "aggregate", ("db.c", ANY), True),
        ({"aggregate": "c", "pipeline": [{"$out": "o"}]}, "aggregate", ("db.c", "db.o"), True),
        (
            {"aggregate": "c", "pipeline": [{"$out": {"db": "x", "coll": "o"}}]},
            "aggregate",
            ("db.c", "x.o"),
            True,
        ),
        ({"aggregate": "c", "pipeline": [{"$out": 3}]}, "aggregate", ("db.c", ANY), True),
        ({"aggregate": "c", "pipeline": [{"$merge": "o"}]}, "aggregate", ("db.c", "db.o"), True),
        (
            {"aggregate": "c", "pipeline": [{}, {"$merge": {"into": "o"}}]},
            "aggregate",
            ("db.c", "db.o"),
            True,
        ),
        (
            {"aggregate": "c", "pipeline": [{"$merge": {"into": {"db": "x", "coll": "o"}}}]},
            "aggregate",
            ("db.c", "x.o"),
            True,
        ),
        (
            {"aggregate": "c", "pipeline": [{"$merge": {"into": {"db": 3, "coll": "o"}}}]},
            "aggregate",
            ("db.c", ANY),
            True,
        ),
        ({"aggregate": "c", "pipeline": [{"$match": {}}] * 1001}, "aggregate", ("db.c", ANY), True),
        ({"mapReduce": "c", "out": {"inline": 1}}, "mapReduce", ("db.c",), False),
        ({"mapreduce": "c", "out": "o"}, "mapReduce", ("db.c", "db.o"), True),
        (
            {"mapReduce": "c", "out": {"replace": "o", "db": "x"}},
            "mapReduce",
            ("db.c", "x.o"),
            True,
        ),
        (
            {"mapReduce": "c", "out": {"inline": 1, "merge": "o"}},
            "mapReduce",
            ("db.c", "db.o"),
            True,
        ),
        ({"mapReduce": "c", "out": {}}, "mapReduce", ("db.c", ANY), True),
        ({"mapReduce": "c"}, "mapReduce", ("db.c", ANY), True),
        ({"explain": {"find": "c"}}, "explain", ("db.c",), False),
        ({"explain": {"delete": "c"}}, "explain", ("db.c",), False),
        (
            {"explain": {"aggregate": "c", "pipeline": [{"$out": "o"}]}},
            "explain",
            ("db.c", "db.o"),
            True,
        ),
        ({"explain": {"explain": {"find": "c"}}}, "explain", (ANY,), True),
        ({"explain": {}}, "explain", (ANY,), True),
        ({"explain": 1}, "explain", (ANY,), True),
    ],
)
def test_commands(
    document: dict[str, Any], name: str, namespaces: tuple[str, ...], writes: bool
) -> None:
    assert about(document) == Subject(name, namespaces, writes)


DROP = {"drop": "c", "$db": "db"}


@pytest.mark.parametrize(
    "sent",
    [
        command(DROP),
        command(DROP, checksum=True),
        command({"drop": "c", "lsid": {"id": Binary(bytes(16), 4)}, "$db": "db"}),
        deflate(command(DROP), 2),
        op_query("db.$cmd", {"drop": "c"}),
        op_query("db.$cmd", {"$query": {"drop": "c"}, "$readPreference": {}}),
        op_query("db.$cmd", {"query": {"drop": "c"}}),
        op_command("db", "drop", {"drop": "c"}),
    ],
)
def test_every_form_comes_out_as_the_same(sent: bytes) -> None:
    assert subject_of(read_request(sent)) == Subject("drop", ("db.c",), True)


@pytest.mark.parametrize(
    ("sent", "subject"),
    [
        (build.op_insert("db.c", {}), Subject("insert", ("db.c",), True)),
        (build.op_update("db.c", {}, {}), Subject("update", ("db.c",), True)),
        (build.op_delete("db.c", {}), Subject("delete", ("db.c",), True)),
        (build.op_get_more("db.c", 7), Subject("getMore", ("db.c",), False)),
        (build.op_kill_cursors(7), Subject("killCursors", (ANY,), False)),
        (op_query("db.c", {"drop": "c"}), Subject("find", ("db.c",), False)),
        (op_query("admin.$cmd.sys.inprog", {}), Subject("currentOp", ("admin.$cmd",), False)),
        (op_query("admin.$cmd.sys.killop", {}), Subject("killOp", ("admin.$cmd",), True)),
        (op_query("db.$cmd", {}), UNREADABLE),
        (frame(2002, b"\0\0\0\0nul"), Subject("insert", (ANY,), True)),
        (frame(2013, b"\0\0\0\0\0garbage"), UNREADABLE),
        (build.op_delete("x" * 9000, {}), Subject("delete", ("x" * 499 + "…",), True)),
    ],
)
def test_opcodes_of_old_and_what_cannot_be_read(sent: bytes, subject: Subject) -> None:
    assert subject_of(read_request(sent)) == subject


def test_what_stands_beside_the_command() -> None:
    infos = [{"ns": "a.b"}, {"ns": "c.d"}]
    sent = op_msg(body({"bulkWrite": 1, "$db": "admin"}), sequence("nsInfo", *infos))
    assert subject_of(read_request(sent)).namespaces == ("a.b", "c.d")
    sent = op_msg(body({"bulkWrite": 1, "$db": "admin"}), sequence("nsInfo", *[infos[0]] * 1001))
    assert subject_of(read_request(sent)).namespaces == ("a.b", ANY)
    document = {"aggregate": "c", "pipeline": [], "$db": "db"}
    sent = op_msg(body(document), sequence("pipeline", {"$out": "o"}))
    assert subject_of(read_request(sent)) == Subject("aggregate", ("db.c", ANY), True)


def test_fields_that_come_twice_and_databases_that_are_not_said() -> None:
    twice = raw_document(*(element("find", name) for name in "ab"), element("$db", "db"))
    assert subject_of(read_request(op_msg(b"\0" + twice))) == Subject("find", (ANY,), True)
    assert subject_of(read_request(command({"find": "c"}))) == Subject("find", (ANY,), False)
    into = SON([("into", "a")])
    twice = raw_document(*(element("into", name) for name in "ab"))
    assert about({"aggregate": "c", "pipeline": [{"$merge": into}]}).namespaces == ("db.c", "db.a")
    pipeline = raw_document(element("$merge", {}).replace(b"\5\0\0\0\0", twice))
    stages = element("pipeline", [{}]).replace(b"\5\0\0\0\0", pipeline)
    length = len(pipeline) + 8
    stages = stages[:10] + length.to_bytes(4, "little") + stages[14:]
    sent = raw_document(element("aggregate", "c"), stages, element("$db", "db"))
    assert subject_of(read_request(op_msg(b"\0" + sent))).namespaces == ("db.c", ANY)


@given(st.binary(max_size=60), st.sampled_from(["pipeline", "nsInfo", "out", "explain"]))
def test_no_value_makes_it_raise(junk: bytes, name: str) -> None:
    document = {"aggregate": "c", "bulkWrite": 1, "mapReduce": 1, "$db": "db"}
    for first in ("aggregate", "bulkWrite", "mapReduce", "explain"):
        value = element(name, {"": Binary(junk)})
        sent = raw_document(element(first, "c"), value, element("$db", "db"))
        spoiled = sent[:-20] + junk[:8] + sent[-20 + len(junk[:8]) :]
        try:
            request = read_request(op_msg(b"\0" + spoiled))
        except WireError:
            continue
        assert isinstance(subject_of(request), Subject)
    assert about(document).writes

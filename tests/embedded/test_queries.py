from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from proxy.wire.messages import read_reply
from proxy.wire.opcodes import EXHAUST_ALLOWED
from tests.build import body, op_msg
from tests.embedded.support import NOW, USERS, Client, answer, node

LSIDS = [{"id": Binary(bytes(15) + bytes([n]), 4)} for n in range(2)]


@pytest.fixture
def client() -> Client:
    made = Client(node())
    made.run("insert", "c", db="app", documents=[{"_id": n, "m": n % 3} for n in range(10)])
    return made


def opened(client: Client, **fields: Any) -> Int64:
    return client.run("find", "c", db="app", **{"batchSize": 2, **fields})["cursor"]["id"]


def more(client: Client, cursor_id: int, **fields: Any) -> dict[str, Any]:
    return client.run("getMore", Int64(cursor_id), db="app", collection="c", **fields)


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({}, list(range(10))),
        ({"filter": {"m": 1}}, [1, 4, 7]),
        ({"filter": {"m": 1}, "limit": 2}, [1, 4]),
        ({"sort": {"_id": -1}, "limit": 3}, [9, 8, 7]),
        ({"sort": {"m": 1, "_id": -1}, "limit": 2}, [9, 6]),
        ({"skip": 8}, [8, 9]),
        ({"limit": 0}, list(range(10))),
        ({"filter": None, "sort": None, "projection": None}, list(range(10))),
        ({"limit": 3.0, "batchSize": 5.0}, [0, 1, 2]),
    ],
)
def test_find(client: Client, fields: dict[str, Any], ids: list[int]) -> None:
    reply = client.run("find", "c", db="app", **fields)["cursor"]
    assert [found["_id"] for found in reply["firstBatch"]] == ids
    assert (reply["id"], reply["ns"]) == (0, "app.c")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"limit": -1}, 2),
        ({"skip": -1}, 2),
        ({"limit": "x"}, 14),
        ({"filter": 1}, 14),
        ({"batchSize": -1}, 2),
        ({"batchSize": "x"}, 9),
        ({"filter": {"$nix": 1}}, 2),
        ({"tailable": True}, 2),
    ],
)
def test_find_is_refused(client: Client, fields: dict[str, Any], code: int) -> None:
    assert client.run("find", "c", db="app", **fields)["code"] == code


def test_batches(client: Client) -> None:
    cursor_id = opened(client)
    assert isinstance(cursor_id, Int64)
    first = more(client, cursor_id, batchSize=3)["cursor"]
    assert [found["_id"] for found in first["nextBatch"]] == [2, 3, 4]
    assert first["id"] == cursor_id
    rest = more(client, cursor_id)["cursor"]
    assert [found["_id"] for found in rest["nextBatch"]] == [5, 6, 7, 8, 9]
    assert rest["id"] == 0
    assert more(client, cursor_id)["code"] == 43


def test_an_empty_first_batch_opens_a_cursor(client: Client) -> None:
    reply = client.run("find", "c", db="app", batchSize=0)["cursor"]
    assert (reply["firstBatch"], reply["id"] > 0) == ([], True)
    assert len(more(client, reply["id"])["cursor"]["nextBatch"]) == 10


@pytest.mark.parametrize(("fields", "count"), [({"batchSize": 3}, 3), ({}, 10)])
def test_a_single_batch_opens_none(client: Client, fields: dict[str, Any], count: int) -> None:
    reply = client.run("find", "c", db="app", singleBatch=True, **fields)["cursor"]
    assert (len(reply["firstBatch"]), reply["id"]) == (count, 0)


def test_big_documents_fill_a_batch(client: Client) -> None:
    for n in range(4):
        client.run("insert", "big", db="app", documents=[{"_id": n, "s": "x" * 6_000_000}])
    reply = client.run("find", "big", db="app")["cursor"]
    assert len(reply["firstBatch"]) == 2
    rest = client.run("getMore", reply["id"], db="app", collection="big")["cursor"]
    assert (len(rest["nextBatch"]), rest["id"]) == (2, 0)


@pytest.mark.parametrize(
    ("created", "asked", "code"),
    [
        ({}, {}, 0),
        ({"lsid": LSIDS[0]}, {"lsid": LSIDS[0]}, 0),
        ({}, {"lsid": LSIDS[0]}, 50736),
        ({"lsid": LSIDS[0]}, {}, 50737),
        ({"lsid": LSIDS[0]}, {"lsid": LSIDS[1]}, 50738),
        (
            {"lsid": LSIDS[0]},
            {
                "lsid": LSIDS[0],
                "txnNumber": Int64(1),
                "autocommit": False,
                "startTransaction": True,
            },
            50739,
        ),
    ],
)
def test_a_cursor_belongs_to_its_session(
    client: Client, created: dict[str, Any], asked: dict[str, Any], code: int
) -> None:
    cursor_id = opened(client, **created)
    assert more(client, cursor_id, **asked).get("code", 0) == code


@pytest.mark.parametrize(
    ("value", "fields", "code"),
    [
        (1, {"collection": "c"}, 14),
        (Int64(1), {}, 2),
        (Int64(1), {"collection": 1}, 2),
        (Int64(1), {"collection": "c"}, 43),
        (Int64(1), {"collection": "c", "batchSize": -1}, 2),
    ],
)
def test_get_more_is_refused(client: Client, value: Any, fields: dict[str, Any], code: int) -> None:
    assert client.run("getMore", value, db="app", **fields)["code"] == code


def test_get_more_names_the_collection(client: Client) -> None:
    cursor_id = opened(client)
    reply = client.run("getMore", cursor_id, db="app", collection="other")
    assert reply["code"] == 13


def test_exhaust_streams_chain_by_request_id(client: Client) -> None:
    cursor_id = opened(client)
    request = {"getMore": cursor_id, "collection": "c", "batchSize": 3, "$db": "app"}
    message = op_msg(body(request), flags=EXHAUST_ALLOWED, request_id=77)
    step, expected, seen = client.connection.receive(message, NOW), 77, []
    while True:
        reply = read_reply(step.frames[0])
        assert reply.response_to == expected
        expected = reply.request_id
        seen += [found["_id"] for found in answer(step)["cursor"]["nextBatch"]]
        assert reply.more_to_come is step.more
        if not step.more:
            break
        step = client.connection.proceed(NOW)
    assert seen == list(range(2, 10))
    assert client.run("ping")["ok"] == 1.0


def test_a_client_that_goes_ends_its_stream(client: Client) -> None:
    cursor_id = opened(client)
    request = {"getMore": cursor_id, "collection": "c", "batchSize": 1, "$db": "app"}
    step = client.connection.receive(op_msg(body(request), flags=EXHAUST_ALLOWED), NOW)
    assert step.more
    client.connection.close()
    assert more(Client(client.connection.node), cursor_id)["code"] == 43


def test_tailable_cursors(client: Client) -> None:
    client.run("create", "log", db="app", capped=True, size=1000)
    client.run("insert", "log", db="app", documents=[{"_id": 1}])
    cursor = client.run("find", "log", db="app", tailable=True, awaitData=True)["cursor"]
    assert cursor["firstBatch"] == [{"_id": 1}]
    ask = {"getMore": cursor["id"], "collection": "log", "maxTimeMS": 5000, "$db": "app"}
    assert client.step(ask).wait_until == NOW + 5
    writer = Client(client.connection.node)
    writer.run("insert", "log", db="app", documents=[{"_id": 2}])
    reply = answer(client.connection.resume(NOW + 1))["cursor"]
    assert (reply["nextBatch"], reply["id"]) == ([{"_id": 2}], cursor["id"])
    client.step(ask)
    assert answer(client.connection.resume(NOW + 5))["cursor"]["nextBatch"] == []
    client.step(ask)
    writer.run("killCursors", "log", db="app", cursors=[cursor["id"]])
    assert answer(client.connection.resume(NOW + 1))["code"] == 237


def test_kill_cursors(client: Client) -> None:
    cursor_id = opened(client)
    reply = client.run("killCursors", "c", db="app", cursors=[cursor_id, Int64(1)])
    assert (reply["cursorsKilled"], reply["cursorsNotFound"]) == ([cursor_id], [1])
    assert more(client, cursor_id)["code"] == 43
    assert client.run("killCursors", "c", db="app", cursors=[])["code"] == 2
    assert client.run("killCursors", "c", db="app", cursors=[1])["code"] == 9


def test_others_cursors_are_out_of_reach() -> None:
    server = node(authorization=True, users=USERS)
    alice, bob = Client(server), Client(server)
    alice.log_in("alice", "app")
    bob.log_in("bob", "app")
    alice.run("insert", "c", db="app", documents=[{"_id": n} for n in range(5)])
    cursor_id = opened(alice)
    assert more(bob, cursor_id)["code"] == 13
    assert bob.run("killCursors", "c", db="app", cursors=[cursor_id])["code"] == 13
    assert more(alice, cursor_id)["ok"] == 1.0


def test_idle_cursors_close(client: Client) -> None:
    idle, kept = opened(client), opened(client, lsid=LSIDS[0])
    client.now = NOW + 601
    assert more(client, idle)["code"] == 43
    assert more(client, kept, lsid=LSIDS[0])["ok"] == 1.0


@pytest.mark.parametrize(
    ("fields", "n"),
    [
        ({}, 10),
        ({"query": {"m": 0}}, 4),
        ({"query": {"m": 0}, "limit": 2}, 2),
        ({"query": {"m": 0}, "limit": -2}, 2),
        ({"query": {"m": 0}, "skip": 3}, 1),
    ],
)
def test_count(client: Client, fields: dict[str, Any], n: int) -> None:
    assert client.run("count", "c", db="app", **fields)["n"] == n


def test_distinct(client: Client) -> None:
    assert sorted(client.run("distinct", "c", db="app", key="m")["values"]) == [0, 1, 2]
    query = {"_id": {"$lt": 2}}
    assert client.run("distinct", "c", db="app", key="m", query=query)["values"] == [0, 1]
    assert client.run("distinct", "c", db="app", key=1)["code"] == 14


def test_aggregate(client: Client) -> None:
    pipeline = [{"$group": {"_id": "$m", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
    reply = client.run("aggregate", "c", db="app", pipeline=pipeline, cursor={"batchSize": 2})
    assert reply["cursor"]["firstBatch"] == [{"_id": 0, "n": 4}, {"_id": 1, "n": 3}]
    assert more(client, reply["cursor"]["id"])["cursor"]["nextBatch"] == [{"_id": 2, "n": 3}]


def test_out_needs_leave_to_write() -> None:
    server = node(authorization=True, users=USERS)
    root, reader = Client(server), Client(server)
    root.log_in("root", "admin")
    root.run("createUser", "reader", db="app", pwd="pw", roles=["read"])
    root.run("insert", "c", db="app", documents=[{"_id": 1}])
    reader.log_in("reader", "app")
    fields = {"db": "app", "pipeline": [{"$out": "copy"}], "cursor": {}}
    assert reader.run("aggregate", "c", **fields)["code"] == 13
    assert root.run("aggregate", "c", **fields)["cursor"]["firstBatch"] == []
    assert root.run("count", "copy", db="app")["n"] == 1


@pytest.mark.parametrize(
    ("collection", "fields", "code"),
    [
        ("c", {"pipeline": []}, 9),
        ("c", {"pipeline": 1, "cursor": {}}, 14),
        ("c", {"pipeline": [1], "cursor": {}}, 14),
        ("c", {"pipeline": [{}], "cursor": {}}, 40323),
        ("c", {"pipeline": [{"$changeStream": {}}], "cursor": {}}, 115),
        ("c", {"pipeline": [{"$nix": {}}], "cursor": {}}, 40324),
        ("c", {"pipeline": [{"$geoNear": {}}], "cursor": {}}, 238),
        (1, {"pipeline": [{"$match": {}}], "cursor": {}}, 73),
        ("c", {"pipeline": [{"$listLocalSessions": {}}], "cursor": {}}, 73),
        (1, {"pipeline": [{"$listSessions": {}}], "cursor": {}}, 73),
    ],
)
def test_aggregate_is_refused(
    client: Client, collection: Any, fields: dict[str, Any], code: int
) -> None:
    assert client.run("aggregate", collection, db="app", **fields)["code"] == code


def test_stages_behind_a_listing(client: Client) -> None:
    for lsid in LSIDS:
        client.run("ping", lsid=lsid)
    pipeline = [{"$listLocalSessions": {}}, {"$match": {"_id.id": LSIDS[1]["id"]}}]
    reply = client.run("aggregate", 1, pipeline=pipeline, cursor={})
    assert [found["_id"]["id"] for found in reply["cursor"]["firstBatch"]] == [LSIDS[1]["id"]]


def test_explain(client: Client) -> None:
    reply = client.run("explain", {"find": "c"}, db="app")
    assert reply["queryPlanner"]["namespace"] == "app.c"
    assert client.run("explain", 1, db="app")["code"] == 14

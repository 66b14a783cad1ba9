from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from proxy.wire.opcodes import EXHAUST_ALLOWED, HEADER
from proxy.wire.replies import read_reply
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
        (Int64(1), {"collection": "c", "batchSize": "x"}, 14),
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
        _, expected, _, _ = HEADER.unpack_from(reply.frame)
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


def test_a_client_that_goes_while_it_waits_aborts_its_transaction(client: Client) -> None:
    client.run("create", "log", db="app", capped=True, size=1000)
    inside = {"lsid": LSIDS[0], "txnNumber": Int64(1), "autocommit": False}
    find = {"db": "app", "tailable": True, "awaitData": True, "startTransaction": True}
    cursor = client.run("find", "log", **find, **inside)["cursor"]
    ask = {"getMore": cursor["id"], "collection": "log", **inside, "$db": "app"}
    assert client.step(ask).wait_until == NOW + 1
    client.connection.close()
    other = Client(client.connection.node)
    assert other.run("commitTransaction", **inside)["code"] == 251

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from tests.embedded.support import USERS, Client, node

LSIDS = [{"id": Binary(bytes(15) + bytes([n]), 4)} for n in range(2)]


@pytest.fixture
def client() -> Client:
    made = Client(node())
    made.run("insert", "c", db="app", documents=[{"_id": n, "m": n % 3} for n in range(10)])
    return made


def more(client: Client, cursor_id: int, **fields: Any) -> dict[str, Any]:
    return client.run("getMore", Int64(cursor_id), db="app", collection="c", **fields)


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


def test_a_join_needs_leave_to_read() -> None:
    server = node(authorization=True, users=USERS)
    killer, root = Client(server), Client(server)
    root.log_in("root", "admin")
    privileges = [{"resource": {"db": "app", "collection": "c"}, "actions": ["find"]}]
    root.run("createRole", "narrow", privileges=privileges, roles=[])
    root.run("grantRolesToUser", "killer", roles=["narrow"])
    root.run("insert", "c", db="app", documents=[{"_id": 1}])
    killer.log_in("killer", "admin")
    assert killer.run("aggregate", "c", db="app", pipeline=[], cursor={})["ok"] == 1.0
    join = {"from": "d", "localField": "_id", "foreignField": "_id", "as": "joined"}
    fields = {"db": "app", "pipeline": [{"$lookup": join}], "cursor": {}}
    assert killer.run("aggregate", "c", **fields)["code"] == 13
    (found,) = root.run("aggregate", "c", **fields)["cursor"]["firstBatch"]
    assert found == {"_id": 1, "joined": []}


def test_a_transaction_aggregates_what_it_sees(client: Client) -> None:
    fields = {
        "lsid": LSIDS[0],
        "txnNumber": Int64(1),
        "autocommit": False,
        "startTransaction": True,
    }
    documents = [{"_id": 99, "m": 7}]
    client.run("insert", "c", db="app", documents=documents, **fields)
    inside = {name: value for name, value in fields.items() if name != "startTransaction"}
    count = {"db": "app", "pipeline": [{"$match": {"m": 7}}], "cursor": {}}
    assert client.run("aggregate", "c", **count)["cursor"]["firstBatch"] == []
    found = client.run("aggregate", "c", **count, **inside)["cursor"]["firstBatch"]
    assert found == documents


def test_operations_are_for_monitors() -> None:
    alice = Client(node(authorization=True, users=USERS))
    alice.log_in("alice", "app")
    fields = {"pipeline": [{"$currentOp": {"allUsers": True}}], "cursor": {}}
    assert alice.run("aggregate", 1, **fields)["code"] == 13
    fields["pipeline"] = [{"$currentOp": {}}]
    assert len(alice.run("aggregate", 1, **fields)["cursor"]["firstBatch"]) == 1

from __future__ import annotations

from typing import Any

import pytest

from tests.embedded.support import USERS, Client, node


@pytest.fixture
def client() -> Client:
    made = Client(node())
    made.run("insert", "c", db="app", documents=[{"_id": n} for n in range(3)])
    return made


def names(client: Client, db: str = "app", **fields: Any) -> list[str]:
    reply = client.run("listCollections", db=db, **fields)
    return [entry["name"] for entry in reply["cursor"]["firstBatch"]]


def test_create_and_drop(client: Client) -> None:
    assert client.run("create", "made", db="app", capped=True, size=100)["ok"] == 1.0
    assert client.run("create", "made", db="app")["code"] == 48
    listed = client.run("listCollections", db="app", filter={"name": "made"})
    (entry,) = listed["cursor"]["firstBatch"]
    assert entry["options"] == {"capped": True, "size": 100}
    assert names(client) == ["c", "made"]
    dropped = client.run("drop", "made", db="app")
    assert (dropped["ns"], dropped["nIndexesWas"]) == ("app.made", 1)
    assert client.run("drop", "made", db="app")["code"] == 26
    assert names(client) == ["c"]


def test_names_only(client: Client) -> None:
    reply = client.run("listCollections", db="app", nameOnly=True)
    assert reply["cursor"]["firstBatch"] == [{"name": "c", "type": "collection"}]


def test_a_uuid_is_a_collections_for_life(client: Client) -> None:
    def uuid() -> Any:
        (entry,) = client.run("listCollections", db="app")["cursor"]["firstBatch"]
        return entry["info"]["uuid"]

    first = uuid()
    assert uuid() == first
    client.run("drop", "c", db="app")
    client.run("create", "c", db="app")
    assert uuid() != first


def test_a_dropped_collections_cursors_close(client: Client) -> None:
    cursor_id = client.run("find", "c", db="app", batchSize=1)["cursor"]["id"]
    client.run("drop", "c", db="app")
    assert client.run("getMore", cursor_id, db="app", collection="c")["code"] == 43


def test_databases(client: Client) -> None:
    client.run("insert", "d", db="shop", documents=[{"s": "x" * 100}])
    reply = client.run("listDatabases")
    assert [entry["name"] for entry in reply["databases"]] == ["app", "shop"]
    sizes = [entry["sizeOnDisk"] for entry in reply["databases"]]
    assert reply["totalSize"] == sum(sizes) > 100
    assert client.run("listDatabases", nameOnly=True)["databases"][0] == {"name": "app"}
    filtered = client.run("listDatabases", nameOnly=True, filter={"name": "shop"})
    assert filtered["databases"] == [{"name": "shop"}]
    assert client.run("dropDatabase", db="shop")["dropped"] == "shop"
    assert "dropped" not in client.run("dropDatabase", db="shop")
    assert client.run("listDatabases", db="app")["code"] == 13


def test_only_what_one_may_see() -> None:
    server = node(authorization=True, users=USERS)
    root, alice = Client(server), Client(server)
    root.log_in("root", "admin")
    alice.log_in("alice", "app")
    for database in ("app", "shop"):
        root.run("insert", "c", db=database, documents=[{}])
    assert [entry["name"] for entry in alice.run("listDatabases")["databases"]] == ["app"]
    assert alice.run("listCollections", db="shop")["code"] == 13
    assert alice.run("renameCollection", "app.c", to="shop.c")["code"] == 13


def test_rename(client: Client) -> None:
    client.run("create", "other", db="app")
    assert client.run("renameCollection", "app.c", to="app.other")["code"] == 48
    moved = client.run("renameCollection", "app.c", to="app.other", dropTarget=True)
    assert moved["ok"] == 1.0
    assert names(client) == ["other"]
    assert client.run("count", "other", db="app")["n"] == 3


@pytest.mark.parametrize(
    ("source", "target", "code"),
    [("app.nix", "app.x", 26), (1, "app.x", 14), ("app.c", None, 14), ("c", "app.x", 73)],
)
def test_rename_is_refused(client: Client, source: Any, target: Any, code: int) -> None:
    assert client.run("renameCollection", source, to=target)["code"] == code


def test_statistics(client: Client) -> None:
    reply = client.run("collStats", "c", db="app")
    assert (reply["ns"], reply["count"], reply["size"], reply["avgObjSize"]) == ("app.c", 3, 42, 14)
    empty = client.run("collStats", "nix", db="app")
    assert (empty["count"], empty["nindexes"]) == (0, 0)
    reply = client.run("dbStats", db="app")
    assert (reply["db"], reply["collections"], reply["objects"]) == ("app", 1, 3)
    assert client.run("validate", "c", db="app")["valid"] is True
    assert client.run("validate", "nix", db="app")["code"] == 26

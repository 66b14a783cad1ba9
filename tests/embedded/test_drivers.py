"""PyMongo against every version that the embedded server plays."""

from __future__ import annotations

import pymongo
import pymongo.errors
import pytest
import trio
from pymongo.common import MIN_SUPPORTED_WIRE_VERSION
from pymongo.server_api import ServerApi

from proxy.embedded import EmbeddedUpstream, EmbeddedUser
from proxy.embedded.versions import VERSIONS
from tests.patience import PATIENCE

#: Those that the installed PyMongo still talks to.
SUPPORTED = [
    name for name, version in VERSIONS.items() if version.wire >= MIN_SUPPORTED_WIRE_VERSION
]
ALICE = EmbeddedUser("alice", "admin", "pw", (("readWrite", "app"),))


def _connect(port: int, **options: object) -> pymongo.MongoClient:
    return pymongo.MongoClient(
        f"mongodb://127.0.0.1:{port}/?replicaSet=embedded",
        serverSelectionTimeoutMS=int(PATIENCE * 1000),
        **options,
    )


def converse(port: int, version: str) -> None:
    """What a driver does with a server of this version, alice logged in."""
    with _connect(port, username="alice", password="pw") as client:
        assert client.admin.command("ping")["ok"] == 1.0
        assert client.server_info()["version"] == f"{version}.0"
        things = client.app.things
        assert len(things.insert_many([{"_id": n} for n in range(200)]).inserted_ids) == 200
        assert things.update_one({"_id": 1}, {"$set": {"a": 1}}).modified_count == 1
        assert things.find_one_and_delete({"_id": 0}) == {"_id": 0}
        assert things.delete_many({"_id": {"$gte": 150}}).deleted_count == 50
        assert len(list(things.find(batch_size=40))) == 149
        with client.start_session() as session:
            with session.start_transaction():
                things.insert_one({"_id": "t"}, session=session)
                assert things.find_one({"_id": "t"}) is None
            assert things.find_one({"_id": "t"}, session=session) == {"_id": "t"}
            session.start_transaction()
            things.delete_one({"_id": "t"}, session=session)
            session.abort_transaction()
            session.with_transaction(lambda s: things.update_one({}, {"$set": {"b": 1}}, session=s))
        assert things.count_documents({"b": 1}) == 1
        for command in ("refreshSessions", "killSessions", "endSessions"):
            with client.start_session() as session:
                assert client.admin.command({command: [session.session_id]})["ok"] == 1.0
        if VERSIONS[version].has("bulkWrite"):
            done = client.bulk_write(
                [
                    pymongo.InsertOne({"_id": n}, namespace="app.others")  # type: ignore[call-arg]
                    for n in range(3)
                ],
                verbose_results=True,
            )
            assert (done.inserted_count, len(done.insert_results)) == (3, 3)


def converse_strictly(port: int) -> None:
    """The same by the Stable API."""
    api = ServerApi("1", strict=True, deprecation_errors=True)
    with _connect(port, username="alice", password="pw", server_api=api) as client:
        client.app.strict.insert_one({"_id": 1})
        with client.start_session() as session, session.start_transaction():
            client.app.strict.insert_one({"_id": 2}, session=session)
            assert len(list(client.app.strict.find(session=session))) == 2
        with pytest.raises(pymongo.errors.OperationFailure, match="not in API Version 1"):
            client.admin.command("killSessions", [])


@pytest.mark.parametrize("version", SUPPORTED)
async def test_pymongo_feels_at_home(version: str) -> None:
    async with trio.open_nursery() as nursery:
        upstream = EmbeddedUpstream(version=version, authorization=True, users=(ALICE,))
        port = await nursery.start(upstream.serve)
        await trio.to_thread.run_sync(converse, port, version)
        if VERSIONS[version].api_repeated:
            await trio.to_thread.run_sync(converse_strictly, port)
        nursery.cancel_scope.cancel()

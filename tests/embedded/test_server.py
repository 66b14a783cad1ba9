"""The embedded server as PyMongo sees it, over real sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
import pymongo.errors
import pytest
import trio
from bson import Int64
from pymongo import MongoClient, ReturnDocument, WriteConcern
from pymongo.cursor import CursorType
from pymongo.monitoring import CommandListener, ServerHeartbeatListener

from proxy.embedded import EmbeddedUpstream, EmbeddedUser
from proxy.embedded.connection import Connection
from proxy.wire.opcodes import MORE_TO_COME
from proxy.wire.replies import command_frame, read_reply
from tests.build import body, op_msg
from tests.patience import PATIENCE, until, wait_until

ALICE = EmbeddedUser("alice", "app", "pw", (("readWrite", "app"),))
ROOT = EmbeddedUser("root", "admin", "secret", (("root", "admin"),))


async def serving(work: Callable[[int], None], **settings: Any) -> None:
    """Run ``work(port)`` in a thread beside an embedded server."""
    async with trio.open_nursery() as nursery:
        upstream = EmbeddedUpstream(**settings)
        port = await nursery.start(upstream.serve)
        assert upstream.address == f"127.0.0.1:{port}"
        await trio.to_thread.run_sync(work, port)
        nursery.cancel_scope.cancel()


@contextmanager
def client(port: int, **options: Any) -> Iterator[MongoClient]:
    options.setdefault("serverSelectionTimeoutMS", PATIENCE * 1000)
    with MongoClient("127.0.0.1", port, **options) as opened:
        yield opened


async def test_crud() -> None:
    def work(port: int) -> None:
        with client(port) as mongo:
            things = mongo.app.things
            assert things.insert_one({"_id": 1, "a": 1}).inserted_id == 1
            things.insert_many([{"_id": n, "a": n, "tags": ["x"]} for n in range(2, 6)])
            assert things.count_documents({"a": {"$gt": 2}}) == 3
            assert things.estimated_document_count() == 5
            done = things.update_many({"a": {"$gte": 3}}, {"$set": {"big": True}})
            assert (done.matched_count, done.modified_count) == (3, 3)
            done = things.update_one({"_id": 9}, {"$set": {"a": 9}}, upsert=True)
            assert (done.upserted_id, done.matched_count) == (9, 0)
            assert things.replace_one({"_id": 9}, {"b": 1}).modified_count == 1
            assert things.find_one({"_id": 9}) == {"_id": 9, "b": 1}
            assert things.delete_one({"_id": 9}).deleted_count == 1
            found = things.find_one_and_update(
                {"_id": 1}, {"$inc": {"a": 10}}, return_document=ReturnDocument.AFTER
            )
            assert found == {"_id": 1, "a": 11}
            assert things.find_one_and_delete({"_id": 1})["a"] == 11
            assert sorted(things.distinct("a")) == [2, 3, 4, 5]
            grouped = things.aggregate([{"$group": {"_id": "$big", "n": {"$sum": 1}}}])
            assert {row["_id"]: row["n"] for row in grouped} == {None: 1, True: 3}
            ordered = things.find({}, {"a": 1, "_id": 0}).sort("a", -1).skip(1).limit(2)
            assert list(ordered) == [{"a": 4}, {"a": 3}]

    await serving(work)


async def test_write_errors() -> None:
    def work(port: int) -> None:
        with client(port) as mongo:
            things = mongo.app.things
            things.insert_one({"_id": 1})
            with pytest.raises(pymongo.errors.BulkWriteError) as ordered:
                things.insert_many([{"_id": 0}, {"_id": 1}, {"_id": 2}])
            assert ordered.value.details["nInserted"] == 1
            with pytest.raises(pymongo.errors.BulkWriteError) as unordered:
                things.insert_many([{"_id": 0}, {"_id": 2}, {"_id": 3}], ordered=False)
            assert unordered.value.details["nInserted"] == 2
            assert [e["index"] for e in unordered.value.details["writeErrors"]] == [0]
            things.delete_many({})
            things.create_index("email", unique=True, name="email_1")
            things.insert_one({"email": "a"})
            with pytest.raises(pymongo.errors.DuplicateKeyError, match="index: email_1 dup key"):
                things.insert_one({"email": "a"})
            bulk = things.bulk_write(
                [pymongo.InsertOne({"_id": 7, "email": "b"}), pymongo.DeleteOne({"_id": 7})]
            )
            assert (bulk.inserted_count, bulk.deleted_count) == (1, 1)

    await serving(work)


async def test_collections_and_indexes() -> None:
    def work(port: int) -> None:
        with client(port) as mongo:
            mongo.app.create_collection("made")
            with pytest.raises(pymongo.errors.CollectionInvalid):
                mongo.app.create_collection("made")
            mongo.app.other.insert_one({})
            assert sorted(mongo.app.list_collection_names()) == ["made", "other"]
            assert mongo.list_database_names() == ["app"]
            assert mongo.app.made.create_index([("a", 1), ("b", -1)]) == "a_1_b_-1"
            assert sorted(mongo.app.made.index_information()) == ["_id_", "a_1_b_-1"]
            mongo.app.made.drop_index("a_1_b_-1")
            assert sorted(mongo.app.made.index_information()) == ["_id_"]
            mongo.app.other.rename("renamed")
            assert mongo.app.renamed.count_documents({}) == 1
            assert mongo.app.command("collStats", "renamed")["count"] == 1
            assert mongo.app.command("dbStats")["collections"] == 2
            mongo.app.made.drop()
            mongo.drop_database("app")
            assert mongo.list_database_names() == []

    await serving(work)


async def test_cursors() -> None:
    def work(port: int) -> None:
        with client(port) as mongo:
            things = mongo.app.things
            things.insert_many([{"_id": n} for n in range(250)])
            assert [found["_id"] for found in things.find(batch_size=7)] == list(range(250))
            assert len(list(things.find(limit=5, batch_size=2))) == 5
            cursor = things.find(batch_size=2)
            next(cursor)
            cursor_id = cursor.cursor_id
            cursor.close()
            with pytest.raises(pymongo.errors.CursorNotFound):
                mongo.app.command("getMore", Int64(cursor_id), collection="things")

    await serving(work)


async def test_exhaust_cursors() -> None:
    started: list[str] = []

    class Commands(CommandListener):
        def started(self, event: Any) -> None:
            started.append(event.command_name)

        def succeeded(self, event: Any) -> None:
            pass

        def failed(self, event: Any) -> None:
            pass

    def work(port: int) -> None:
        with client(port, event_listeners=[Commands()]) as mongo:
            things = mongo.app.things
            things.insert_many([{"_id": n} for n in range(100)])
            found = things.find(batch_size=9, cursor_type=CursorType.EXHAUST)
            assert [document["_id"] for document in found] == list(range(100))
            assert mongo.admin.command("ping")["ok"] == 1

    await serving(work)
    assert started.count("getMore") > 5


async def test_tailable_cursors_wait_for_data() -> None:
    def work(port: int) -> None:
        with client(port) as mongo:
            log = mongo.app.create_collection("log", capped=True, size=10_000)
            log.insert_one({"_id": 1})
            cursor = log.find(cursor_type=CursorType.TAILABLE_AWAIT).max_await_time_ms(10_000)
            assert next(cursor) == {"_id": 1}
            log.insert_one({"_id": 2})
            assert next(cursor) == {"_id": 2}

    await serving(work)


@pytest.mark.parametrize("compressor", ["zlib", "zstd"])
async def test_compressors(compressor: str) -> None:
    def work(port: int) -> None:
        with client(port, compressors=[compressor]) as mongo:
            mongo.app.things.insert_many([{"_id": n, "s": "x" * 100} for n in range(50)])
            assert len(list(mongo.app.things.find(batch_size=10))) == 50

    await serving(work)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "DEFAULT"])
async def test_authentication(mechanism: str) -> None:
    def work(port: int) -> None:
        login = {"username": "alice", "password": "pw", "authSource": "app"}
        if mechanism != "DEFAULT":
            login["authMechanism"] = mechanism
        with client(port, **login) as mongo:
            mongo.app.things.insert_one({"_id": 1})
            status = mongo.admin.command("connectionStatus")
            users = [{"user": "alice", "db": "app"}]
            assert status["authInfo"]["authenticatedUsers"] == users
            with pytest.raises(pymongo.errors.OperationFailure, match="not authorized on other"):
                mongo.other.things.find_one()
        refused = pytest.raises(pymongo.errors.OperationFailure, match="Authentication failed")
        with client(port, **{**login, "password": "wrong"}) as mongo, refused:
            mongo.app.things.find_one()
        refused = pytest.raises(pymongo.errors.OperationFailure, match="requires authentication")
        with client(port) as mongo, refused:
            mongo.app.things.find_one()

    await serving(work, authorization=True, users=[ALICE])


@pytest.mark.parametrize(("host", "name"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
async def test_its_address_can_be_dialled(host: str, name: str) -> None:
    async with trio.open_nursery() as nursery:
        upstream = EmbeddedUpstream(address="before:1")
        assert upstream.address == "before:1"
        port = await nursery.start(upstream.serve, host)
        assert upstream.address == f"{name}:{port}"
        nursery.cancel_scope.cancel()


async def test_plain_authentication() -> None:
    bob = EmbeddedUser("bob", "$external", "pw", (("readWrite", "app"),))

    def work(port: int) -> None:
        login = {"username": "bob", "password": "pw", "authMechanism": "PLAIN"}
        with client(port, **login) as mongo:
            assert mongo.app.things.count_documents({}) == 0

    await serving(work, authorization=True, users=[bob])


async def test_users_made_at_run_time() -> None:
    def work(port: int) -> None:
        with client(port) as mongo:
            # The localhost exception lets the first user in, and nothing else.
            mongo.admin.command("createUser", "root", pwd="secret", roles=["root"])
        with client(port, username="root", password="secret") as mongo:
            cluster = {"resource": {"cluster": True}, "actions": ["killAnySession"]}
            mongo.admin.command("createRole", "killer", privileges=[cluster], roles=[])
            role = {"role": "killer", "db": "admin"}
            mongo.app.command("createUser", "carol", pwd="pw", roles=[role, "read"])
            found = mongo.app.command("usersInfo", "carol")["users"]
            assert [user["_id"] for user in found] == ["app.carol"]
        with client(port, username="carol", password="pw", authSource="app") as mongo:
            everybody = [{"user": "root", "db": "admin"}]
            assert mongo.admin.command("killAllSessions", everybody)["ok"] == 1
            with pytest.raises(pymongo.errors.OperationFailure, match="not authorized on app"):
                mongo.app.things.insert_one({})

    await serving(work, authorization=True)


async def test_retryable_writes_survive_a_lost_reply() -> None:
    def work(port: int) -> None:
        with client(port) as mongo:
            point = {"failCommands": ["insert"], "closeConnection": True}
            mode = {"times": 1}
            mongo.admin.command("configureFailPoint", "failCommand", mode=mode, data=point)
            mongo.app.things.insert_one({"_id": 1})
            assert mongo.app.things.count_documents({}) == 1

    await serving(work)


async def test_transactions() -> None:
    def work(port: int) -> None:
        with client(port) as mongo, mongo.start_session() as session:
            things = mongo.app.things
            things.insert_one({"_id": 0, "n": 0})
            with session.start_transaction():
                things.insert_one({"_id": 1}, session=session)
                things.update_one({"_id": 0}, {"$inc": {"n": 1}}, session=session)
                assert things.count_documents({}) == 1
                assert things.find_one({"_id": 0}) == {"_id": 0, "n": 0}
                assert things.find_one({"_id": 0}, session=session) == {"_id": 0, "n": 1}
            assert things.find_one({"_id": 0}) == {"_id": 0, "n": 1}
            session.start_transaction()
            things.delete_many({}, session=session)
            assert list(things.find(session=session)) == []
            session.abort_transaction()
            assert things.count_documents({}) == 2

    await serving(work)


async def test_with_transaction_retries_write_conflicts() -> None:
    def work(port: int) -> None:
        with client(port) as mongo:
            things = mongo.app.things
            things.insert_one({"_id": 0, "n": 0})
            attempts = 0
            with mongo.start_session() as mine, mongo.start_session() as other:
                other.start_transaction()
                things.update_one({"_id": 0}, {"$inc": {"n": 10}}, session=other)

                def change(session: Any) -> None:
                    nonlocal attempts
                    attempts += 1
                    if attempts == 2:
                        other.commit_transaction()
                    things.update_one({"_id": 0}, {"$inc": {"n": 1}}, session=session)

                mine.with_transaction(change)
            assert attempts >= 2
            assert things.find_one({"_id": 0})["n"] == 11

    await serving(work)


async def test_causal_consistency_and_cluster_time() -> None:
    def work(port: int) -> None:
        with client(port) as mongo, mongo.start_session(causal_consistency=True) as session:
            mongo.app.things.insert_one({"_id": 1}, session=session)
            assert session.operation_time is not None
            assert session.cluster_time is not None
            assert mongo.app.things.find_one({}, session=session) == {"_id": 1}

    await serving(work)


async def test_a_standalone_has_sessions_without_transactions() -> None:
    def work(port: int) -> None:
        with client(port) as mongo:
            mongo.app.things.insert_one({"_id": 1})
            assert "$clusterTime" not in mongo.admin.command("ping")
            assert mongo.topology_description.topology_type_name == "Single"
            with mongo.start_session() as session:
                session.start_transaction()
                with pytest.raises(pymongo.errors.OperationFailure, match="Transaction numbers"):
                    mongo.app.things.insert_one({}, session=session)

    await serving(work, set_name=None)


async def test_streaming_hello() -> None:
    streamed: list[bool] = []
    upstreams: list[EmbeddedUpstream] = []

    class Heartbeats(ServerHeartbeatListener):
        def started(self, event: Any) -> None:
            pass

        def succeeded(self, event: Any) -> None:
            streamed.append(event.awaited)
            for upstream in upstreams:
                # A change that every waiting hello is to be told of at once.
                if len(streamed) < 6:
                    trio.from_thread.run_sync(change, upstream, trio_token=token)

        def failed(self, event: Any) -> None:
            pass

    def change(upstream: EmbeddedUpstream) -> None:
        upstream.node.topology_counter += 1
        upstream.node.wake()

    def work(port: int) -> None:
        with client(port, event_listeners=[Heartbeats()]) as mongo:
            mongo.admin.command("ping")
            wait_until(lambda: len(streamed) >= 6)

    token = trio.lowlevel.current_trio_token()
    async with trio.open_nursery() as nursery:
        upstream = EmbeddedUpstream()
        port = await nursery.start(upstream.serve)
        upstreams.append(upstream)
        await trio.to_thread.run_sync(work, port)
        nursery.cancel_scope.cancel()
    assert streamed[0] is False
    assert streamed.count(True) >= 4


async def test_unacknowledged_writes_before_a_hang_up_are_carried_out() -> None:
    async with trio.open_nursery() as nursery:
        upstream = EmbeddedUpstream()
        port = await nursery.start(upstream.serve)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        write = {"insert": "things", "documents": [{"_id": 1}], "$db": "app"}
        async with stream:
            await stream.send_all(op_msg(body(write), flags=MORE_TO_COME))
        await until(lambda: upstream.node.engine.exists(("app", "things")))
        nursery.cancel_scope.cancel()


async def test_a_waiting_command_holds_up_nobody_and_ends_with_its_client() -> None:
    async with trio.open_nursery() as nursery:
        upstream = EmbeddedUpstream()
        port = await nursery.start(upstream.serve)
        sleeper = await trio.open_tcp_stream("127.0.0.1", port)
        await sleeper.send_all(command_frame(1, {"sleep": 1, "secs": 600, "$db": "admin"}))
        other = await trio.open_tcp_stream("127.0.0.1", port)
        await until(lambda: bool(upstream.node.operations))
        await other.send_all(command_frame(2, {"ping": 1, "$db": "admin"}))
        assert read_reply(bytes(await other.receive_some())).ok()
        await sleeper.aclose()
        await until(lambda: not upstream.node.operations)
        await other.aclose()
        nursery.cancel_scope.cancel()


async def test_a_killed_command_answers_11601() -> None:
    def work(port: int) -> None:
        with client(port) as mongo:
            failures: list[int] = []

            def sleep() -> None:
                with mongo.start_session() as session:
                    try:
                        mongo.admin.command("sleep", 1, secs=600, session=session)
                    except pymongo.errors.OperationFailure as error:
                        failures.append(error.code)

            with client(port) as operator:
                thread = threading.Thread(target=sleep)
                thread.start()
                wait_until(
                    lambda: any(
                        "sleep" in operation["command"]
                        for operation in operator.admin.command("currentOp")["inprog"]
                    )
                )
                with pytest.raises(pymongo.errors.OperationFailure) as own:
                    # Its own implicit session is among those it kills.
                    operator.admin.command("killAllSessions", [])
                assert own.value.code == 11601
                thread.join(PATIENCE)
            assert failures == [11601]

    await serving(work)


async def test_write_concern_zero() -> None:
    def work(port: int) -> None:
        with client(port) as mongo:
            silent = mongo.app.get_collection("things", write_concern=WriteConcern(w=0))
            silent.insert_one({"_id": 1})
            silent.insert_one({"_id": 1})
            with client(port) as other:
                wait_until(lambda: other.app.things.count_documents({}) == 1)

    await serving(work)


async def test_start_up_questions() -> None:
    def work(port: int) -> None:
        with client(port, username="root", password="secret") as mongo:
            for name, value in (
                ("buildInfo", 1),
                ("hostInfo", 1),
                ("getCmdLineOpts", 1),
                ("serverStatus", 1),
                ("getLog", "startupWarnings"),
                ("replSetGetStatus", 1),
                ("replSetGetConfig", 1),
                ("whatsmyuri", 1),
                ("listCommands", 1),
                ("currentOp", 1),
                ("top", 1),
                ("features", 1),
                ("getFreeMonitoringStatus", 1),
                ("getParameter", "*"),
            ):
                assert mongo.admin.command(name, value)["ok"] == 1, name
            version = mongo.admin.command("getParameter", 1, featureCompatibilityVersion=1)
            assert version["featureCompatibilityVersion"] == {"version": "4.4"}
            with pytest.raises(pymongo.errors.OperationFailure, match="no such command") as error:
                mongo.admin.command("atlasVersion")
            assert error.value.code == 59

    await serving(work, authorization=True, users=[ROOT])


async def test_a_fault_ends_one_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ping = command_frame(1, {"ping": 1, "$db": "admin"})
    async with trio.open_nursery() as nursery:
        upstream = EmbeddedUpstream()
        port = await nursery.start(upstream.serve)
        first = await trio.open_tcp_stream("127.0.0.1", port)
        with monkeypatch.context() as broken:
            broken.setattr(Connection, "receive", lambda *_: 1 / 0)
            await first.send_all(ping)
            assert await first.receive_some() == b""
        await first.aclose()
        async with await trio.open_tcp_stream("127.0.0.1", port) as second:
            await second.send_all(ping)
            assert read_reply(bytes(await second.receive_some())).ok()
        nursery.cancel_scope.cancel()
    assert "failed" in caplog.text


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\x7f" + bytes(12), bytes(16)]
)
async def test_what_cannot_be_framed_is_hung_up_on(garbage: bytes) -> None:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(EmbeddedUpstream().serve)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(garbage)
            with trio.fail_after(PATIENCE):
                assert await stream.receive_some() == b""
        nursery.cancel_scope.cancel()

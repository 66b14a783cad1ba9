"""What PyMongo sees of a deployment: one JSON line per step, for comparison.

usage: python scenario.py URI [light|heavy|failing|modern|topology]

Run once directly and once through a proxy: after normalising what differs by nature (addresses,
times, generated ids) the lines must be equal. Every step catches its own error and prints it.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

import bson
import pymongo
from bson import Binary, Int64, json_util
from bson.binary import UuidRepresentation
from failing import Failing
from modern import Modern
from pymongo import monitoring
from pymongo.client_session import TransactionOptions
from pymongo.cursor import CursorType
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

LINES = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL, uuid_representation=UuidRepresentation.STANDARD
)
W0 = WriteConcern(w=0)


class Commands(monitoring.CommandListener):
    """Every command with its reply, as the driver's own monitoring tells it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        pass

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self.seen.append([event.command_name, event.reply])

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self.seen.append([event.command_name, event.failure])

    def take(self) -> list[Any]:
        seen, self.seen = self.seen, []
        return seen


class Heartbeats(monitoring.ServerHeartbeatListener):
    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.addresses: set[str] = set()
        self.awaited = threading.Event()

    def started(self, event: monitoring.ServerHeartbeatStartedEvent) -> None:
        self.addresses.add("{}:{}".format(*event.connection_id))

    def succeeded(self, event: monitoring.ServerHeartbeatSucceededEvent) -> None:
        self.kinds.add("awaited" if event.awaited else "polled")
        if event.awaited:
            self.awaited.set()

    def failed(self, event: monitoring.ServerHeartbeatFailedEvent) -> None:
        self.kinds.add(f"failed {event.reply!r}")


def emit(step: str, saw: object) -> None:
    print(json_util.dumps({"step": step, "saw": saw}, json_options=LINES, default=repr), flush=True)


class Scenario(Failing, Modern):
    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.commands = Commands()
        self.client: pymongo.MongoClient[dict[str, Any]] = self.connect(
            event_listeners=[self.commands]
        )
        self.db = self.client["app"]

    def connect(self, uri: str | None = None, **options: Any) -> pymongo.MongoClient[Any]:
        return pymongo.MongoClient(uri or self.uri, uuidRepresentation="standard", **options)

    def step(self, name: str, run: Callable[[], object]) -> None:
        self.commands.take()
        try:
            saw = run()
        except (PyMongoError, bson.errors.BSONError) as error:
            saw = {
                "error": type(error).__name__,
                "code": getattr(error, "code", None),
                "details": getattr(error, "details", None),
                "labels": sorted(getattr(error, "_error_labels", ())),
            }
            if saw["details"] is None:
                saw["text"] = str(error)
        emit(name, {"result": saw, "commands": self.commands.take()})

    def in_one_session(self, *commands: dict[str, Any]) -> list[Any]:
        """The replies or errors of commands in a session that nobody used before."""
        replies: list[Any] = []
        with self.connect() as client, client.start_session() as session:
            for command in commands:
                number = Int64(command["txnNumber"])
                database = "admin" if next(iter(command)).endswith("Transaction") else "app"
                try:
                    replies.append(
                        client[database].command(command | {"txnNumber": number}, session=session)
                    )
                except PyMongoError as error:
                    replies.append([type(error).__name__, getattr(error, "details", None)])
        return replies

    def raw(self, command: dict[str, Any]) -> object:
        """The reply to a command as it stands, on a connection of its own without a handshake."""
        address = self.client.address
        assert address is not None
        with socket.create_connection(address, timeout=120) as connection:
            payload = b"\0\0\0\0\0" + bson.encode(command)
            header = struct.pack("<iiii", 16 + len(payload), 7, 0, 2013)
            connection.sendall(header + payload)
            stream = connection.makefile("rb")
            header = stream.read(16)
            if len(header) < 16:
                return "closed"
            length, _, response_to, opcode = struct.unpack("<iiii", header)
            return [response_to, opcode, bson.decode(stream.read(length - 16)[5:])]

    def run(self, weight: str) -> None:
        prefix = f"{weight}_" if weight in ("failing", "modern") else "on_"
        names = [name for name in dir(self) if name.startswith(prefix)]
        if weight == "topology":
            names = names[:1]
        if weight == "heavy":
            names += [name for name in dir(self) if name.startswith("heavy_")]
        left_out = set(os.environ.get("LEAVING_OUT", "").split(","))
        for name in names:
            if name.removeprefix("on_") in left_out:
                continue
            self.step(name.removeprefix("on_"), getattr(self, name))
        self.client.close()
        emit("closed", self.commands.take())

    # The steps run in the order of their names: on_ always, heavy_, failing_ and modern_ where
    # asked for.

    def on_00_topology(self) -> object:
        self.client.admin.command("ping")
        topology = self.client.topology_description
        servers = topology.server_descriptions().values()
        return {
            "type": topology.topology_type_name,
            "set": topology.replica_set_name,
            "servers": sorted([s.server_type_name, "{}:{}".format(*s.address)] for s in servers),
            "me": [s.me and "{}:{}".format(*s.me) for s in servers],
            "hosts": sorted("{}:{}".format(*address) for s in servers for address in s.all_hosts),
            "wire": [s.max_wire_version for s in servers],
            "limits": [
                [s.max_bson_size, s.max_message_size, s.max_write_batch_size] for s in servers
            ],
            "sessions": topology.logical_session_timeout_minutes,
        }

    def on_01_hello(self) -> object:
        return [
            self.client.admin.command("hello"),
            self.client["test"].command("isMaster"),
            self.client.admin.command("ismaster", helloOk=True),
            self.client.admin.command("hello", comment="x"),
        ]

    def on_01_hello_offers_compression(self) -> object:
        offers: list[list[str]] = [["zstd", "nope", "zlib", "snappy"], ["snappy"], ["nope"], []]
        hello = {"isMaster": 1, "helloOk": True, "$db": "admin"}
        return [self.raw(hello | {"compression": offer}) for offer in offers]

    def on_02_build_info(self) -> object:
        return sorted(self.client.server_info())

    def on_03_who(self) -> object:
        return [
            self.client.admin.command("connectionStatus"),
            self.client.admin.command("connectionStatus", showPrivileges=True),
        ]

    def on_10_drop(self) -> object:
        for name in ("c", "tx", "types", "batch", "big", "w0"):
            self.db.drop_collection(name)
        self.commands.take()
        return self.db.drop_collection("c")

    def on_11_insert_one(self) -> object:
        return self.db.c.insert_one({"_id": 1, "a": 1, "s": "åß漢\U0001f600"}).inserted_id

    def on_12_insert_many(self) -> object:
        docs = [{"_id": n, "a": n % 7, "s": "x" * n} for n in range(2, 301)]
        return len(self.db.c.insert_many(docs).inserted_ids)

    def on_13_find_batches(self) -> object:
        return [
            [doc["_id"] for doc in self.db.c.find({}, batch_size=n).sort("_id")] for n in (7, 1, 2)
        ]

    def on_13_find_changing_batches(self) -> object:
        reply = self.db.command("find", "c", sort={"_id": 1}, batchSize=0)
        sizes = []
        for size in (1, 50, 3, 100, 0):
            more: dict[str, Any] = {"batchSize": size} if size else {}
            more = {"getMore": reply["cursor"]["id"], "collection": "c"} | more
            reply = self.db.command(more)
            sizes.append(len(reply["cursor"]["nextBatch"]))
        return [sizes, reply["cursor"]["id"]]

    def on_14_find_limit_skip_projection(self) -> object:
        return list(self.db.c.find({"a": 3}, {"s": 0}).sort("_id", -1).skip(2).limit(5))

    def on_15_aggregate(self) -> object:
        stages = [{"$match": {"a": {"$gt": 2}}}, {"$group": {"_id": "$a", "n": {"$sum": 1}}}]
        return list(self.db.c.aggregate([*stages, {"$sort": {"_id": 1}}], batchSize=2))

    def on_16_count_distinct(self) -> object:
        return [
            self.db.c.count_documents({"a": 1}),
            self.db.c.estimated_document_count(),
            sorted(self.db.c.distinct("a")),
        ]

    def on_17_update_delete_modify(self) -> object:
        c = self.db.c
        return [
            c.update_one({"_id": 1}, {"$set": {"b": 1}}).raw_result,
            c.update_many({"a": 2}, {"$inc": {"b": 2}}).raw_result,
            c.replace_one({"_id": 9000}, {"b": 3}, upsert=True).raw_result,
            c.delete_one({"_id": 9000}).raw_result,
            c.delete_many({"_id": {"$gt": 290}}).raw_result,
            c.find_one_and_update({"_id": 2}, {"$set": {"z": 1}}),
            c.find_one_and_replace({"_id": 2}, {"z": 2}, return_document=True),
            c.find_one_and_delete({"_id": 3}),
        ]

    def on_18_bulk_ordered(self) -> object:
        return self.db.c.bulk_write(
            [
                pymongo.InsertOne({"_id": 1000}),
                pymongo.UpdateOne({"_id": 1000}, {"$set": {"x": 1}}),
                pymongo.InsertOne({"_id": 1000}),
                pymongo.DeleteOne({"_id": 1000}),
            ]
        ).bulk_api_result

    def on_19_bulk_unordered(self) -> object:
        return self.db.c.bulk_write(
            [
                pymongo.InsertOne({"_id": 1001}),
                pymongo.InsertOne({"_id": 1001}),
                pymongo.UpdateMany({"a": 1}, {"$set": {"x": 1}}),
                pymongo.DeleteMany({"_id": {"$gte": 1000}}),
            ],
            ordered=False,
        ).bulk_api_result

    def on_20_duplicate_key(self) -> object:
        return self.db.c.insert_one({"_id": 1})

    def on_21_unknown_command(self) -> object:
        return self.db.command("noSuchCommand", 1)

    def on_22_bad_operator(self) -> object:
        return list(self.db.c.find({"a": {"$noSuchOperator": 1}}))

    def on_23_bad_stage(self) -> object:
        return list(self.db.c.aggregate([{"$noSuchStage": {}}]))

    def on_24_wrong_type(self) -> object:
        return self.db.command({"find": 1})

    def on_25_killed_cursor(self) -> object:
        with self.db.c.find({}, batch_size=2).sort("_id") as cursor:
            seen = [next(cursor)["_id"], next(cursor)["_id"]]
            killed = self.db.command("killCursors", "c", cursors=[Int64(cursor.cursor_id)])
            emit("killed", [seen, killed])
            return next(cursor)

    def on_26_closed_cursor(self) -> object:
        cursor = self.db.c.find({}, batch_size=2)
        next(cursor)
        cursor.close()
        return cursor.alive

    def on_27_unknown_cursor(self) -> object:
        return self.db.command("getMore", Int64(12345678901), collection="c")

    def on_28_exhaust(self) -> object:
        with self.db.c.find({}, cursor_type=CursorType.EXHAUST, batch_size=20) as cursor:
            return [doc["_id"] for doc in cursor.sort("_id")]

    def on_29_exhaust_left_early(self) -> object:
        with self.db.c.find({}, cursor_type=CursorType.EXHAUST, batch_size=5) as cursor:
            cursor.sort("_id")
            seen = [next(cursor)["_id"] for _ in range(12)]
        return [seen, self.db.c.count_documents({})]

    def on_30_unacknowledged(self) -> object:
        with self.connect(maxPoolSize=1) as client:
            c = client["app"]["w0"]
            unacknowledged = c.with_options(write_concern=W0)
            for n in range(20):
                unacknowledged.insert_one({"_id": n})
            unacknowledged.insert_one({"_id": 1})
            unacknowledged.update_one({"_id": 2}, {"$set": {"a": 1}})
            unacknowledged.delete_one({"_id": 3})
            unacknowledged.insert_many([{"_id": n} for n in range(100, 200)])
            return [c.count_documents({}), c.find_one({"_id": 2}), c.find_one({"_id": 3})]

    def on_31_unacknowledged_then_closed(self) -> object:
        with self.connect(maxPoolSize=1) as client:
            client["app"]["w0"].with_options(write_concern=W0).insert_one({"_id": "last"})
        for _ in range(200):
            if found := self.db.w0.find_one({"_id": "last"}):
                break
        self.commands.take()
        return found

    def on_32_write_concern_error(self) -> object:
        c = self.db.c.with_options(write_concern=WriteConcern(w=9, wtimeout=50))
        return c.insert_one({"_id": "w9"})

    def on_33_write_concern_majority(self) -> object:
        c = self.db.c.with_options(write_concern=WriteConcern(w="majority", j=True))
        return c.insert_one({"_id": "majority"}).acknowledged

    def on_34_read_concern(self) -> object:
        c = self.db.c.with_options(read_concern=ReadConcern("majority"))
        return c.find_one({"_id": 1})

    def on_40_transaction_commit(self) -> object:
        self.db.create_collection("tx")
        with self.client.start_session() as session, session.start_transaction():
            self.db.tx.insert_one({"_id": 1}, session=session)
            self.db.tx.update_one({"_id": 1}, {"$set": {"a": 1}}, session=session)
            inside = list(self.db.tx.find(session=session))
            outside = list(self.db.tx.find())
        return [inside, outside, list(self.db.tx.find())]

    def on_41_transaction_abort(self) -> object:
        with self.client.start_session() as session:
            session.start_transaction(
                read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority")
            )
            self.db.tx.insert_one({"_id": 2}, session=session)
            session.abort_transaction()
        return list(self.db.tx.find())

    def on_42_transaction_error_inside(self) -> object:
        with self.client.start_session() as session, session.start_transaction():
            self.db.tx.insert_one({"_id": 3}, session=session)
            self.db.tx.insert_one({"_id": 1}, session=session)
        return None

    def on_43_transaction_after_abort_by_command(self) -> object:
        with self.client.start_session() as session, session.start_transaction():
            self.db.tx.insert_one({"_id": 4}, session=session)
            self.client.admin.command(
                "abortTransaction",
                lsid=session.session_id,
                txnNumber=Int64(session._transaction_id),
                autocommit=False,
            )
            self.db.tx.insert_one({"_id": 5}, session=session)
        return None

    def on_44_transaction_callback_retried(self) -> object:
        attempts: list[int] = []

        def body(session: Any) -> str:
            attempts.append(1)
            self.db.tx.insert_one({"_id": f"try {len(attempts)}"}, session=session)
            if len(attempts) < 3:
                error = pymongo.errors.OperationFailure("transient")
                error._add_error_label("TransientTransactionError")
                raise error
            return "done"

        with self.client.start_session() as session:
            done = session.with_transaction(body)
        return [done, len(attempts), list(self.db.tx.find())]

    def on_45_transaction_committed_twice(self) -> object:
        with self.client.start_session() as session:
            session.start_transaction()
            self.db.tx.insert_one({"_id": 6}, session=session)
            session.commit_transaction()
            session.commit_transaction()
        return self.db.tx.count_documents({"_id": 6})

    def on_46_transaction_numbers_must_grow(self) -> object:
        def start(number: int) -> dict[str, Any]:
            command = {"insert": "tx", "documents": [{"_id": f"n{number}"}], "txnNumber": number}
            return command | {"autocommit": False, "startTransaction": True}

        end = {"abortTransaction": 1, "txnNumber": 6, "autocommit": False}
        return self.in_one_session(start(5), start(4), start(5), start(6), end)

    def on_47_commit_without_transaction(self) -> object:
        end = {"txnNumber": 1, "autocommit": False}
        return self.in_one_session({"commitTransaction": 1} | end, {"abortTransaction": 1} | end)

    def on_48_write_conflict(self) -> object:
        with self.client.start_session() as one, self.client.start_session() as two:
            one.start_transaction()
            two.start_transaction(TransactionOptions().read_concern)
            self.db.tx.update_one({"_id": 1}, {"$set": {"who": 1}}, session=one)
            try:
                self.db.tx.update_one({"_id": 1}, {"$set": {"who": 2}}, session=two)
            finally:
                one.abort_transaction()
        return None

    def on_50_retryable_write_repeated(self) -> object:
        documents = [{"_id": "retry"}, {"_id": "retry2"}]
        command = {"insert": "c", "documents": documents, "txnNumber": 1}
        return [
            self.in_one_session(command, command),
            self.db.c.count_documents({"_id": {"$in": ["retry", "retry2"]}}),
        ]

    def on_51_retryable_find_and_modify(self) -> object:
        command = {"findAndModify": "c", "query": {"_id": 1}, "update": {"$inc": {"k": 1}}}
        command |= {"new": True, "txnNumber": 1}
        return self.in_one_session(command, command)

    def on_52_older_txn_number(self) -> object:
        command = {"insert": "c", "documents": [{"_id": "new"}], "txnNumber": 9}
        older = {"insert": "c", "documents": [{"_id": "old"}], "txnNumber": 8}
        return self.in_one_session(command, older)

    def on_53_retryable_with_statement_ids(self) -> object:
        documents = [{"_id": "s1"}, {"_id": "s2"}]
        command = {"insert": "c", "documents": documents, "txnNumber": 1, "stmtIds": [3, 7]}
        again = {"insert": "c", "documents": documents[1:], "txnNumber": 1, "stmtIds": [7]}
        return self.in_one_session(command, again)

    def on_60_session_commands(self) -> object:
        with self.client.start_session() as session:
            self.db.c.find_one(session=session)
            own = [session.session_id]
            replies = [
                self.client.admin.command("refreshSessions", own),
                self.client.admin.command("endSessions", own),
            ]
        return replies

    def on_61_start_session(self) -> object:
        return self.client.admin.command("startSession")

    def on_62_kill_sessions(self) -> object:
        with (
            self.client.start_session() as session,
            self.db.c.find({}, batch_size=2, session=session) as cursor,
        ):
            seen = [next(cursor)["_id"], next(cursor)["_id"]]
            killed = self.client.admin.command("killSessions", [session.session_id])
            emit("kill", [seen, killed])
            return next(cursor)

    def on_63_kill_all_sessions(self) -> object:
        return self.client.admin.command("killAllSessions", [])

    def on_64_kill_by_pattern(self) -> object:
        return self.client.admin.command("killAllSessionsByPattern", [])

    def on_65_bad_session_list(self) -> object:
        return self.client.admin.command("killSessions", [{"id": 1}])

    def on_66_bad_lsid(self) -> object:
        bad: list[Any] = [1, {}, {"id": "no uuid"}, {"id": None}, {"id": Binary(b"short", 4)}]
        return [self.raw({"find": "c", "lsid": lsid, "$db": "app"}) for lsid in bad]

    def on_67_causal_consistency(self) -> object:
        with self.client.start_session(causal_consistency=True) as session:
            self.db.c.insert_one({"_id": "causal"}, session=session)
            return self.db.c.find_one({"_id": "causal"}, session=session)

    def on_70_types_survive(self) -> object:
        document = {
            "_id": 1,
            "types": [
                1, Int64(1), 1.0, float("inf"), "s", b"\0\xff", Binary(b"u" * 16, 3), None, True,
                bson.ObjectId("0" * 24), bson.Decimal128("NaN"), bson.MinKey(), bson.MaxKey(),
                bson.Timestamp(1, 2), bson.Regex("a", "i"), bson.Code("f()"),
                bson.DBRef("c", 1), [], {}, {"": {"": ""}},
            ],
        }  # fmt: skip
        self.db.types.insert_one(document)
        return self.db.types.find_one({"_id": 1})

    def on_71_list(self) -> object:
        names = self.client.list_database_names()
        collections = sorted(c["name"] for c in self.db.list_collections())
        self.commands.take()
        return [
            "app" in names,
            collections,
            self.db.c.create_index("a"),
            sorted(self.db.c.index_information()),
        ]

    def on_72_large_document(self) -> object:
        self.db.big.insert_one({"_id": 1, "s": "y" * 10_000_000})
        found = self.db.big.find_one({"_id": 1})
        self.commands.take()
        return len(found["s"]) if found else None

    def on_73_too_large_document(self) -> object:
        return self.db.big.insert_one({"_id": 2, "s": "y" * 17_000_000})

    def on_74_heartbeats(self) -> object:
        heartbeats = Heartbeats()
        with self.connect(event_listeners=[heartbeats], heartbeatFrequencyMS=500) as client:
            client.admin.command("ping")
            servers = client.topology_description.server_descriptions().values()
            if any(server.topology_version for server in servers):
                heartbeats.awaited.wait(120)
        return [sorted(heartbeats.kinds), sorted(heartbeats.addresses)]

    def on_75_wrong_password(self) -> object:
        with self.connect(username="alice", password="wrong", authSource="app") as client:
            return client.admin.command("ping")

    def on_76_unknown_user(self) -> object:
        with self.connect(username="no,=body", password="pw", authSource="app") as client:
            return client.admin.command("ping")

    def on_77_many_threads(self) -> object:
        found: list[int] = [0] * 20

        def work(n: int) -> None:
            for k in range(10):
                found[n] += self.db.c.find_one({"_id": n + 10})["_id"] + k

        threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.commands.take()
        return found

    def on_78_insert_5k(self) -> object:
        docs = [{"_id": n, "a": n % 10} for n in range(5_000)]
        inserted = len(self.db.batch.insert_many(docs).inserted_ids)
        return [inserted, self.db.batch.count_documents({"a": 3})]

    def heavy_insert_many_100k(self) -> object:
        docs = [{"_id": n, "a": n % 10} for n in range(5_000, 105_000)]
        inserted = len(self.db.batch.insert_many(docs).inserted_ids)
        return [inserted, self.db.batch.count_documents({"a": 3})]

    def heavy_insert_maximal_messages(self) -> object:
        self.db.batch.drop()
        docs = [{"_id": n, "s": "z" * 1_000_000} for n in range(100)]
        inserted = len(self.db.batch.insert_many(docs).inserted_ids)
        total = sum(len(doc["s"]) for doc in self.db.batch.find(batch_size=40))
        self.db.batch.drop()
        self.commands.take()
        return [inserted, total]


if __name__ == "__main__":
    weight = sys.argv[2] if len(sys.argv) > 2 else "light"
    Scenario(sys.argv[1]).run(weight)

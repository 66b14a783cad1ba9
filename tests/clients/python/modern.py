"""Steps of the PyMongo scenario with what drivers and servers got since 4.2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pymongo
from bson import Int64, Timestamp
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.server_api import ServerApi
from pymongo.write_concern import WriteConcern

MAJORITY = WriteConcern("majority")


def told(error: PyMongoError) -> object:
    return [type(error).__name__, getattr(error, "details", None), sorted(error._error_labels)]


def outcome(run: Callable[[], object]) -> object:
    try:
        return run()
    except PyMongoError as error:
        return told(error)


def strict(**options: Any) -> dict[str, Any]:
    """A client of the Stable API, which takes nothing else."""
    return {"server_api": ServerApi("1", strict=True, deprecation_errors=True)} | options


class Modern:
    """What newer drivers do with newer servers."""

    client: pymongo.MongoClient[dict[str, Any]]
    commands: Any
    connect: Callable[..., pymongo.MongoClient[Any]]
    db: Any
    raw: Callable[[dict[str, Any]], object]

    # ------------------------------------------------------------------ client bulkWrite

    def modern_10_bulk_write(self) -> object:
        for name in ("m", "m2"):
            self.db.drop_collection(name)
        return self.bulk(
            InsertOne({"_id": 1, "a": 1}, namespace="app.m"),
            InsertOne({"_id": 1, "a": 1}, namespace="app.m2"),
            UpdateOne({"_id": 1}, {"$set": {"b": 1}}, namespace="app.m"),
            UpdateMany({"a": 1}, {"$inc": {"a": 1}}, namespace="app.m2"),
            ReplaceOne({"_id": 9}, {"a": 9}, namespace="app.m", upsert=True),
            DeleteOne({"_id": 9}, namespace="app.m"),
            DeleteMany({"a": 77}, namespace="app.m2"),
            verbose_results=True,
        )

    def modern_11_bulk_write_without_results(self) -> object:
        return self.bulk(InsertOne({"_id": 2}, namespace="app.m"))

    def modern_12_bulk_write_with_errors(self) -> object:
        writes = [InsertOne({"_id": n % 3 + 10}, namespace="app.m") for n in range(6)]
        return [self.bulk(*writes, ordered=ordered) for ordered in (True, False)]

    def modern_13_bulk_write_with_a_cursor(self) -> object:
        """More outcomes than one reply holds: the rest is read with getMore."""
        ids = [f"{n}{'x' * 100_000}" for n in range(200)]
        change = {"$set": {"a": 1}}
        writes = [UpdateOne({"_id": one}, change, namespace="app.m3", upsert=True) for one in ids]
        found = self.client.bulk_write(writes, verbose_results=True)
        seen = [command for command, _ in self.commands.take()]
        self.db.drop_collection("m3")
        self.commands.take()
        return [found.upserted_count, len(found.update_results), sorted(set(seen))]

    def modern_14_bulk_write_unacknowledged(self) -> object:
        with self.connect(maxPoolSize=1) as client:
            found = client.bulk_write(
                [InsertOne({"_id": n}, namespace="app.m2") for n in range(20, 30)],
                ordered=False,
                write_concern=WriteConcern(0),
            )
            return [found.acknowledged, client["app"]["m2"].count_documents({})]

    def modern_15_bulk_write_in_a_transaction(self) -> object:
        writes = [InsertOne({"_id": "t"}, namespace="app.m")]
        with self.client.start_session() as session:
            with session.start_transaction():
                inside = self.bulk(*writes, session=session, verbose_results=True)
            session.start_transaction()
            again = self.bulk(*writes, session=session)
            left = outcome(session.abort_transaction)
        return [inside, again, left, self.db.m.count_documents({"_id": "t"})]

    def bulk(self, *writes: Any, **options: Any) -> object:
        try:
            return self.client.bulk_write(list(writes), **options).bulk_api_result
        except pymongo.errors.ClientBulkWriteException as error:
            return [told(error), error.write_errors]
        except PyMongoError as error:
            return told(error)

    # ------------------------------------------------------------------ Stable API

    def modern_20_stable_api(self) -> object:
        with self.connect(**strict(event_listeners=[self.commands])) as client:
            c = client["app"]["m"]
            c.insert_many([{"_id": f"s{n}"} for n in range(20)])
            seen = [doc["_id"] for doc in c.find({}, batch_size=5).sort("_id")]
            with client.start_session() as session:
                session.with_transaction(lambda s: c.insert_one({"_id": "api"}, session=s))
                session.start_transaction()
                c.insert_one({"_id": "gone"}, session=session)
                session.abort_transaction()
            return [seen, c.count_documents({"_id": {"$in": ["api", "gone"]}})]

    def modern_21_outside_the_stable_api(self) -> object:
        with self.connect(**strict()) as client:
            admin, lsid = client["admin"], self.client.start_session().session_id
            return [
                outcome(lambda name=name, value=value: admin.command(name, value))
                for name, value in (
                    ("startSession", 1),
                    ("killSessions", [lsid]),
                    ("killAllSessions", []),
                    ("killAllSessionsByPattern", []),
                    ("refreshSessions", [lsid]),
                    ("endSessions", [lsid]),
                    ("connectionStatus", 1),
                    ("isMaster", 1),
                )
            ]

    def modern_22_other_parameters_in_a_transaction(self) -> object:
        with self.connect(server_api=ServerApi("1")) as client, client.start_session() as session:
            session.start_transaction()
            client["app"]["m"].insert_one({"_id": "mixed"}, session=session)
            fields = {"lsid": session.session_id, "autocommit": False}
            fields["txnNumber"] = Int64(session._transaction_id)
            commands: list[dict[str, Any]] = [
                {"find": "m", "$db": "app"},
                {"commitTransaction": 1, "$db": "admin"},
                {"abortTransaction": 1, "$db": "admin"},
            ]
            other = [self.raw(one | fields) for one in commands]
            return [other, outcome(session.commit_transaction)]

    # ------------------------------------------------------------------ sessions

    def modern_30_snapshot_session(self) -> object:
        """Reads at one time, however late, where a server has the history for it."""
        with self.client.start_session(snapshot=True) as session:
            first = outcome(lambda: self.db.m.count_documents({"_id": "late"}, session=session))
            self.db.m.insert_one({"_id": "late"})
            again = outcome(lambda: self.db.m.count_documents({"_id": "late"}, session=session))
            write = outcome(lambda: self.db.m.insert_one({"_id": "no"}, session=session))
        return [first, again, write]

    def modern_31_causal_consistency_across_sessions(self) -> object:
        c = self.db.get_collection(
            "m", read_concern=ReadConcern("majority"), write_concern=MAJORITY
        )
        with self.client.start_session() as one, self.connect() as other:
            c.insert_one({"_id": "caused"}, session=one)
            with other.start_session() as two:
                two.advance_cluster_time(one.cluster_time or {})
                two.advance_operation_time(one.operation_time or Timestamp(1, 1))
                found = other["app"].get_collection("m", read_concern=ReadConcern("majority"))
                return found.find_one({"_id": "caused"}, session=two)

    def modern_32_exhaust_in_a_session(self) -> object:
        with self.client.start_session() as session:
            exhaust = pymongo.CursorType.EXHAUST
            cursor = self.db.m.find({}, batch_size=3, cursor_type=exhaust, session=session)
            seen = [str(doc["_id"]) for doc in cursor.sort("_id")]
            return [seen, self.db.m.count_documents({}, session=session)]

    def modern_33_within_a_time(self) -> object:
        with pymongo.timeout(1000):
            return self.db.m.count_documents({})

    # ------------------------------------------------------------------ change streams

    def modern_40_change_stream(self) -> object:
        seen: list[Any] = []
        with self.db.watched.watch(max_await_time_ms=200) as stream:
            self.db.watched.insert_one({"_id": 1})
            self.db.watched.update_one({"_id": 1}, {"$set": {"a": 1}})
            self.read_changes(stream, seen, 2)
            token = stream.resume_token
        self.db.watched.insert_one({"_id": 2})
        with self.db.watched.watch(resume_after=token, max_await_time_ms=200) as stream:
            self.read_changes(stream, seen, 3)
        self.commands.take()
        return seen

    def modern_41_change_stream_in_a_session(self) -> object:
        seen: list[Any] = []
        with (
            self.client.start_session() as session,
            self.client.watch(session=session, max_await_time_ms=200) as stream,
        ):
            self.db.watched.insert_many([{"_id": n, "s": "x" * 1000} for n in range(10, 60)])
            self.read_changes(stream, seen, 50)
        self.commands.take()
        return seen

    def read_changes(self, stream: Any, seen: list[Any], until: int) -> None:
        while len(seen) < until:
            change = stream.try_next()
            if change is not None:
                seen.append([change["operationType"], change["documentKey"]])

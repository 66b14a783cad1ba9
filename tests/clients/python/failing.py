"""Steps of the PyMongo scenario in which commands fail, hang up or are late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pymongo
from pymongo import monitoring
from pymongo.errors import AutoReconnect, PyMongoError


class Servers(monitoring.ServerListener):
    """The server types that the driver goes through."""

    def __init__(self) -> None:
        self.changes: list[str] = []

    def opened(self, event: monitoring.ServerOpeningEvent) -> None:
        pass

    def description_changed(self, event: monitoring.ServerDescriptionChangedEvent) -> None:
        old, new = event.previous_description, event.new_description
        if old.server_type_name != new.server_type_name:
            self.changes.append(f"{old.server_type_name} to {new.server_type_name}")

    def closed(self, event: monitoring.ServerClosedEvent) -> None:
        pass


class Failing:
    """What a driver makes of failures: what it repeats, and how it judges the server."""

    client: pymongo.MongoClient[dict[str, Any]]
    commands: Any
    connect: Callable[..., pymongo.MongoClient[Any]]

    def failing(
        self,
        run: Callable[[Any], object],
        times: int = 1,
        options: dict[str, Any] | None = None,
        **fault: Any,
    ) -> object:
        """What a client of its own sees, and how it judges the server, while commands fail."""
        servers = Servers()
        with self.connect(
            event_listeners=[servers],
            appname="failing",
            heartbeatFrequencyMS=500,
            **(options or {}),
        ) as client:
            client.admin.command("ping")
            self.client.admin.command(
                "configureFailPoint", "failCommand", mode={"times": times},
                data={"appName": "failing"} | fault,
            )  # fmt: skip
            try:
                saw = run(client["app"]["c"])
            except PyMongoError as error:
                saw = [type(error).__name__, getattr(error, "details", None)]
                saw.append(sorted(error._error_labels))
            finally:
                self.client.admin.command("configureFailPoint", "failCommand", mode="off")
        return [saw, servers.changes]

    def failing_80_write_retried_after_hang_up(self) -> object:
        return self.failing(
            lambda c: c.insert_one({"_id": "f1"}).acknowledged,
            failCommands=["insert"],
            closeConnection=True,
        )

    def failing_81_write_retried_after_not_primary(self) -> object:
        return self.failing(
            lambda c: c.insert_one({"_id": "f2"}).acknowledged,
            failCommands=["insert"],
            errorCode=10107,
            errorLabels=["RetryableWriteError"],
        )

    def failing_83_read_retried_after_hang_up(self) -> object:
        return self.failing(
            lambda c: c.find_one({"_id": 1}), failCommands=["find"], closeConnection=True
        )

    def failing_84_get_more_not_retried(self) -> object:
        return self.failing(
            lambda c: len(list(c.find({}, batch_size=3))),
            failCommands=["getMore"],
            closeConnection=True,
        )

    def failing_85_write_concern_error(self) -> object:
        error = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting timed out"}
        return self.failing(
            lambda c: c.insert_one({"_id": "f4"}).acknowledged,
            failCommands=["insert"],
            writeConcernError=error,
        )

    def failing_86_commit_retried_after_hang_up(self) -> object:
        return self.failing(
            self.transaction, failCommands=["commitTransaction"], closeConnection=True
        )

    def failing_87_transaction_retried_after_hang_up(self) -> object:
        return self.failing(self.transaction, failCommands=["update"], closeConnection=True)

    def failing_89_slow_reply_timed_out(self) -> object:
        # A slow machine, where the second attempt or a ping is not in time either, gets more of it.
        saw: object = None
        for patience in (300, 3_000, 30_000, 90_000):
            self.commands.take()
            try:
                saw = self.failing(
                    lambda c: c.update_one({"_id": 1}, {"$set": {"slow": 1}}).acknowledged,
                    options={"socketTimeoutMS": patience},
                    failCommands=["update"],
                    blockConnection=True,
                    blockTimeMS=patience * 3,
                )
            except AutoReconnect as error:
                saw = repr(error)
            if isinstance(saw, list) and saw[0] is True:
                break
        return saw

    def transaction(self, c: Any) -> object:
        attempts: list[int] = []

        def body(session: Any) -> None:
            attempts.append(1)
            c.update_one({"_id": 1}, {"$inc": {"t": 1}}, session=session)

        with c.database.client.start_session() as session:
            session.with_transaction(body)
        return [len(attempts), c.find_one({"_id": 1}, {"t": 1})]

    def failing_90_commit_whose_outcome_is_unknown(self) -> object:
        """Shutting down, twice: the commit is repeated with a majority, whatever it was before."""
        return self.failing(
            self.transaction, times=2, failCommands=["commitTransaction"], errorCode=91
        )

    def failing_91_conflict_in_a_transaction(self) -> object:
        return self.failing(
            self.transaction,
            times=2,
            failCommands=["update"],
            errorCode=112,
            errorLabels=["TransientTransactionError"],
        )

    def failing_92_abort_that_fails(self) -> object:
        def run(c: Any) -> object:
            with c.database.client.start_session() as session:
                session.start_transaction()
                c.update_one({"_id": 1}, {"$inc": {"t": 1}}, session=session)
                session.abort_transaction()
                return c.find_one({"_id": 1}, {"t": 1}, session=session)

        return self.failing(run, failCommands=["abortTransaction"], closeConnection=True)

    def failing_93_read_retried_while_shutting_down(self) -> object:
        return self.failing(
            lambda c: list(c.aggregate([{"$match": {"_id": 1}}])),
            failCommands=["aggregate"],
            errorCode=11600,
        )

    def failing_94_too_busy(self) -> object:
        """What 8.2 answers beyond its rate: nothing was done, and drivers may ask again."""
        return self.failing(
            lambda c: c.find_one({"_id": 1}),
            failCommands=["find"],
            errorCode=462,
            errorLabels=["SystemOverloadedError", "RetryableError"],
        )

    def failing_95_in_a_session_of_ones_own(self) -> object:
        """A session whose connection was lost is used on, and ended, all the same."""

        def run(c: Any) -> object:
            with c.database.client.start_session() as session:
                c.insert_one({"_id": "f5"}, session=session)
                return c.find_one({"_id": "f5"}, session=session)

        return self.failing(run, failCommands=["insert"], closeConnection=True)

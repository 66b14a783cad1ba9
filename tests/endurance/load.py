"""What an application does with a driver, over and over: PyMongo in threads of its own."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pymongo
from pymongo.errors import AutoReconnect, OperationFailure

from tests.endurance.secure import Secured, uri


class Client(pymongo.MongoClient[dict[str, Any]]):
    """``tls`` are the options by which others reach the same program."""

    def __init__(self, uri: str, tls: dict[str, Any], **options: Any) -> None:
        self.tls = tls
        super().__init__(uri, **tls, **options)


def _find(client: Client, chance: random.Random) -> None:
    list(client.shop.orders.find({"n": {"$lt": chance.randrange(50)}}, batch_size=10))


def _write(client: Client, chance: random.Random) -> None:
    client.shop.orders.update_one(
        {"n": chance.randrange(50)}, {"$set": {"at": chance.random()}}, upsert=True
    )


def _transaction(client: Client, chance: random.Random) -> None:
    def both(session: Any) -> None:
        client.shop.stock.insert_one({"x": chance.random()}, session=session)
        client.shop.moves.insert_one({"x": chance.random()}, session=session)

    with client.start_session() as session:
        session.with_transaction(both)


def _session_control(client: Client, chance: random.Random) -> None:
    made = client.admin.command("startSession")
    client.admin.command("refreshSessions", [made["id"]])
    client.admin.command("endSessions", [made["id"]])


def _tidy(client: Client, chance: random.Random) -> None:
    client.shop.stock.delete_many({})
    client.shop.moves.delete_many({})


def _refused(client: Client, chance: random.Random) -> None:
    try:
        client.admin.command("killSessions", [{"id": chance.randrange(9)}])
    except OperationFailure:
        return
    raise AssertionError("it was not refused")


def _come_and_go(client: Client, chance: random.Random) -> None:
    for host, port in client.nodes:  # none while no server is known
        _say_hello(host, port, client.tls)


def _say_hello(host: str, port: int | None, tls: dict[str, Any]) -> None:
    options = {"directConnection": True, "appname": "passing", **tls}
    with pymongo.MongoClient(host, port, **options) as other:
        other.admin.command("ping")


#: What consists of commands that no driver runs again by itself when a connection ends: getMore,
#: writes of many documents, and whatever is sent by ``command``.
NOT_RUN_AGAIN = (_find, _session_control, _tidy, _refused, _come_and_go)

KINDS = (_find, _find, _find, _write, _write, _transaction, _session_control, _refused)
SELDOM = (_tidy, _come_and_go)


@dataclass
class Load:
    """Threads that work inside a ``with``.

    ``errors`` are what the application would have seen; ``cut`` counts what it had to run again
    itself because a connection ended (see :data:`NOT_RUN_AGAIN`). ``secured`` where clients have
    TLS; ``compressor`` is what this one offers.
    """

    port: int
    threads: int = 8
    seed: int = 1
    secured: Secured | None = None
    compressor: str = ""
    done: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    cut: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._working: list[threading.Thread] = []
        secured = self.secured
        self._client = Client(
            uri(self.port, compressor=self.compressor),
            {} if secured is None else {"tls": True, "tlsCAFile": str(secured.authority)},
            appname="endurance",
            serverSelectionTimeoutMS=120_000,
            heartbeatFrequencyMS=500,
            maxPoolSize=self.threads,
        )

    def __enter__(self) -> Load:
        for number in range(self.threads):
            thread = threading.Thread(target=self._work, args=(number,), daemon=True)
            thread.start()
            self._working.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._working:
            thread.join()
        self._client.close()

    def wait(self, more: int) -> None:
        """Until so many further operations are done."""
        goal = self.done.total() + more
        while self.done.total() < goal and any(t.is_alive() for t in self._working):
            self._stop.wait(0.01)

    def _work(self, number: int) -> None:
        chance = random.Random(f"{self.seed} {number}")
        while not self._stop.is_set():
            kinds = SELDOM if chance.random() < 0.02 else KINDS
            kind = chance.choice(kinds)
            try:
                kind(self._client, chance)
            except Exception as error:  # whatever it is, the application would have seen it
                if isinstance(error, AutoReconnect) and kind in NOT_RUN_AGAIN:
                    self.cut += 1
                    continue
                self.errors.append(f"{kind.__name__}: {error!r}"[:500])
            self.done[kind.__name__.strip("_")] += 1

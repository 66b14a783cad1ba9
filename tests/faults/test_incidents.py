"""Real drivers in bad weather: what they do of their own accord is no incident, and a session that
two processes share is one soon."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pymongo
import trio

from proxy.addresses import Address
from proxy.embedded import EmbeddedUpstream
from proxy.process.server import Running
from proxy.wire.proxy_header import header_for
from tests.end_to_end.tools import Log, proxy_before, pymongo_at
from tests.observe.test_gauges import Read
from tests.patience import PATIENCE
from tests.running import in_time, port_of

ROOT = Path(__file__).parents[2]

#: Three of a kind, and the alert fires.
ALERTING = 3


class Balancer:
    """A balancer with several nodes. Each connection comes from the next of ``nodes`` by its PROXY
    header; that a client has hung up a node notices ``late``: when upstream has answered."""

    def __init__(self, behind: int, *, nodes: int = 2, late: bool = False) -> None:
        self._behind = behind
        self._nodes = nodes
        self._late = late
        self.connections = 0

    async def serve(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = int(listeners[0].socket.getsockname()[1])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._handle, listeners)
            task_status.started(port)

    async def _handle(self, client: trio.SocketStream) -> None:
        node = self.connections % self._nodes
        self.connections += 1
        server = await trio.open_tcp_stream("127.0.0.1", self._behind)
        source = Address(f"192.0.2.{1 + node}", 40_000 + self.connections)
        await server.send_all(header_for(source, Address("198.51.100.1", 27017)))
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._back, server, client, nursery.cancel_scope)
            with_errors = (trio.BrokenResourceError, trio.ClosedResourceError)
            try:
                async for data in client:
                    await server.send_all(data)
            except with_errors:
                pass
            if not self._late:
                nursery.cancel_scope.cancel()

    async def _back(
        self, server: trio.SocketStream, client: trio.SocketStream, both: trio.CancelScope
    ) -> None:
        try:
            async for data in server:
                await client.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        both.cancel()


class Scene:
    """A proxy before an embedded upstream, and what clients connect to."""

    def __init__(self, running: Running, upstream: EmbeddedUpstream, port: int, log: Log) -> None:
        self.running = running
        self.upstream = upstream
        self.log = log
        self.uri = f"mongodb://127.0.0.1:{port}/?directConnection=true"

    def counted(self, name: str, **labels: str) -> float:
        found = Read(self.running.server.telemetry.page())(name, **labels)
        return found or 0.0

    def incidents(self) -> dict[str, float]:
        page = Read(self.running.server.telemetry.page())
        return {
            dict(labels)["kind"]: value
            for (name, *labels), value in page.values.items()
            if name == "session_incidents_total" and value
        }

    def fails(self, *commands: str, times: int, **how: Any) -> None:
        """Upstream fails so, from now on."""
        uri = f"mongodb://{self.upstream.address}/?directConnection=true"
        with pymongo.MongoClient(uri) as one:
            one.admin.command(
                {
                    "configureFailPoint": "failCommand",
                    "mode": {"times": times},
                    "data": {"failCommands": list(commands), **how},
                }
            )


@asynccontextmanager
async def scene(*, late: bool = False, nodes: int = 2) -> AsyncIterator[Scene]:
    upstream, log = EmbeddedUpstream(version="8.0"), Log()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve)
        listen = {"proxy_protocol": "require"}
        async with proxy_before(port, log=log, listen=listen) as running:
            balancer = Balancer(port_of(running), nodes=nodes, late=late)
            yield Scene(running, upstream, await nursery.start(balancer.serve), log)
        nursery.cancel_scope.cancel()


def works(client: pymongo.MongoClient[dict[str, Any]], first: int = 0, rounds: int = 10) -> None:
    """What applications do, one thing after the other."""
    shop = client.shop
    for number in range(first, first + rounds):
        shop.orders.insert_one({"n": number, "who": first})
        list(shop.orders.find({"who": first}, batch_size=3).limit(7))
        shop.orders.update_one({"n": number}, {"$inc": {"seen": 1}})
        with client.start_session() as session:
            shop.orders.find_one({"n": number}, session=session)
            shop.orders.insert_one({"n": -number, "who": first}, session=session)

            def paid(one: Any, n: int = number) -> None:
                shop.orders.update_one({"n": n}, {"$set": {"paid": True}}, session=one)
                shop.stock.insert_one({"n": n}, session=one)

            session.with_transaction(paid)
        shop.orders.find(batch_size=2).next()  # and leaves it


@in_time
async def test_one_process_behind_two_nodes_of_a_balancer() -> None:
    async with scene() as here, pymongo_at(here.uri, appname="shop") as driver:
        async with trio.open_nursery() as nursery:
            for first in (0, 100, 200):
                nursery.start_soon(driver.run, lambda client, first=first: works(client, first))
        rows = [row for row in here.running.server.connections() if row["requests"] > 2]
        assert len({row["client"].rpartition(":")[0] for row in rows}) == 2
        assert here.incidents() == {}


@in_time
async def test_a_driver_that_does_not_wait_for_slow_answers() -> None:
    # What it asked first still runs, and is answered, when it has asked again elsewhere.
    for late in (False, True):
        async with (
            scene(late=late) as here,
            pymongo_at(here.uri, appname="shop", socketTimeoutMS=300) as driver,
        ):
            for command in ("insert", "update", "find", "findAndModify"):
                await trio.to_thread.run_sync(
                    lambda name=command: here.fails(
                        name, times=1, blockConnection=True, blockTimeMS=450
                    )
                )
                await driver.run(lambda client: works(client, rounds=2))
                await driver.run(lambda client: client.shop.orders.find_one_and_delete({}))
            await trio.to_thread.run_sync(
                lambda: here.fails(
                    "commitTransaction", times=1, blockConnection=True, blockTimeMS=450
                )
            )
            await driver.run(lambda client: works(client, rounds=2))
            assert here.incidents() == {}
            assert here.counted("retryable_write_replays_total") >= 2 * late


@in_time
async def test_a_driver_that_asks_again_after_an_election() -> None:
    async with scene() as here, pymongo_at(here.uri, appname="shop") as driver:
        for how in (
            {"errorCode": 10107, "errorLabels": ["RetryableWriteError"]},
            {"errorCode": 11600, "errorLabels": ["RetryableWriteError"]},
            {"closeConnection": True},
        ):
            for command in ("insert", "commitTransaction"):
                await trio.to_thread.run_sync(
                    lambda name=command, how=how: here.fails(name, times=1, **how)
                )
                await driver.run(lambda client: works(client, rounds=2))
        assert here.incidents() == {}


SHARING = """
import contextlib, sys, pymongo
from bson import Binary
uri, what, rounds = sys.argv[1:]
client = pymongo.MongoClient(uri, appname="shop")
client.admin.command("ping")
print("here", flush=True)
sys.stdin.readline()
with client.start_session() as session:
    session._materialize(30)
    session._server_session.session_id = {"id": Binary(bytes(range(16)), 4)}
    for number in range(int(rounds)):
        # TransactionTooOld
        with contextlib.suppress(pymongo.errors.OperationFailure):
            if what == "insert":
                client.shop.orders.insert_one({"n": number}, session=session)
            else:
                client.shop.orders.find_one({"n": number}, session=session)
"""


def share(uri: str, what: str, rounds: int) -> None:
    """Two processes of the same application use the same session at the same time."""
    command = [sys.executable, "-c", SHARING, uri, what, str(rounds)]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for one in both:
        assert one.stdout is not None
        assert one.stdout.readline() == b"here\n"
    for one in both:
        assert one.stdin is not None
        one.stdin.write(b"\n")
        one.stdin.flush()
    for one in both:
        one.communicate(timeout=PATIENCE)
    assert [one.returncode for one in both] == [0, 0]


@in_time
async def test_two_processes_that_write_under_one_session() -> None:
    async with scene(nodes=1) as here:
        await trio.to_thread.run_sync(share, here.uri, "insert", 20)
        found = here.incidents()
        # One may be ahead of the other, and then upstream notices.
        assert found["txn_number_reused"] + found.get("txn_number_backwards", 0) >= ALERTING
        line = await here.log.line("txnNumber used twice")
        assert (line["application"], line["client"]) == ("shop", "192.0.2.1")
        assert "does not carry it out" in line["reason"]


@in_time
async def test_two_processes_that_read_under_one_session() -> None:
    async with scene(nodes=1) as here:
        await trio.to_thread.run_sync(
            lambda: here.fails("find", times=200, blockConnection=True, blockTimeMS=5)
        )
        await trio.to_thread.run_sync(share, here.uri, "find", 60)
        assert here.incidents()["concurrent"] >= ALERTING


@in_time
async def test_tasks_that_share_a_transaction() -> None:
    def all_at_once(client: pymongo.MongoClient[dict[str, Any]]) -> None:
        with client.start_session() as session, ThreadPoolExecutor(4) as pool:
            session.start_transaction()
            client.shop.orders.insert_one({"n": 0}, session=session)
            for one in [
                pool.submit(client.shop.orders.insert_one, {"n": number}, session=session)
                for number in range(1, 5)
            ]:
                one.exception()
            session.abort_transaction()

    async with scene() as here, pymongo_at(here.uri, appname="shop") as driver:
        await driver.run(lambda client: client.shop.create_collection("orders"))
        await trio.to_thread.run_sync(
            lambda: here.fails("insert", times=4, blockConnection=True, blockTimeMS=50)
        )
        await driver.run(all_at_once)
        assert here.incidents()["concurrent_in_transaction"] >= 1
        line = await here.log.line("transaction used for two things at once")
        assert line["reason"].endswith("both in transaction 1")

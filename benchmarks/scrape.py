"""How long a scrape of the metrics takes, and for how long it holds the loop.

    python -m benchmarks.scrape [connections [sessions]]

One process: a recording upstream, the proxy in front of it with its admin endpoint, and the
clients (1,000 and 100,000 unless told otherwise). The sessions are those of 10,000 users and as
many applications, half of them used again since, 2,000 with an open transaction; every command,
error and reason that can have a label has one. A task that wants its turn every millisecond
notes how long it had to wait.
"""

from __future__ import annotations

import gc
import resource
import sys
from time import perf_counter

import trio

from proxy.observe.code_names import CODE_NAMES
from proxy.observe.labels import COMMANDS
from proxy.process.server import Running
from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.info import OperationSessionInfo
from proxy.session.transactions import Outcome, Step
from tests.running import Client, recording

USERS = 10_000
TRANSACTIONS = 2_000
ROUNDS = 10


def fill(running: Running, sessions: int, now: float) -> None:
    """Sessions as of many users, and something under every label."""
    store, telemetry = running.server.clusters[0].sessions_shared.store, running.server.telemetry
    for number in range(sessions):
        user = number % USERS
        lsid = LogicalSessionId(number.to_bytes(16, "big"), user.to_bytes(32, "big"))
        origin = Origin(f"10.0.{user % 200}.1", f"application{user}", f"driver{user % 30}", "1")
        session = store.use(lsid, now - number % 1500, f"user{user}@app", origin)
        if session is not None and number < TRANSACTIONS:
            info = OperationSessionInfo(lsid, 1, False, True)
            store.transaction_step(session, Step.START, Outcome.OK, info, now - 5.0, "a:1")
        if number % 2:
            store.use(lsid, now)
    for name in (*COMMANDS, "unknown"):
        telemetry.request(name)
        telemetry.replied(name, 0.001, True)
        telemetry.replied(name, 0.1, False)
    for code in CODE_NAMES:
        telemetry.failed(code, "upstream")
        telemetry.failed(code, "proxy")
    for number in range(100):
        origin = Origin("h", f"application{number}", "driver", "1")
        telemetry.incident("shared", f"user{number}@app", origin, now)
        telemetry.rule_incident("ownership", "refused", f"user{number}@app", origin, now)
        telemetry.violation(str(number))
        telemetry.connection_closed(str(number))
        telemetry.rejected(str(number))
        telemetry.malformed(str(number))


async def scrape(port: int) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        return b"".join([bytes(chunk) async for chunk in stream])


async def main(connections: int, sessions: int) -> None:
    async with recording(admin={"address": "127.0.0.1:0"}) as (_, running):
        assert running.admin is not None
        port = int(running.admin.rpartition(":")[2])
        fill(running, sessions, trio.current_time())
        clients = [await Client.connect(running) for _ in range(connections)]
        for client in clients:
            await client.ping("here")
        gc.collect()
        gc.freeze()
        waits: list[float] = []

        async def want_a_turn() -> None:
            while True:
                due = perf_counter() + 0.001
                await trio.sleep(0.001)
                waits.append(perf_counter() - due)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(want_a_turn)
            for _ in range(ROUNDS):
                waits.clear()
                began = perf_counter()
                page = await scrape(port)
                seconds = perf_counter() - began
                series = sum(1 for line in page.splitlines() if line[:6] in (b"mongo_", b"proces"))
                print(
                    f"{seconds * 1e3:6.1f} ms, the loop held for {max(waits) * 1e3:4.1f} ms at"
                    f" most, {series} series, {len(page):,} bytes"
                )
            nursery.cancel_scope.cancel()
        for client in clients:
            await client.close()


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    wanted = [int(argument) for argument in sys.argv[1:]] + [1_000, 100_000][len(sys.argv) - 1 :]
    trio.run(main, *wanted)

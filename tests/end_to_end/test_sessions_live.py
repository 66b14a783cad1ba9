"""Sessions over real sockets: what crosses connections, happens by itself or is written down."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import bson
import trio
from bson import Binary, Int64
from trio.testing import MockClock

from proxy import logs
from proxy.embedded import EmbeddedUpstream
from proxy.process import server
from proxy.process.server import Running
from proxy.session.store import SessionStore
from proxy.settings.config import Config, load
from proxy.wire.replies import read_reply
from tests.build import command
from tests.patience import until
from tests.running import Client, in_time


@dataclass
class Live:
    """A running proxy; ``tables`` may be changed before a reload."""

    running: Running
    tables: dict[str, Any]
    clients: list[Client] = field(default_factory=list)

    @property
    def store(self) -> SessionStore:
        return self.running.server.clusters[0].sessions_shared.store

    async def connect(self) -> Client:
        self.clients.append(await Client.connect(self.running))
        return self.clients[-1]


@asynccontextmanager
async def embedded(**tables: Any) -> AsyncIterator[Live]:
    """A proxy before an embedded upstream."""
    logs.configure("text", "error")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(EmbeddedUpstream(set_name="rs0").serve, "127.0.0.1", 0)
        tables = {
            "listen": {"address": "127.0.0.1:0"},
            "upstream": {"address": f"127.0.0.1:{port}"},
            "admin": {"address": ""},
            **tables,
        }

        def reload() -> Config:
            return load(None, tables)

        live = Live(await nursery.start(partial(server.serve, load(None, tables), reload)), tables)
        try:
            yield live
        finally:
            for client in live.clients:
                await client.close()
        nursery.cancel_scope.cancel()


async def run(client: Client, name: str, value: Any = 1, /, *, db: str = "app", **more: Any) -> Any:
    answer = await client.ask(command({name: value, **more, "$db": db}, 7))
    return None if answer is None else bson.decode(read_reply(answer).body_bytes())


def new_lsid() -> dict[str, Any]:
    return {"id": Binary(uuid4().bytes, 4)}


@in_time
async def test_an_emulated_kill_interrupts_an_operation_in_flight() -> None:
    async with embedded(sessions={"commands": "emulated"}) as live:
        victim, killer = await live.connect(), await live.connect()
        lsid = new_lsid()
        await run(victim, "ping", lsid=lsid)
        await victim.send(command({"sleep": 1, "secs": 600, "lsid": lsid, "$db": "admin"}, 3))
        await until(lambda: any(session.activity for session in live.store.page().sessions))
        assert (await run(killer, "killSessions", [lsid], db="admin"))["ok"] == 1.0
        answer = await victim.receive()
        assert answer is not None
        reply = read_reply(answer)
        assert (reply.response_to, bson.decode(reply.body_bytes())["code"]) == (3, 11601)
        assert await victim.receive() is None, "the connection goes with the operation"
        again = await live.connect()
        assert (await run(again, "ping", lsid=lsid))["ok"] == 1.0, "the session goes on"


@in_time
async def test_an_emulated_kill_closes_cursors_and_aborts_transactions() -> None:
    async with embedded(sessions={"commands": "emulated"}) as live:
        client, killer = await live.connect(), await live.connect()
        lsid = new_lsid()
        documents = [{"_id": number} for number in range(9)]
        await run(client, "insert", "c", documents=documents)
        found = await run(client, "find", "c", batchSize=2, lsid=lsid)
        cursor = found["cursor"]["id"]
        txn = {"lsid": new_lsid(), "txnNumber": Int64(1), "autocommit": False}
        await run(client, "insert", "c", documents=[{"_id": 99}], startTransaction=True, **txn)
        assert (await run(killer, "killAllSessions", [], db="admin"))["ok"] == 1.0
        more = await run(client, "getMore", cursor, collection="c", lsid=lsid)
        assert more["code"] == 43
        commit = await run(client, "commitTransaction", db="admin", **txn)
        assert commit["code"] == 251
        assert (await run(client, "count", "c"))["n"] == 9


@in_time
async def test_an_idle_transaction_is_aborted_upstream(clock: MockClock) -> None:
    guard = {"transaction_guard": {"idle_seconds": 60}}
    async with embedded(policies=guard) as live:
        client, other = await live.connect(), await live.connect()
        await run(other, "ping")
        txn = {"lsid": new_lsid(), "txnNumber": Int64(1), "autocommit": False}
        await run(client, "insert", "c", documents=[{"_id": 1}], startTransaction=True, **txn)
        assert live.store.open_transactions == 1
        clock.jump(60)
        await until(lambda: not live.store.open_transactions)
        # The document is free again: nobody has to wait for the transaction's end.
        assert (await run(other, "insert", "c", documents=[{"_id": 1}]))["n"] == 1
        late = await run(client, "find", "c", **txn)
        assert late["code"] == 251
        assert late["errorLabels"] == ["TransientTransactionError"]


@in_time
async def test_a_late_statement_is_answered_so_that_drivers_try_again(clock: MockClock) -> None:
    guard = {"transaction_guard": {"total_seconds": 60}}
    async with embedded(policies=guard) as live:
        client = await live.connect()
        txn = {"lsid": new_lsid(), "txnNumber": Int64(1), "autocommit": False}
        await run(client, "insert", "c", documents=[{"_id": 1}], startTransaction=True, **txn)
        clock.jump(60)
        late = await run(client, "insert", "c", documents=[{"_id": 2}], **txn)
        assert late["code"] == 251
        assert late["errorLabels"] == ["TransientTransactionError"]
        assert (await run(client, "ping"))["ok"] == 1.0


@in_time
async def test_rules_are_reloaded_and_a_bad_file_changes_nothing() -> None:
    async with embedded(policies={"session_budget": {"per_application": 1}}) as live:
        client = await live.connect()
        metadata = {
            "application": {"name": "shop"},
            "driver": {"name": "raw", "version": "1"},
            "os": {"type": "test"},
        }
        await run(client, "hello", db="admin", client=metadata)
        assert (await run(client, "ping", lsid=new_lsid()))["ok"] == 1.0
        assert (await run(client, "ping", lsid=new_lsid()))["code"] == 261
        live.tables["policies"] = {"session_budget": {"per_application": -1}}
        live.running.server.reload()
        assert (await run(client, "ping", lsid=new_lsid()))["code"] == 261
        live.tables["policies"] = {"session_budget": {"per_application": 2}}
        live.running.server.reload()
        assert (await run(client, "ping", lsid=new_lsid()))["ok"] == 1.0
        assert (await run(client, "ping", lsid=new_lsid()))["code"] == 261


@in_time
async def test_decisions_are_written_down(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    async with embedded(audit={"file": str(log)}) as live:
        client = await live.connect()
        lsid = new_lsid()
        await run(client, "ping", lsid=lsid)
        await run(client, "killSessions", [lsid], db="admin")
        await run(client, "killSessions", [None], db="admin")
        write = {"lsid": lsid, "txnNumber": Int64(1), "stmtIds": [2, 1]}
        refused = await run(client, "insert", "c", documents=[{}, {}], **write)
        assert refused["code"] == 2
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [(line["command"], line["decision"], line["rule"], line["targets"]) for line in lines]
    assert told == [
        ("killSessions", "done", None, 1),
        ("killSessions", "refused", None, None),
        ("insert", "refused", "stmt_ids", None),
    ]
    for line in lines:
        assert {"time", "conn", "user", "client", "reason"} <= line.keys()


@in_time
async def test_listed_sessions_are_those_the_proxy_knows() -> None:
    async with embedded() as live:
        client = await live.connect()
        for _ in range(5):
            await run(client, "ping", lsid=new_lsid())
        await run(client, "startSession", db="admin")
        stages = [{"$listLocalSessions": {}}]
        listed = await run(client, "aggregate", 1, db="admin", pipeline=stages, cursor={})
        upstreams = {bytes(entry["_id"]["id"]) for entry in listed["cursor"]["firstBatch"]}
        assert {session.id for session in live.store.page().sessions} == upstreams
        assert len(upstreams) == 6

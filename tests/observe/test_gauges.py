"""What a running proxy says of itself, read from the page that it serves."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from bson import Binary
from prometheus_client.parser import text_string_to_metric_families

from proxy.errors import ConfigError
from proxy.observe.families import PREFIX
from proxy.observe.labels import COMMANDS
from proxy.observe.scraping import metrics_page
from proxy.process.server import Running
from proxy.session.ids import LogicalSessionId, Origin
from proxy.settings.config import load
from tests.build import command
from tests.running import Client, in_time, ping, proxied, recording
from tests.upstreams import Seen, answered, document, echo

LSID = {"id": Binary(bytes(15) + b"\1", 4)}


class Read:
    """The series of one page."""

    def __init__(self, page: tuple[str, bytes]) -> None:
        self.values: dict[Any, float] = {}
        for family in text_string_to_metric_families(page[1].decode()):
            for sample in family.samples:
                key = (sample.name.removeprefix(PREFIX), *sorted(sample.labels.items()))
                assert key not in self.values
                self.values[key] = sample.value

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.values.get((name, *sorted(labels.items())))


def read(running: Running) -> Read:
    return Read(running.server.telemetry.page())


def held(seen: Seen, frame: bytes) -> Any:
    """Answers everything but what is to be held."""
    return () if document(frame).get("mark") == "held" else echo(seen, frame)


def duplicate(seen: Seen, frame: bytes) -> Any:
    """Answers what is marked with an error."""
    if "mark" not in document(frame):
        return echo(seen, frame)
    return (answered(frame, {"ok": 0.0, "code": 11000, "codeName": "DuplicateKey"}),)


@in_time
async def test_connections_by_state() -> None:
    async with recording() as (upstream, running):
        upstream.answer = held
        where = str(running.server.clusters[0].topology.targets()[0])
        silent, idle, busy = [await Client.connect(running) for _ in range(3)]
        await idle.ping("idle")
        await busy.ping("first")
        await busy.send(ping("held"))
        await upstream.bringing("held")
        found = read(running)
        assert found("client_connections", state="starting") == 1
        assert found("client_connections", state="idle") == 1
        assert found("client_connections", state="active") == 1
        assert found("client_connections", state="monitoring") == 0
        assert found("client_connections_accepted_total") == 3
        assert found("upstream_connections", upstream=where, state="idle") == 1
        assert found("upstream_connections", upstream=where, state="active") == 1
        assert found("upstream_connections", upstream="other", state="idle") == 0
        assert found("upstream_connects_total", result="ok") == 2
        assert found("upstream_connect_duration_seconds_count") == 2
        assert found("requests_in_flight") == 1
        assert found("connections_limit", side="client") == 10_000
        assert found("requests_total", command="ping") == 3
        assert found("replies_total", command="ping", result="ok") == 2
        assert (found("inside_duration_seconds_count", leg="request") or 0) >= 3
        assert (found("inside_duration_seconds_count", leg="reply") or 0) >= 2
        assert (found("inside_duration_seconds_sum", leg="request") or 0) > 0
        assert found("received_bytes_total", side="client") == found(
            "sent_bytes_total", side="upstream"
        )
        for client in (silent, idle, busy):
            await client.close()


@in_time
async def test_an_upstream_that_does_not_answer() -> None:
    async with proxied(1, upstream={"address": "127.0.0.1:1", "watch_seconds": 0.05}) as running:
        client = await Client.connect(running)
        await client.send(ping("anybody?"))
        assert await client.receive() is None
        found = read(running)
        assert found("upstream_up", upstream="127.0.0.1:1") == 0
        assert found("upstream_connects_total", result="failed") == 1
        await client.close()


@in_time
async def test_an_upstream_that_answers() -> None:
    async with recording() as (_, running):
        client = await Client.connect(running)
        await client.ping("there")
        where = str(running.server.clusters[0].topology.targets()[0])
        assert read(running)("upstream_up", upstream=where) == 1
        assert read(running)("upstream_primary", upstream=where) == 0
        await client.close()


@in_time
async def test_errors_by_who_refused() -> None:
    async with recording() as (upstream, running):
        upstream.answer = duplicate
        client = await Client.connect(running)
        await client.ask(ping("fails"))
        found = read(running)
        assert found("errors_total", code_name="DuplicateKey", source="upstream") == 1
        assert found("replies_total", command="ping", result="error") == 1
        assert found("user_connections", user="", application="") == 1
        await client.close()


@in_time
async def test_what_rules_refuse_is_named_with_its_author() -> None:
    budget = {"session_budget": {"per_application": 1}}
    async with recording(policies=budget) as (_, running):
        client = await Client.connect(running)
        metadata = {"application": {"name": "shop"}, "driver": {"name": "PyMongo", "version": "4"}}
        await client.ask(command({"hello": 1, "client": metadata, "$db": "admin"}, 1))
        for number in range(3):
            lsid = {"id": Binary(bytes(15) + bytes((number,)), 4)}
            await client.ask(command({"ping": 1, "lsid": lsid, "$db": "admin"}, 2 + number))
        found = read(running)
        who = {"kind": "refused", "rule": "session_budget"}
        who |= {"user": "", "application": "shop", "driver": "PyMongo", "driver_version": "4"}
        assert found("rule_decisions_total", rule="session_budget", decision="refused") == 2
        assert found("errors_total", code_name="TooManyLogicalSessions", source="proxy") == 2
        when = found("incident_last_timestamp_seconds", **who)
        assert when is not None
        assert abs(when - time.time()) < 60
        assert found("application_sessions", application="shop") == 1
        assert found("session_budget_used_ratio", scope="application") == 1
        assert found("rule_info", rule="session_budget", mode="enforce") == 1
        await client.close()


@in_time
async def test_incidents_are_counted_and_named() -> None:
    async with recording() as (upstream, running):
        upstream.answer = held
        clients = [await Client.connect(running) for _ in range(2)]
        for client, name in zip(clients, ("one", "two"), strict=True):
            metadata = {"application": {"name": name}, "driver": {"name": "d", "version": "1"}}
            await client.ask(command({"hello": 1, "client": metadata, "$db": "admin"}, 1))
        pinging = {"ping": 1, "lsid": LSID, "$db": "admin"}
        await clients[0].send(command({**pinging, "mark": "held"}, 2))
        seen = await upstream.bringing("held")
        await clients[1].ask(command(pinging, 3))
        await seen.stream.send_all(answered(seen.frames[-1], {"ok": 1.0}))
        assert await clients[0].receive()
        # Both connections go on.
        await clients[0].ask(command(pinging, 4))
        await clients[1].ask(command(pinging, 5))
        found = read(running)
        for kind, count in (("shared", 2), ("concurrent", 1)):
            assert found("session_incidents_total", kind=kind) == count
            who = {"kind": kind, "rule": "", "user": "", "application": "two", "driver": "d"}
            who["driver_version"] = "1"
            assert found("incident_last_timestamp_seconds", **who) is not None
        for client in clients:
            await client.close()


@in_time
async def test_reload_and_draining() -> None:
    async with recording(admin={"address": "127.0.0.1:0"}) as (upstream, running):
        upstream.answer = held
        server = running.server
        assert read(running)("config_last_reload_successful") == 1

        def fails() -> Any:
            raise ConfigError(["no"])

        server._reload = fails
        before = read(running)("config_last_reload_success_timestamp_seconds")
        server.reload()
        assert read(running)("config_last_reload_successful") == 0
        assert read(running)("config_last_reload_success_timestamp_seconds") == before
        server._reload = lambda: load(None, {"limits": {"connections": 7}})
        server.reload()
        assert read(running)("config_last_reload_successful") == 1
        assert read(running)("connections_limit", side="client") == 7

        client = await Client.connect(running)
        await client.send(ping("held"))
        await upstream.bringing("held")
        server.stop()
        while not server.draining():
            await trio.lowlevel.checkpoint()
        assert running.admin is not None
        async with await trio.open_tcp_stream(
            "127.0.0.1", int(running.admin.rpartition(":")[2])
        ) as stream:
            await stream.send_all(
                b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            body = b"".join([bytes(chunk) async for chunk in stream])
        assert b"\nmongo_session_proxy_draining 1.0\n" in body
        await client.close()


@in_time
async def test_the_whole_page_has_a_bound() -> None:
    async with recording() as (_, running):
        server, now = running.server, trio.current_time()
        store, telemetry = server.clusters[0].sessions_shared.store, server.telemetry
        for number in range(10_000):
            lsid = LogicalSessionId(number.to_bytes(16, "big"), bytes(32))
            origin = Origin("h", f"app{number}", f"driver{number}", "1")
            store.use(lsid, now, f"user{number}@app", origin)
            if number < 100:
                telemetry.incident("shared", f"user{number}@app", origin, now)
                telemetry.rule_incident(
                    f"rule{number}", "refused", f"user{number}@app", origin, now
                )
        for number in range(1_000):
            for name in (f"command{number}", *(COMMANDS if number == 0 else ())):
                telemetry.request(name)
                telemetry.replied(name, 0.1, True)
                telemetry.replied(name, 0.1, False)
            telemetry.failed(number, "upstream")
            telemetry.failed(number, "proxy")
            telemetry.violation(str(number))
            telemetry.connection_closed(str(number))
            telemetry.rejected(str(number))
            telemetry.not_connected(str(number))
            telemetry.malformed(str(number))
            for decision in ("refused", "reported", "aborted", "failed"):
                telemetry.ruled(f"rule{number}", decision)
        found = Read(await metrics_page(telemetry))
        assert found("sessions") == 10_000
        assert 1_500 < len(found.values) <= 2_500


@in_time
async def test_others_have_their_turn_while_a_page_is_made() -> None:
    async with recording() as (_, running):
        store, now = running.server.clusters[0].sessions_shared.store, trio.current_time()
        for number in range(10_000):
            lsid = LogicalSessionId(number.to_bytes(16, "big"), bytes(32))
            store.use(lsid, now, f"user{number}@app", Origin("h", f"app{number}"))
        turns = 0
        done = trio.Event()

        async def other() -> None:
            nonlocal turns
            while not done.is_set():
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await metrics_page(running.server.telemetry)
            done.set()
        # Five slices of 2,000 owners, as many of origins, and the search for the longest idle.
        assert turns > 10


@pytest.mark.parametrize("name", ["other@app", "\udcff@app", "x" * 5_000 + "@app", '"\n\\'])
@in_time
async def test_names_of_any_kind_can_be_shown(name: str) -> None:
    async with recording() as (_, running):
        store = running.server.clusters[0].sessions_shared.store
        origin = Origin("h", name, name, name)
        store.use(LogicalSessionId(bytes(16), bytes(32)), trio.current_time(), name, origin)
        assert Read(await metrics_page(running.server.telemetry))("sessions") == 1

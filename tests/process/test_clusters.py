"""Several upstream clusters behind one process, which have nothing to do with each other."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import bson
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from grafana.promql import OF_PROCESS
from proxy import logs
from proxy.embedded import EmbeddedUpstream
from proxy.process import server
from proxy.process.server import Running
from proxy.settings.config import Config, load
from proxy.terminal.client import Endpoint, Trouble
from tests.build import command
from tests.patience import until
from tests.ports import free_port
from tests.running import Client, in_time, recording
from tests.upstreams import document

TOKEN = "0123456789abcdef"
SAME = {"id": bson.Binary(uuid.UUID(int=7).bytes, 4)}
NAMES = ["shop", "web"]


def settings(ports: dict[str, int], **more: Any) -> Config:
    tables = more.pop("tables", {})
    return load(
        None,
        {
            "admin": {"address": "127.0.0.1:0", "token": TOKEN},
            "cluster": [
                {
                    "name": name,
                    "listen": {"address": "127.0.0.1:0"},
                    "upstream": {"address": f"127.0.0.1:{port}", "watch_seconds": 0.5},
                    **tables.get(name, {}),
                }
                for name, port in ports.items()
            ],
            **more,
        },
    )


class Both:
    """A proxy with the clusters ``shop`` and ``web``."""

    def __init__(self, running: Running) -> None:
        assert running.admin is not None
        self.running = running
        self._endpoint = Endpoint(running.admin, TOKEN)
        self._clients: list[Client] = []

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    async def get(self, path: str, **fields: Any) -> dict[str, Any]:
        return await trio.to_thread.run_sync(self._endpoint.get, path, fields)

    async def kill(self, **what: Any) -> dict[str, Any]:
        return await trio.to_thread.run_sync(self._endpoint.post, "kill", what)

    async def readyz(self, query: str = "") -> tuple[int, str]:
        stream = await trio.open_tcp_stream(*self._where())
        async with stream:
            await stream.send_all(f"GET /readyz{query} HTTP/1.1\r\nHost: localhost\r\n"
                                  "Connection: close\r\n\r\n".encode())  # fmt: skip
            answer = b"".join([part async for part in stream]).decode()
        return int(answer.split()[1]), answer.partition("\r\n\r\n")[2].strip()

    def _where(self) -> tuple[str, int]:
        host, _, port = str(self.running.admin).rpartition(":")
        return host, int(port)

    async def connect(self, cluster: str) -> Client:
        return await Client.connect(
            int(self.running.addresses[NAMES.index(cluster)].rpartition(":")[2])
        )

    async def use(self, cluster: str, **fields: Any) -> dict[str, Any]:
        """One find in the session that both clusters have, on a connection that stays."""
        client = await self.connect(cluster)
        self._clients.append(client)
        asked = {"find": "c", "lsid": SAME, "$db": "shop", **fields}
        answer = await client.ask(command(asked, 1))
        assert answer is not None
        return document(answer)


@asynccontextmanager
async def both(level: str = "critical", **more: Any) -> AsyncIterator[Both]:
    logs.configure("json", level)
    async with trio.open_nursery() as nursery:
        ports = {}
        for name in NAMES:
            ports[name] = await nursery.start(EmbeddedUpstream().serve)
        running = await nursery.start(partial(server.serve, settings(ports, **more)))
        made = Both(running)
        await until(lambda: running.server.ready()[0])
        yield made
        await made.close()
        nursery.cancel_scope.cancel()


@in_time
async def test_one_lsid_in_two_clusters_is_two_sessions_and_a_kill_hits_one() -> None:
    async with both() as proxy:
        for name in NAMES:
            assert (await proxy.use(name))["ok"] == 1
        listed = await proxy.get("sessions", sort="cluster")
        assert [(row["cluster"], row["session"]) for row in listed["sessions"]] == [
            ("shop", str(uuid.UUID(int=7))),
            ("web", str(uuid.UUID(int=7))),
        ]
        done = await proxy.kill(cluster="web", patterns=[{"owner": "*"}], dry_run=False)
        assert (done["cluster"], done["killed"], done["matched"]) == ("web", 1, 1)
        by_name = {one.name: one.sessions_shared.store for one in proxy.running.server.clusters}
        ended = {row["cluster"]: row["ended"] for row in (await proxy.get("sessions"))["sessions"]}
        assert ended == {"shop": None, "web": "killed"}
        assert [store.counts.killed for store in by_name.values()] == [0, 1]
        assert (await proxy.use("shop"))["ok"] == 1


@in_time
async def test_listings_are_put_together_page_by_page_and_filtered() -> None:
    async with both() as proxy:
        for name in NAMES:
            await proxy.use(name)
        for sort in ("session", "-session", "age", "-cluster"):
            seen: list[str] = []
            after: dict[str, Any] = {}
            while True:
                page = await proxy.get("sessions", limit=1, sort=sort, **after)
                assert (page["matched"], page["total"]) == (2, 2)
                seen += [row["cluster"] for row in page["sessions"]]
                if page["next"] is None:
                    break
                after = {"after": page["next"]}
            assert sorted(seen) == NAMES, sort
        for kind in ("sessions", "connections", "groups"):
            page = await proxy.get(kind, cluster="web")
            assert {row["cluster"] for row in page[kind]} == {"web"}
            assert page["total"] > page["matched"]
        assert {row["cluster"] for row in (await proxy.get("rules"))["rules"]} == set(NAMES)
        summary = await proxy.get("summary")
        assert summary["sessions"] == 2
        assert [(one["cluster"], one["sessions"]) for one in summary["clusters"]] == [
            ("shop", 1),
            ("web", 1),
        ]


@pytest.mark.parametrize("dry_run", [True, False])
@in_time
async def test_nothing_is_killed_in_all_of_them(dry_run: bool) -> None:
    async with both() as proxy:
        for name in NAMES:
            await proxy.use(name)
        wanted = [
            {"patterns": [{"owner": "*"}]},
            {"sessions": [str(uuid.UUID(int=7))]},
            {"patterns": [{"owner": "*", "cluster": "*"}]},
            {"cluster": "*", "patterns": [{"owner": "*"}]},
            {"cluster": ["shop", "web"], "patterns": [{"owner": "*"}]},
            {"cluster": None, "patterns": [{"owner": "*"}]},
        ]
        for one in wanted:
            with pytest.raises(Trouble, match=r"^--cluster: .*shop, web$"):
                await proxy.kill(**one, dry_run=dry_run)
        seen = await proxy.kill(cluster="shop", patterns=[{"owner": "*", "cluster": "web"}])
        assert seen["matched"] == 0


@in_time
async def test_metrics_name_the_cluster_and_the_process_has_its_own() -> None:
    async with both() as proxy:
        for _ in range(2):
            await proxy.use("shop", filter={"$comment": "x"})
        page = (await proxy.running.server.scraping.metrics())[1].decode()
    families = [
        one
        for one in text_string_to_metric_families(page)
        if one.name.startswith("mongo_session_proxy_")
    ]
    of_process = set()
    for one in families:
        name = one.name.removeprefix("mongo_session_proxy_")
        clusters = {sample.labels.get("cluster") for sample in one.samples}
        if clusters == {None}:
            of_process.add(f"{name}_total" if one.type == "counter" else name)
        else:
            assert clusters <= set(NAMES), name
    assert of_process == OF_PROCESS
    finds = {
        sample.labels["cluster"]: sample.value
        for one in families
        for sample in one.samples
        if sample.name == "mongo_session_proxy_requests_total"
        and sample.labels["command"] == "find"
    }
    assert finds == {"shop": 2.0}


@in_time
async def test_a_single_one_is_named_nowhere() -> None:
    async with recording() as (_, running):
        page = (await running.server.scraping.metrics())[1]
        client = await Client.connect(running)
        await client.ping("x")
        [row] = running.server.connections()
        await client.close()
    assert b"cluster=" not in page
    assert "cluster" not in row


@in_time
async def test_one_that_is_away_disturbs_nobody_and_is_named() -> None:
    logs.configure("text", "critical")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(EmbeddedUpstream().serve)
        config = settings({"shop": port, "web": free_port()})
        proxy = Both(await nursery.start(partial(server.serve, config)))
        assert (await proxy.use("shop"))["ok"] == 1
        await until(lambda: "Connection refused" in proxy.running.server.ready()[1])
        status, text = await proxy.readyz()
        assert status == 503
        assert text.startswith("cluster web: ")
        assert "shop" not in text
        assert await proxy.readyz("?cluster=shop") == (200, "ok")
        assert (await proxy.readyz("?cluster=web"))[0] == 503
        assert (await proxy.readyz("?cluster=no"))[0] == 404
        summary = await proxy.get("summary")
        assert not summary["ready"]
        assert [one["ready"] for one in summary["clusters"]] == [True, False]
        await proxy.close()
        nursery.cancel_scope.cancel()


class Audit:
    """The audit log."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit(tmp_path / "audit.jsonl")


@in_time
async def test_rules_are_each_ones_own_and_reloaded_by_name(
    audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = {"web": {"policies": {"session_budget": {"per_application": 0, "reserved": 10**6}}}}
    async with both("info", tables=strict, audit={"file": str(audit.path)}) as proxy:
        assert (await proxy.use("shop"))["ok"] == 1
        assert (await proxy.use("web"))["code"] == 261
        await until(audit.lines)
        said_of = {(line["cluster"], line["decision"]) for line in audit.lines()}
        assert said_of == {("web", "refused")}
        before = proxy.running.server.config
        shop, web = before.cluster
        elsewhere = shop.listen.model_copy(update={"address": "127.0.0.1:1"})
        moved = shop.model_copy(update={"listen": elsewhere})
        mild = web.model_copy(update={"policies": shop.policies})
        new = shop.model_copy(update={"name": "new"})
        after = before.model_copy(update={"cluster": (mild, moved, new)})
        capsys.readouterr()
        proxy.running.server._reload = lambda: after
        proxy.running.server.reload()
        said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        [reloaded] = [one for one in said if one["event"] == "configuration reloaded"]
        assert reloaded["needs_restart"] == ["cluster shop: listen", "cluster new: added"]
        assert (await proxy.use("web"))["ok"] == 1
        assert [one.name for one in proxy.running.server.clusters] == NAMES


@in_time
async def test_logs_say_which_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    async with both("info") as proxy:
        await proxy.use("web")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {one.get("cluster") for one in lines if "conn" in one} == {"web"}

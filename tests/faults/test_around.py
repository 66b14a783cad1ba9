"""What is around the proxy fails at every stage: reload, drain, disk, names, clock, descriptors."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from proxy import logs
from proxy.errors import ConfigError
from proxy.process import server
from proxy.process.server import Running
from proxy.settings.config import Config, load
from tests.build import command
from tests.end_to_end.tools import Log
from tests.faults.stages import STAGES, Scene, lsid, read_to_the_end
from tests.ports import free_port
from tests.running import Client, bystanding, recording
from tests.upstreams import RecordingUpstream, document

BYSTANDERS: Final = 50

WHOLE_MESSAGE: Final = command({"ping": 1, "$db": "admin"})


def settings(port: int, **tables: Any) -> Config:
    return load(
        None,
        {
            "listen": {"address": "127.0.0.1:0"},
            "upstream": {"address": f"127.0.0.1:{port}"},
            "admin": {"address": ""},
            **tables,
        },
    )


@contextlib.asynccontextmanager
async def reloadable(
    reload: Callable[[int], Config], **tables: Any
) -> AsyncIterator[tuple[RecordingUpstream, Running, Log]]:
    """A proxy that reads its settings again by ``reload`` (of upstream's port)."""
    upstream, log = RecordingUpstream(), Log()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve)
        logs.configure("json", "info", log)
        config = settings(port, **tables)
        yield (
            upstream,
            await nursery.start(partial(server.serve, config, partial(reload, port))),
            log,
        )
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ reload


def other_limits(port: int) -> Config:
    return settings(port, limits={"connections": 500}, policies={"stmt_ids": {"mode": "report"}})


def broken_file(port: int) -> Config:
    raise ConfigError(["config.toml: not TOML"])


def rule_that_is_none(port: int) -> Config:
    return settings(port, policies={"custom": [{"rule": "no.such:Rule"}]})


RELOADS: Final = {
    "other limits": (other_limits, "configuration reloaded"),
    "a broken file": (broken_file, "configuration not reloaded"),
    "a rule that is none": (rule_that_is_none, "configuration not reloaded"),
}


@pytest.mark.parametrize("reload", RELOADS)
async def test_a_reload_at_any_stage_disturbs_nobody(reload: str) -> None:
    read, said = RELOADS[reload]
    async with (
        reloadable(read) as (upstream, running, log),
        bystanding(running, BYSTANDERS) as others,
    ):
        scene = Scene(upstream, running)
        for stage in STAGES.values():
            client, seen = await stage(scene)
            running.server.reload()
            await others.go_on()
            # The one in the middle of something goes on as well: upstream ends it, not the reload.
            assert seen.end == ""
            seen.reset()
            await read_to_the_end(client)
            await client.close()
        assert len(log.lines(said)) == len(STAGES)
        assert not log.lines("connection failed")


# ------------------------------------------------------------------ drain

#: Where nothing is under way that draining waits for: monitors, and messages of which half came.
IDLE: Final = {"accept", "hello", "exhaust", "unacknowledged"}


@pytest.mark.parametrize("stage", STAGES)
async def test_draining_at_any_stage_ends(stage: str) -> None:
    upstream, log, ended = RecordingUpstream(), Log(), trio.Event()
    # Half a message has a deadline, and draining waits for that.
    limits = {"drain_seconds": 3600, "frame_seconds": 1}

    async def serve(
        config: Config, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await server.serve(config, task_status=task_status)
        ended.set()

    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve)
        logs.configure("json", "info", log)
        running = await nursery.start(serve, settings(port, limits=limits))
        client, seen = await STAGES[stage](Scene(upstream, running))
        running.server.stop()
        await log.line("draining")
        with pytest.raises(OSError, match="connect"):
            await Client.connect(running)
        if stage not in IDLE:
            # Its work goes on until it has an answer, or as here, none.
            assert not ended.is_set()
            seen.reset()
        await read_to_the_end(client)
        await ended.wait()
        await client.close()
        assert not log.lines("connection failed")
        assert log.lines("stopped")
        nursery.cancel_scope.cancel()


async def test_a_second_signal_ends_what_does_not_drain() -> None:
    async with recording() as (upstream, running):
        scene = Scene(upstream, running)
        stuck = [(await stage(scene))[0] for stage in STAGES.values()]
        running.server.stop()
        running.server.stop()
        for client in stuck:
            await read_to_the_end(client)
            await client.close()


# ------------------------------------------------------------------ the disk


async def test_a_full_disk_holds_up_nobody() -> None:
    audit = {"file": "/dev/full"}
    log = Log()
    async with recording(audit=audit) as (_, running), bystanding(running) as others:
        logs.configure("json", "info", log)
        client = await Client.connect(running)
        for number in range(200):
            kill = command({"killSessions": [{"id": number}], "$db": "admin"}, number)
            answer = await client.ask(kill)
            assert answer is not None
            assert document(answer)["ok"] == 0.0
        await log.line("audit log not written")
        await others.go_on()
        await client.close()
    assert len(log.lines("audit log not written")) == 1


async def test_an_audit_log_whose_folder_went_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    log = Log()
    file = folder / "audit.jsonl"
    folder.mkdir()
    async with recording(audit={"file": str(file)}) as (_, running):
        logs.configure("json", "info", log)
        folder.rmdir()
        client = await Client.connect(running)
        refused = command({"killSessions": [{"id": 1}], "$db": "admin"})
        assert await client.ask(refused) is not None
        await log.line("audit log not written")
        folder.mkdir()
        while not file.exists():
            assert await client.ask(refused) is not None
        await client.close()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["command"] for line in lines} == {"killSessions"}


# ------------------------------------------------------------------ the clock


@pytest.mark.parametrize("leap", [-86_400, 86_400, -4e9], ids=["back", "forth", "before 1970"])
async def test_a_wall_clock_that_leaps_ends_no_session(
    leap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, real = Log(), time.time
    async with recording() as (_, running), bystanding(running, 10) as others:
        logs.configure("json", "info", log)
        client = await Client.connect(running)
        find = command({"find": "c", "lsid": lsid(), "$db": "shop"})
        assert await client.ask(find) is not None
        store = running.server.clusters[0].sessions_shared.store
        assert len(store) == 1
        monkeypatch.setattr(time, "time", lambda: real() + leap)
        assert await client.ask(find) is not None
        running.server.reload()
        await others.go_on()
        assert len(store) == 1
        page = running.server.telemetry
        assert page is not None
        monkeypatch.undo()
        await client.close()
    assert not log.lines("connection failed")


# ------------------------------------------------------------------ what the machine lacks

PROGRAM: Final = """
import resource, sys
from proxy.cli import main
kind, limit = sys.argv[1:3]
resource.setrlimit(getattr(resource, kind), (int(limit), int(limit)))
sys.exit(main(["serve", *sys.argv[3:]]))
"""


@contextlib.asynccontextmanager
async def limited(
    kind: str, limit: int, folder: Path, **tables: str
) -> AsyncIterator[tuple[RecordingUpstream, int, Callable[[], str]]]:
    """The program itself with a limit of the operating system's; its port and its log."""
    upstream = RecordingUpstream()
    async with trio.open_nursery() as nursery:
        behind = await nursery.start(upstream.serve)
        port = free_port()
        config = folder / "config.toml"
        config.write_text(
            f'[listen]\naddress = "127.0.0.1:{port}"\n[upstream]\naddress = "127.0.0.1:{behind}"\n'
            '[admin]\naddress = ""\n[log]\nformat = "json"\n'
            + "".join(f"[{name}]\n{text}\n" for name, text in tables.items())
        )
        log = folder / "log"
        with log.open("wb") as file:
            arguments = [sys.executable, "-c", PROGRAM, kind, str(limit), "--config", str(config)]
            process = await trio.lowlevel.open_process(
                arguments, stderr=file, cwd=Path(__file__).parents[2]
            )
        try:
            while b'"listening"' not in log.read_bytes():
                assert process.poll() is None, log.read_text()
                await trio.sleep(0.05)
            yield upstream, port, log.read_text
        finally:
            process.send_signal(signal.SIGTERM)
            with trio.CancelScope(shield=True):
                await process.wait()
        assert process.returncode == 0
        assert "connection failed" not in log.read_text()
        nursery.cancel_scope.cancel()


async def test_descriptors_that_run_out_cost_nobody_who_is_connected(tmp_path: Path) -> None:
    async with limited("RLIMIT_NOFILE", 64, tmp_path) as (_, port, log):
        inside = [await Client.connect(port) for _ in range(5)]
        for number, client in enumerate(inside):
            await client.ping(f"inside {number}")
        crowd = [await Client.connect(port) for _ in range(60)]
        while "cannot accept" not in log():
            for number, client in enumerate(inside):
                await client.ping(f"still inside {number}")
        for client in crowd:
            await client.close()
        for number, client in enumerate(inside):
            await client.ping(f"inside after all {number}")
        while True:
            # Those that left give their descriptors back one by one.
            late = await Client.connect(port)
            await late.send(WHOLE_MESSAGE)
            answer = await late.receive()
            await late.close()
            if answer is not None:
                break
        for client in inside:
            await client.close()


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="sizes come from /proc")
async def test_what_clients_send_stays_within_the_memory_that_there_is(tmp_path: Path) -> None:
    room = 1_200 << 20
    if resource.getrlimit(resource.RLIMIT_AS)[1] not in (resource.RLIM_INFINITY,):
        pytest.skip("there is a limit on memory already")
    async with limited("RLIMIT_AS", room, tmp_path) as (_, port, _log):
        inside = await Client.connect(port)
        await inside.ping("inside")
        greedy: list[Client] = []
        large = command({"ping": 1, "b": bytes(40_000_000), "$db": "admin"})[:-1]

        async def take(client: Client) -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                await client.send(large)

        async with trio.open_nursery() as nursery:
            for _ in range(40):
                greedy.append(await Client.connect(port))
                nursery.start_soon(take, greedy[-1])
                await inside.ping("inside")
            for _ in range(100):
                await inside.ping("inside")
            nursery.cancel_scope.cancel()
        for client in greedy:
            client.reset()
        await inside.ping("inside after all")
        await inside.close()

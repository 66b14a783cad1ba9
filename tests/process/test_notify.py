"""What systemd is told, read from a real datagram socket."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from proxy import logs
from proxy.errors import ConfigError
from proxy.process import server
from proxy.process.notify import Notifier
from proxy.settings.config import Config, load
from tests.running import Client, in_time
from tests.upstreams import RecordingUpstream


class Manager:
    """The service manager's end."""

    def __init__(self, name: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.socket.setblocking(False)

    def told(self) -> list[dict[str, str]]:
        """The datagrams that have come, each as its variables."""
        found = []
        while True:
            try:
                datagram = self.socket.recv(4096)
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in datagram.decode().split("\n")))

    async def hear(self) -> dict[str, str]:
        """The next datagram, when it comes."""
        await trio.lowlevel.wait_readable(self.socket)
        datagram = self.socket.recv(4096)
        return dict(line.split("=", 1) for line in datagram.decode().split("\n"))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def manager(path: str) -> Iterator[Manager]:
    made = Manager(path)
    with made.socket:
        yield made


def test_ready(manager: Manager, path: str) -> None:
    Notifier({"NOTIFY_SOCKET": path}).ready()
    assert manager.told() == [{"READY": "1", "MAINPID": str(os.getpid())}]


def test_an_abstract_socket() -> None:
    name = f"mongo-session-proxy-test-{os.getpid()}"
    manager = Manager(b"\0" + name.encode())
    with manager.socket:
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert [told["READY"] for told in manager.told()] == ["1"]


def test_stopping_asks_for_the_time_that_draining_may_take(manager: Manager, path: str) -> None:
    Notifier({"NOTIFY_SOCKET": path}).stopping(100.5)
    [told] = manager.told()
    assert told["STOPPING"] == "1"
    assert int(told["EXTEND_TIMEOUT_USEC"]) >= 100_500_000


@pytest.mark.parametrize("fails", [False, True])
def test_reloading_ends_with_ready(manager: Manager, path: str, fails: bool) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": path})
    before = time.monotonic_ns() // 1000
    try:
        with notifier.reloading():
            [told] = manager.told()
            assert told["RELOADING"] == "1"
            # systemd takes a READY=1 for the answer only if it came after this.
            assert before <= int(told["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    assert manager.told() == [{"READY": "1"}]


async def test_a_ping_at_half_the_interval(
    manager: Manager, path: str, autojump_clock: trio.testing.MockClock
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000"})
    with trio.move_on_after(60.5):
        await notifier.keep_alive()
    # At 0, 15, 30, 45 and 60 seconds.
    assert manager.told() == [{"WATCHDOG": "1"}] * 5


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-5"},
        # Meant for another process of the service.
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
    ],
)
async def test_no_pings_without_a_watchdog(
    manager: Manager, path: str, environ: dict[str, str]
) -> None:
    await Notifier({"NOTIFY_SOCKET": path, **environ}).keep_alive()
    assert manager.told() == []


async def test_the_watchdog_of_this_process(
    manager: Manager, path: str, autojump_clock: trio.testing.MockClock
) -> None:
    own = {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}
    with trio.move_on_after(0.5):
        await Notifier({"NOTIFY_SOCKET": path, **own}).keep_alive()
    assert manager.told() == [{"WATCHDOG": "1"}]


@pytest.mark.parametrize("name", ["", "relative", "vsock:2:1234"])
async def test_nothing_is_sent_where_nobody_listens_for_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("text", "debug")
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"})
    notifier.ready()
    await notifier.keep_alive()
    assert capsys.readouterr().err == ""


def test_a_manager_that_is_gone_is_logged(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "warning")
    Notifier({"NOTIFY_SOCKET": path}).ready()
    line = capsys.readouterr().err
    assert "service manager not told" in line
    assert "READY=1" in line


# ------------------------------------------------------------------ the proxy's life


@in_time
async def test_the_proxy_tells_of_its_life(
    nursery: trio.Nursery, manager: Manager, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    logs.configure("text", "critical")
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)

    def settings() -> Config:
        return load(
            None,
            {
                "listen": {"address": "127.0.0.1:0"},
                "upstream": {"address": f"127.0.0.1:{port}"},
                "admin": {"address": ""},
                "limits": {"drain_seconds": 7},
            },
        )

    def broken() -> Config:
        raise ConfigError(["limits.connections: nonsense"])

    async def hear_but_pings() -> dict[str, str]:
        while "WATCHDOG" in (told := await manager.hear()):
            pass
        return told

    reads = [settings, broken]
    ended = trio.Event()

    async def serve(*, task_status: trio.TaskStatus[server.Running]) -> None:
        await server.serve(settings(), lambda: reads.pop(0)(), task_status=task_status)
        ended.set()

    running = await nursery.start(serve)
    assert (await hear_but_pings())["READY"] == "1"
    client = await Client.connect(running)
    await client.ping("ready means that clients can connect")
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGHUP)
        assert (await hear_but_pings())["RELOADING"] == "1"
        assert await hear_but_pings() == {"READY": "1"}
    assert reads == []
    for _ in range(3):
        while "WATCHDOG" not in await manager.hear():
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    told = await hear_but_pings()
    assert told["STOPPING"] == "1"
    assert int(told["EXTEND_TIMEOUT_USEC"]) >= 7_000_000
    await ended.wait()
    await client.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_a_proxy_that_cannot_listen_is_not_ready(
    manager: Manager, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    logs.configure("text", "critical")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = load(None, {"listen": {"address": f"127.0.0.1:{taken.getsockname()[1]}"}})
        with pytest.RaisesGroup(OSError, flatten_subgroups=True, allow_unwrapped=True):
            await partial(server.serve, config)()
    assert manager.told() == []

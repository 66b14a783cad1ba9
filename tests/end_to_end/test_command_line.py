"""The command as somebody runs it: how soon it is there, what it says, and how it ends."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from pymongo.errors import AutoReconnect

from tests.end_to_end.tools import Certificates, TlsUpstream, pymongo_at, tls_client
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.running import Client, in_time, ping
from tests.upstreams import RecordingUpstream, Seen, document, echo

COMMAND = [sys.executable, "-m", "proxy"]


class Process:
    """A running ``serve`` and its JSON log."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._lines: list[dict[str, Any]] = []
        self._rest = b""
        self.ports: list[int] = []

    async def line(self, event: str) -> dict[str, Any]:
        """The next log line of that event; those before it are not looked at again."""
        while True:
            while self._lines:
                line = self._lines.pop(0)
                if line["event"] == event:
                    return line
            await self._read()

    async def _read(self) -> None:
        assert self._process.stderr is not None
        chunk = await self._process.stderr.receive_some()
        assert chunk, "the proxy has ended"
        *lines, self._rest = (self._rest + bytes(chunk)).split(b"\n")
        self._lines += map(json.loads, lines)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """The exit status."""
        return await self._process.wait()


@asynccontextmanager
async def serving(*arguments: str) -> AsyncIterator[Process]:
    command = [*COMMAND, "serve", "--log-format", "json", "--admin", "", *arguments]
    if "--config" not in arguments:
        command += ["--listen", "127.0.0.1:0"]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, stderr=subprocess.PIPE, check=False)
        process = Process(await nursery.start(run))
        connect = (await process.line("listening"))["connect"]
        hosts = connect.removeprefix("mongodb://").partition("/")[0].split(",")
        process.ports = [int(host.rpartition(":")[2]) for host in hosts]
        yield process
        nursery.cancel_scope.cancel()


def held(seen: Seen, frame: bytes) -> Any:
    """Answers everything but what is to be held."""
    return () if document(frame).get("mark") == "held" else echo(seen, frame)


# ------------------------------------------------------------------ coming up


def test_how_soon_it_accepts(record_property: Any) -> None:
    """Measured and reported: a machine may be too busy for any bound."""
    port = free_port()
    seconds = []
    for _ in range(3):
        command = [*COMMAND, "serve", "--listen", f"127.0.0.1:{port}", "--admin", ""]
        began = time.perf_counter()
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                until = began + PATIENCE
                while time.perf_counter() < until and process.poll() is None:
                    try:
                        socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    except ConnectionRefusedError:
                        time.sleep(0.005)
                    else:
                        break
                seconds.append(round(time.perf_counter() - began, 3))
                assert process.poll() is None
            finally:
                process.kill()
    record_property("seconds_until_accepting", seconds)
    print("seconds until the first connection was accepted:", seconds)


@in_time
async def test_a_driver_and_the_built_in_upstream():
    async with serving("--embedded") as process:
        where = f"mongodb://127.0.0.1:{process.ports[0]}/"
        async with pymongo_at(where, replicaSet="embedded") as driver:
            await driver.run(lambda client: client.app.c.insert_one({"_id": 1}))
            assert await driver.run(lambda client: client.app.c.find_one()) == {"_id": 1}
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "rubbish.pem").write_text("rubbish")
    (tmp_path / "proxy.toml").write_text(
        """
        listen.address = "127.0.0.1"
        listen.tls = { certificate = "missing.pem", client_certificates = "required" }
        upstream.address = "mongodb://root:secret@db:27017/"
        upstream.tls.ca = "nowhere/ca.pem"
        upstream.watch_seconds = -1
        limits.connections = "many"
        policies.stmt_ids.mode = "sometimes"
        surprise.here = true
        """
    )
    command = [*COMMAND, "serve", "--config", str(tmp_path / "proxy.toml")]
    command += ["--bogus", "--log-level", "loud"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert all(line.startswith("mongo-session-proxy: ") for line in lines)
    # Behind the line in the file, where it stands there.
    said = [line.replace(f"{tmp_path / 'proxy.toml'}:", "").split(": ") for line in lines]
    places = {words[2] if words[1].isdecimal() else words[1] for words in said}
    assert places == {
        "--bogus",
        "listen.address",
        "listen.tls.certificate",
        "upstream.address",
        "upstream.tls.ca",
        "upstream.watch_seconds",
        "limits.connections",
        "policies.stmt_ids.mode",
        "surprise",
        "--log-level",
    }
    assert len(lines) == len(places)
    assert "secret" not in done.stderr


@pytest.mark.parametrize("which", ["listen", "admin", "unix"])
def test_what_is_in_use(which: str, tmp_path: Path) -> None:
    if which == "unix":
        taken = socket.socket(socket.AF_UNIX)
        address = str(tmp_path / "taken.sock")
        taken.bind(address)
        taken.listen()
    else:
        taken = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    addresses = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0"}
    addresses["admin" if which == "admin" else "listen"] = address
    with taken:
        flags = [word for name, value in addresses.items() for word in (f"--{name}", value)]
        done = subprocess.run(
            [*COMMAND, "serve", *flags, "--log-level", "error"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == f"mongo-session-proxy: {address}: Address already in use\n"


# ------------------------------------------------------------------ ending


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@in_time
async def test_a_slow_request_finishes_first(nursery, number):
    upstream = RecordingUpstream(held)
    port = await nursery.start(upstream.serve)
    async with serving("--upstream", f"127.0.0.1:{port}") as process:
        where = f"mongodb://127.0.0.1:{process.ports[0]}/"
        idle = await Client.connect(process.ports[0])
        await idle.ping("idle")
        # A driver that closes looks for its server once more, and there is none any more.
        selecting = {"serverSelectionTimeoutMS": 10_000}
        async with pymongo_at(where, **selecting) as driver, trio.open_nursery() as working:
            answers = []

            async def slow() -> None:
                answers.append(await driver.command("ping", mark="held"))

            working.start_soon(slow)
            seen = await upstream.bringing("held")
            process.signal(number)
            await process.line("draining")
            assert await idle.receive() is None
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream("127.0.0.1", process.ports[0])
            assert answers == []
            for reply in echo(seen, seen.frames[-1]):
                await seen.stream.send_all(reply)
            assert await process.ended() == 0
        assert answers == [{"ok": 1.0, "echo": "held"}]
        await idle.close()
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("numbers", [("SIGTERM", "SIGTERM"), ("SIGINT", "SIGINT")])
@in_time
async def test_a_second_signal_does_not_wait(nursery, numbers):
    upstream = RecordingUpstream(held)
    port = await nursery.start(upstream.serve)
    async with serving("--upstream", f"127.0.0.1:{port}") as process:
        where = f"mongodb://127.0.0.1:{process.ports[0]}/"
        async with pymongo_at(where, retryReads=False) as driver, trio.open_nursery() as working:

            async def slow() -> None:
                with pytest.raises(AutoReconnect):
                    await driver.command("ping", mark="held")

            working.start_soon(slow)
            seen = await upstream.bringing("held")
            process.signal(getattr(signal, numbers[0]))
            await process.line("draining")
            process.signal(getattr(signal, numbers[1]))
            assert await process.ended() == 0
            await seen.ended.wait()
    nursery.cancel_scope.cancel()


@in_time
async def test_a_unix_socket_is_cleaned_up_and_taken_over(tmp_path, nursery):
    port = await nursery.start(RecordingUpstream().serve)
    path = tmp_path / "proxy.sock"
    config = tmp_path / "proxy.toml"
    config.write_text(f'listen.address = "{path}"\nupstream.address = "127.0.0.1:{port}"\n')
    command = [*COMMAND, "serve", "--config", str(config), "--admin", "", "--log-format", "json"]
    # One that is killed leaves its socket behind, which the next one takes over.
    for number in (signal.SIGKILL, signal.SIGTERM):
        async with trio.open_nursery() as running:
            run = partial(trio.run_process, command, stderr=subprocess.PIPE, check=False)
            process = Process(await running.start(run))
            await process.line("listening")
            client = Client(await trio.open_unix_socket(str(path)))
            await client.ping("here")
            await client.close()
            process.signal(number)
            assert await process.ended() == (0 if number == signal.SIGTERM else -number)
        assert path.exists() is (number == signal.SIGKILL)
    nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ reload


@in_time
async def test_certificates_are_read_again(certificates: Certificates, tmp_path, nursery):
    first = certificates.issue("first", file="reload-first")
    second = certificates.issue("second", file="reload-second")
    port = await nursery.start(RecordingUpstream().serve)
    used = tmp_path / "used.pem"
    shutil.copy(first, used)
    config = tmp_path / "proxy.toml"
    config.write_text(
        f"""
        listen.address = "127.0.0.1:0"
        listen.tls.certificate = "used.pem"
        upstream.address = "127.0.0.1:{port}"
        """
    )
    context = certificates.client()

    def shown(client: Client) -> str:
        subject = client.stream.getpeercert()["subject"]  # type: ignore[attr-defined]
        return dict(part for (part,) in subject)["commonName"]

    async with serving("--config", str(config)) as process:
        old = await tls_client(process.ports[0], context)
        assert shown(old) == "first"
        await old.ping("before")
        for content, event, name in (
            (await trio.Path(second).read_bytes(), "certificates reloaded", "second"),
            (b"rubbish", "certificates not reloaded", "second"),
            (await trio.Path(first).read_bytes(), "certificates reloaded", "first"),
        ):
            used.write_bytes(content)
            process.signal(signal.SIGHUP)
            await process.line(event)
            client = await tls_client(process.ports[0], context)
            assert shown(client) == name
            await client.ping("new")
            await old.ping("still open")
            await client.close()
        await old.close()
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    nursery.cancel_scope.cancel()


@in_time
async def test_what_is_trusted_is_read_again(certificates: Certificates, tmp_path, nursery):
    """Client authorities too: whoever was let in stays, whoever comes is judged anew."""
    port = await nursery.start(RecordingUpstream().serve)
    trusted = tmp_path / "clients.pem"
    shutil.copy(certificates.ca, trusted)
    own = certificates.issue("proxy", file="reload-own")
    config = tmp_path / "proxy.toml"
    config.write_text(
        f"""
        listen.address = "127.0.0.1:0"
        listen.tls = {{ certificate = "{own}", ca = "{trusted}", client_certificates = "required" }}
        upstream.address = "127.0.0.1:{port}"
        """
    )
    ours = certificates.client(certificates.issue("ours", file="reload-ours"))
    theirs = certificates.client(certificates.issue("theirs", trusted=False, file="reload-theirs"))

    async def let_in(context: ssl.SSLContext) -> bool:
        try:
            client = await tls_client(process.ports[0], context)
            answer = await client.ask(ping("in?"))
            await client.close()
        except trio.BrokenResourceError:
            return False
        return answer is not None

    async with serving("--config", str(config)) as process:
        old = await tls_client(process.ports[0], ours)
        await old.ping("in")
        assert not await let_in(theirs)
        certificates.stranger.cert_pem.write_to_path(str(trusted))
        process.signal(signal.SIGHUP)
        await process.line("certificates reloaded")
        assert await let_in(theirs)
        assert not await let_in(ours)
        await old.ping("still in")
        await old.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_what_upstream_is_trusted_is_read_again(certificates, tmp_path, nursery):
    upstream = TlsUpstream(certificates.server(certificates.issue("up", file="reload-up")))
    port = await nursery.start(upstream.serve)
    trusted = tmp_path / "upstream-ca.pem"
    shutil.copy(certificates.ca, trusted)
    config = tmp_path / "proxy.toml"
    config.write_text(
        f"""
        listen.address = "127.0.0.1:0"
        upstream.address = "127.0.0.1:{port}"
        upstream.tls.ca = "upstream-ca.pem"
        """
    )
    async with serving("--config", str(config)) as process:
        old = await Client.connect(process.ports[0])
        await old.ping("before")
        stranger = certificates.issue("up", trusted=False, file="reload-up-stranger")
        upstream.context = certificates.server(stranger)
        client = await Client.connect(process.ports[0])
        assert await client.ask(ping("not trusted")) is None
        await client.close()
        certificates.stranger.cert_pem.write_to_path(str(trusted))
        process.signal(signal.SIGHUP)
        assert (await process.line("certificates reloaded"))["side"] == "upstream"
        client = await Client.connect(process.ports[0])
        await client.ping("trusted")
        await old.ping("still open")
        await client.close()
        await old.close()
    nursery.cancel_scope.cancel()

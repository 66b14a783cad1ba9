"""A process that is to take over, and is ended before it was its turn."""

from __future__ import annotations

import socket
from pathlib import Path

import trio

from proxy import logs
from proxy.process.beginnings import Beginnings, Predecessor
from proxy.process.server import Running, Server
from proxy.settings.config import load
from tests.running import in_time
from tests.upstreams import RecordingUpstream, echo


@in_time
async def test_it_takes_no_clients_and_leaves_the_other_one_s_pid_file_alone(
    tmp_path: Path,
) -> None:
    logs.configure("text", "error")
    pid_file = tmp_path / "pid"
    pid_file.write_text("77\n")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    with ours:
        ours.setblocking(False)
        async with trio.open_nursery() as nursery:
            port = await nursery.start(RecordingUpstream(echo).serve)
            tables = {
                "listen": {"address": "127.0.0.1:0"},
                "upstream": {"address": f"127.0.0.1:{port}"},
                "admin": {"address": "127.0.0.1:0"},
                "process": {"pid_file": str(pid_file)},
            }
            before = Predecessor(theirs, upstream=True, seconds=60.0)
            made = Server(load(None, tables), beginnings=Beginnings(predecessor=before))

            @nursery.start_soon
            async def end() -> None:
                await trio.lowlevel.wait_readable(ours)
                assert b"ready" in ours.recv(1_000)
                made.stop()

            running: Running = await nursery.start(made.run)
            assert running.admin is None
            assert pid_file.read_text() == "77\n"
            nursery.cancel_scope.cancel()
    theirs.close()

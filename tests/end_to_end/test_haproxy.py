"""Between real HAProxies, in front of the proxy and behind it."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pymongo
import pytest
import trio

from proxy.embedded import EmbeddedUpstream, EmbeddedUser
from tests.build import command
from tests.end_to_end.tools import Certificates, Log, proxy_before, pymongo_at
from tests.needs import need
from tests.patience import until
from tests.ports import free_port
from tests.running import Client, in_time, port_of
from tests.upstreams import RecordingUpstream, document

ALICE = EmbeddedUser("alice", "admin", "wonderland", (("root", "admin"),))
GLOBAL = """\
global
    maxconn 200
    nbthread 1
defaults
    mode tcp
    timeout connect 30s
    timeout client 1h
    timeout server 1h
    retries 0
"""


@asynccontextmanager
async def haproxy(folder: Path, *sections: tuple[str, int, str, str]) -> AsyncIterator[None]:
    """An HAProxy with a listener for each (name, port, options of ``bind``, ``server`` line)."""
    program = need("haproxy")
    text = GLOBAL + "".join(
        f"listen {name}\n    bind 127.0.0.1:{port} {bind}\n    server one {server}\n"
        for name, port, bind, server in sections
    )
    file = folder / f"{sections[0][0]}.cfg"
    file.write_text(text)
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, [program, "-db", "-q", "-f", str(file)])
        process = await nursery.start(
            partial(run, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        for _, port, _, _ in sections:
            await answers(port)
        assert process.returncode is None
        yield
        nursery.cancel_scope.cancel()


async def answers(port: int) -> None:
    """Wait until somebody listens there."""
    while True:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await trio.sleep(0.01)
        else:
            await trio.aclose_forcefully(stream)
            return


@pytest.mark.parametrize(
    "options",
    ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"],
    ids=["version 1", "version 2", "checksum"],
)
@in_time
async def test_behind_one_the_client_keeps_its_address(tmp_path: Path, options: str) -> None:
    upstream, log = RecordingUpstream(), Log()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve)
        listen = {"proxy_protocol": "require"}
        async with proxy_before(port, log=log, listen=listen) as running:
            entry = free_port()
            # Its own looks whether the proxy is there come with a header of their own, or none.
            server = f"127.0.0.1:{port_of(running)} {options} check inter 20ms"
            async with haproxy(tmp_path, ("front", entry, "", server)):
                client = await Client.connect(entry)
                here = client.stream.socket.getsockname()
                await client.ping("one")
                line = await log.line("client connected", client=f"127.0.0.1:{here[1]}")
                assert line["level"] == "info"
                await until(lambda: len(log.lines("client gone")) > 4)
                await client.ping("two")
                await client.close()
        nursery.cancel_scope.cancel()
    assert not log.lines("wrong protocol")
    told = [line for line in log.lines("client connected") if line["level"] == "info"]
    # Who looked whether the HAProxy listens came through it too.
    assert len(told) <= 2


@in_time
async def test_between_two_a_driver_works_and_upstream_sees_it(
    tmp_path: Path, certificates: Certificates
) -> None:
    """Driver, HAProxy, the proxy with TLS, HAProxy, the load balancer port of a mongos."""
    mongos = EmbeddedUpstream(balanced=True, version="7.0", authorization=True, users=[ALICE])
    front, back = free_port(), free_port()

    def work(client: pymongo.MongoClient[dict[str, Any]]) -> tuple[int, int]:
        shop = client.shop.orders
        shop.insert_many([{"_id": number} for number in range(30)])
        open_ones = [shop.find(batch_size=5) for _ in range(3)]
        for one in open_ones:
            next(one)
        with client.start_session() as session, session.start_transaction():
            shop.insert_one({"_id": "in a transaction"}, session=session)
        return shop.count_documents({}), sum(len(list(one)) for one in open_ones)

    async with trio.open_nursery() as nursery:
        port = await nursery.start(mongos.serve)
        back_section = ("back", back, "accept-proxy", f"127.0.0.1:{port} send-proxy")
        tables = {
            "listen": {
                "proxy_protocol": "require",
                "tls": {"certificate": certificates.issue("proxy")},
            },
            "upstream": {"proxy_protocol": True},
        }
        async with (
            haproxy(tmp_path, back_section),
            proxy_before(back, log=Log(), **tables) as running,
            haproxy(tmp_path, ("front", front, "", f"127.0.0.1:{port_of(running)} send-proxy-v2")),
        ):
            uri = f"mongodb://alice:wonderland@127.0.0.1:{front}/?loadBalanced=true&tls=true"
            async with pymongo_at(uri, tlsCAFile=certificates.ca) as driver:
                assert await driver.run(work) == (31, 87)
                seen = {client.address for client in mongos.node.clients.values() if client.users}
                shown = {row["client"] for row in running.server.connections() if row["user"]}
                assert seen == shown
                assert len(seen) >= 4
            context = ssl.create_default_context(cafile=certificates.ca)
            stream = await trio.open_tcp_stream("127.0.0.1", front)
            here = f"127.0.0.1:{stream.socket.getsockname()[1]}"
            secure = trio.SSLStream(stream, context, server_hostname="127.0.0.1")
            await secure.send_all(command({"hello": 1, "loadBalanced": True, "$db": "admin"}, 1))
            answer = bytes(await secure.receive_some())
            assert document(answer)["serviceId"] == mongos.node.service_id
            assert here in {client.address for client in mongos.node.clients.values()}
            await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()

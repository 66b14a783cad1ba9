"""TLS on either leg: who is let in, who is believed, and what becomes of those who hang or lie."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import trio
from pymongo.errors import ConnectionFailure

from proxy.embedded import EmbeddedUpstream
from proxy.settings.limits import Limits
from proxy.settings.upstream import Upstream
from tests.end_to_end.members import Deployment
from tests.end_to_end.tools import (
    Certificates,
    Log,
    TlsUpstream,
    proxy_before,
    pymongo_at,
    tls_before,
    tls_client,
)
from tests.patience import PATIENCE, until
from tests.ports import free_port
from tests.running import Client, in_time, ping, port_of
from tests.upstreams import HELLO, RecordingUpstream, Seen, answered, document, echo


@pytest.fixture(scope="module")
def own(certificates: Certificates) -> str:
    return certificates.issue("proxy")


@pytest.fixture(scope="module")
def upstreams(certificates: Certificates) -> str:
    return certificates.issue("upstream")


def listening(own: str, **more: Any) -> dict[str, Any]:
    return {"tls": {"certificate": own, **more}}


def dialling(certificates: Certificates, **more: Any) -> dict[str, Any]:
    return {"tls": {"ca": certificates.ca, **more}}


# ------------------------------------------------------------------ what goes through


@pytest.mark.parametrize("legs", [("client",), ("upstream",), ("client", "upstream")])
@in_time
async def test_a_driver_works(certificates, own, upstreams, legs, nursery):
    port = await nursery.start(EmbeddedUpstream(set_name="rs").serve, "127.0.0.1", 0)
    tables, options = {}, {"replicaSet": "rs"}
    if "upstream" in legs:
        port = await nursery.start(tls_before, port, certificates.server(upstreams))
        tables["upstream"] = dialling(certificates)
    if "client" in legs:
        tables["listen"] = listening(own)
        options |= {"tls": True, "tlsCAFile": certificates.ca}
    async with proxy_before(port, **tables) as running, pymongo_at(running, **options) as driver:
        documents = [{"_id": number, "text": "x" * 1000} for number in range(500)]
        await driver.run(lambda client: client.app.c.insert_many(documents))
        found = await driver.run(lambda client: list(client.app.c.find(batch_size=100)))
        assert found == documents
        assert driver.client.primary == ("127.0.0.1", port_of(running))
    nursery.cancel_scope.cancel()


@in_time
async def test_large_and_pipelined_messages_arrive_whole(certificates, own, upstreams, nursery):
    upstream = TlsUpstream(certificates.server(upstreams))
    port = await nursery.start(upstream.serve)
    tables = {"listen": listening(own), "upstream": dialling(certificates)}
    async with proxy_before(port, **tables) as running:
        client = await tls_client(running, certificates.client())
        large = ["a" * 5_000_000, "b" * 70_000, "c", "d" * 3_000_000, "e"]
        frames = [ping(mark, number) for number, mark in enumerate(large, 1)]
        async with trio.open_nursery() as sending:
            sending.start_soon(client.send, b"".join(frames))
            for number, mark in enumerate(large, 1):
                reply = await client.receive()
                assert reply is not None
                assert document(reply)["echo"] == mark
                assert int.from_bytes(reply[8:12], "little") == number
        assert upstream.with_mark("c").frames == frames
        await client.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_every_member_of_a_set_is_reached_by_a_name_that_is_certified(certificates, nursery):
    fake = Deployment()
    for name in ("a", "b"):
        await nursery.start(fake.add, name)
    fake.elect("a")
    certificate = certificates.issue("localhost-only", "localhost")
    listen = {**listening(certificate), "advertise": "localhost"}
    options = {"tls": True, "tlsCAFile": certificates.ca, "replicaSet": "rs"}
    async with proxy_before(fake.members["a"].address, listen=listen) as running:
        where = f"mongodb://localhost:{port_of(running)}/"
        async with pymongo_at(where, **options) as driver:
            for name in ("a", "b"):
                fake.elect(name)
                await driver.run(lambda client: client.app.c.insert_one({}))
            assert [member.writes for member in fake.members.values()] == [1, 1]
            assert {host for host, _ in driver.client.nodes} == {"localhost"}
    nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ clients' certificates


@pytest.mark.parametrize(
    ("asked", "shown", "let_in"),
    [
        ("none", "nothing", True),
        ("none", "trusted", True),
        ("none", "untrusted", True),
        ("optional", "nothing", True),
        ("optional", "trusted", True),
        ("optional", "untrusted", False),
        ("required", "nothing", False),
        ("required", "trusted", True),
        ("required", "untrusted", False),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@in_time
async def test_who_is_let_in(certificates, own, nursery, asked, shown, let_in, version):
    context = certificates.client()
    context.minimum_version = context.maximum_version = version
    if shown != "nothing":
        context.load_cert_chain(certificates.issue(f"client-{shown}", trusted=shown == "trusted"))
    log, upstream = Log(), RecordingUpstream()
    port = await nursery.start(upstream.serve)
    tls = listening(own, ca=certificates.ca, client_certificates=asked)
    async with proxy_before(port, log=log, listen=tls) as running:
        good = await tls_client(running, certificates.client(certificates.issue("good")))
        await good.ping("before")
        try:
            client = await tls_client(running, context)
        except trio.BrokenResourceError:
            assert not let_in
        else:
            # With TLS 1.3 a client learns only now that it was refused.
            try:
                answer = await client.ask(ping("in"))
            except trio.BrokenResourceError:
                answer = None
            assert (answer is not None) is let_in
            await client.close()
        if not let_in:
            [reason] = await log.reasons(1)
            assert reason.startswith("client TLS: ")
            assert not any(b"\0in\0" in frame for seen in upstream.seen for frame in seen.frames)
        await good.ping("after")
        await good.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_a_driver_without_the_certificate_it_needs(certificates, own, nursery):
    port = await nursery.start(EmbeddedUpstream(set_name=None).serve, "127.0.0.1", 0)
    tls = listening(own, ca=certificates.ca, client_certificates="required")
    options = {"tls": True, "tlsCAFile": certificates.ca}
    mine = {"tlsCertificateKeyFile": certificates.issue("somebody")}
    async with (
        proxy_before(port, listen=tls) as running,
        pymongo_at(running, **options, **mine) as driver,
        pymongo_at(running, serverSelectionTimeoutMS=300, **options) as other,
    ):
        assert (await driver.command("ping"))["ok"] == 1
        with pytest.raises(ConnectionFailure):
            await other.command("ping")
        assert (await driver.command("ping"))["ok"] == 1
    nursery.cancel_scope.cancel()


@in_time
async def test_plain_bytes_on_a_tls_port_and_tls_on_a_plain_port(certificates, own, nursery):
    port = await nursery.start(RecordingUpstream().serve)
    log = Log()
    async with proxy_before(port, log=log, listen=listening(own)) as running:
        client = await Client.connect(running)
        assert await client.ask(ping("hello?")) is None
        await client.close()
        [reason] = await log.reasons(1)
        assert reason.startswith("client TLS: ")
    log = Log()
    async with proxy_before(port, log=log) as running:
        with pytest.raises(trio.BrokenResourceError):
            await tls_client(running, certificates.client())
        assert await log.reasons(1) == ["client: TLS on a port without it"]
    nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ upstream's certificate


@pytest.mark.parametrize(
    ("host", "settings", "name"),
    [
        ("localhost", {}, "localhost"),
        ("127.0.0.1", {}, None),
        ("127.0.0.1", {"server_name": "db.example.net"}, "db.example.net"),
        ("localhost", {"server_name": "db.example.net"}, "db.example.net"),
        ("localhost", {"verify": False}, "localhost"),
        ("localhost", {"verify_hostname": False}, "localhost"),
    ],
)
@in_time
async def test_upstream_is_called_by_its_name(certificates, nursery, host, settings, name):
    names = ("127.0.0.1", "localhost", "db.example.net")
    upstream = TlsUpstream(certificates.server(certificates.issue("named", *names)))
    port = await nursery.start(upstream.serve)
    tls = dialling(certificates, **settings)
    async with proxy_before(f"{host}:{port}", upstream={**tls, "watch_seconds": 60}) as running:
        for number in range(2):
            client = await Client.connect(running)
            await client.ping(f"client {number}")
            await client.close()
    # The proxy's own questions, and both clients.
    assert len(upstream.names) >= 3
    assert set(upstream.names) == {name}
    nursery.cancel_scope.cancel()


@in_time
async def test_horizons(certificates, nursery):
    """A member says by which names it calls the others by how it is called itself."""
    ports: list[int] = []

    async def member(own: str) -> TlsUpstream:
        def answer(seen: Seen, frame: bytes) -> Any:
            if next(iter(document(frame)), "") not in ("hello", "isMaster", "ismaster"):
                return echo(seen, frame)
            outside = upstream.names[-1] == f"{own}.outside.test"
            where = "outside.test:27017" if outside else "inside.test:1"
            hosts = [f"{name}.{where}" for name in ("one", "two")]
            told = {"setName": "rs", "setVersion": 1, "hosts": hosts, "me": f"{own}.{where}"}
            first = own == "one"
            told |= {"ismaster": first, "secondary": not first, "primary": hosts[0]}
            return (answered(frame, {**HELLO, **told}),)

        certificate = certificates.issue(f"{own}.outside.test", f"{own}.outside.test")
        upstream = TlsUpstream(certificates.server(certificate), answer)
        ports.append(await nursery.start(upstream.serve))
        return upstream

    upstreams = [await member("one"), await member("two")]
    members = [
        {
            "upstream": f"127.0.0.1:{port}",
            "server_name": f"{name}.outside.test",
            "listen": f"127.0.0.1:{free_port()}",
            "advertise": f"{name}.proxy.test:27017",
        }
        for name, port in zip(("one", "two"), ports, strict=True)
    ]
    async with proxy_before(
        ports[0], upstream={**dialling(certificates), "members": members}
    ) as running:
        names = [member["advertise"] for member in members]
        for member, own in zip(members, names, strict=True):
            where = int(member["listen"].rpartition(":")[2])
            async with pymongo_at(f"mongodb://127.0.0.1:{where}/?directConnection=true") as driver:
                # Not before the proxy has asked both.
                while (told := await driver.command("hello")).get("hosts") != names:
                    await trio.lowlevel.checkpoint()
                assert (told["me"], told["primary"]) == (own, names[0])
        assert running.server.clusters[0].topology.kind == "replica set"
    for upstream, name in zip(upstreams, ("one", "two"), strict=True):
        assert set(upstream.names) == {f"{name}.outside.test"}
        assert upstream.refused == 0
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("wrong", ["name", "authority"])
@in_time
async def test_an_upstream_that_cannot_prove_itself(certificates, upstreams, nursery, wrong):
    if wrong == "name":
        bad = certificates.issue("other", "other.example", file="wrong-name")
    else:
        bad = certificates.issue("other", "127.0.0.1", trusted=False, file="wrong-authority")
    upstream = TlsUpstream(certificates.server(upstreams))
    port = await nursery.start(upstream.serve)
    log = Log()
    async with proxy_before(port, log=log, upstream=dialling(certificates)) as running:
        bystander = await Client.connect(running)
        await bystander.ping("before")
        good, upstream.context = upstream.context, certificates.server(bad)
        for _ in range(2):
            client = await Client.connect(running)
            await client.send(ping("secret"))
            assert await client.receive() is None
            await client.close()
        for reason in await log.reasons(2):
            assert reason.startswith("upstream: TLS handshake: ")
            assert "certificate verify failed" in reason
        await bystander.ping("meanwhile")
        upstream.context = good
        client = await Client.connect(running)
        await client.ping("again")
        await client.close()
        await bystander.close()
        assert not any(b"secret" in frame for seen in upstream.seen for frame in seen.frames)
    nursery.cancel_scope.cancel()


@in_time
async def test_nobody_is_believed_from_the_start_on(certificates, nursery):
    untrusted = certificates.issue("liar", trusted=False)
    port = await nursery.start(TlsUpstream(certificates.server(untrusted)).serve)
    log = Log()
    async with proxy_before(port, log=log, upstream=dialling(certificates)) as running:
        client = await Client.connect(running)
        await client.send(ping("anybody?"))
        assert await client.receive() is None
        await client.close()
        told = await log.line("member", upstream=f"127.0.0.1:{port}")
        assert "certificate verify failed" in told["problem"]
        ready, why = running.server.ready()
        assert not ready
        assert "certificate verify failed" in why
    insecure = dialling(certificates, verify=False)
    async with proxy_before(port, upstream=insecure) as running:
        client = await Client.connect(running)
        await client.ping("whoever you are")
        await client.close()
    nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ hanging and hanging up


HALF_A_HANDSHAKE = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)


@pytest.mark.parametrize(
    "sent", [b"", HALF_A_HANDSHAKE[:1], HALF_A_HANDSHAKE], ids=["nothing", "a byte", "half"]
)
@in_time
async def test_a_clients_handshake_has_a_deadline(certificates, own, nursery, clock, sent):
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)
    log = Log()
    async with proxy_before(port, log=log, listen=listening(own)) as running:
        bystander = await tls_client(running, certificates.client())
        await bystander.ping("before")
        client = await Client.connect(running)
        await client.send(sent)
        await until(lambda: sum(1 for _ in running.server.connections()) == 2)
        clock.jump(Limits().handshake_seconds)
        assert await client.receive() is None
        assert await log.reasons(1) == ["handshake timeout"]
        await bystander.ping("after")
        await bystander.close()
        await client.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_upstreams_handshake_has_a_deadline(certificates, upstreams, nursery, clock):
    upstream = TlsUpstream(certificates.server(upstreams))
    port = await nursery.start(upstream.serve)
    log = Log()
    async with proxy_before(port, log=log, upstream=dialling(certificates)) as running:
        bystander = await Client.connect(running)
        await bystander.ping("before")
        upstream.hangs = True
        client = await Client.connect(running)
        await client.send(ping("hello?"))
        # The watcher may hang as well.
        await until(lambda: sum(1 for _ in running.server.connections()) == 2 and upstream.hanging)
        clock.jump(Upstream().connect_seconds)
        assert await client.receive() is None
        assert await log.reasons(1) == [f"upstream: 127.0.0.1:{port}: connect timeout"]
        await bystander.ping("meanwhile")
        upstream.hangs = False
        again = await Client.connect(running)
        await again.ping("again")
        for each in (client, bystander, again):
            await each.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_draining_does_not_wait_for_a_handshake(certificates, own, nursery):
    port = await nursery.start(RecordingUpstream().serve)
    log = Log()
    async with proxy_before(port, log=log, listen=listening(own)) as running:
        client = await Client.connect(running)
        await client.send(HALF_A_HANDSHAKE)
        await log.line("client connected")
        running.server.stop()
        assert await client.receive() is None
        await log.line("stopped")
        assert await log.reasons(1) == ["draining"]
        await client.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_a_client_that_closes_without_saying_so(certificates, own, upstreams, nursery):
    upstream = TlsUpstream(certificates.server(upstreams))
    port = await nursery.start(upstream.serve)
    log = Log()
    tables = {"listen": listening(own), "upstream": dialling(certificates)}
    async with proxy_before(port, log=log, **tables) as running:
        client = await tls_client(running, certificates.client())
        await client.ping("and gone")
        client.stream.transport_stream.socket.close()
        assert await log.reasons(1) == ["client closed"]
        await upstream.with_mark("and gone").ended.wait()
        client = await tls_client(running, certificates.client())
        await client.ping("and gone in the middle of a message")
        await client.send(ping("half")[:20])
        client.stream.transport_stream.socket.close()
        assert (await log.reasons(2))[1] == "client closed"
        assert upstream.with_mark("and gone").end == "eof"
        assert not [line for line in log.lines() if line["level"] in ("warning", "error")]
    nursery.cancel_scope.cancel()


@in_time
async def test_an_upstream_that_closes_without_saying_so(certificates, own, upstreams, nursery):
    def hang_up(seen: Seen, frame: bytes) -> Any:
        return None if document(frame).get("mark") == "hang up" else echo(seen, frame)

    upstream = TlsUpstream(certificates.server(upstreams), hang_up)
    port = await nursery.start(upstream.serve)
    log = Log()
    tables = {"listen": listening(own), "upstream": dialling(certificates)}
    async with proxy_before(port, log=log, **tables) as running:
        bystander = await tls_client(running, certificates.client())
        client = await tls_client(running, certificates.client())
        await client.ping("one")
        await bystander.ping("two")
        assert await client.ask(ping("hang up")) is None
        assert await log.reasons(1) == ["upstream closed"]
        await bystander.ping("three")
        await bystander.close()
        await client.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_unacknowledged_writes_reach_upstream_although_the_client_closes(
    certificates, own, upstreams, nursery
):
    upstream = TlsUpstream(certificates.server(upstreams))
    port = await nursery.start(upstream.serve)
    tables = {"listen": listening(own), "upstream": dialling(certificates)}
    async with proxy_before(port, **tables) as running:
        for number in range(20):
            client = await tls_client(running, certificates.client())
            await client.send(ping(f"lost? {number}", flags=2))
            await client.close()
            await upstream.bringing(f"lost? {number}")
    nursery.cancel_scope.cancel()


@in_time
async def test_resumed_sessions_of_clients(certificates, own, nursery):
    port = await nursery.start(RecordingUpstream().serve)
    tls = listening(own, ca=certificates.ca, client_certificates="required")
    context = certificates.client(certificates.issue("somebody"))
    async with proxy_before(port, listen=tls) as running:

        def connect(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
            address = ("127.0.0.1", port_of(running))
            with (
                socket.create_connection(address, timeout=PATIENCE) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as sock,
            ):
                sock.sendall(ping("here"))
                assert sock.recv(1000)
                return bool(sock.session_reused), sock.session

        reused, session = await trio.to_thread.run_sync(connect, None)
        assert not reused
        assert session is not None
        reused, _ = await trio.to_thread.run_sync(connect, session)
        assert reused
    nursery.cancel_scope.cancel()


@in_time
async def test_draining_does_not_wait_for_an_upstream_that_hangs(certificates, upstreams, nursery):
    upstream = TlsUpstream(certificates.server(upstreams))
    port = await nursery.start(upstream.serve)
    log = Log()
    async with proxy_before(port, log=log, upstream=dialling(certificates)) as running:
        before = await Client.connect(running)
        await before.ping("known by now")
        upstream.hangs = True
        client = await Client.connect(running)
        await client.send(ping("hello?"))
        while len(upstream.hanging) < 1:
            await trio.lowlevel.checkpoint()
        running.server.stop()
        for each in (before, client):
            assert await each.receive() is None
            await each.close()
        await log.line("stopped")
    nursery.cancel_scope.cancel()


@in_time
async def test_draining_lets_work_behind_tls_finish(certificates, own, upstreams, nursery):
    def held(seen: Seen, frame: bytes) -> Any:
        return () if document(frame).get("mark") == "held" else echo(seen, frame)

    upstream = TlsUpstream(certificates.server(upstreams), held)
    port = await nursery.start(upstream.serve)
    tables = {"listen": listening(own), "upstream": dialling(certificates)}
    async with proxy_before(port, **tables) as running:
        idle = await tls_client(running, certificates.client())
        await idle.ping("idle")
        busy = await tls_client(running, certificates.client())
        await busy.send(ping("held", 9))
        seen = await upstream.bringing("held")
        running.server.stop()
        assert await idle.receive() is None
        for reply in echo(seen, seen.frames[-1]):
            await seen.stream.send_all(reply)
        answer = await busy.receive()
        assert answer is not None
        assert document(answer)["echo"] == "held"
        assert await busy.receive() is None
        await idle.close()
        await busy.close()
    nursery.cancel_scope.cancel()

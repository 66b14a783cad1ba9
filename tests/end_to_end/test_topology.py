"""What drivers see of a deployment through the proxy: all of it, and never its own addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import pytest
import trio
from pymongo import monitoring
from pymongo.errors import ServerSelectionTimeoutError
from pymongo.read_preferences import Nearest, Secondary

from proxy.embedded import EmbeddedUpstream
from proxy.embedded.users import EmbeddedUser
from proxy.process.server import Running
from proxy.wire.compression import deflate, inflate
from proxy.wire.opcodes import EXHAUST_ALLOWED, HEADER, MORE_TO_COME, OP_COMPRESSED
from tests.build import command, op_query
from tests.end_to_end.members import Member, replica_set
from tests.end_to_end.tools import Driver, proxy_before, pymongo_at
from tests.patience import until
from tests.ports import free_port
from tests.replay import document
from tests.running import Client, in_time, ping
from tests.upstreams import HELLO, RecordingUpstream, answered, echo
from tests.upstreams import document as request_of

OFFER = {"hello": 1, "compression": ["zstd", "snappy", "zlib"], "$db": "admin"}
HELLOS = [
    command({"hello": 1, "$db": "admin"}, 1),
    command({"isMaster": 1, "helloOk": True, "$db": "admin"}, 2),
    command({"ismaster": 1, "$db": "test"}, 3),
    command(OFFER, 4),
    op_query("admin.$cmd", {"isMaster": 1, "helloOk": True}, request_id=5),
    op_query("test.$cmd", {"$query": {"ismaster": 1}}, request_id=6),
    *(deflate(command({"hello": 1, "$db": "x"}, 6 + n), n) for n in (1, 2, 3)),
    deflate(op_query("admin.$cmd", {"isMaster": 1}, request_id=10), 2),
]


async def hellos(port: int, host: str = "127.0.0.1") -> list[bytes] | None:
    """The replies to hello in every form, on one connection; None where nobody answers it."""
    try:
        client = Client(await trio.open_tcp_stream(host, port))
    except OSError:
        return None
    try:
        replies = []
        for request in HELLOS:
            reply = await client.ask(request)
            if reply is None:
                return None
            replies.append(reply)
        return replies
    finally:
        await client.close()


def plain(frame: bytes) -> bytes:
    return inflate(frame) if HEADER.unpack_from(frame)[3] == OP_COMPRESSED else frame


def listeners(running: Running, host: str = "127.0.0.1") -> dict[str, int]:
    """The ports of the listeners by the upstream address they stand for."""
    found = running.server.clusters[0].topology.addresses(host)
    return {name: int(address.rpartition(":")[2]) for name, address in found.items()}


def uri(*members: Member | str, options: str = "") -> str:
    seeds = [member if isinstance(member, str) else member.address for member in members]
    return f"mongodb://{','.join(seeds)}/?{options}"


async def whoami(driver: Driver, **more: Any) -> str:
    name: str = (await driver.command("whoami", **more))["name"]
    return name


def insert(driver: Driver) -> Any:
    return driver.run(lambda client: client.app.c.insert_one({}))


def nodes(driver: Driver) -> set[int]:
    return {port for _, port in driver.client.nodes}


# ------------------------------------------------------------------ nobody is led around


@in_time
async def test_no_hello_in_any_phase_names_upstream():
    async with (
        replica_set("a", "b", c="passive", d="hidden", e="arbiter") as fake,
        proxy_before(uri(fake.members["a"], fake.members["d"])) as running,
    ):
        ever = set(fake.addresses())
        told: list[int] = []

        async def look() -> None:
            ever.update(fake.addresses())
            before = listeners(running)
            for port in before.values():
                replies = await hellos(port) or []
                for reply in replies:
                    message = plain(reply)
                    assert [name for name in ever if name.encode() in message] == []
                    shown = document(reply)
                    assert shown["setName"] == "rs"
                    assert shown["me"] == f"127.0.0.1:{port}"
                    named = {*shown.get("hosts", ()), *shown.get("passives", ())}
                    named |= {*shown.get("arbiters", ()), shown.get("primary", shown["me"])}
                    known = {*before.values(), *listeners(running).values()}
                    assert named <= {f"127.0.0.1:{one}" for one in known}
                told.append(len(replies))

        async def phase(members: int) -> None:
            # At once, while the proxy does not know yet, and when it does.
            await look()
            listed = {m.address for m in fake.members.values() if m.role != "hidden"}
            listed |= {fake.members["d"].address}
            await until(lambda: set(listeners(running)) == listed)
            await look()
            assert len(listeners(running)) == members

        await phase(5)
        fake.elect("b")
        await phase(5)
        fake.elect(None)
        await phase(5)
        await fake.join("f")
        await phase(6)
        fake.elect("f")
        fake.remove("b")
        await phase(5)
        fake.members["c"].scope.cancel()
        await phase(5)
        await fake.join("g", "arbiter")
        fake.elect("a")
        await phase(6)
        assert told.count(len(HELLOS)) > 50


@in_time
async def test_no_stream_of_hellos_names_upstream():
    async with (
        replica_set("a", "b") as fake,
        proxy_before(uri(fake.members["a"])) as running,
    ):
        await until(lambda: len(listeners(running)) == 2)
        clients = {}
        for member in list(fake.members.values()):
            port = listeners(running)[member.address]
            clients[port] = await Client.connect(port)
            await clients[port].send(command({"hello": 1, "$db": "admin"}, flags=EXHAUST_ALLOWED))
        hosts, ever = [], set(fake.addresses())

        async def told(port: int) -> dict[str, Any]:
            frame = await clients[port].receive()
            assert frame is not None
            assert frame[16] & MORE_TO_COME
            assert [name for name in ever if name.encode() in frame] == []
            shown = document(frame)
            assert shown["me"] == f"127.0.0.1:{port}"
            hosts.append(len(shown["hosts"]))
            return shown

        for port in clients:
            await told(port)
        for name in ("b", "a", "b"):
            fake.elect(name)
            primary = f"127.0.0.1:{listeners(running)[fake.members[name].address]}"
            for port in clients:
                assert (await told(port))["primary"] == primary
        await fake.join("c")
        ever.update(fake.addresses())
        for port in clients:
            await told(port)
        await until(lambda: len(listeners(running)) == 3)
        fake.elect("c")
        for port in clients:
            await told(port)
        # Who has no listener yet is left out, and then named by it.
        assert hosts == [2] * 10 + [3] * 2
        for client in clients.values():
            await client.close()


@in_time
async def test_what_drivers_are_told():
    """PyMongo's own monitors report every hello reply."""

    class Heard(monitoring.ServerHeartbeatListener):
        def __init__(self) -> None:
            self.documents: list[Any] = []

        def started(self, event: Any) -> None: ...
        def failed(self, event: Any) -> None: ...
        def succeeded(self, event: Any) -> None:
            self.documents.append(event.reply.document)

    heard = Heard()
    async with (
        replica_set("a", "b", c="passive", d="hidden", e="arbiter") as fake,
        proxy_before(uri(fake.members["a"])) as running,
        pymongo_at(running, replicaSet="rs", event_listeners=[heard]) as driver,
    ):
        await until(lambda: len(driver.client.nodes) == 4)
        fake.elect("b")
        await insert(driver)
        assert fake.members["b"].writes == 1
        addresses = fake.addresses()
        await until(lambda: len(heard.documents) > 8)
        for told in heard.documents:
            assert [name for name in addresses if name in repr(told)] == []
        assert {document["me"] for document in heard.documents} == {
            f"127.0.0.1:{listeners(running)[fake.members[name].address]}" for name in "abce"
        }


# ------------------------------------------------------------------ drivers


@pytest.mark.parametrize("options", [{"replicaSet": "rs"}, {}], ids=["replicaSet", "plain"])
@pytest.mark.parametrize("seed", ["a", "b", "c"])
@in_time
async def test_the_set_is_found_from_any_member(seed, options):
    async with (
        replica_set("a", "b", c="passive", d="arbiter") as fake,
        proxy_before(uri(fake.members["a"])) as running,
    ):
        await until(lambda: len(listeners(running)) == 4)
        ports = listeners(running)
        where = {name: ports[member.address] for name, member in fake.members.items()}
        start = f"mongodb://127.0.0.1:{where[seed]}/"
        async with pymongo_at(start, **options) as driver:
            await insert(driver)
            assert driver.client.primary == ("127.0.0.1", where["a"])
            assert fake.members["a"].writes == 1
            await until(lambda: nodes(driver) == set(where.values()))
            await until(lambda: len(driver.client.secondaries) == 2)
            assert driver.client.arbiters == {("127.0.0.1", where["d"])}
            read = {await whoami(driver, read_preference=Secondary()) for _ in range(30)}
            assert read == {"b", "c"}


@in_time
async def test_every_listener_leads_to_its_member():
    async with (
        replica_set("a", "b", "c") as fake,
        proxy_before(uri(fake.members["a"])) as running,
    ):
        await until(lambda: len(listeners(running)) == 3)
        for name, member in fake.members.items():
            where = f"mongodb://127.0.0.1:{listeners(running)[member.address]}/"
            async with pymongo_at(where, directConnection=True) as driver:
                assert await whoami(driver) == name
                assert driver.client.is_primary is (name == "a")


@in_time
async def test_a_wrong_set_name_is_noticed_by_the_driver():
    async with replica_set("a") as fake, proxy_before(uri(fake.members["a"])) as running:
        impatient = {"replicaSet": "other", "serverSelectionTimeoutMS": 200}
        async with pymongo_at(running, **impatient) as driver:
            with pytest.raises(ServerSelectionTimeoutError):
                await whoami(driver)


@in_time
async def test_writes_follow_elections():
    async with (
        replica_set("a", "b", "c") as fake,
        proxy_before(uri(fake.members["a"])) as running,
        pymongo_at(running, replicaSet="rs") as driver,
    ):
        await insert(driver)
        await until(lambda: len(driver.client.nodes) == 3)
        for name in ("b", "c", "a"):
            fake.elect(name)
            await insert(driver)
            port = listeners(running)[fake.members[name].address]
            assert driver.client.primary == ("127.0.0.1", port)
        assert [member.writes for member in fake.members.values()] == [2, 1, 1]


@in_time
async def test_members_come_and_go():
    async with (
        replica_set("a", "b") as fake,
        proxy_before(uri(fake.members["a"])) as running,
        pymongo_at(running, replicaSet="rs") as driver,
    ):
        await insert(driver)
        await until(lambda: len(driver.client.nodes) == 2)
        gone = listeners(running)[fake.members["b"].address]
        await fake.join("c")
        await until(lambda: len(driver.client.secondaries) == 2)
        fake.remove("b")
        await until(lambda: gone not in nodes(driver) and len(driver.client.nodes) == 2)
        await until(lambda: len(listeners(running)) == 2)
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", gone)
        fake.elect("c")
        await insert(driver)
        assert fake.members["c"].writes == 1
        # The first seed leaves too; the driver has long found the others.
        fake.remove("a")
        await until(lambda: len(listeners(running)) == 1)
        await until(lambda: len(driver.client.nodes) == 1)
        await insert(driver)


@in_time
async def test_a_seed_by_another_name_is_the_same_member():
    async with (
        replica_set("a", "b") as fake,
        proxy_before(
            uri(f"localhost:{fake.members['a'].upstream.port}", fake.members["b"])
        ) as running,
        pymongo_at(running, replicaSet="rs") as driver,
    ):
        await insert(driver)
        await until(lambda: len(driver.client.nodes) == 2)
        assert set(listeners(running).values()) == nodes(driver)
        for port in nodes(driver):
            for reply in await hellos(port) or [b""]:
                message = plain(reply)
                assert message
                for member in fake.members.values():
                    assert f":{member.upstream.port}".encode() not in message


# ------------------------------------------------------------------ upstream comes later


@in_time
async def test_a_set_that_comes_later():
    port = free_port()
    async with (
        replica_set() as fake,
        proxy_before(f"mongodb://127.0.0.1:{port}/?replicaSet=rs") as running,
        pymongo_at(running, replicaSet="rs") as driver,
        trio.open_nursery() as nursery,
    ):
        client = await Client.connect(running)
        assert await client.ask(HELLOS[0]) is None
        await client.close()

        async def come() -> None:
            await until(lambda: not running.server.ready()[0])
            await fake.join("a", port=port)
            await fake.join("b")
            fake.elect("a")

        nursery.start_soon(come)
        await insert(driver)
        await until(lambda: len(driver.client.nodes) == 2)
        assert running.server.ready() == (True, "")
        nursery.cancel_scope.cancel()


@in_time
async def test_a_member_that_is_away_for_a_while():
    async with (
        replica_set("a", "b") as fake,
        proxy_before(uri(fake.members["a"])) as running,
        pymongo_at(running, replicaSet="rs") as driver,
    ):
        await until(lambda: len(driver.client.secondaries) == 1)
        away = fake.members["b"]
        port = listeners(running)[away.address]
        away.scope.cancel()
        await until(lambda: not driver.client.secondaries)
        # Whoever dials it is rejected at once, as the member itself would do.
        assert await hellos(port) is None
        await insert(driver)
        await fake.join("b", port=away.upstream.port)
        await until(lambda: driver.client.secondaries == {("127.0.0.1", port)})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@in_time
async def test_a_seed_that_comes_later(host):
    """Also by a name that the set does not use: first it is a stranger, then it is known."""
    port = free_port()
    async with replica_set("b", "c") as fake:
        seeds = (f"{host}:{port}", fake.members["b"].address)
        async with proxy_before(uri(*seeds, options="replicaSet=rs")) as running:
            second = f"mongodb://{running.addresses[1]}/"
            async with pymongo_at(second, replicaSet="rs") as driver:
                await insert(driver)
                await until(lambda: len(driver.client.nodes) == 2)
                assert await hellos(int(running.addresses[0].rpartition(":")[2])) is None
                member = await fake.join("a", port=port)
                fake.elect("a")
                await insert(driver)
                await until(lambda: len(driver.client.nodes) == 3)
                assert member.writes == 1
                first = int(running.addresses[0].rpartition(":")[2])
                await until(lambda: driver.client.primary == ("127.0.0.1", first))
                await until(lambda: nodes(driver) == set(listeners(running).values()))


# ------------------------------------------------------------------ where the proxy listens


@in_time
async def test_a_given_map_is_all_there_is():
    async with replica_set("a", "b", "c") as fake:
        given = []
        for name in ("a", "b"):
            port = free_port()
            given.append(
                {
                    "upstream": fake.members[name].address,
                    "listen": f"127.0.0.1:{port}",
                    "advertise": f"localhost:{port}",
                }
            )
        ports = [int(member["listen"].rpartition(":")[2]) for member in given]
        async with proxy_before(uri(fake.members["a"]), upstream={"members": given}) as running:
            assert running.addresses == [member["listen"] for member in given]
            for port in ports:
                for reply in await hellos(port) or []:
                    shown = document(reply)
                    assert shown["hosts"] == [member["advertise"] for member in given]
                    assert shown["me"] == f"localhost:{port}"
                    message = plain(reply)
                    assert not any(name.encode() in message for name in fake.addresses())
            async with pymongo_at(running, replicaSet="rs") as driver:
                await insert(driver)
                await until(lambda: driver.client.nodes == {("localhost", port) for port in ports})
                assert driver.client.primary == ("localhost", ports[0])


@in_time
async def test_an_advertised_name():
    async with (
        replica_set("a", "b") as fake,
        proxy_before(uri(fake.members["a"]), listen={"advertise": "localhost"}) as running,
        pymongo_at(running, replicaSet="rs") as driver,
    ):
        await insert(driver)
        ports = listeners(running).values()
        await until(lambda: driver.client.nodes == {("localhost", port) for port in ports})
        assert await whoami(driver, read_preference=Secondary()) == "b"


@in_time
async def test_behind_a_wildcard_everybody_gets_the_host_he_came_by():
    async with (
        replica_set("a", "b") as fake,
        proxy_before(uri(fake.members["a"]), listen={"address": "0.0.0.0:0"}) as running,
    ):
        first = int(running.addresses[0].rpartition(":")[2])
        # All of 127.0.0.0/8 is this machine.
        for host in ("127.0.0.1", "127.0.0.2"):
            async with pymongo_at(f"mongodb://{host}:{first}/", replicaSet="rs") as driver:
                await insert(driver)
                ports = listeners(running, host).values()
                await until(lambda h=host, p=ports, d=driver: d.client.nodes == _at(h, p))
                assert await whoami(driver, read_preference=Secondary()) == "b"
            for reply in await hellos(first, host) or []:
                assert document(reply)["me"] == f"{host}:{first}"


def _at(host: str, ports: Iterable[int]) -> set[tuple[str, int]]:
    return {(host, port) for port in ports}


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 loopback here")
@pytest.mark.parametrize("address", ["[::1]:0", "[::]:0"])
@in_time
async def test_ipv6(address):
    async with (
        replica_set("a", "b") as fake,
        proxy_before(uri(fake.members["a"]), listen={"address": address}) as running,
        pymongo_at(running, replicaSet="rs") as driver,
    ):
        assert running.addresses[0].startswith("[::1]:")
        await insert(driver)
        ports = listeners(running, "::1").values()
        await until(lambda: driver.client.nodes == _at("::1", ports) and len(ports) == 2)
        assert await whoami(driver, read_preference=Secondary()) == "b"


@in_time
async def test_a_unix_socket_before_a_set(tmp_path):
    path = tmp_path / "proxy.sock"
    async with (
        replica_set("a", "b") as fake,
        proxy_before(uri(fake.members["a"]), listen={"address": str(path)}),
    ):
        where = f"mongodb://{str(path).replace('/', '%2F')}/"
        async with pymongo_at(where, directConnection=True) as driver:
            assert await whoami(driver) == "a"
            await insert(driver)
        client = Client(await trio.open_unix_socket(str(path)))
        for request in HELLOS:
            message = plain(await client.ask(request) or b"")
            assert message
            assert not any(name.encode() in message for name in fake.addresses())
            assert "me" not in document(message)
        await client.close()
    assert fake.members["a"].writes == 1


@in_time
async def test_a_unix_socket_before_a_standalone(tmp_path, nursery):
    port = await nursery.start(EmbeddedUpstream(set_name=None).serve, "127.0.0.1", 0)
    path = tmp_path / "proxy.sock"
    async with proxy_before(port, listen={"address": str(path)}):
        where = f"mongodb://{str(path).replace('/', '%2F')}/"
        async with pymongo_at(where) as driver:
            await insert(driver)
            assert await driver.run(lambda client: client.app.c.count_documents({})) == 1
    nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ mongos, and hello as it is


@in_time
async def test_two_mongos(nursery):
    def router(name: str) -> RecordingUpstream:
        def answer(seen: Any, frame: bytes) -> Any:
            asked = next(iter(request_of(frame)), "")
            if asked in ("hello", "isMaster", "ismaster"):
                return (answered(frame, {**HELLO, "msg": "isdbgrid"}),)
            if asked == "whoami":
                return (answered(frame, {"ok": 1.0, "name": name}),)
            return echo(seen, frame)

        return RecordingUpstream(answer)

    seeds = [f"127.0.0.1:{await nursery.start(router(name).serve)}" for name in ("first", "second")]
    async with proxy_before(uri(*seeds)) as running:
        assert len(running.addresses) == 2
        where = f"mongodb://{','.join(running.addresses)}/"
        async with pymongo_at(where) as driver:
            await until(lambda: len(driver.client.nodes) == 2)
            assert driver.client.topology_description.topology_type_name == "Sharded"
            near = Nearest()
            assert {await whoami(driver, read_preference=near) for _ in range(60)} == {
                "first",
                "second",
            }
        for address, name in zip(running.addresses, ("first", "second"), strict=True):
            async with pymongo_at(f"mongodb://{address}/") as driver:
                assert await whoami(driver) == name
            host, _, port = address.rpartition(":")
            direct = await hellos(int(seeds[running.addresses.index(address)].rpartition(":")[2]))
            assert await hellos(int(port), host) == direct
    nursery.cancel_scope.cancel()


@in_time
async def test_hello_is_left_alone():
    async with (
        replica_set("a", "b", c="passive", d="arbiter") as fake,
        proxy_before(uri(fake.members["a"]), upstream={"hello": "pass"}) as running,
    ):
        port = int(running.addresses[0].rpartition(":")[2])
        for name in ("a", "b", None):
            fake.elect(name)
            through, direct = await hellos(port), await hellos(fake.members["a"].upstream.port)
            assert through is not None
            assert through == direct
            assert fake.members["b"].address.encode() in through[0]
        # And what is asked arrives as it was.
        client = await Client.connect(port)
        for request in HELLOS:
            await client.ask(request)
        await client.ask(ping("the end"))
        seen = fake.members["a"].upstream.with_mark("the end")
        assert seen.frames[:-1] == HELLOS
        await client.close()


@in_time
async def test_members_known_by_their_proxies_addresses():
    """Two proxies that leave hello alone, each before the member that goes by its address."""
    async with replica_set("a", "b") as fake:
        a, b = fake.members.values()
        passing = {"upstream": {"hello": "pass"}}
        async with (
            proxy_before(a.address, **passing) as one,
            proxy_before(b.address, **passing) as two,
        ):
            a.alias, b.alias = one.addresses[0], two.addresses[0]
            async with pymongo_at(one, replicaSet="rs") as driver:
                for name in ("a", "b"):
                    fake.elect(name)
                    await insert(driver)
                assert [member.writes for member in (a, b)] == [1, 1]
                assert {f"{host}:{port}" for host, port in driver.client.nodes} == {
                    a.alias,
                    b.alias,
                }


# ------------------------------------------------------------------ proxies before proxies


@in_time
async def test_a_proxy_before_a_proxy(nursery):
    users = [EmbeddedUser("alice", "app", "pw", (("readWrite", "app"),))]
    upstream = EmbeddedUpstream(authorization=True, users=users, set_name="rs")
    port = await nursery.start(upstream.serve, "127.0.0.1", 0)
    options = {"username": "alice", "password": "pw", "authSource": "app", "replicaSet": "rs"}
    async with (
        proxy_before(port) as inner,
        proxy_before(inner.addresses[0]) as outer,
        pymongo_at(outer, **options) as driver,
    ):

        def work(client: Any) -> list[Any]:
            with client.start_session() as session, session.start_transaction():
                client.app.c.insert_many([{"_id": 1}, {"_id": 2}], session=session)
            with client.start_session() as session:
                return list(client.app.c.find(batch_size=1, session=session))

        assert await driver.run(work) == [{"_id": 1}, {"_id": 2}]
        for running in (inner, outer):
            assert {"alice@app"} == {
                row.get("user", "") for row in running.server.connections()
            } - {""}
            assert {row["owner"] for row in running.server.sessions()} == {"alice@app"}
        assert nodes(driver) == set(listeners(outer).values())
        with_sessions = [len(list(running.server.sessions())) for running in (inner, outer)]
        assert with_sessions[0] == with_sessions[1] > 0
        await driver.command("killSessions", value=[])
    nursery.cancel_scope.cancel()

from __future__ import annotations

from typing import Any

import trio

from proxy.addresses import Address
from proxy.settings.upstream import Upstream
from proxy.upstream.destinations import Destinations
from proxy.upstream.facts import Upstreams
from proxy.upstream.standing import standing_rows
from proxy.upstream.topology import PRIMARY, Topology
from proxy.upstream.watcher import Watcher
from proxy.upstream.ways import Ways, new_mark
from tests.patience import PATIENCE, until
from tests.upstream.test_watcher import STANDALONE, Member, rs, watching

ONE, TWO, THREE = (Address("db", port) for port in (1, 2, 3))
HOSTS = ["db:1", "db:2", "db:3"]


async def _nothing() -> None:
    await trio.lowlevel.checkpoint()


def rows(topology: Topology, **more: Any) -> list[dict[str, Any]]:
    """Of a topology whose members nobody has asked yet."""
    settings = Upstream()
    watcher = Watcher(topology, Ways(None, settings, new_mark()), settings, _nothing, trio.Event())
    given = {"listeners": {}, "connections": {}, "now": 0.0} | more
    return standing_rows(topology, watcher, Upstreams(), **given)


def test_each_member_has_its_role_its_listener_and_its_clients() -> None:
    topology = Topology((ONE, TWO, THREE))
    primary = rs("db:1", HOSTS) | {"secondary": False, "isWritablePrimary": True}
    arbiter = rs("db:3", HOSTS) | {"secondary": False, "arbiterOnly": True}
    for address, hello in ((ONE, primary), (TWO, rs("db:2", HOSTS)), (THREE, arbiter)):
        assert topology.observe(address, hello, 0.0) == ""
    listeners = {ONE: Address("127.0.0.1", 7001), TWO: Address("127.0.0.1", 7002)}
    first, second, third = rows(topology, listeners=listeners, connections={"db:2": 5})
    assert [one["role"] for one in (first, second, third)] == ["primary", "secondary", "arbiter"]
    assert (first["upstream"], first["name"], first["set"]) == ("db:1", "db:1", "rs0")
    assert (second["listener"], second["connections"]) == ("127.0.0.1:7002", 5)
    assert (third["listener"], third["connections"]) == (None, 0)


def test_a_primary_that_is_gone_is_none_any_more() -> None:
    topology = Topology((ONE,))
    topology.observe(ONE, rs("db:1", ["db:1"]) | {"isWritablePrimary": True}, 0.0)
    topology.failed(ONE)
    [row] = rows(topology)
    assert (row["role"], row["set"]) == ("", "rs0")


def test_a_listener_that_follows_the_primary_says_whom() -> None:
    topology = Topology((ONE,))
    listeners = {PRIMARY: Address("127.0.0.1", 7000)}
    assert rows(topology, listeners=listeners)[1]["upstream"] is None
    topology.observe(ONE, rs("db:1", ["db:1"]) | {"isWritablePrimary": True}, 0.0)
    _, front = rows(topology, listeners=listeners)
    assert (front["role"], front["upstream"]) == ("follows the primary", "db:1")
    assert front["listener"] == "127.0.0.1:7000"


def test_destinations_are_shown_too() -> None:
    topology = Destinations(())
    topology.reached(ONE)
    topology.observe(ONE, STANDALONE, 0.0)
    [row] = rows(topology)
    assert (row["upstream"], row["role"], row["up"]) == ("db:1", "standalone", None)


async def test_who_is_down_since_when() -> None:
    with trio.fail_after(PATIENCE):
        member = Member(STANDALONE)
        async with watching(member) as watched:
            standing = watched.watcher.standing
            assert member.address is not None
            assert standing(member.address) == standing(ONE) == (None, None, "")
            await watched.ready.wait()
            up, since, problem = standing(member.address)
            assert (up, problem) == (True, "")
            requests = len(member.requests)
            await until(lambda: len(member.requests) > requests + 2)
            assert standing(member.address) == (up, since, problem)
            member.answer = lambda _request: None
            await until(lambda: not standing(member.address)[0])
            _, down, problem = standing(member.address)
            assert problem
            assert since is not None
            assert down is not None
            assert down > since
            requests = len(member.requests)
            await until(lambda: len(member.requests) > requests + 2)
            assert standing(member.address)[1] == down

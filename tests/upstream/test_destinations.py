from __future__ import annotations

from typing import Any

import bson

from proxy.addresses import Address
from proxy.upstream import destinations as module
from proxy.upstream.destinations import Destinations

A, B, C = (Address(f"10.0.0.{number}", 27017) for number in (1, 2, 3))


def member(set_name: str = "rs", *, primary: bool = False) -> dict[str, Any]:
    told = {"ok": 1.0, "setName": set_name, "ismaster": primary, "secondary": not primary}
    return told | ({"electionId": bson.ObjectId()} if primary else {})


def test_nobody_is_asked_before_clients_come_but_seeds() -> None:
    topology = Destinations((A,))
    assert topology.targets() == topology.members() == (A,)
    assert topology.kind == "unknown"
    assert topology.reached(B)
    assert not topology.reached(B)
    assert topology.targets() == (A, B)
    assert not topology.grows
    assert not topology.settles
    assert Destinations(()).targets() == ()


def test_what_upstream_is_and_who_is_the_primary() -> None:
    topology = Destinations(())
    for one in (A, B):
        topology.reached(one)
    assert topology.observe(A, {"ok": 1.0, "ismaster": True}, 0) == ""
    assert topology.kind == "standalone"
    assert topology.observe(A, {"ok": 1.0, "ismaster": True, "msg": "isdbgrid"}, 0) == ""
    assert topology.kind == "mongos"
    assert topology.observe(A, member(primary=True), 0) == ""
    assert topology.observe(B, member(), 0) == ""
    assert (topology.kind, topology.primary) == ("replica set", A)
    topology.observe(B, member(primary=True), 0)
    assert topology.primary == B
    topology.failed(B)
    assert topology.primary is None
    assert topology.observe(A, {"ok": 0, "errmsg": "no"}, 0) == "hello failed: 'no'"


def test_sets_beside_each_other_are_no_problem() -> None:
    topology = Destinations(())
    for one, name in ((A, "one"), (B, "other")):
        topology.reached(one)
        assert topology.observe(one, member(name, primary=True), 0) == ""
    assert topology.primary == A


def test_who_does_not_answer_is_forgotten_until_a_client_comes() -> None:
    topology = Destinations((C,))
    for one in (A, C):
        topology.reached(one)
    for _ in range(module._PATIENCE - 1):
        topology.failed(A)
    # A client that comes for it meanwhile is news.
    assert topology.reached(A)
    for _ in range(module._PATIENCE):
        topology.failed(A)
        topology.failed(C)
    assert topology.targets() == (C,)
    assert topology.reached(A)


def test_who_answers_is_kept() -> None:
    topology = Destinations(())
    topology.reached(A)
    for _ in range(module._PATIENCE):
        topology.failed(A)
        topology.observe(A, member(), 0)
    assert topology.targets() == (A,)


def test_only_so_many_are_asked() -> None:
    topology = Destinations(())
    for port in range(1, module._MOST + 10):
        topology.reached(Address("10.0.0.1", port))
        topology.reached(A)
    assert len(topology.targets()) == module._MOST
    assert A in topology.targets()

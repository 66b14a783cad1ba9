from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId, json_util
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.addresses import Address
from proxy.upstream.link import MAX_HELLO_SIZE
from proxy.upstream.topology import FORGET_SECONDS, MAX_MEMBERS, Topology
from tests.effort import milliseconds

RECORDED = {
    recorded["deployment"]: json_util.loads(json.dumps(recorded["hello"]))
    for recorded in map(
        json.loads, (Path(__file__).parents[1] / "data" / "hello.jsonl").read_text().splitlines()
    )
}
A, B, C, D, E = (Address(name, 27017) for name in "abcde")


def hello(
    me: Address | str,
    hosts: tuple[Address, ...] | None = None,
    *,
    primary: bool = False,
    term: int = 1,
    version: int = 1,
    name: str = "rs0",
    **more: Any,
) -> dict[str, Any]:
    reply: dict[str, Any] = {
        "setName": name,
        "setVersion": version,
        "ismaster": primary,
        "secondary": not primary,
        "me": str(me),
        **({} if hosts is None else {"hosts": [str(host) for host in hosts]}),
        **more,
        "ok": 1.0,
    }
    if primary:
        reply["electionId"] = ObjectId(f"7fffffff{term:016x}")
    return reply


STANDALONE = {"ismaster": True, "ok": 1.0}
MONGOS = {"ismaster": True, "msg": "isdbgrid", "ok": 1.0}
GHOST = {"ismaster": False, "isreplicaset": True, "info": "no configuration", "ok": 1.0}


def topology(*seeds: Address, **settings: Any) -> Topology:
    return Topology(seeds, **settings)


# ---------------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    ("deployment", "kind", "members"),
    [
        ("standalone.anonymous", "standalone", ["seed:1"]),
        ("mongos.alice", "mongos", ["seed:1"]),
        ("rsauth.unauthenticated", "replica set", ["seed:1"]),
        ("rs.anonymous", "replica set", ["seed:1", "127.0.0.1:27111", "127.0.0.1:27112"]),
    ],
)
def test_recorded_deployments(deployment: str, kind: str, members: list[str]) -> None:
    seed = Address("seed", 1)
    model = topology(seed)
    assert (model.kind, model.members()) == ("unknown", (seed,))
    assert model.observe(seed, RECORDED[deployment], 0) == ""
    assert model.kind == kind
    assert list(map(str, model.members())) == members
    assert model.primary == (seed if kind == "replica set" else None)


def test_every_seed_has_a_listener_where_there_is_no_set() -> None:
    for reply in (STANDALONE, MONGOS):
        model = topology(A, B)
        model.observe(A, reply, 0)
        model.failed(B)
        assert model.members() == model.targets() == (A, B)


def test_a_set_without_configuration_is_a_set_and_can_be_initiated() -> None:
    model = topology(A)
    assert model.observe(A, GHOST, 0) == ""
    assert (model.kind, model.members()) == ("replica set", (A,))
    model.observe(A, hello(A, (A, B), primary=True), 1)
    assert model.members() == (A, B)


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"ok": 0.0, "errmsg": "no such command: 'hello'", "code": 59},
        {"ok": "1", "setName": "rs0"},
    ],
)
def test_a_refusal_says_nothing_about_the_topology(reply: dict[str, Any]) -> None:
    model = topology(A)
    assert "hello failed" in model.observe(A, reply, 0)
    assert model.kind == "unknown"


def test_a_standalone_that_becomes_a_set_and_back() -> None:
    model = topology(A)
    model.observe(A, STANDALONE, 0)
    model.observe(A, hello(A, (A, B), primary=True), 1)
    assert (model.kind, model.members()) == ("replica set", (A, B))
    model.observe(A, STANDALONE, 2)
    model.failed(B)
    assert model.kind == "replica set", "a member under maintenance is not the end of the set"
    model.observe(A, STANDALONE, 3 + FORGET_SECONDS)
    assert (model.kind, model.members()) == ("standalone", (A,))


# ---------------------------------------------------------------------- members


def test_seeds_come_first_then_the_others_as_the_set_lists_them() -> None:
    model = topology(C, A)
    model.observe(
        A,
        hello(A, (D, A, B), primary=True, passives=["E:27017"], arbiters=[str(C)]),
        0,
    )
    assert model.members() == (C, A, D, B, E)
    assert model.targets() == (C, A, D, B, E)


def test_members_appear_and_vanish_with_the_configuration() -> None:
    model = topology(A)
    model.observe(A, hello(A, (A, B), primary=True), 0)
    model.observe(A, hello(A, (A, B, C), primary=True, version=2), 1)
    assert model.members() == (A, B, C)
    model.observe(A, hello(A, (A, C), primary=True, version=3), 2)
    assert model.members() == (A, C)


def test_an_election_moves_the_primary_and_nothing_else() -> None:
    model = topology(A)
    model.observe(A, hello(A, (A, B, C), primary=True), 0)
    model.observe(B, hello(B, (A, B, C)), 0)
    model.observe(A, hello(A, (A, B, C)), 1)
    assert model.primary is None
    model.observe(B, hello(B, (A, B, C), primary=True, term=2), 2)
    assert model.primary == B
    assert model.members() == (A, B, C)
    model.failed(B)
    assert model.primary is None
    assert model.members() == (A, B, C)


def test_a_stale_primary_is_not_believed() -> None:
    model = topology(A, B)
    model.observe(A, hello(A, (A, B), primary=True, term=1, version=5), 0)
    model.observe(B, hello(B, (A, B, C), primary=True, term=2, version=4), 1)
    assert (model.members(), model.primary) == ((A, B, C), B)
    for now in range(2, 200, 5):
        model.observe(A, hello(A, (A, B), primary=True, term=1, version=5), now)
        assert (model.members(), model.primary) == ((A, B, C), B)
        model.observe(B, hello(B, (A, B, C), primary=True, term=2, version=4), now + 1)


def test_a_secondary_that_is_behind_takes_no_listener_away() -> None:
    model = topology(A)
    model.observe(A, hello(A, (A, B, C), primary=True, version=2), 0)
    model.observe(B, hello(B, (A, B), version=1), 1)
    model.failed(A)
    model.observe(B, hello(B, (A, B), version=1), 2)
    assert model.members() == (A, B, C)


def test_without_a_primary_the_newest_configuration_counts() -> None:
    model = topology(A)
    model.observe(A, hello(A, (A, B), version=1), 0)
    model.observe(B, hello(B, (A, B, C), version=2), 1)
    assert model.members() == (A, B, C)
    model.observe(A, hello(A, (A, B), version=1), 2)
    assert model.members() == (A, B, C)


def test_while_there_is_a_primary_secondaries_are_not_asked_for_the_configuration() -> None:
    model = topology(A, B)
    model.observe(A, hello(A, (A, B), primary=True, version=4, term=2), 0)
    # Rolled back: an earlier primary's reconfiguration that no majority had.
    model.observe(B, hello(B, (A, B, C), version=5), 1)
    assert model.members() == (A, B)


def test_a_set_made_anew_is_believed_in_the_end() -> None:
    model = topology(A)
    model.observe(A, hello(A, (A, B, C), primary=True, term=9, version=9), 0)
    model.observe(A, hello(A, (A,), primary=True), 10)
    assert model.members() == (A, B, C)
    model.observe(A, hello(A, (A,), primary=True), 10 + FORGET_SECONDS)
    assert model.members() == (A, B, C)
    model.observe(A, hello(A, (A,), primary=True), 11 + FORGET_SECONDS)
    assert (model.members(), model.primary) == ((A,), A)


def test_silence_does_not_make_the_set_forgotten() -> None:
    model = topology(A)
    model.observe(A, hello(A, (A, B, C), primary=True, version=9), 0)
    for address in (A, B, C):
        model.failed(address)
    model.observe(B, hello(B, (A, B), version=8), 10_000)
    assert model.members() == (A, B, C)


def test_another_set_is_not_mixed_in() -> None:
    model = topology(A, B)
    model.observe(A, hello(A, (A, C), primary=True), 0)
    other = hello(B, (B, D), primary=True, term=8, version=8, name="rs1")
    assert "'rs1', not of 'rs0'" in model.observe(B, other, 1)
    assert model.members() == (A, B, C)
    assert model.primary == A


def test_only_the_configured_set_is_believed() -> None:
    model = topology(A, replica_set="rs0")
    other = hello(A, (A, B), primary=True, name="rs1")
    for now in (0.0, FORGET_SECONDS, 3 * FORGET_SECONDS):
        assert "'rs1', not of 'rs0'" in model.observe(A, other, now)
    assert model.members() == (A,)
    assert "no member of replica set 'rs0'" in model.observe(A, STANDALONE, 0)
    assert model.observe(A, GHOST, 0) == ""
    assert model.observe(A, hello(A, (A, B), primary=True), 0) == ""
    assert model.members() == (A, B)


def test_a_seed_renamed_set_is_believed_in_the_end() -> None:
    model = topology(A)
    model.observe(A, hello(A, (A, B), primary=True), 0)
    assert model.observe(A, hello(A, (A, C), primary=True, name="rs1"), 1)
    later = 2 + FORGET_SECONDS
    assert model.observe(A, hello(A, (A, C), primary=True, name="rs1"), later) == ""
    assert model.members() == (A, C)


# ---------------------------------------------------------------------- seeds


def test_a_seed_spelled_otherwise_is_one_member() -> None:
    seed = Address("localhost", 27017)
    model = topology(seed)
    model.observe(seed, hello("DB1.example:27017", (Address("db1.example", 27017), B)), 0)
    assert model.members() == (seed, B)
    model.opened(seed, 1, "proxy")
    model.opened(B, 2, "proxy")
    assert model.addresses() == {
        "localhost:27017": "proxy:1",
        "db1.example:27017": "proxy:1",
        "b:27017": "proxy:2",
    }


def test_two_seeds_that_are_one_member_have_one_listener() -> None:
    model = topology(A, Address("10.0.0.1", 27017))
    for seed in model.targets():
        model.observe(seed, hello(A, (A, B), primary=True), 0)
    assert model.members() == (A, B)


def test_a_unix_socket_stands_for_the_member_behind_it() -> None:
    seed = Address(path="/tmp/mongodb-27017.sock")
    model = topology(seed)
    model.observe(seed, hello(A, (A, B), primary=True), 0)
    assert model.members() == (seed, B)


def test_a_seed_that_left_the_set_loses_its_listener_and_is_still_asked() -> None:
    model = topology(A, B)
    model.observe(A, hello(A, (A, B), primary=True), 0)
    model.observe(B, hello(B, (A, B)), 0)
    model.observe(B, hello(B, (B,), primary=True, version=2, term=2), 1)
    assert model.members() == (B,)
    assert model.targets() == (A, B)
    model.observe(A, GHOST, 2)
    assert model.members() == (B,)
    model.observe(B, hello(B, (A, B), primary=True, version=3, term=2), 3)
    assert model.members() == (A, B)


@pytest.mark.parametrize("reply", [GHOST, STANDALONE, {"ok": 0}, None])
def test_a_seed_that_restarts_keeps_its_listener(reply: dict[str, Any] | None) -> None:
    model = topology(A, B)
    model.observe(A, hello(A, (A, B), primary=True), 0)
    model.observe(B, hello(B, (A, B)), 0)
    if reply is None:
        model.failed(A)
    else:
        model.observe(A, reply, 1)
    assert model.members() == (A, B)


def test_a_seed_that_never_answered_keeps_its_listener() -> None:
    model = topology(Address("alias", 27017), B)
    model.observe(B, hello(B, (A, B), primary=True), 0)
    assert model.members() == (Address("alias", 27017), B, A)
    model.observe(Address("alias", 27017), hello(A, (A, B)), 1)
    assert model.members() == (Address("alias", 27017), B)


def test_a_hidden_seed_has_a_listener_though_nobody_lists_it() -> None:
    model = topology(A, B)
    model.observe(A, hello(A, (A,), primary=True), 0)
    model.observe(B, hello(B, (A,), hidden=True), 0)
    assert model.members() == (A, B)
    model.observe(A, hello(A, (A,), primary=True, version=2), 1)
    assert model.members() == (A, B)


def test_a_seed_that_does_not_list_itself_has_a_listener() -> None:
    model = topology(A)
    model.observe(A, hello("inside:27017", (B,), primary=True), 0)
    assert model.members() == (A, B)


def test_a_seed_that_knows_of_itself_before_the_primary_was_asked() -> None:
    model = topology(A, B)
    model.observe(A, hello(A, (A,), primary=True, version=1), 0)
    model.observe(B, hello(B, (A, B), version=2), 1)
    assert model.members() == (A, B)


# ---------------------------------------------------------------------- addresses


def test_only_members_with_an_open_listener_are_handed_out() -> None:
    model = topology(A)
    model.observe(A, hello(A, (A, B, C), primary=True), 0)
    assert model.addresses() == {}
    model.opened(A, 1, "proxy")
    model.opened(C, 3, "proxy")
    assert model.addresses() == {"a:27017": "proxy:1", "c:27017": "proxy:3"}
    model.closed(C)
    assert model.addresses() == {"a:27017": "proxy:1"}
    assert model.own(C) == "proxy:3", "for clients that came just before"
    model.opened(B, 2, "proxy")
    model.observe(A, hello(A, (A, C), primary=True, version=2), 1)
    assert model.addresses() == {"a:27017": "proxy:1"}, "B left, though its listener is open"


@pytest.mark.parametrize(
    ("fixed", "local", "expected"),
    [
        ("Proxy.Example", "10.0.0.1", "proxy.example:27018"),
        ("", "10.0.0.1", "10.0.0.1:27018"),
        ("", "::1", "[::1]:27018"),
        ("", "FE80::1%eth0", "[fe80::1]:27018"),
        ("", "::ffff:10.0.0.1", "10.0.0.1:27018"),
        ("::1", "", "[::1]:27018"),
    ],
)
def test_what_is_advertised(fixed: str, local: str, expected: str) -> None:
    model = topology(A)
    model.opened(A, 27018, fixed)
    assert model.own(A, local) == expected
    assert model.addresses(local) == {"a:27017": expected}


def test_clients_that_come_by_many_hosts_do_not_fill_the_memory() -> None:
    model = topology(A)
    model.opened(A, 1)
    for number in range(1000):
        host = f"10.0.{number // 250}.{number % 250}"
        assert model.addresses(host) == {"a:27017": f"{host}:1"}
        assert model.addresses(host) is model.addresses(host)
    assert len(model._maps) <= 256


def test_a_given_map_replaces_the_one_that_is_built() -> None:
    model = topology(
        A, B, given={A: "Proxy-A.example:27018", B: "proxy-b", C: "elsewhere.example:27018"}
    )
    expected = {
        "a:27017": "proxy-a.example:27018",
        "b:27017": "proxy-b:27017",
        "c:27017": "elsewhere.example:27018",
    }
    assert model.addresses("10.0.0.1") == expected
    model.observe(A, hello("db1.example:27017", (B, C, D), primary=True), 0)
    assert not model.grows
    assert model.members() == (A, B)
    assert model.addresses() == expected | {"db1.example:27017": "proxy-a.example:27018"}
    assert model.own(A, "10.0.0.1") == "proxy-a.example:27018"


def test_a_direct_connection_has_one_listener() -> None:
    model = topology(A, direct=True)
    model.observe(A, hello(A, (A, B, C), primary=True), 0)
    model.opened(A, 1, "proxy")
    assert not model.grows
    assert model.members() == (A,)
    assert model.addresses() == {"a:27017": "proxy:1"}
    model.observe(A, hello(A, (B,), version=2), 1)
    assert model.members() == (A,)


# ---------------------------------------------------------------------- nonsense


@pytest.mark.parametrize(
    ("hosts", "others"),
    [
        ([str(A), "", "b:0", "b:x", "/etc/passwd", "x y:1", None, 5, ["c:1"], str(B)], (B,)),
        ("b:27017", ()),
        ({"0": str(B)}, ()),
        (None, ()),
        ([str(B), str(B), "B:27017"], (B,)),
    ],
)
def test_names_that_nobody_can_dial_are_skipped(hosts: Any, others: tuple[Address, ...]) -> None:
    model = topology(A)
    assert model.observe(A, hello(A, primary=True) | {"hosts": hosts}, 0) == ""
    assert model.members() == (A, *others)


def test_a_reply_with_very_many_names_is_taken_in_at_once() -> None:
    # The longest reply that is read from a member.
    hosts = tuple(Address("h", number + 1) for number in range(MAX_HELLO_SIZE // 20))
    document = hello(A, hosts, primary=True)
    known = topology(A)
    assert milliseconds(lambda: known.observe(A, document, 0.0)) < 20


def test_a_reply_cannot_ask_for_any_number_of_listeners() -> None:
    model = topology(A)
    model.observe(A, hello(A, tuple(Address("h", port) for port in range(1, 60_000))), 0)
    assert len(model.members()) == MAX_MEMBERS + 1


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "ok",
                "setName",
                "setVersion",
                "electionId",
                "me",
                "hosts",
                "hidden",
                "ismaster",
                "msg",
            ]
        ),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.just(1.0),
            st.text(max_size=9),
            st.just(str(B)),
            st.just(ObjectId("7fffffff0000000000000001")),
            st.lists(st.one_of(st.text(max_size=9), st.integers()), max_size=3),
        ),
    ),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
def test_no_reply_is_too_odd(first: dict[str, Any], second: dict[str, Any]) -> None:
    model = topology(A)
    for now, reply in enumerate((first, second, hello(A, (A, B), primary=True), first)):
        model.observe(A, reply, now)
        assert A in model.targets()
        for member in model.members():
            model.opened(member, 1, "p")
        assert set(model.addresses().values()) <= {"p:1"}


# ---------------------------------------------------------------------- a set in trouble


class ASetInTrouble(RuleBasedStateMachine):
    """Three of five processes form a set that reconfigures, elects and is partitioned.

    Terms and versions only grow. Each process reports the last configuration it got; what a
    process reports may be old.
    """

    def __init__(self) -> None:
        super().__init__()
        self.model = Topology((A, B))
        self.now = 0.0
        self.version = 1
        self.term = 1
        self.hosts: tuple[Address, ...] = (A, B, C)
        self.primary = A
        self.knows = {m: (1, self.hosts) for m in (A, B, C, D, E)}
        self.thinks_primary = {A: 1}
        self.model.observe(A, self.reply(A), 0)

    def reply(self, member: Address) -> dict[str, Any]:
        version, hosts = self.knows[member]
        term = self.thinks_primary.get(member, 0)
        return hello(member, hosts, primary=bool(term), term=term, version=version)

    @rule(member=st.sampled_from([A, B, C, D, E]), heal=st.booleans())
    def tells(self, member: Address, heal: bool) -> None:
        if heal and member in self.hosts:
            self.knows[member] = (self.version, self.hosts)
            if member != self.primary:
                self.thinks_primary.pop(member, None)
        if member not in self.knows[member][1] or member not in self.model.targets():
            return
        self.now += 0.1
        before = self.model.members()
        believed = self.model._config
        assert believed is not None
        reply = self.reply(member)
        told = reply["electionId"].binary if "electionId" in reply else believed.election
        behind = (told, reply["setVersion"]) < (believed.election, believed.version)
        self.model.observe(member, reply, self.now)
        if behind:
            assert set(before) - set(self.model.members()) <= {member}
            assert set(self.model.members()) - set(before) <= {A, B}

    @rule(hosts=st.sets(st.sampled_from([C, D, E])))
    def reconfigures(self, hosts: set[Address]) -> None:
        self.version += 1
        self.hosts = (A, B, *sorted(hosts, key=str))
        self.knows[self.primary] = (self.version, self.hosts)

    @rule(member=st.sampled_from([A, B]))
    def elects(self, member: Address) -> None:
        # Who wins has the newest configuration that a majority has: here, the newest.
        self.term += 1
        self.primary = member
        self.knows[member] = (self.version, self.hosts)
        self.thinks_primary[member] = self.term

    @rule(member=st.sampled_from([A, B, C, D, E]))
    def fails(self, member: Address) -> None:
        self.model.failed(member)

    @rule()
    def primary_tells(self) -> None:
        self.now += 0.1
        self.model.observe(self.primary, self.reply(self.primary), self.now)
        assert self.model.primary == self.primary
        assert set(self.model.members()) == set(self.hosts)

    @invariant()
    def only_open_members_are_handed_out(self) -> None:
        for member in self.model.members():
            self.model.opened(member, ord(member.host), "p")
        assert self.model.addresses() == {
            str(member): f"p:{ord(member.host)}" for member in self.model.members()
        }
        assert {A, B} <= set(self.model.targets())


TestASetInTrouble = ASetInTrouble.TestCase


# ------------------------------------------------------------------ who leads


def test_who_leads_by_all_that_is_known() -> None:
    one, two = Address("a", 27017), Address("b", 27017)
    model = Topology((one, two))

    def told(address: Address, *, primary: bool, term: int = 1) -> None:
        hello: dict[str, Any] = {
            "ok": 1,
            "setName": "rs",
            "setVersion": 1,
            "hosts": ["a:27017", "b:27017"],
            "isWritablePrimary": primary,
        }
        if primary:
            hello["electionId"] = ObjectId(f"7fffffff{term:016x}")
        assert model.observe(address, hello, 0.0) == ""

    def leading() -> list[bool]:
        return [model.leads(one), model.leads(two)]

    assert (leading(), model.set_name) == ([False, False], "")
    told(one, primary=True)
    told(two, primary=False)
    assert (leading(), model.set_name) == ([True, False], "rs")
    model.failed(one)
    assert leading() == [True, False], "nobody else does"
    told(two, primary=True, term=2)
    assert leading() == [False, True]
    told(two, primary=False)
    assert leading() == [False, False], "another one did since"


def test_one_member_alone() -> None:
    model = Topology((Address("a", 27017), Address("b", 27017)), direct=True)
    model.opened(Address("a", 27017), 1, "proxy")
    model.opened(Address("b", 27017), 2, "proxy")
    assert model.alone(Address("b", 27017), "front:3") == {"a:27017": "", "b:27017": "front:3"}


@pytest.mark.parametrize("hello", [{"ok": 1}, {"ok": 1, "msg": "isdbgrid"}])
def test_where_there_are_no_primaries_everybody_leads(hello: dict[str, Any]) -> None:
    model = Topology((Address("a", 27017),))
    model.observe(Address("a", 27017), hello, 0.0)
    assert model.leads(Address("a", 27017))

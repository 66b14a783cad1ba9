"""What is known of an upstream process, and from what."""

from __future__ import annotations

import pytest
from bson import ObjectId

from proxy.addresses import Address
from proxy.conversation.facts import Newcomer, UpstreamFacts
from proxy.conversation.hello import process_id
from proxy.upstream.facts import MOST_KNOWN, PROBE, SECOND_PROBE, Upstreams, process_of
from proxy.wire.opcodes import OP_MSG
from proxy.wire.replies import plain_reply, read_reply

ONE, TWO = Address("one", 1), Address("two", 2)


def test_nothing_is_known_before_anything_was_said():
    upstreams = Upstreams()
    assert upstreams.of(ONE) == UpstreamFacts(None, True, None, 30)
    assert upstreams.timeout_minutes == 30


def test_the_probe_is_harmless():
    assert PROBE == {"refreshSessions": [], "$db": "admin"}


@pytest.mark.parametrize(
    ("reply", "has_transactions", "minutes"),
    [
        ({"ok": 1.0}, False, 30),
        ({"setName": "rs", "logicalSessionTimeoutMinutes": 20}, True, 20),
        ({"msg": "isdbgrid"}, True, 30),
        ({"msg": "other", "setName": ""}, False, 30),
        ({"logicalSessionTimeoutMinutes": 0}, False, 30),
        ({"logicalSessionTimeoutMinutes": -5}, False, 30),
        ({"logicalSessionTimeoutMinutes": None}, False, 30),
        ({"logicalSessionTimeoutMinutes": "30"}, False, 30),
    ],
)
def test_hello(reply, has_transactions, minutes):
    upstreams = Upstreams()
    upstreams.hello(ONE, reply)
    facts = upstreams.of(ONE)
    assert (facts.has_transactions, facts.timeout_minutes) == (has_transactions, minutes)
    assert facts.authorization is None


@pytest.mark.parametrize(
    ("reply", "authorization", "native"),
    [
        ({"ok": 1.0}, False, True),
        ({"ok": 0.0, "code": 13}, True, True),
        ({"ok": 0.0, "code": 59}, None, False),
        ({"ok": 0.0, "code": 6}, None, True),
        ({}, None, True),
    ],
)
def test_the_probes_answer(reply, authorization, native):
    upstreams = Upstreams()
    upstreams.probed(ONE, reply)
    assert (upstreams.of(ONE).authorization, upstreams.of(ONE).native) == (authorization, native)
    assert upstreams.of(TWO) == UpstreamFacts()


def test_what_is_configured_is_not_overruled():
    upstreams = Upstreams(authorization=True, native=False)
    assert upstreams.of(ONE) == UpstreamFacts(True, False, None, 30)
    upstreams.hello(ONE, {"setName": "rs"})
    upstreams.probed(ONE, {"ok": 1.0})
    assert upstreams.of(ONE) == UpstreamFacts(True, False, True, 30, transaction_lifetime=60.0)


def test_facts_stay_the_same_object_until_they_change():
    upstreams = Upstreams()
    upstreams.hello(ONE, {"setName": "rs"})
    before = upstreams.of(ONE)
    upstreams.hello(ONE, {"setName": "rs"})
    assert upstreams.of(ONE) is before
    upstreams.probed(ONE, {"ok": 0.0, "code": 13})
    assert upstreams.of(ONE) is not before


def test_a_restart_with_authorization_is_noticed():
    upstreams = Upstreams()
    upstreams.probed(ONE, {"ok": 1.0}, {"ok": 1.0})
    assert not upstreams.of(ONE).ran_open
    upstreams.probed(ONE, {"ok": 0.0, "code": 13})
    assert upstreams.of(ONE).authorization is True
    assert upstreams.of(ONE).ran_open
    assert not upstreams.of(TWO).ran_open


@pytest.mark.parametrize(
    ("second", "authorization"),
    [
        ({"ok": 1.0, "argv": []}, False),
        ({"ok": 0.0, "code": 13}, True),
        ({"ok": 0.0, "code": 59}, False),
        ({"ok": 0.0, "code": 6}, False),
        (None, False),
    ],
)
def test_the_localhost_exception_is_not_taken_for_no_authorization(second, authorization):
    assert SECOND_PROBE == {"getCmdLineOpts": 1, "$db": "admin"}
    upstreams = Upstreams()
    upstreams.probed(ONE, {"ok": 1.0}, second)
    assert upstreams.of(ONE).authorization is authorization
    upstreams.probed(ONE, {"ok": 0.0, "code": 13})
    assert upstreams.of(ONE).ran_open is not authorization


def test_authorization_that_was_never_off_has_left_nobody_open():
    upstreams = Upstreams()
    upstreams.probed(ONE, {"ok": 0.0, "code": 6})
    upstreams.probed(ONE, {"ok": 0.0, "code": 13})
    assert not upstreams.of(ONE).ran_open


def test_what_hello_says_of_the_version():
    upstreams = Upstreams()
    upstreams.hello(ONE, {"maxWireVersion": 21}, needs_api_version=True)
    assert upstreams.of(ONE).wire_version == 21
    assert upstreams.of(ONE).needs_api_version
    upstreams.hello(ONE, {"maxWireVersion": "21"})
    assert upstreams.of(ONE).wire_version is None
    assert not upstreams.of(ONE).needs_api_version


def test_the_shortest_timeout_counts():
    upstreams = Upstreams()
    upstreams.hello(ONE, {"logicalSessionTimeoutMinutes": 40})
    assert upstreams.timeout_minutes == 40
    upstreams.hello(TWO, {"logicalSessionTimeoutMinutes": 10})
    assert upstreams.timeout_minutes == 10


def test_what_becomes_known_is_seen_where_it_was_asked_for_before():
    upstreams = Upstreams()
    one = upstreams.at(ONE)
    assert one.now() == UpstreamFacts()
    upstreams.hello(ONE, {"setName": "rs", "logicalSessionTimeoutMinutes": 5})
    assert one.now() is upstreams.of(ONE)
    assert one.now().has_transactions
    assert upstreams.at(TWO).now() == UpstreamFacts()
    assert upstreams.timeout_minutes == 5


def test_no_more_processes_are_remembered_than_a_thousand():
    upstreams = Upstreams()
    upstreams.probed(ONE, {"ok": 1})
    for port in range(1, 3_000):
        upstreams.at(Address("many", port))
    assert len(upstreams._by_address) == MOST_KNOWN
    # Of those that nothing is known of, first.
    assert upstreams.of(ONE).authorization is False
    known = Upstreams()
    for port in range(1, 3_000):
        known.probed(Address("many", port), {"ok": 1})
    assert len(known._by_address) == MOST_KNOWN
    assert known.of(Address("many", 2_999)).authorization is False


@pytest.mark.parametrize(
    ("version", "process"),
    [
        ({"processId": ObjectId(b"p" * 12), "counter": 1}, b"p" * 12),
        ({"processId": "p"}, b""),
        ("p", b""),
        (None, b""),
    ],
)
def test_a_process_says_which_one_it_is(version, process):
    hello = {"ok": 1.0, "topologyVersion": version}
    assert process_of(hello) == process
    assert process_id(read_reply(plain_reply(OP_MSG, 1, 1, hello))) == process


def test_who_is_told_what_upstream_demands_doubts_none_of_it():
    upstreams = Upstreams(authorization=False)
    upstreams.probed(ONE, {"ok": 1.0}, process=b"p")
    assert Newcomer(lambda: upstreams.of(ONE), b"q").is_known

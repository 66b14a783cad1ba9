"""That the benchmark runs and counts; no figure is judged here."""

from __future__ import annotations

import dataclasses
import itertools
import json

import bson
import pytest

from benchmarks import __main__ as benchmark
from benchmarks import contenders
from benchmarks.load import Load, LoadError, connect, exchange
from benchmarks.measure import Figures
from benchmarks.messages import HEADER, reply
from benchmarks.report import Results, targets
from benchmarks.responder import Responder
from benchmarks.workloads import WORKLOADS, control_of_many, handshake, new_lsid
from proxy.wire.messages import read_request
from proxy.wire.replies import read_reply


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_request_is_readable_and_has_the_reply_that_is_awaited(name):
    script = WORKLOADS[name](new_lsid(), 7)
    script.advance()
    for step in script.steps:
        data, count, awaited = bytes(step.data), 0, b""
        while data:
            length = HEADER.unpack_from(data)[0]
            request = read_request(data[:length])
            assert not request.problem
            awaited = reply(data[4:8])
            assert bool(awaited) is request.expects_reply
            data, count = data[length:], count + 1
        assert count == step.count
        assert read_reply(awaited).ok()
        assert read_reply(awaited).response_to == step.awaited


def test_a_repeated_transaction_has_a_higher_number():
    script = WORKLOADS["transaction"](new_lsid(), 7)
    numbers = []
    for _ in range(2):
        script.advance()
        found = {read_request(bytes(s.data)).integer(b"txnNumber") for s in script.steps}
        assert len(found) == 1
        numbers += found
    assert numbers[0] < numbers[1]


def test_getmore_goes_on_with_the_cursor_that_find_opened():
    steps = WORKLOADS["getMore"](new_lsid(), 7).steps
    replies = [bson.decode(read_reply(reply(bytes(s.data[4:8]))).body_bytes()) for s in steps]
    asked = [read_request(bytes(s.data)).integer(b"getMore") for s in steps]
    assert [r["cursor"]["id"] for r in replies] == [7, 7, 7, 0]
    assert asked == [None, 7, 7, 7]


def test_a_request_of_somebody_else_has_no_canned_reply():
    assert reply(bytes(4)) is None


def test_the_responder_answers_the_handshake_and_half_requests():
    with Responder() as responder, connect(responder.port) as sock:
        step = WORKLOADS["find-300B"](new_lsid(), 0).steps[0]
        whole = bytes(handshake().data) + bytes(step.data)
        sock.sendall(whole[:-100])
        head = sock.recv()
        assert read_reply(head).ok()
        step.data = bytearray(whole[-100:])
        assert exchange(sock, step)["cursor"]["id"] == 0


def test_a_refusal_is_no_result():
    with Responder() as responder, connect(responder.port) as sock:
        step = control_of_many("endSessions", 3)
        step.awaited += 1
        with pytest.raises(LoadError, match="something else"):
            exchange(sock, step)


def test_a_contender_that_is_not_there_is_an_error_and_no_result():
    with Responder() as responder, Load(1) as load:
        load.open("it", responder.port, "find-300B", 1)
        load.close("it")
        with pytest.raises(LoadError):
            load.close("it")


@pytest.mark.parametrize(
    ("workload", "legs", "head"),
    [
        ("transaction", "none", "transaction, 2 connections"),
        ("find-300B", "both", "find-300B TLS, 2 connections"),
        ("find-300B", "client", "find-300B client TLS, 2 connections"),
        ("find-1MB", "upstream", "find-1MB upstream TLS, 2 connections"),
    ],
)
def test_one_short_round_of_the_proxy(tmp_path, capsys, workload, legs, head):
    file = tmp_path / "figures.json"
    benchmark.main(
        [
            *("--rounds", "1", "--seconds", "0.3", "--clients", "1", "--json", str(file)),
            *("--only", workload, "--connections", "2", "--no-memory", "--tls", legs),
            *("--against", "direct", "--against", "proxy"),
        ]
    )
    (cell,) = json.loads(file.read_text())["cells"]
    direct, proxy = cell
    assert (direct["contender"], direct["cpu"]) == ("direct", None)
    assert proxy["contender"] == "proxy"
    assert proxy["cpu"] > 0
    for figures in cell:
        assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"]
    assert head in capsys.readouterr().out


def test_a_target_is_met_or_missed_by_ratio():
    def figures(name, per_second, p50, cpu):
        return Figures(name, "find-300B", 1, per_second, p50, p50, p50, cpu)

    results = Results({})
    results.cells = [
        [
            figures("direct", 100.0, 10.0, None),
            figures("trio streams", 40.0, 50.0, 40.0),
            figures("trio sockets", 60.0, 40.0, 20.0),
            figures("mongobetween", 55.0, 70.0, 90.0),
            figures("proxy", 50.0, 60.0, 26.0),
        ]
    ]
    assert [(t.met, round(t.measured, 2)) for t in targets(results)] == [
        (True, 1.25),
        (False, 1.25),
        (True, 1.3),
        (False, 0.91),
    ]


def test_two_workers_are_judged_beside_what_uses_two_processors():
    def figures(name, per_second, p99):
        return Figures(name, "find-300B", 64, per_second, 10.0, 20.0, p99, 40.0)

    cell = [
        figures("haproxy", 100.0, 20.0),
        figures("mongobetween", 50.0, 40.0),
        figures("mongoproxy", 70.0, 30.0),
        figures("proxy", 40.0, 33.0),
        figures("proxy 2 workers", 69.0, 30.0),
    ]
    assert [(t.what.split(": ", 1), t.met) for t in targets(Results({}, [cell]))] == [
        (["find-300B at 64", "msg/s / mongobetween (the aim)"], False),
        (["find-300B at 64", "p99 / mongoproxy"], False),
        (["find-300B at 64, 2 workers", "msg/s / haproxy"], False),
        (["find-300B at 64, 2 workers", "msg/s / mongobetween"], True),
        (["find-300B at 64, 2 workers", "msg/s / mongoproxy"], False),
    ]


@pytest.mark.parametrize(
    ("workload", "rate", "met"),
    [
        ("unacknowledged", 1.1, True),
        ("unacknowledged", 0.9, False),
        ("session-control", 0.7, True),
        ("transaction", 1.2, False),
    ],
)
def test_what_is_more_than_bytes_is_judged_by_two_pumps(workload, rate, met):
    cell = [
        Figures("trio streams", workload, 16, 1000.0, 10.0, 20.0, 30.0, 40.0),
        Figures("proxy", workload, 16, 1000.0 * rate, 10.0, 20.0, 30.0, 40.0),
    ]
    [target] = targets(Results({}, [cell]))
    assert (target.met, round(target.measured, 2)) == (met, rate)
    assert targets(Results({}, [[dataclasses.replace(one, connections=64) for one in cell]])) == []


def test_what_is_not_installed_is_left_out_with_a_word(monkeypatch):
    def missing(upstream):
        raise contenders.MissingError("it is not installed")

    monkeypatch.setitem(contenders.ALL, "mongobetween", missing)
    skipped = {}
    with contenders.running(["direct", "mongobetween"], 1, skipped) as running:
        assert [contender.name for contender in running] == ["direct"]
    assert skipped == {"mongobetween": "it is not installed"}


def test_no_two_varied_finds_after_each_other_have_the_same_size():
    steps = WORKLOADS["find-varied"](new_lsid(), 7).steps
    sizes = [len(step.data) for step in steps]
    replies = {len(reply(bytes(step.data[4:8]))) for step in steps}
    assert all(one != other for one, other in itertools.pairwise(sizes))
    assert len(replies) > len(steps) / 2


def test_tls_is_judged_by_haproxy_and_by_what_is_added_without():
    def cell(tls, direct, other, proxy, connections=1):
        figures = {"direct": direct, "haproxy 1 thread": other, "proxy": proxy}
        return [
            Figures(name, "find-300B", connections, rate, p50, p50, p50, 1.0, tls=tls)
            for name, (rate, p50) in figures.items()
        ]

    results = Results({})
    results.cells = [
        cell("", (9.0, 10.0), (8.0, 20.0), (7.0, 50.0)),
        cell("both", (9.0, 20.0), (8.0, 20.0), (4.0, 78.0)),
        cell("both", (9.0, 20.0), (8.0, 20.0), (4.0, 78.0), 16),
        cell("client", (9.0, 20.0), (8.0, 20.0), (4.0, 78.0), 16),
    ]
    assert [(t.met, round(t.measured, 2)) for t in targets(results)] == [(True, 1.45), (False, 0.5)]

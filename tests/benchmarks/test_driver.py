"""The canned replies to a real driver, and the driver's load; no figure is judged here."""

from __future__ import annotations

import json
import stat
import sys

import bson
import pytest
from bson import Int64

from benchmarks import named
from benchmarks.driver import __main__ as benchmark
from benchmarks.driver import load as driver
from benchmarks.driver.load import DriverLoad
from benchmarks.load import LoadError
from benchmarks.messages import HEADER, op_msg
from proxy.wire.messages import read_request
from proxy.wire.replies import read_reply
from tests.needs import lacking

NUMBER = 77


def answered(command, **more):
    frame = op_msg(NUMBER, 0, {**command, "$db": "app"}, **more)
    reply = read_reply(named.answer(frame, 27017))
    assert reply.ok()
    assert HEADER.unpack_from(reply.frame)[2] == NUMBER
    return bson.decode(reply.body_bytes())


@pytest.mark.parametrize(
    ("command", "field", "value"),
    [
        ({"insert": "c"}, "n", 1),
        ({"update": "c"}, "n", 1),
        ({"hello": 1}, "setName", "bench"),
        ({"isMaster": 1}, "me", "127.0.0.1:27017"),
        ({"commitTransaction": 1}, "ok", 1.0),
        ({"dropDatabase": 1}, "ok", 1.0),
    ],
)
def test_a_driver_s_command_is_answered_by_its_name(command, field, value):
    assert answered(command)[field] == value


def test_the_ismaster_that_drivers_begin_with_is_answered_in_its_own_opcode():
    body = b"\0\0\0\0admin.$cmd\0" + bytes(4) + b"\xff\xff\xff\xff" + bson.encode({"isMaster": 1})
    frame = HEADER.pack(HEADER.size + len(body), NUMBER, 0, 2004) + body
    assert read_request(frame).command == "isMaster"
    reply = read_reply(named.answer(frame, 27017))
    assert reply.ok()
    assert HEADER.unpack_from(reply.frame)[2:] == (NUMBER, 1)


def test_a_find_of_one_has_no_cursor_and_one_in_batches_has_the_request_s_number():
    assert answered({"find": "things", "limit": 1})["cursor"]["id"] == 0
    assert answered({"find": "things", "batchSize": 100})["cursor"]["id"] == NUMBER


def test_a_cursor_keeps_its_number_until_its_last_batch():
    found = [answered({"getMore": Int64(1 << 40), "batchSize": 9})["cursor"] for _ in range(6)]
    assert sorted(cursor["id"] for cursor in found) == [0] * 2 + [1 << 40] * 4
    assert all(len(cursor["nextBatch"]) == 100 for cursor in found)


def test_varied_finds_have_replies_of_varied_lengths():
    frames = [op_msg(n, 0, {"find": "users", "filter": {}, "$db": "app"}) for n in range(64)]
    assert len({len(named.answer(frame, 1)) for frame in frames}) > 50


@pytest.fixture
def program(tmp_path):
    """Makes an executable that answers each order with what is given."""

    def make(*lines):
        file = tmp_path / "program"
        text = "".join(
            f"sys.stdin.readline(); out.write({line!r}); out.flush()\n" for line in lines
        )
        file.write_text(f"#!{sys.executable}\nimport sys\nout = sys.stdout.buffer\n{text}")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return file

    return make


def test_a_round_is_what_the_program_counted(program):
    latencies = b"\0\0\0\0\0\0\xe0\x3f" * 2
    made = program(b'{"latencies": 0}\n', b'{"latencies": 2}\n' + latencies)
    with DriverLoad(made, lambda port: f"mongodb://127.0.0.1:{port}") as load:
        load.open("it", 1, "find", 1)
        load.start("it", 0.0, 0.5)
        round_ = load.result(0.5)
    assert (round_.requests, list(round_.latencies)) == (2, [0.5, 0.5])


@pytest.mark.parametrize(
    ("lines", "text"),
    [((b'{"error": "refused", "latencies": 0}\n',), "refused"), ((), "has ended")],
)
def test_what_went_wrong_is_an_error(program, lines, text):
    with (
        DriverLoad(program(*lines), lambda port: str(port)) as load,
        pytest.raises(LoadError, match=text),
    ):
        load.close("it")


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:1", "mongodb://example.com:1", "mongodb://127.0.0.1"]
)
def test_upstream_is_a_server_on_this_machine(uri):
    with pytest.raises(SystemExit):
        benchmark.main(["--upstream", uri])


@pytest.mark.parametrize("workload", driver.WORKLOADS)
def test_one_short_round_of_the_driver(workload, tmp_path, monkeypatch, capsys):
    if not driver.PROGRAM.exists():
        lacking("the Go driver's load")
    monkeypatch.setattr(benchmark, "build", lambda: driver.PROGRAM)
    file = tmp_path / "figures.json"
    benchmark.main(
        [
            *("--rounds", "1", "--seconds", "0.05", "--only", workload, "--connections", "2"),
            *("--against", "direct", "--against", "proxy", "--json", str(file)),
        ]
    )
    (cell,) = json.loads(file.read_text())["cells"]
    for figures in cell:
        assert figures["per_second"] > 0
        assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"]
    assert f"{workload}, 2 connections" in capsys.readouterr().out

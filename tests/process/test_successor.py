"""A new process that is to take over, and those that do not come up. Stand-ins play its part."""

from __future__ import annotations

import errno
import os
import socket
import sys

import pytest
import trio

from proxy.addresses import Address
from proxy.errors import ConfigError
from proxy.net.inherited import Placed
from proxy.process import beginnings, successor
from proxy.process.beginnings import Beginnings
from proxy.process.successor import VARIABLE, Left, NotReadyError
from tests.patience import until
from tests.running import in_time

ONE = Address("upstream", 27017)

#: What a new process does first.
BEGIN = """
import os, sys, time, trio
from proxy.process import beginnings
before = beginnings.find()
assert os.environ.get("MONGO_SESSION_PROXY_INHERITED") is None
predecessor = before.predecessor
"""


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def left(*sockets: socket.socket, **how: object) -> Left:
    place = Placed(ONE, None, Address("127.0.0.1", 5001))
    return Left([(place, list(sockets))], **how)


def program(text: str, *words: str) -> list[str]:
    return [sys.executable, "-c", BEGIN + text, *words]


@in_time
async def test_it_gets_the_sockets_says_that_it_is_ready_and_waits(tmp_path):
    said = tmp_path / "said"
    text = """
predecessor.ready()
told = trio.run(predecessor.released)
[place] = before.inherited._placed
[handed], [kept] = before.inherited._handed, before.inherited.kept
assert predecessor.upstream == [] and not predecessor.reached('')
open(sys.argv[1], "w").write(f"{told} {place} {handed.getsockname()} {kept.getsockname()}")
"""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        found = await successor.start(program(text, str(said)), left(one, kept=[two], upstream=()))
        assert not said.exists()
        found.release(numbers=7)
        assert await found.reap() == 0
        place = Placed(ONE, None, Address("127.0.0.1", 5001))
        assert (
            said.read_text() == f"{{'numbers': 7}} {place} {one.getsockname()} {two.getsockname()}"
        )


@in_time
async def test_one_whose_predecessor_is_gone_takes_over(tmp_path):
    said = tmp_path / "said"
    text = """
predecessor.ready()
open(sys.argv[1], "w").write(str(trio.run(predecessor.released)))
"""
    found = await successor.start(program(text, str(said)), left())
    found.close()
    assert await found.reap() == 0
    assert said.read_text() == "{}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("predecessor.failed(['a.b: is wrong', 'c.d: too'])", "a.b: is wrong; c.d: too"),
        ("predecessor.failed(['a.b: is wrong']); time.sleep(1000)", "a.b: is wrong"),
        ("sys.exit(3)", "ended with status 3"),
        ("os.kill(os.getpid(), 9)", "ended by signal 9"),
    ],
)
@in_time
async def test_why_it_did_not_come_up(text, reason):
    with listening() as sock:
        with pytest.raises(NotReadyError) as caught:
            await successor.start(program(text), left(sock))
        assert str(caught.value) == reason
        socket.create_connection(sock.getsockname()).close()


@in_time
async def test_of_many_reasons_there_is_no_more_than_can_be_said_at_once():
    text = "predecessor.failed([f'seeds.{n}: ' + '\\N{SNOWMAN}' * 30 for n in range(3_000)])"
    with pytest.raises(NotReadyError) as caught:
        await successor.start(program(text), left())
    said = str(caught.value).split("; ")
    assert 50 < len(said) < 3_000
    assert said[0] == "seeds.0: " + "\N{SNOWMAN}" * 30
    assert said[-1] == "…"


@pytest.mark.parametrize("told", ["{", "[]", "7", '{"problems": 5}', '{"problems": [1]}'])
@in_time
async def test_one_of_another_version_that_says_something_else_does_not_take_over(told):
    text = f"predecessor.channel.send({told!r}.encode())"
    with pytest.raises(NotReadyError, match="ended with status 0"):
        await successor.start(program(text), left())


@in_time
async def test_one_that_cannot_be_started():
    with pytest.raises(NotReadyError, match=r"cannot be started: .*no/such/program"):
        await successor.start(["/no/such/program"], left())


@pytest.mark.parametrize("where", [(socket, "socketpair"), (trio.lowlevel, "open_process")])
async def test_one_for_which_there_are_no_descriptors(monkeypatch, where):
    def fail(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(*where, fail)
    with pytest.raises(NotReadyError, match=r"cannot be started: .*Too many open files"):
        await successor.start(["true"], left())


@in_time
async def test_one_that_takes_too_long_ends(monkeypatch):
    started: list[trio.Process] = []
    really = trio.lowlevel.open_process

    async def watched(*how: object, **more: object) -> trio.Process:
        started.append(await really(*how, **more))
        return started[0]

    monkeypatch.setattr(trio.lowlevel, "open_process", watched)
    monkeypatch.setattr(successor, "PATIENCE", 0.0)
    with pytest.raises(NotReadyError, match="not ready within 0 seconds"):
        await successor.start(program("time.sleep(1000)"), left())
    assert started[0].returncode is not None


@in_time
async def test_cancelled_it_ends(tmp_path):
    said = tmp_path / "said"
    text = "open(sys.argv[1], 'w').write(f'{os.getpid()}.'); time.sleep(1000)"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(successor.start, program(text, str(said)), left())
        await until(lambda: said.exists() and said.read_text().endswith("."))
        nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.read_text()[:-1]), 0)


# ------------------------------------------------------------------ what a process begins with


def test_a_process_that_nobody_left_anything():
    assert beginnings.find({}).predecessor is None
    assert beginnings.find({}).inherited.unused() == []


def systemds(names: dict[str, str]) -> Beginnings:
    return beginnings.find({"LISTEN_FDS": "1", **names})


def test_what_systemd_meant_for_another_process():
    assert systemds({"LISTEN_PID": "1"}).inherited.kept == []
    assert systemds({}).inherited.kept == []


@pytest.mark.parametrize("count", ["", "no", "-1"])
def test_what_systemd_does_not_count(count):
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}
    assert beginnings.find(environ).inherited.kept == []
    assert environ == {}


def test_a_descriptor_that_is_no_listening_socket(tmp_path, monkeypatch):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(beginnings, "_FIRST", descriptor)
    with pytest.raises(ConfigError):
        systemds({"LISTEN_PID": str(os.getpid())})
    os.close(descriptor)


def test_words_that_cannot_be_read():
    with pytest.raises(ConfigError, match=VARIABLE):
        beginnings.find({VARIABLE: "nonsense"})

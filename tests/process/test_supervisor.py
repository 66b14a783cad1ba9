"""What a supervisor does about workers that do not come up, or come up too late."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from functools import partial

import pytest
import trio
import trio.testing

from proxy import logs
from proxy.errors import ConfigError
from proxy.process import supervisor, worker
from proxy.process.channel import RENEWED, Channel
from proxy.process.links import Link
from proxy.process.reloading import rules_of
from proxy.process.supervisor import Supervisor
from proxy.settings.config import Config
from tests.patience import until
from tests.running import in_time


def made() -> Supervisor:
    return Supervisor(
        Config.model_validate({"upstream": {"address": "127.0.0.1:1"}, "process": {"workers": 2}}),
        2,
    )


@pytest.fixture
def no_descriptors(monkeypatch):
    """No process can be started, as where descriptors, processes or memory have run out."""

    async def fail(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(trio.lowlevel, "open_process", fail)


async def test_one_that_cannot_be_started_again_ends_nobody_else(no_descriptors):
    ended = await made()._work(0, None)
    assert ended == {"problems": ["a worker could not be started: [Errno 24] Too many open files"]}


async def test_the_first_one_that_cannot_be_started_is_a_reason_not_to_begin(no_descriptors):
    with pytest.raises(ConfigError, match="Too many open files"):
        await made()._work(0, trio.TASK_STATUS_IGNORED)


async def test_one_of_another_version_is_told_of_once(monkeypatch, capsys):
    words: list[list[str]] = []

    def command(descriptor, *, renewed):
        words.append(real(descriptor, renewed=renewed)[4:])
        return ["true"]

    real = worker.command
    monkeypatch.setattr(worker, "command", command)
    one = made()
    replaced = [False, True, True]
    monkeypatch.setattr(one._handover, "due", lambda: replaced.pop(0))
    problems = [(await one._work(0, None))["problems"] for _ in range(3)]
    assert [words.pop(0)[1:] for _ in range(3)] == [[], ["renewed"], ["renewed"]]
    assert problems == [[], [RENEWED], [RENEWED]]
    said = "".join(capsys.readouterr())
    assert said.count("workers of another version") == said.count("SIGUSR2") == 1


async def test_one_that_does_not_come_up_is_ended(monkeypatch):
    monkeypatch.setattr(worker, "command", lambda *_, **__: ["sleep", "1000"])
    monkeypatch.setattr(supervisor, "_STARTING", 0.0)
    monkeypatch.setattr(supervisor, "_GRACE", 0.0)
    ended = await made()._work(0, None)
    assert ended["status"] == -9
    assert ended["problems"] == ["it was not ready within 0 seconds"]


@pytest.mark.parametrize("ready", [True, False])
async def test_one_that_hangs_is_ended(monkeypatch, ready):
    """Also before it was told all there is to know."""
    hangs = trio.Event()

    async def after_a_while(_link):
        await hangs.wait()
        return "it hangs"

    monkeypatch.setattr(Link, "hangs", after_a_while)
    monkeypatch.setattr(supervisor, "_STARTING", 1000.0 if ready else 0.0)
    monkeypatch.setattr(supervisor, "Link", partial(Link, hears=True))
    monkeypatch.setattr(worker, "command", lambda *_, **__: ["sleep", "1000"])
    monkeypatch.setattr(supervisor, "_GRACE", 0.0)
    one = made()
    ended = {}
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def work():
            ended.update(await one._work(0, None))

        while not one.links():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.001)
        [link] = one.links()
        if ready:
            link.ready.set()
        hangs.set()
    assert ended["status"] == -9
    assert ended["problems"] == ["it hangs"]


async def test_the_first_death_is_made_good_at_once_and_those_that_follow_it_later(
    monkeypatch, autojump_clock
):
    one = made()
    lives = [1.0, 1.0, 1.0, 40.0, 1.0]
    begun: list[float] = []

    async def work(_slot, status):
        if status is not None:
            status.started()
        begun.append(trio.current_time())
        if not lives:
            one._stop.set()
            return {}
        await trio.sleep(lives.pop(0))
        return {}

    monkeypatch.setattr(one, "_work", work)
    await one._keep(0)
    assert [round(b - a, 6) for a, b in itertools.pairwise(begun)] == [1.0, 1.5, 2.0, 40.0, 1.5]


async def test_one_that_comes_up_while_the_proxy_drains_is_told_to_end():
    one = made()
    one._drains = True
    ours, theirs = Channel.pair()
    told = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run, {})
        nursery.start_soon(Channel(theirs).run, {"stop": lambda _replaced: told.set()})
        await one._admit(Link(0, ours))
        await told.wait()
        nursery.cancel_scope.cancel()


async def test_workers_leave_before_any_of_them_lets_go_of_clients():
    one = made()
    said: list[tuple[int, str]] = []
    async with trio.open_nursery() as nursery:
        for slot in range(2):
            ours, theirs = Channel.pair()

            async def leave(slot: int = slot) -> None:
                await trio.testing.wait_all_tasks_blocked()
                said.append((slot, "leave"))

            def stop(_replaced: bool, slot: int = slot) -> None:
                said.append((slot, "stop"))

            nursery.start_soon(ours.run, {})
            nursery.start_soon(Channel(theirs).run, {"leave": leave, "stop": stop})
            one._links[slot] = link = Link(slot, ours, hears=True)
            link.ready.set()
        await one._see_off()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sorted(said[:2]) == [(0, "leave"), (1, "leave")]
    assert sorted(said[2:]) == [(0, "stop"), (1, "stop")]


async def test_one_that_has_drained_is_not_missed(capsys):
    one = made()
    ours, theirs = Channel.pair()
    theirs.close()
    one._links[0] = link = Link(0, ours)
    link.ready.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run, {})
        one._drains = True
        assert await one.clusters[0].look(frozenset()) is None
    assert "no answer" not in capsys.readouterr().err


async def test_one_that_ends_while_the_proxy_is_stopped_already_is_no_problem(monkeypatch):
    monkeypatch.setattr(worker, "command", lambda *_, **__: ["true"])
    one = made()
    one._stop.set()
    async with trio.open_nursery() as nursery:
        await nursery.start(one._keep, 0)


def test_a_worker_is_deaf_to_signals_before_it_does_anything(monkeypatch, tmp_path):
    package = tmp_path / "proxy" / "process"
    package.mkdir(parents=True)
    for one in (package.parent, package):
        (one / "__init__.py").touch()
    (package / "worker.py").write_text(
        "import signal\n"
        "def main():\n"
        "    print(*sorted(n.name for n in signal.Signals\n"
        "                  if n not in (signal.SIGPIPE, signal.SIGXFSZ)\n"
        "                  and signal.getsignal(n) is signal.SIG_IGN))\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    said = subprocess.run(worker.command(0), capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["SIGHUP", "SIGINT", "SIGTERM", "SIGUSR2"]


async def test_one_that_comes_up_meanwhile_hears_of_new_settings_too():
    """Orders to begin were given before, and until it is ready it hears of nothing."""
    one = made()
    said: list[tuple[str, object]] = []

    def hear(what: str):
        return lambda *told: said.append((what, *told))

    ours, theirs = Channel.pair()
    link = one._links[0] = Link(0, ours)
    limits = one.config.limits.model_copy(update={"connections": 77})
    config = one.config.model_copy(update={"limits": limits})
    one._take_over(config, rules_of(config))
    one.reload()
    one._number_from(1_000)
    names = ("settings", "certificates", "numbers", "namespaces", "elsewhere")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run, {})
        nursery.start_soon(Channel(theirs).run, {name: hear(name) for name in names})
        await one._admit(link)
        await until(lambda: ("elsewhere", 0) in said)
        told = said.copy()
        one._take_over(config, rules_of(config))
        await until(lambda: len(said) > len(told))
        nursery.cancel_scope.cancel()
    kinds = [what for what, *_ in told]
    assert sorted(kinds[:3]) == ["certificates", "numbers", "settings"]
    assert next(new for what, new in told if what == "settings")["limits"]["connections"] == 77
    assert ("numbers", 1_000) in told
    assert [what for what, *_ in said[len(told) :]] == ["settings"]


async def test_one_that_nothing_new_was_told_of_hears_nothing_more():
    one = made()
    ours, theirs = Channel.pair()
    said: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run, {})
        handlers = {
            name: lambda *_, name=name: said.append(name)
            for name in ("settings", "certificates", "numbers", "namespaces", "elsewhere")
        }
        nursery.start_soon(Channel(theirs).run, handlers)
        await one._admit(Link(0, ours))
        await until(lambda: "namespaces" in said)
        nursery.cancel_scope.cancel()
    assert said == ["namespaces"]


@in_time
async def test_one_that_cannot_begin_says_why_and_ends(monkeypatch):
    """As where a certificate's file has gone since the proxy began."""

    def fail(*_):
        raise ConfigError(["tls.certificate: gone"])

    monkeypatch.setattr(worker, "Worker", fail)
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)
    problems: list[str] = []
    ours, theirs = Channel.pair()
    settings = worker.settings_for(made().config, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run, {"failed": problems.extend})
        ours.tell("begin", worker.Orders(settings, 0, 1, 2, "mark"))
        await worker._work(Channel(theirs))
        nursery.cancel_scope.cancel()
    assert problems == ["tls.certificate: gone"]


@in_time
async def test_one_that_cannot_begin_with_the_orders_of_another_version_says_so(monkeypatch):
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)
    problems: list[str] = []
    ours, theirs = Channel.pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run, {"failed": problems.extend})
        ours.tell("begin", {"orders": "of another shape"})
        await worker._work(Channel(theirs, renewed=True))
        nursery.cancel_scope.cancel()
    assert problems == ["AttributeError(\"'dict' object has no attribute 'config'\")"]

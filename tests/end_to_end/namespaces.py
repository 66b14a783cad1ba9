"""Networks of one's own: namespaces, their links, and what is run in them."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.needs import need

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


class Namespace:
    """A network namespace with loopback; its processes end with it."""

    def __init__(self, name: str) -> None:
        need("ip")
        need("nft")
        self.name = f"msp-{os.getpid()}-{next(_numbers)}-{name}"
        made = subprocess.run(
            ["ip", "netns", "add", self.name], capture_output=True, text=True, check=False
        )
        if made.returncode:
            pytest.skip(f"network namespaces are not allowed here: {made.stderr.strip()}")
        self._processes: list[subprocess.Popen[str]] = []
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> str:
        return run("ip", "-netns", self.name, *words)

    def run(self, *words: str) -> str:
        return run("ip", "netns", "exec", self.name, *words)

    def attempt(self, *words: str) -> subprocess.CompletedProcess[str]:
        inside = ["ip", "netns", "exec", self.name, *words]
        return subprocess.run(inside, capture_output=True, text=True, check=False)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Run a module of Python's in it, with pipes for stdin, stdout and stderr."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, sys.executable, "-m", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._processes.append(process)
        return process

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function inside it; threads that it starts are inside too."""
        outcome: list[T] = []
        problems: list[BaseException] = []

        def inside() -> None:
            try:
                with Path(f"/run/netns/{self.name}").open() as file:
                    if _libc.setns(file.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                outcome.append(function(*arguments))
            except BaseException as error:
                problems.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if problems:
            raise problems[0]
        return outcome[0]

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        run("ip", "netns", "del", self.name)


def link(one: Namespace, other: Namespace, network: str, hosts: tuple[int, ...] = (1, 2)) -> None:
    """A link between two: ``one`` has the first of the addresses ``network``.N, ``other`` the
    others. ``network`` is three numbers; the last of them, M, is also in fd77:M::N."""
    number = next(_numbers)
    ends = [f"e{os.getpid() % 100_000}x{number}a", f"e{os.getpid() % 100_000}x{number}b"]
    one.ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", other.name)
    for place, end, own in ((one, ends[0], hosts[:1]), (other, ends[1], hosts[1:])):
        for host in own:
            place.ip("addr", "add", f"{network}.{host}/24", "dev", end)
            place.ip(
                "-6",
                "addr",
                "add",
                f"fd77:{network.rpartition('.')[2]}::{host}/64",
                "dev",
                end,
                "nodad",
            )
        place.ip("link", "set", end, "up")

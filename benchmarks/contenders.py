"""What is compared, each a process of its own on a port of its own.

Each is started by a function of the upstream's port. Everything is on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.secure import LEGS, Files

_START_SECONDS: Final = 60.0

_ROOT: Final = Path(__file__).resolve().parent.parent
_COMPILED: Final = _ROOT / "build" / "compiled"

_HAPROXY: Final = """\
global
    nbthread {threads}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen bench
    bind 127.0.0.1:{port}{bind}
    server upstream 127.0.0.1:{upstream}{server}
"""


@dataclass(frozen=True, slots=True)
class Tls:
    """Which legs have TLS (one of :data:`~benchmarks.secure.LEGS`), its files, and upstream's port
    for it."""

    legs: str
    files: Files
    port: int

    @property
    def client(self) -> bool:
        return LEGS[self.legs][0]

    @property
    def upstream(self) -> bool:
        return LEGS[self.legs][1]


class Contender:
    """A running one; ``pid`` is None where there is no process of its own (direct)."""

    def __init__(
        self,
        name: str,
        port: int,
        process: subprocess.Popen[bytes] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.port = port
        #: The file of who certified it, where clients speak TLS to it.
        self.authority = ""
        self._process = process
        self._folder = folder

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder)

    def cpu_seconds(self) -> float:
        """The processor time of all its threads, to the nanosecond where the kernel tells."""
        if self.pid is None:
            return 0.0
        total = 0
        for pid in self._processes():
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self) -> int:
        """Its proportional set size in bytes."""
        total = 0
        for pid in self._processes():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def _processes(self) -> list[int]:
        """The one that was started, and those that it has started."""
        if self.pid is None:
            return []
        started = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [self.pid, *(int(pid) for one in started for pid in one.read_text().split())]


class MissingError(Exception):
    """A contender that cannot run here; the text says what is missing."""


def direct(upstream: int, tls: Tls | None = None) -> Contender:
    """No proxy at all."""
    return Contender("direct", upstream)


def haproxy(upstream: int, tls: Tls | None = None, *, threads: int = 0) -> Contender:
    """HAProxy in TCP mode, with as many threads as there are processors if not told otherwise."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        raise MissingError("haproxy is not installed")
    port = _free_port()
    bind = server = ""
    if tls is not None and tls.client:
        bind = f" ssl crt {tls.files.certificate}"
    if tls is not None and tls.upstream:
        server = f" ssl ca-file {tls.files.authority}"
    text = _HAPROXY.format(
        port=port, upstream=upstream, threads=threads or os.cpu_count(), bind=bind, server=server
    )
    folder = Path(tempfile.mkdtemp())
    settings = folder / "haproxy.cfg"
    settings.write_text(text)
    name = "haproxy" if threads != 1 else "haproxy 1 thread"
    # Threads in one process, in the foreground: the process started is the one that works.
    return _start(name, port, [program, "-db", "-q", "-f", str(settings)], folder)


def mongobetween(upstream: int) -> Contender:
    """The MongoDB proxy of that name, a connection pooler in Go, where it is installed."""
    program = _installed("mongobetween", Path.home() / "go" / "bin")
    port = _free_port()
    # As it comes, but for its pool: no request of the load waits for a connection.
    uri = f"mongodb://127.0.0.1:{upstream}/?maxPoolSize=1000"
    return _start("mongobetween", port, [program, f"127.0.0.1:{port}={uri}"])


def mongoproxy(upstream: int) -> Contender:
    """The MongoDB proxy of that name, in Rust on tokio, which passes bytes and measures them; where
    it is installed."""
    program = _installed("mongoproxy", Path.home() / ".cargo" / "bin")
    port = _free_port()
    where = [f"{port}:127.0.0.1:{upstream}", "--admin-port", str(_free_port())]
    return _start("mongoproxy", port, [program, "--proxy", *where])


def relay(kind: str, upstream: int) -> Contender:
    """One of the relays that look at nothing, see :mod:`benchmarks.relays`."""
    port = _free_port()
    arguments = [sys.executable, "-m", "benchmarks.relays", kind, str(port), str(upstream)]
    return _start(f"trio {kind}", port, arguments)


def proxy(
    upstream: int,
    tls: Tls | None = None,
    *,
    name: str = "proxy",
    tracking: bool = True,
    workers: int = 1,
    sessions: int = 1_000_000,
    awake: bool = True,
) -> Contender:
    """This proxy, with everything on, audit log included, or with the tracking of sessions off, or
    with several workers, or with room for more sessions, or never waiting awake."""
    port = _free_port()
    folder = Path(tempfile.mkdtemp())
    settings = folder / "config.toml"
    secured = ""
    if tls is not None and tls.client:
        secured += f'[listen.tls]\ncertificate = "{tls.files.certificate}"\n'
    if tls is not None and tls.upstream:
        secured += f'[upstream.tls]\nca = "{tls.files.authority}"\n'
    settings.write_text(f"""
        [listen]
        address = "127.0.0.1:{port}"
        backlog = 4096
        [upstream]
        address = "127.0.0.1:{upstream}"
        [admin]
        address = "127.0.0.1:{_free_port()}"
        [process]
        workers = {workers}
        busy_poll_seconds = {0.0005 if awake else 0.0}
        [limits]
        connections = 20000
        [sessions]
        tracking = {str(tracking).lower()}
        max_sessions = {sessions}
        [audit]
        file = "{folder / "audit.jsonl"}"
        {secured}
    """)
    arguments = [sys.executable, "-m", "proxy", "serve", "--config", str(settings)]
    return _start(name, port, arguments, folder, _COMPILED if "compiled" in name else _ROOT)


def compiled(
    upstream: int, tls: Tls | None = None, *, name: str = "proxy compiled", workers: int = 1
) -> Contender:
    """This proxy, as ``make compiled`` makes it."""
    if not _COMPILED.is_dir():
        raise MissingError("it is not made: make compiled")
    for path in (_ROOT / "proxy").rglob("*.py"):
        copy = _COMPILED / path.relative_to(_ROOT)
        if not copy.is_file() or copy.read_bytes() != path.read_bytes():
            raise MissingError("it is of other sources: make compiled")
    return proxy(upstream, tls, name=name, workers=workers)


#: What can be compared, in this order.
ALL: Final[dict[str, Callable[..., Contender]]] = {
    "direct": direct,
    "haproxy": haproxy,
    "haproxy 1 thread": partial(haproxy, threads=1),
    "mongobetween": mongobetween,
    "mongoproxy": mongoproxy,
    "trio streams": lambda upstream: relay("streams", upstream),
    "trio sockets": lambda upstream: relay("sockets", upstream),
    "trio bare": lambda upstream: relay("bare", upstream),
    "proxy": proxy,
    "proxy compiled": compiled,
    "proxy untracked": partial(proxy, name="proxy untracked", tracking=False),
    "proxy asleep": partial(proxy, name="proxy asleep", awake=False),
    "proxy 2 workers": partial(proxy, name="proxy 2 workers", workers=2),
    "proxy compiled 2 workers": partial(compiled, name="proxy compiled 2 workers", workers=2),
}

#: Those that can have TLS.
SECURE: Final = (
    "direct",
    "haproxy",
    "haproxy 1 thread",
    "proxy",
    "proxy compiled",
    "proxy untracked",
    "proxy 2 workers",
    "proxy compiled 2 workers",
)

#: What runs only where it is named, and haproxy's one thread where TLS is measured: judged by its
#: processor time it has to have one thread too.
ON_REQUEST: Final = (
    "haproxy 1 thread",
    "proxy asleep",
    "proxy 2 workers",
    "proxy compiled 2 workers",
)


def chosen(named: Sequence[str] | None, tls: Tls | None = None) -> list[str]:
    """Those that were named, or the usual ones, in the order of :data:`ALL`."""
    if tls is not None:
        return [name for name in ALL if name in (named or SECURE) and name in SECURE]
    if named is None:
        return [name for name in ALL if name not in ON_REQUEST]
    return [name for name in ALL if name in named]


@contextlib.contextmanager
def running(
    names: Sequence[str], upstream: int, skipped: dict[str, str], tls: Tls | None = None
) -> Iterator[list[Contender]]:
    """All of these that can run here, and have TLS if wanted; why one cannot goes to ``skipped``.

    ``upstream`` is the port without TLS. Direct has TLS where any leg has it.
    """
    with contextlib.ExitStack() as stack:
        started = []
        for name in names:
            try:
                if tls is None:
                    started.append(ALL[name](upstream))
                else:
                    port = tls.port if tls.upstream or name == "direct" else upstream
                    started.append(ALL[name](port, tls))
            except MissingError as error:
                skipped[name] = str(error)
            else:
                stack.callback(started[-1].stop)
                if tls is not None and (tls.client or name == "direct"):
                    started[-1].authority = str(tls.files.authority)
        yield started


def _installed(name: str, folder: Path) -> str:
    """Where a program is: on the path, or in the folder into which its tools install."""
    program = shutil.which(name) or shutil.which(name, path=folder)
    if program is None:
        raise MissingError("it is not installed")
    return program


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _start(
    name: str, port: int, arguments: list[str], folder: Path | None = None, root: Path = _ROOT
) -> Contender:
    process = subprocess.Popen(
        arguments, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    contender = Contender(name, port, process, folder)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return contender
    contender.stop()
    raise MissingError(f"{name} does not start: {' '.join(arguments)}")

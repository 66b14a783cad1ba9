"""The program itself in front of an embedded upstream of another process, and what it takes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.endurance.secure import Secured
from tests.patience import PATIENCE, wait_until
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]

#: Of a version whose drivers keep a hello waiting: they see at once when that ends.
UPSTREAM: Final = """
import ssl, sys, trio
from proxy.embedded import EmbeddedUpstream
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

class Upstream(EmbeddedUpstream):
    async def _serve_one(self, stream):
        if sys.argv[2:]:
            plain = stream
            stream = trio.SSLStream(plain, context, server_side=True, https_compatible=True)
            stream.socket = plain.socket
        await super()._serve_one(stream)

if sys.argv[2:]:
    context.load_cert_chain(sys.argv[2])
trio.run(Upstream(set_name="rs", max_wire_version=21).serve, "127.0.0.1", int(sys.argv[1]))
"""


#: What is in such lines.
WRONG: Final = ("connection failed", "Traceback", "used for two", "used by two", "txnNumber ")


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except OSError:
        return False
    return True


@contextmanager
def upstream(secured: Secured | None = None) -> Iterator[int]:
    """A replica set of one; its port."""
    port = free_port()
    words = [str(port)] if secured is None else [str(port), str(secured.certificate)]
    process = subprocess.Popen([sys.executable, "-c", UPSTREAM, *words], cwd=ROOT)
    try:
        wait_for(lambda: answers(port), process)
        yield port
    finally:
        process.kill()
        process.wait()


def wait_for(what: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    def is_there() -> object:
        assert process.poll() is None, "it ended"
        return what()

    wait_until(is_there)


def ended(pid: int) -> bool:
    """Whether a process is no more, or nothing but a status that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Program:
    """One proxy process after the other, on the same ports."""

    def __init__(
        self,
        behind: int,
        folder: Path,
        settings: str = "",
        *,
        listen: str = "",
        admin: str = "",
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "proxy"),
        ports: tuple[int, int] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.port, self.admin = ports or (free_port(), free_port())
        self._pass_fds = pass_fds
        self.log = folder / "log"
        self._read_to = 0
        #: New processes that did not come up in time.
        self.late = 0
        self._behind = behind
        self._pid_file = folder / "pid"
        self._config = folder / "config.toml"
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})}
        self._command = command
        self.configure(settings, listen, admin)
        self.process = self._start()

    def configure(self, settings: str, listen: str = "", admin: str = "") -> None:
        """Write the settings that are read from now on; ``listen`` is an address, ``admin`` more
        lines of that table."""
        self._config.write_text(
            f'[listen]\naddress = "{listen or f"127.0.0.1:{self.port}"}"\n'
            f'[upstream]\naddress = "127.0.0.1:{self._behind}"\n'
            f'[admin]\naddress = "127.0.0.1:{self.admin}"\n{admin}'
            '[log]\nformat = "json"\nprobes = true\n'
            f'[process]\npid_file = "{self._pid_file}"\n{settings}'
        )

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*self._command, "serve", "--config", str(self._config)],
                stderr=log,
                cwd=ROOT,
                env=self._environ,
                pass_fds=self._pass_fds,
            )
        wait_for(lambda: self._pid_file.exists() and self.pid == process.pid, process)
        return process

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        """End whatever still runs, gently."""
        if self.process.poll() is None or self._pid_file.exists():
            self.stop()

    @property
    def pid(self) -> int:
        """Of the process that takes clients."""
        return int(self._pid_file.read_text())

    def workers(self) -> set[int]:
        """The workers' processes, where there are several."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return {int(pid) for task in tasks for pid in task.read_text().split()}

    def restart(self) -> None:
        """SIGTERM, and another one as soon as this one has drained."""
        self.stop()
        self.process = self._start()

    def replace(self) -> int:
        """SIGUSR2, and wait until another process takes clients; the number of the old one.

        Again where the machine was too busy for the new one to come up, which is no error.
        """
        before = self.pid
        while self.pid == before:
            os.kill(before, signal.SIGUSR2)
            wait_until(lambda: self.pid != before or self._came_too_late(), "the new process")
        return before

    def _came_too_late(self) -> bool:
        """Whether the log says so, in what is new of it."""
        with self.log.open("rb") as log:
            log.seek(self._read_to)
            new, line_end, _ = log.read().rpartition(b"\n")
        self._read_to += len(new + line_end)
        late = b"not ready within" in new
        self.late += late
        return late

    def reload(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    def stop(self) -> None:
        """SIGTERM, and wait for the end of all processes that there were."""
        last = self.pid
        os.kill(last, signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0
        wait_until(lambda: ended(last), "the end")

    def end_at_once(self) -> None:
        """End at once whatever still runs: the process that takes clients, and the first one."""
        if self._pid_file.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    # ------------------------------------------------------------------ what it takes

    def memory(self) -> int:
        """Bytes that are resident."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def series(self) -> dict[str, float]:
        """What /metrics says, by name and labels."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.admin}/metrics", timeout=PATIENCE
        ) as page:
            lines = page.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def farewells(self) -> dict[str, int]:
        """How often each reason stands in the log for which a connection ended."""
        lines = self.log.read_text().splitlines()
        gone = (json.loads(line) for line in lines if '"client gone"' in line)
        return dict(Counter(line["reason"].partition(":")[0] for line in gone))

    def bugs(self) -> list[str]:
        """Lines of the log that say that something is wrong with the program, or that a driver does
        what none does."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if any(word in line for word in WRONG)]

"""Finds clients and upstreams, runs them as processes, and compares what two runs saw.

Nothing is installed here: ``make clients`` builds what can be built into ``.build``; for what is
missing see tests/needs.py.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pymongo import MongoClient

from tests.needs import lacking
from tests.patience import PATIENCE, wait_until
from tests.ports import free_port

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = HERE / ".build"

#: What two runs of the same script cannot have in common: the server's clocks and generated ids.
VOLATILE = frozenset(
    {
        "$clusterTime", "operationTime", "atClusterTime", "opTime", "optime", "localTime",
        "lastWrite",
        "connectionId", "topologyVersion", "electionId", "lastUse", "recoveryToken",
        "conversationId", "pid", "uptime",
    }
)  # fmt: skip

#: The same inside texts.
_VOLATILE_TEXT = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    # Rust hands sessions back to its pool in its own time: which one is next is a race.
    (re.compile(r"Transaction \d+ has been"), "Transaction <n> has been"),
    (re.compile(r"transaction number \d+"), "transaction number <n>"),
    # Go counts its connections over the whole process, those of the monitors included.
    (re.compile(r"connection\((\S+)\[-\d+\]\)"), r"connection(\1)"),
    (re.compile(r"Timestamp\(\d+, \d+\)"), "Timestamp(<time>)"),
    (re.compile(r"(?i)(cursor(?: id)?:?) \d+"), r"\1 <id>"),
)

#: A replica set, a user and a password that the embedded upstream is started with.
SET_NAME = "rs0"
USER, PASSWORD, USER_DB = "alice", "pw", "app"


@dataclass(frozen=True)
class Deployment:
    """Something to connect to: where, and what it is."""

    name: str
    address: str
    set_name: str | None = None
    authorization: bool = False

    def uri(self, **options: str) -> str:
        if self.set_name is not None and "directConnection" not in options:
            options.setdefault("replicaSet", self.set_name)
        login = f"{USER}:{PASSWORD}@" if self.authorization else ""
        if login:
            options.setdefault("authSource", USER_DB)
        options.setdefault("serverSelectionTimeoutMS", str(round(PATIENCE * 1000)))
        query = "&".join(f"{name}={value}" for name, value in options.items() if value)
        return f"mongodb://{login}{self.address}/?{query}"


@contextmanager
def process(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is asked to end, and made to, when the block ends."""
    child = subprocess.Popen(
        [str(part) for part in command], text=True, stdin=subprocess.PIPE, cwd=ROOT, **options
    )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()


def printed_port(child: subprocess.Popen[str], patience: float = PATIENCE) -> int:
    """The port that a server prints as its first line."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], patience)
    line = child.stdout.readline() if ready else ""
    assert line.strip().isdigit(), f"{child.args} did not print a port but {line!r}"
    return int(line)


def wait_until_open(child: subprocess.Popen[str], port: int) -> None:
    def is_open() -> bool:
        assert child.poll() is None, f"{child.args} ended with {child.returncode}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(is_open, f"{child.args} listens on {port}")


@contextmanager
def java_server(wire_version: int) -> Iterator[Deployment]:
    """mongo-java-server, a standalone that others wrote."""
    jar = BUILD / "java-server" / "main.jar"
    if not jar.exists() or shutil.which("java") is None:
        lacking("mongo-java-server")
    path = f"{jar}:{jar.parent}/lib/*"
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", path, "Main", str(wire_version)]
    with process(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        yield Deployment("mongo-java-server", f"127.0.0.1:{printed_port(child)}")


@contextmanager
def secantus(*, authorization: bool = False) -> Iterator[Deployment]:
    """SecantusDB, a server over WiredTiger that others wrote: a replica set of one member."""
    with TemporaryDirectory() as data:
        with _secantusd(data) as open_to_all:
            if not authorization:
                yield open_to_all
                return
            with MongoClient(open_to_all.uri()) as client:
                roles = [{"role": "readWrite", "db": USER_DB}]
                client[USER_DB].command("createUser", USER, pwd=PASSWORD, roles=roles)
        with _secantusd(data, "--auth") as deployment:
            yield replace(deployment, authorization=True)


@contextmanager
def _secantusd(data: str, *options: str) -> Iterator[Deployment]:
    program = BUILD / "secantus" / "bin" / "secantusd-py"
    if not program.exists():
        lacking("SecantusDB")
    port = free_port()
    command = [program, "--port", str(port), "--storage-path", data]
    command += ["--enable-test-commands", *options]
    with process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        wait_until_open(child, port)
        yield Deployment("SecantusDB", f"127.0.0.1:{port}", "secantus")


@contextmanager
def ferretdb() -> Iterator[Deployment]:
    """FerretDB over SQLite, a standalone that others wrote."""
    program = BUILD / "ferretdb" / "ferretdb"
    if not program.exists():
        lacking("FerretDB")
    port = free_port()
    with TemporaryDirectory() as data:
        command = [program, f"--listen-addr=127.0.0.1:{port}", "--debug-addr=-", "--state-dir=-"]
        # It would tell its makers that it runs.
        command += ["--telemetry=disable", "--handler=sqlite", f"--sqlite-url=file:{data}/"]
        with process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            wait_until_open(child, port)
            yield Deployment("FerretDB", f"127.0.0.1:{port}")


@contextmanager
def embedded(
    *, authorization: bool = False, set_name: str | None = SET_NAME, version: str = "4.4"
) -> Iterator[Deployment]:
    """The project's own upstream, in a process of its own, which plays a server version."""
    command = [sys.executable, "-m", "tests.clients.embedded_main", set_name or "-", version]
    if authorization:
        command.append("authorization")
    with process(command, stdout=subprocess.PIPE) as child:
        address = f"127.0.0.1:{printed_port(child)}"
        yield Deployment("embedded", address, set_name, authorization)


@contextmanager
def proxied(upstream: Deployment, log: Path, *options: str) -> Iterator[Deployment]:
    """The proxy in front of ``upstream``, as a process of its own; its log goes to ``log``."""
    port = free_port()
    command = [sys.executable, "-m", "proxy", "serve", "--listen", f"127.0.0.1:{port}"]
    command += ["--upstream", upstream.address, "--admin", "", *options]
    with log.open("w") as output, process(command, stdout=output, stderr=output) as child:
        wait_until_open(child, port)
        yield Deployment("proxy", f"127.0.0.1:{port}", upstream.set_name, upstream.authorization)
        assert child.poll() is None, f"the proxy ended: {log.read_text()[-2000:]}"


@dataclass(frozen=True)
class Client:
    """A program that runs the scenarios: how to start it, and what must be there for that.

    It leaves out the steps that ``LEAVING_OUT`` names in its environment, by their numbers or
    names, with commas between.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[Path, ...] = ()
    environment: Mapping[str, str] | None = None

    def require(self) -> None:
        if shutil.which(self.command[0]) is None or not all(path.exists() for path in self.needs):
            lacking(self.name)

    def without(self, *steps: str) -> Client:
        """The same, which leaves out these steps."""
        return replace(
            self, environment={**(self.environment or {}), "LEAVING_OUT": ",".join(steps)}
        )

    def run(self, *arguments: str, patience: float = PATIENCE) -> list[dict[str, Any]]:
        """The lines that it prints, parsed. Fails where it does not end well."""
        self.require()
        ended = subprocess.run(
            [*self.command, *arguments],
            capture_output=True,
            text=True,
            timeout=patience,
            cwd=ROOT,
            env={**os.environ, **(self.environment or {})},
            check=False,
        )
        lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
        assert ended.returncode == 0, f"{self.name}: {ended.stderr[-3000:]}\nafter {lines[-1:]}"
        return [json.loads(line) for line in lines]


PYMONGO = Client("PyMongo", (sys.executable, "-W", "error", str(HERE / "python" / "scenario.py")))
PYMONGO_ASYNC = Client(
    "PyMongo (asyncio)", (sys.executable, "-W", "error", str(HERE / "python" / "scenario_async.py"))
)
NODE = Client(
    "the Node driver",
    ("node", str(HERE / "node" / "scenario.cjs")),
    (BUILD / "node" / "node_modules" / "mongodb",),
    {"NODE_PATH": str(BUILD / "node" / "node_modules")},
)
MONGOSH = Client(
    "mongosh",
    ("node", str(HERE / "mongosh" / "run.cjs")),
    (BUILD / "mongosh" / "node_modules" / "mongosh",),
    {"MONGOSH": str(BUILD / "mongosh" / "node_modules" / ".bin" / "mongosh")},
)
GO = Client("the Go driver", (str(BUILD / "go" / "scenario"),), (BUILD / "go" / "scenario",))
JAVA = Client(
    "the Java driver",
    ("java", "-XX:TieredStopAtLevel=1", "-cp", f"{BUILD}/java/main.jar:{BUILD}/java/lib/*", "Main"),
    (BUILD / "java" / "main.jar",),
)
RUST = Client(
    "the Rust driver",
    (str(BUILD / "rust" / "release" / "scenario"),),
    (BUILD / "rust" / "release" / "scenario",),
)


def normalised(lines: Sequence[Mapping[str, Any]], here: Deployment) -> list[Any]:
    """The lines with what differs by nature replaced: addresses, clocks, generated ids."""
    _, _, port = here.address.rpartition(":")
    text = re.sub(rf"\b{port}\b", "<port>", json.dumps(lines))
    return [_steady(line) for line in json.loads(text)]


def _steady(value: Any, name: str = "") -> Any:
    if name in VOLATILE:
        return f"<{name}>"
    if isinstance(value, dict):
        if ("firstBatch" in value or "nextBatch" in value) and set(value["id"].values()) != {"0"}:
            value = {**value, "id": "<cursor>"}
        if "$uuid" in value or value.get("$binary", {}).get("subType") == "04":
            return "<uuid>"
        return {key: _steady(item, key) for key, item in value.items()}
    if isinstance(value, list):
        if name.startswith("cursors"):
            return [f"<{name}>" for _ in value]
        return [_steady(item) for item in value]
    if isinstance(value, str):
        for pattern, replacement in _VOLATILE_TEXT:
            value = pattern.sub(replacement, value)
    return value


#: Steps whose outcome depends on how long the run took. They show no upstream address either.
_BY_THE_CLOCK = ("heartbeats",)


def compare(
    client: Client,
    direct: Deployment,
    through: Deployment,
    *arguments: str,
    hidden: Deployment,
    leaving_out: Collection[str] = (),
    **options: str,
) -> list[dict[str, Any]]:
    """Run a client directly and through the proxy: both must see the same.

    ``direct`` is a deployment like ``hidden``, the one behind the proxy; both runs go at once.
    ``leaving_out`` names steps that are not compared. Returns what was seen through the proxy,
    in which no address of what it hides may occur.
    """
    client.require()
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(client.run, d.uri(**options), *arguments) for d in (direct, through)]
        expected, seen = [run.result() for run in runs]
    upstream_port = hidden.address.rpartition(":")[2]
    leaks = [line["step"] for line in seen if re.search(rf"\b{upstream_port}\b", json.dumps(line))]
    assert not leaks, f"the upstream's address was seen in {leaks}"
    compared = [
        [line for line in lines if line["step"] not in (*leaving_out, *_BY_THE_CLOCK)]
        for lines in (normalised(expected, direct), normalised(seen, through))
    ]
    steps = [[line["step"] for line in lines] for lines in compared]
    assert steps[0] == steps[1]
    differences = [
        f"{one['step']}:\n  direct  {_shown(one, other)}\n  proxied {_shown(other, one)}"
        for one, other in zip(*compared, strict=True)
        if one != other
    ]
    assert not differences, "\n".join(differences)
    return seen


def _shown(one: Any, other: Any, around: int = 300) -> str:
    """``one`` as text from shortly before the first place where ``other`` differs."""
    mine, theirs = json.dumps(one), json.dumps(other)
    at = next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), 0)
    return mine[max(0, at - 150) : at + around]

"""Applications with other drivers than PyMongo, as processes of their own that work steadily."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.endurance.secure import Secured, uri
from tests.patience import PATIENCE

_CLIENTS = Path(__file__).parents[1] / "clients"
_MODULES = _CLIENTS / ".build" / "node" / "node_modules"
_GO = _CLIENTS / ".build" / "go" / "scenario"
_JAVA = _CLIENTS / ".build" / "java"

#: Tasks of one application that work at the same time.
WORKERS = 8

#: The kinds of its work that no driver runs again: reading a cursor on, what is sent by hand, and a
#: write of many documents.
_ONCE = "023"

#: Node's (7.8) runs nothing again that fails behind another one, as its pool was given up by then:
#: also where the server is killed to which it is connected directly.
_ONCE_IN_NODE = "01234"


class Other:
    """Works inside a ``with``; afterwards ``done`` and ``errors`` say what it saw. What is of the
    kinds ``once`` its driver does not run again where a connection is lost."""

    def __init__(
        self, name: str, command: Sequence[str], environ: Mapping[str, str], once: str = _ONCE
    ) -> None:
        self.name = name
        self.once = once
        self.done = 0
        self.errors: list[str] = []
        self._command = command
        self._environ = environ

    def __enter__(self) -> Other:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **self._environ},
        )
        return self

    def __exit__(self, *_: object) -> None:
        told, _ = self._process.communicate(timeout=PATIENCE)
        if self._process.returncode:
            self.errors.append(f"ended with {self._process.returncode}")
            return
        said = json.loads(told)
        self.done, self.errors = said["done"], said["errors"]


def others(
    port: int, secured: Secured | None = None, *, compressed: bool = False, java: bool = False
) -> list[Other]:
    """One for each driver that ``make clients`` has brought, Java's if that is wanted; each offers
    another compressor, of those that it has in itself."""
    found = []
    zlib, snappy = ("zlib", "snappy") if compressed else ("", "")
    program = shutil.which("node")
    if program is not None and (_MODULES / "mongodb").is_dir():
        script = str(_CLIENTS / "node" / "steady.cjs")
        words = [program, script, uri(port, secured, zlib), str(WORKERS)]
        environ = {"NODE_PATH": str(_MODULES)}
        found.append(Other("the Node driver", words, environ, _ONCE_IN_NODE))
    if _GO.exists():
        words = [str(_GO), "steady", uri(port, secured, snappy), str(WORKERS)]
        found.append(Other("the Go driver", words, {}))
    if java:
        program = shutil.which("java")
        if program is None or not (_JAVA / "classes" / "Steady.class").exists():
            raise LookupError("no Java driver: make clients brings it where there is a JDK")
        found_at = f"{_JAVA}/main.jar:{_JAVA}/lib/*"
        trusted = [] if secured is None else [str(secured.authority)]
        words = [program, "-XX:TieredStopAtLevel=1", "-cp", found_at, "Steady"]
        words += [uri(port, secured, zlib), str(WORKERS), *trusted]
        found.append(Other("the Java driver", words, {}))
    return found

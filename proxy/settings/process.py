"""The tables ``process``, ``audit``, ``log`` and ``embedded``."""

from __future__ import annotations

from math import inf
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool

from proxy.settings.kinds import AS_SECONDS, STDOUT, OutputFile, OutputFileOrStdout, Settings, Text

#: More than machines have processors that a proxy could use.
MOST_WORKERS: Final = 64


#: Each costs some 40 series of metrics.
MOST_NAMESPACES: Final = 1_000


def _workers(value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    if value == "auto" or (type(value) is int and 1 <= value <= MOST_WORKERS):
        return value
    raise ValueError(f'should be a number from 1 to {MOST_WORKERS}, or "auto"')


class Process(Settings):
    """How the process uses the machine that it shares with others.

    ``workers`` are processes that serve clients; "auto" is one for each processor. With ``watch``
    it reloads when a file changes that the settings stand in or name.
    """

    workers: Annotated[
        Annotated[int, Field(ge=1, le=MOST_WORKERS)] | Literal["auto"], BeforeValidator(_workers)
    ] = 1
    busy_poll_seconds: Annotated[float, Field(ge=0, le=0.01, strict=True), AS_SECONDS] = 0.0005
    watch: StrictBool = False
    pid_file: OutputFile | None = None


class Audit(Settings):
    """The audit log: one JSON line per decision about sessions. No file, no log; "-" is stdout."""

    file: OutputFileOrStdout | None = None

    @property
    def to_stdout(self) -> bool:
        """Whether the lines go to stdout."""
        return self.file == STDOUT


class Metrics(Settings):
    """How many ``namespaces`` are counted by their names, those that are used most; 0 for none."""

    namespaces: Annotated[int, Field(ge=0, le=MOST_NAMESPACES, strict=True)] = 20


def _collector(value: str) -> str:
    if value and not value.startswith(("http://", "https://")):
        raise ValueError("should be a URL, such as http://127.0.0.1:4318/v1/traces")
    where = urlsplit(value)
    # Collectors are mostly named without it, and take spans nowhere else.
    bare = value and not where.path.strip("/")
    return where._replace(path="/v1/traces").geturl() if bare else value


class Traces(Settings):
    """Where spans go of requests whose comment carries a traceparent; "" for nowhere."""

    endpoint: Annotated[str, AfterValidator(_collector)] = ""


class Log(Settings):
    """What is written to stderr, and how. A request of ``slow_seconds`` is told of, 0 for none."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"
    probes: StrictBool = False
    slow_seconds: Annotated[float, Field(ge=0, le=86_400, strict=True), AS_SECONDS] = 0.0

    @property
    def slow(self) -> float:
        """From so many seconds on a request is slow."""
        return self.slow_seconds or inf


class Embedded(Settings):
    """The embedded upstream, for demonstrations and tests; it keeps nothing."""

    set_name: Text = "embedded"
    version: Literal["4.2", "4.4", "4.9", "5.0", "6.0", "7.0", "8.0", "8.2"] = "4.4"

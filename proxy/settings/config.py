"""Settings: TOML and command-line overrides in, one frozen :class:`Config` out.

An unknown key is an error, and all errors are reported at once, each with its path
(``limits.connections: …``). ``config.example.toml`` documents every setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import model_validator

from proxy.addresses import Address, parse_address, parse_upstream
from proxy.settings.admin import Admin
from proxy.settings.clusters import TABLES, Cluster, collisions, listeners, problems_of
from proxy.settings.environment import CREDENTIALS, SECRETS, of_environment, of_secrets
from proxy.settings.history import History
from proxy.settings.kinds import Settings, SeveralError
from proxy.settings.layers import Layer
from proxy.settings.limits import Limits
from proxy.settings.listen import Listen
from proxy.settings.process import Audit, Embedded, Log, Metrics, Process, Traces
from proxy.settings.reading import Read, of_file, read
from proxy.settings.rules import RuleTables
from proxy.settings.sessions import SessionSettings
from proxy.settings.upstream import Upstream


class OneCluster(NamedTuple):
    """A cluster's name ("" for the only one), its settings, and what their paths begin with."""

    name: str
    config: Config
    path: str

    def said(self, problem: str) -> str:
        """A problem of its settings, with its name."""
        return f"cluster {self.name}: {problem}" if self.name else problem


class Config(Settings):
    """Everything the proxy can be told."""

    listen: Listen = Listen()
    upstream: Upstream = Upstream()
    admin: Admin = Admin()
    limits: Limits = Limits()
    process: Process = Process()
    sessions: SessionSettings = SessionSettings()
    policies: RuleTables = RuleTables()
    audit: Audit = Audit()
    history: History = History()
    log: Log = Log()
    metrics: Metrics = Metrics()
    traces: Traces = Traces()
    embedded: Embedded | None = None
    cluster: tuple[Cluster, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.cluster:
            self._check_clusters()
            return self
        wrong: list[str] = []
        if self.listen.address == self.admin.address and not self.listen.address.endswith(":0"):
            wrong.append("listen.address and admin.address are the same")
        if self.embedded is not None and "address" in self.upstream.model_fields_set:
            wrong.append("embedded and upstream.address exclude each other")
        if self.listen.redirected and self.embedded is not None:
            wrong.append(f'listen.mode = "{self.listen.mode}" and embedded exclude each other')
        wrong += problems_of(self, self.admin.address)
        if wrong:
            raise SeveralError(wrong)
        return self

    @property
    def rewrites(self) -> bool:
        """Whether hello names the proxy's listeners in the members' place."""
        return self.upstream.hello == "rewrite" and not self.listen.redirected

    @property
    def seeds(self) -> tuple[Address, ...]:
        """Where upstream is, as far as the settings say; clients that are redirected say it too."""
        if self.listen.redirected and "address" not in self.upstream.model_fields_set:
            return ()
        members = tuple(parse_address(member.upstream) for member in self.upstream.members)
        return members or parse_upstream(self.upstream.address).seeds

    def _check_clusters(self) -> None:
        wrong: list[str] = []
        if self.embedded is not None:
            wrong.append("[embedded] and [[cluster]] exclude each other")
        if alone := [name for name in TABLES if name in self.model_fields_set]:
            tables = " and ".join(f"[{name}]" for name in alone)
            wrong.append(f"{tables} and [[cluster]] exclude each other: each has its own")
        for one in self.each():
            # What they have of their own was looked at by themselves.
            own = set(problems_of(one.config))
            found = problems_of(one.config, self.admin.address)
            wrong += [one.said(text) for text in found if text not in own]
        wrong += collisions(self.cluster)
        if wrong:
            raise SeveralError(wrong)

    def ports(self) -> set[int]:
        """Those that a listener has its place at."""
        places = [] if self.admin.address is None else [parse_address(self.admin.address)]
        for one in self.each():
            places += listeners(one.config)
        return {place.port for place in places if place.port}

    def by_name(self, problem: str) -> str:
        """A problem with a cluster's name instead of its number."""
        for one in self.each():
            if one.name:
                problem = problem.replace(one.path, one.said(""), 1)
        return problem

    def each(self) -> list[OneCluster]:
        """Every cluster with the settings that it would have as the only one."""
        if not self.cluster:
            return [OneCluster("", self, "")]
        return [
            OneCluster(
                one.name,
                self.model_copy(
                    update={"cluster": (), **{name: getattr(one, name) for name in TABLES}}
                ),
                f"cluster[{number}].",
            )
            for number, one in enumerate(self.cluster)
        ]


def load(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read the TOML file at ``path`` (None: defaults), with ``overrides`` laid over its tables.

    Raises:
        ConfigError: with every problem found, each as ``path.to.setting: what is wrong``.
    """
    return gather(path, Layer("flag", overrides or {}), {}).settings


def gather(path: str | Path | None, flags: Layer, environment: Mapping[str, str]) -> Read[Config]:
    """The settings of ``flags``, of ``environment`` and of the TOML file at ``path``.

    Of the environment: variables, then the files in the folder of secrets that it names.

    Raises:
        ConfigError: with every problem found, each with where it stands.
    """
    layers = [flags, of_environment(Config, environment)]
    if folder := environment.get(SECRETS) or environment.get(CREDENTIALS):
        layers.append(of_secrets(Config, folder))
    if path is not None:
        layers.append(of_file(Path(path)))
    return read(Config, layers, Path(path).parent if path is not None else Path())


def plain(config: Config) -> dict[str, Any]:
    """A configuration as data for another process, where :func:`restored` makes it anew."""
    return config.model_dump(exclude_unset=True)


def restored(data: Mapping[str, Any]) -> Config:
    """The configuration that :func:`plain` has taken apart."""
    return Config.model_validate(data)

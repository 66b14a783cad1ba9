"""Settings: TOML and command-line overrides in, one frozen :class:`Config` out.

An unknown key is an error, and all errors are reported at once, each with its path
(``limits.connections: …``). ``config.example.toml`` documents every setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import model_validator

from proxy.addresses import Address, parse_address, parse_upstream
from proxy.settings.admin import Admin
from proxy.settings.environment import CREDENTIALS, SECRETS, of_environment, of_secrets
from proxy.settings.kinds import Settings, SeveralError
from proxy.settings.layers import Layer
from proxy.settings.limits import Limits
from proxy.settings.listen import Listen
from proxy.settings.process import Audit, Embedded, Log, Process
from proxy.settings.reading import Read, of_file, read
from proxy.settings.rules import RuleTables
from proxy.settings.sessions import SessionSettings
from proxy.settings.upstream import Upstream


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
    log: Log = Log()
    embedded: Embedded | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        wrong: list[str] = []
        if self.listen.address == self.admin.address and not self.listen.address.endswith(":0"):
            wrong.append("listen.address and admin.address are the same")
        primary = self.listen.primary
        others = {
            self.listen.address,
            self.admin.address,
            *(m.listen for m in self.upstream.members),
        }
        if primary in others and primary is not None and not primary.endswith(":0"):
            wrong.append(f"listen.primary: something else listens on {primary}")
        if self.embedded is not None and "address" in self.upstream.model_fields_set:
            wrong.append("embedded and upstream.address exclude each other")
        if self.listen.redirected:
            wrong += self._beside_redirection()
        uri = parse_upstream(self.upstream.address)
        several = len(uri.seeds) > 1 or uri.srv is not None
        if self.listen.address.startswith("/") and several and not self.upstream.members:
            wrong.append(
                "listen.address is one unix socket, and upstream.address has several seeds:"
                " give each a listener in upstream.members"
            )
        tls = self.upstream.tls
        asked = self.listen.tls is not None and self.listen.tls.client_certificates != "none"
        if tls is not None and tls.x509 and not asked:
            wrong.append("upstream.tls.x509 needs listen.tls.client_certificates")
        if wrong:
            raise SeveralError(wrong)
        return self

    def _beside_redirection(self) -> Iterator[str]:
        mode = f'listen.mode = "{self.listen.mode}"'
        if self.embedded is not None:
            yield f"{mode} and embedded exclude each other"
        if self.upstream.members:
            yield f"{mode} needs no upstream.members: clients dial them themselves"
        if "hello" in self.upstream.model_fields_set and self.upstream.hello != "pass":
            yield f"{mode} leaves hello alone: upstream.hello has to be pass"

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

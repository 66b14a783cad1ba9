"""Settings: TOML and command-line overrides in, one frozen :class:`Config` out.

An unknown key is an error, and all errors are reported at once, each with its path
(``limits.connections: …``). ``config.example.toml`` documents every setting.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from proxy.addresses import parse_address, parse_upstream
from proxy.errors import ConfigError
from proxy.settings.rules import RuleTables

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_DAY = 86_400.0

#: More than machines have processors that a proxy could use.
MOST_WORKERS: Final = 64


def _workers(value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    """Flags bring a number as text."""
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if value == "auto" or (type(number) is int and 1 <= number <= MOST_WORKERS):
        return number
    raise ValueError(f'should be a number from 1 to {MOST_WORKERS}, or "auto"')


def _address(value: str) -> str:
    parse_address(value, default_port=None)
    return value


def _tcp_address(value: str) -> str:
    if parse_address(value, default_port=None).path:
        raise ValueError(f"{value!r} is not host:port")
    return value


def _upstream_address(value: str) -> str:
    parse_upstream(value)
    return value


def _file(value: Path, info: ValidationInfo) -> Path:
    """A readable file; a relative path starts at the configuration file's folder."""
    path = Path((info.context or {}).get("folder", ".")) / value
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"not readable: {path}")
    return path


def _output(value: Path, info: ValidationInfo) -> Path:
    """A file to write in a folder that is there; a relative path as in :func:`_file`."""
    path = Path((info.context or {}).get("folder", ".")) / value
    if not path.parent.is_dir():
        raise ValueError(f"no such folder: {path.parent}")
    if path.is_dir():
        raise ValueError(f"is a folder: {path}")
    return path


def _name(value: str) -> str:
    if not value.strip() or any(character in value for character in "/@?\0"):
        raise ValueError("not a host name")
    return value


def _token(value: str) -> str:
    if not (value.isascii() and value.isprintable()) or " " in value or len(value) < 16:
        raise ValueError("a token has at least 16 characters of ASCII and no spaces")
    return value


def _secret_token(value: SecretStr) -> SecretStr:
    _token(value.get_secret_value())
    return value


def _is_loopback(address: str) -> bool:
    host = parse_address(address).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Address = Annotated[str, AfterValidator(_address)]
TcpAddress = Annotated[str, AfterValidator(_tcp_address)]
UpstreamAddress = Annotated[str, AfterValidator(_upstream_address)]
File = Annotated[Path, AfterValidator(_file)]
OutputFile = Annotated[Path, AfterValidator(_output)]
HostName = Annotated[str, AfterValidator(_name)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=_DAY, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
Token = Annotated[SecretStr, AfterValidator(_secret_token)]


class Settings(BaseModel):
    """One table of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ListenTls(Settings):
    """TLS towards clients; ``key`` may stand in the certificate's own file (PEM)."""

    certificate: File
    key: File | None = None
    ca: File | None = None
    client_certificates: Literal["none", "optional", "required"] = "none"

    @model_validator(mode="after")
    def _certificates_need_an_authority(self) -> ListenTls:
        if self.client_certificates != "none" and self.ca is None:
            raise ValueError(f'client_certificates = "{self.client_certificates}" needs ca')
        return self


class Listen(Settings):
    """Where clients reach the proxy; ``advertise`` is the host name that hello gives them."""

    address: Address = "127.0.0.1:27018"
    advertise: HostName | None = None
    backlog: Annotated[int, Field(strict=True, ge=1, le=65_535)] = 1024
    tls: ListenTls | None = None


class X509Map(Settings):
    """The certificate shown upstream for clients whose certificate has ``subject`` (RFC 4514)."""

    subject: Text
    certificate: File
    key: File | None = None


class UpstreamTls(Settings):
    """TLS towards upstream; without ``ca`` the system's authorities are trusted."""

    ca: File | None = None
    certificate: File | None = None
    key: File | None = None
    verify: StrictBool = True
    verify_hostname: StrictBool = True
    server_name: HostName | None = None
    x509: tuple[X509Map, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> UpstreamTls:
        if self.key is not None and self.certificate is None:
            raise ValueError("key needs certificate")
        subjects = [entry.subject for entry in self.x509]
        if len(set(subjects)) != len(subjects):
            raise ValueError("x509 maps one subject twice")
        return self


class Member(Settings):
    """One member of the replica set and the listener that stands for it."""

    upstream: Address
    listen: Address
    advertise: Address


class Upstream(Settings):
    """What stands behind the proxy: one address, or a mongodb:// URI with several seeds."""

    address: UpstreamAddress = "127.0.0.1:27017"
    hello: Literal["rewrite", "pass"] = "rewrite"
    compression: Literal["pass", "strip"] = "pass"
    connect_seconds: Seconds = 10.0
    watch_seconds: Seconds = 5.0
    tls: UpstreamTls | None = None
    members: tuple[Member, ...] = ()

    @model_validator(mode="after")
    def _members_are_distinct(self) -> Upstream:
        for field in ("upstream", "listen", "advertise"):
            values = [getattr(member, field) for member in self.members]
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"two members have the same {field}: {', '.join(twice)}")
        return self


class Admin(Settings):
    """Where operators look and act: metrics, health, listings, kills.

    None (an empty string in the file) turns it off. Elsewhere than on loopback a token is
    needed; without one nothing can be killed.
    """

    address: TcpAddress | None = "127.0.0.1:27080"
    token: Token | None = None
    token_file: File | None = None

    @model_validator(mode="before")
    @classmethod
    def _empty_is_off(cls, data: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        if isinstance(data, Mapping) and data.get("address") == "":
            return {**data, "address": None}
        return data

    @model_validator(mode="after")
    def _token_where_needed(self) -> Admin:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file exclude each other")
        if self.token_file is not None:
            self.secret()
        elif self.token is None and self.address is not None and not _is_loopback(self.address):
            raise ValueError(f"{self.address} is not loopback, so token or token_file is needed")
        return self

    def secret(self) -> str | None:
        """What callers have to show; None where there is no token.

        Raises:
            ValueError: the file holds none.
        """
        if self.token_file is None:
            return None if self.token is None else self.token.get_secret_value()
        try:
            return _token(self.token_file.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"token_file: {error}") from error
        except ValueError as error:
            raise ValueError(f"token_file: {error}") from None


class Limits(Settings):
    """Bounds on what clients may take. Sizes in bytes, times in seconds."""

    connections: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 10_000
    handshake_seconds: Seconds = 30.0
    frame_seconds: Seconds = 30.0
    buffered_bytes: Annotated[int, Field(strict=True, ge=65_536, le=1 << 40)] = 268_435_456
    before_login_bytes: Annotated[int, Field(strict=True, ge=16_384, le=48_000_000)] = 262_144
    half_close_seconds: Seconds = 10.0
    drain_seconds: Seconds = 30.0
    drain_delay_seconds: Annotated[
        float, Field(strict=True, ge=0, le=_DAY, allow_inf_nan=False)
    ] = 0.0
    drain_idle_seconds: Seconds = 1.0


class Process(Settings):
    """How the process uses the machine that it shares with others.

    ``workers`` are processes that serve clients; "auto" is one for each processor.
    """

    workers: Annotated[int | Literal["auto"], BeforeValidator(_workers)] = 1
    busy_poll_seconds: Annotated[float, Field(ge=0, le=0.01, strict=True)] = 0.0005
    pid_file: OutputFile | None = None


class SessionSettings(Settings):
    """What is tracked of sessions, and what is known of upstream without finding out.

    ``authorization`` and ``commands`` are found out per upstream process with "auto".
    """

    tracking: StrictBool = True
    max_sessions: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] = 1_000_000
    max_cursors: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] = 200_000
    authorization: Literal["auto", "on", "off"] = "auto"
    commands: Literal["auto", "native", "emulated"] = "auto"
    refuse_early: StrictBool = False


class Audit(Settings):
    """The audit log: one JSON line per decision about sessions. No file, no log."""

    file: OutputFile | None = None


class Log(Settings):
    """What is written to stderr, and how."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Embedded(Settings):
    """The embedded upstream, for demonstrations and tests; it keeps nothing."""

    set_name: Text = "embedded"
    version: Literal["4.2", "4.4", "4.9", "5.0", "6.0", "7.0", "8.0", "8.2"] = "4.4"


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
        if self.listen.address == self.admin.address and not self.listen.address.endswith(":0"):
            raise ValueError("listen.address and admin.address are the same")
        if self.embedded is not None and "address" in self.upstream.model_fields_set:
            raise ValueError("embedded and upstream.address exclude each other")
        tls = self.upstream.tls
        asked = self.listen.tls is not None and self.listen.tls.client_certificates != "none"
        if tls is not None and tls.x509 and not asked:
            raise ValueError("upstream.tls.x509 needs listen.tls.client_certificates")
        return self


def load(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read the TOML file at ``path`` (None: defaults), with ``overrides`` laid over its tables.

    Raises:
        ConfigError: with every problem found, each as ``path.to.setting: what is wrong``.
    """
    data: dict[str, Any] = {}
    folder = Path()
    if path is not None:
        folder = Path(path).parent
        try:
            data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError([f"{path}: {error.strerror}"]) from error
        except ValueError as error:
            raise ConfigError([f"{path}: {error}"]) from error
    try:
        return Config.model_validate(_merged(data, overrides or {}), context={"folder": folder})
    except ValidationError as error:
        raise ConfigError([_describe(problem) for problem in error.errors()]) from error


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            value = _merged(below, value)
        merged[key] = value
    return merged


def _describe(problem: ErrorDetails) -> str:
    path = ""
    for part in problem["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    path = path.lstrip(".")
    kind = problem["type"]
    if kind == "extra_forbidden":
        text = "unknown setting"
    elif kind == "value_error":
        text = str(problem["ctx"]["error"])
    elif kind == "missing":
        text = "is needed"
    else:
        given = problem["input"]
        # As it stands in the file: true and not True.
        shown = str(given).lower() if isinstance(given, bool) else repr(given)
        text = f"{problem['msg'].removeprefix('Input ')}, not {shown}"
    return f"{path}: {text}" if path else text


def plain(config: Config) -> dict[str, Any]:
    """A configuration as data for another process, where :func:`restored` makes it anew."""
    return config.model_dump(exclude_unset=True)


def restored(data: Mapping[str, Any]) -> Config:
    """The configuration that :func:`plain` has taken apart."""
    return Config.model_validate(data)

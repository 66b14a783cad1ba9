"""The table ``upstream``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, model_validator

from proxy.addresses import parse_upstream
from proxy.settings.kinds import Address, File, HostName, ListenAddress, Seconds, Settings, Text


def _upstream_address(value: str) -> str:
    parse_upstream(value)
    return value


UpstreamAddress = Annotated[str, AfterValidator(_upstream_address)]


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
    listen: ListenAddress
    advertise: Address
    server_name: HostName | None = None


class Upstream(Settings):
    """What stands behind the proxy: one address, or a URI with several seeds."""

    address: UpstreamAddress = "127.0.0.1:27017"
    hello: Literal["rewrite", "pass"] = "rewrite"
    compression: Literal["pass", "strip"] = "pass"
    connect_seconds: Seconds = 10.0
    watch_seconds: Seconds = 5.0
    proxy_protocol: StrictBool = False
    socket_mark: Annotated[int, Field(strict=True, ge=0, lt=1 << 32)] = 0
    tls: UpstreamTls | None = None
    members: tuple[Member, ...] = ()

    @model_validator(mode="after")
    def _members_are_distinct(self) -> Upstream:
        for field in ("upstream", "listen", "advertise"):
            values = [getattr(member, field) for member in self.members]
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"two members have the same {field}: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _names_need_tls(self) -> Upstream:
        named = any(member.server_name is not None for member in self.members)
        if named and self.tls is None and not parse_upstream(self.address).tls:
            raise ValueError("members have a server_name, which needs TLS towards upstream")
        return self

"""The table ``listen``."""

from __future__ import annotations

import grp
import pwd
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from proxy.settings.destinations import PRIVATE, Destination
from proxy.settings.kinds import File, HostName, ListenAddress, Network, Settings, Text


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


def _mode(value: object) -> object:
    if not isinstance(value, str) or re.fullmatch("0?[0-7]{3}", value) is None:
        raise ValueError('should be a text of octal digits, such as "0660"')
    return value


def _user(value: str) -> str:
    _user_id(value)
    return value


def _group(value: str) -> str:
    _group_id(value)
    return value


def _user_id(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except LookupError:
        raise ValueError(f"no such user: {name}") from None


def _group_id(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except LookupError:
        raise ValueError(f"no such group: {name}") from None


class Socket(Settings):
    """Who may connect to unix sockets: what their files get. None leaves it to the system."""

    mode: Annotated[str | None, BeforeValidator(_mode)] = None
    owner: Annotated[Text, AfterValidator(_user)] | None = None
    group: Annotated[Text, AfterValidator(_group)] | None = None

    def numbers(self) -> tuple[int | None, int | None, int | None]:
        """Mode, owner and group as the system has them.

        Raises:
            ValueError: there is no such user or group any more.
        """
        return (
            None if self.mode is None else int(self.mode, 8),
            None if self.owner is None else _user_id(self.owner),
            None if self.group is None else _group_id(self.group),
        )


class Listen(Settings):
    """Where clients reach the proxy; ``advertise`` is the host name that hello gives them.

    ``mode`` says whether they dial that address, or the kernel redirects to it what was to go
    elsewhere; ``destinations`` is where to.
    """

    address: ListenAddress = "127.0.0.1:27018"
    mode: Literal["address", "redirect", "tproxy"] = "address"
    destinations: tuple[Destination, ...] = PRIVATE
    advertise: HostName | None = None
    primary: ListenAddress | None = None
    allow: Annotated[tuple[Network, ...], Field(min_length=1)] | None = None
    backlog: Annotated[int, Field(strict=True, ge=1, le=65_535)] = 1024
    socket: Socket = Socket()
    proxy_protocol: Literal["off", "accept", "require"] = "off"
    proxy_protocol_from: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    tls: ListenTls | None = None

    @property
    def redirected(self) -> bool:
        """Whether connections lead wherever they were to go."""
        return self.mode != "address"

    @model_validator(mode="after")
    def _redirected_to_host_and_port(self) -> Listen:
        if self.redirected and self.address.startswith("/"):
            raise ValueError(f'mode = "{self.mode}" needs host:port for an address')
        if self.redirected and self.advertise is not None:
            raise ValueError(f'mode = "{self.mode}" leaves hello alone: advertise has no effect')
        if self.redirected and self.primary is not None:
            raise ValueError(f'mode = "{self.mode}" and primary exclude each other')
        return self

    @model_validator(mode="after")
    def _somebody_may_send(self) -> Listen:
        if self.proxy_protocol != "off" and not (
            self.proxy_protocol_from or self.address.startswith("/")
        ):
            raise ValueError("proxy_protocol_from names nobody who may send PROXY headers")
        return self

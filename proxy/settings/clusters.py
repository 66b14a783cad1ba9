"""The tables ``[[cluster]]``: several upstream clusters behind one process."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Annotated, Final, Protocol

from pydantic import AfterValidator, model_validator

from proxy.addresses import Address, parse_address, parse_upstream
from proxy.settings.kinds import Settings, SeveralError
from proxy.settings.listen import Listen
from proxy.settings.rules import RuleTables
from proxy.settings.sessions import SessionSettings
from proxy.settings.upstream import Upstream

#: What stands in each cluster's own table where there are several.
TABLES: Final = ("listen", "upstream", "sessions", "policies")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

_ANY: Final = ("", "0.0.0.0", "::")


class _Tables(Protocol):
    @property
    def listen(self) -> Listen: ...

    @property
    def upstream(self) -> Upstream: ...


def _cluster_name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError(
            "a cluster's name has up to 64 letters, digits, '-', '_' and '.', and begins with one "
            "of the first two"
        )
    return value


class Cluster(Settings):
    """One of several upstream clusters: what the tables of the same names are for a single one."""

    name: Annotated[str, AfterValidator(_cluster_name)]
    listen: Listen = Listen()
    upstream: Upstream = Upstream()
    sessions: SessionSettings = SessionSettings()
    policies: RuleTables = RuleTables()

    @model_validator(mode="after")
    def _consistent(self) -> Cluster:
        if wrong := problems_of(self):
            raise SeveralError(wrong)
        return self


def problems_of(tables: _Tables, admin: str | None = None) -> list[str]:
    """Where ``listen`` and ``upstream`` do not go together, nor with the ``admin`` endpoint."""
    listen, upstream = tables.listen, tables.upstream
    wrong = [*_beside_redirection(tables)] if listen.redirected else []
    primary = listen.primary
    others = {listen.address, admin, *(member.listen for member in upstream.members)}
    if primary in others and primary is not None and not primary.endswith(":0"):
        wrong.append(f"listen.primary: something else listens on {primary}")
    uri = parse_upstream(upstream.address)
    several = len(uri.seeds) > 1 or uri.srv is not None
    if listen.address.startswith("/") and several and not upstream.members:
        wrong.append(
            "listen.address is one unix socket, and upstream.address has several seeds:"
            " give each a listener in upstream.members"
        )
    asked = listen.tls is not None and listen.tls.client_certificates != "none"
    if upstream.tls is not None and upstream.tls.x509 and not asked:
        wrong.append("upstream.tls.x509 needs listen.tls.client_certificates")
    return wrong


def _beside_redirection(tables: _Tables) -> Iterator[str]:
    mode = f'listen.mode = "{tables.listen.mode}"'
    if tables.upstream.members:
        yield f"{mode} needs no upstream.members: clients dial them themselves"
    if "hello" in tables.upstream.model_fields_set and tables.upstream.hello != "pass":
        yield f"{mode} leaves hello alone: upstream.hello has to be pass"


def collisions(clusters: Sequence[Cluster]) -> list[str]:
    """Names and addresses that two clusters want."""
    wrong: list[str] = []
    for one, other in combinations(clusters, 2):
        if one.name == other.name:
            wrong.append(f"two clusters have the same name: {one.name}")
        for mine in listeners(one):
            for address in listeners(other):
                if _meet(mine, address):
                    where = str(mine) if mine == address else f"{mine} and {address}"
                    wrong.append(
                        f"clusters {one.name} and {other.name} have the same listener: {where}"
                    )
    return wrong


def listeners(tables: _Tables) -> list[Address]:
    """Where a cluster listens, as far as the settings say."""
    members, primary = tables.upstream.members, tables.listen.primary
    found = [member.listen for member in members] or [tables.listen.address]
    return [parse_address(one) for one in (*found, *([primary] if primary else []))]


def _meet(one: Address, other: Address) -> bool:
    if one.path or other.path:
        return one.path == other.path
    if one.port != other.port or not one.port:
        return False
    hosts = ["127.0.0.1" if host == "localhost" else host for host in (one.host, other.host)]
    return hosts[0] == hosts[1] or any(host in _ANY for host in hosts)

"""Where a process is reached: host and port, a unix socket, or a mongodb:// URI of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import quote, unquote

DEFAULT_PORT: Final = 27017

#: What no host name contains, and what a slip in a setting usually does.
_NOT_IN_A_HOST: Final = frozenset(" \t\r\n\"'`,;/\\?#@&=<>[]{}()%")


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP ``host`` (lower case, IPv6 without brackets) with its ``port``, or a unix ``path``."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """As MongoDB writes it: the port always, IPv6 in brackets."""
        if self.path:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Srv:
    """Where DNS has the seeds: the hosts of ``_service._tcp.name``. In lower case."""

    name: str
    service: str = "mongodb"


@dataclass(frozen=True, slots=True)
class UpstreamUri:
    """What an upstream setting says: where the seeds are and how to talk to them.

    With ``srv``, DNS knows the seeds, and perhaps the replica set's name.
    """

    seeds: tuple[Address, ...]
    srv: Srv | None = None
    replica_set: str | None = None
    tls: bool = False
    tls_ca_file: str | None = None
    tls_certificate_key_file: str | None = None
    tls_allow_invalid_certificates: bool = False
    tls_allow_invalid_hostnames: bool = False
    direct: bool = False


def parse_address(text: str, default_port: int | None = DEFAULT_PORT) -> Address:
    """``host``, ``host:port``, ``[IPv6]:port`` or the absolute path of a unix socket.

    Port 0 is let through: for a listener it means any free one.

    Raises:
        ValueError: it is none of these, or has no port while ``default_port`` is None.
    """
    if text.startswith("/"):
        if "\0" in text:
            raise ValueError("a socket's path contains a NUL")
        return Address(path=text)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not [IPv6]:port")
        port = rest[1:] if rest else None
        try:
            IPv6Address(host)
        except ValueError:
            raise ValueError(f"{host!r} is not an IPv6 address") from None
    else:
        host, colon, after = text.partition(":")
        port = after if colon else None
        if port is not None and ":" in port:
            raise ValueError(f"{text!r}: an IPv6 address has to stand in brackets")
        if not host:
            raise ValueError(f"{text!r} has no host")
        if not host.isprintable() or not _NOT_IN_A_HOST.isdisjoint(host):
            raise ValueError(f"{host!r} is not a host name")
    if port is None:
        if default_port is None:
            raise ValueError(f"{text!r} has no port")
        return Address(host.lower(), default_port)
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"{text!r}: the port has to be a number up to 65535")
    return Address(host.lower(), int(port))


def parse_upstream(text: str) -> UpstreamUri:
    """``host:port``, the path of a unix socket, or a ``mongodb://`` or ``mongodb+srv://`` URI
    without credentials.

    The URI is read here and not by PyMongo's parser, which opens the certificate files it
    names, takes options that a proxy would silently ignore, and costs a tenth of a second.

    Raises:
        ValueError: in words that never repeat credentials.
    """
    scheme, found, rest = text.partition("://")
    # Anywhere: unescaped "/" and "?" in a password would push it out of its place.
    if "@" in text and not text.startswith("/"):
        raise ValueError(
            "leave the credentials out: clients log in themselves, the proxy does not"
            " (an @ of another meaning is written %40)"
        )
    if not found:
        return UpstreamUri((_seed(text),))
    if scheme not in ("mongodb", "mongodb+srv"):
        raise ValueError(f"{scheme[:20]!r} is not a scheme of MongoDB's: write mongodb://")
    location, _, query = rest.partition("?")
    hosts, _, database = location.partition("/")
    if database:
        raise ValueError("leave the database out: it only serves to log in, which clients do")
    if scheme == "mongodb+srv":
        return _with_options((), query, _name(unquote(hosts)))
    seeds: list[Address] = []
    for host in hosts.split(","):
        seed = _seed(unquote(host))
        if seed in seeds:
            raise ValueError(f"{str(seed)!r} is named twice")
        seeds.append(seed)
    return _with_options(tuple(seeds), query)


def _name(text: str) -> str:
    try:
        name = parse_address(text, default_port=0)
    except ValueError as error:
        raise ValueError(f"mongodb+srv:// takes one name: {error}") from None
    if name.path or name.port or text.endswith(":0") or ":" in name.host:
        raise ValueError("mongodb+srv:// takes one name, without a port")
    return name.host.rstrip(".")


def _seed(text: str) -> Address:
    if not text:
        raise ValueError("a host is missing")
    seed = parse_address(text)
    if not seed.path and seed.port == 0:
        raise ValueError(f"{text!r}: nothing listens on port 0")
    return seed


def dialled(address: Address) -> Address:
    """A listener's address as somebody on the same machine dials it."""
    wildcards = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}
    return Address(wildcards.get(address.host, address.host), address.port, address.path)


def client_uri(addresses: Sequence[str], *, direct: bool, tls: bool, replica_set: str = "") -> str:
    """What drivers and shells can connect with, credentials and authorities apart.

    ``addresses`` are spelled as :class:`Address` does it. ``direct`` is for a single one whose
    replica set, if it is one, has other names than these.
    """
    unix = any(address.startswith("/") for address in addresses)
    hosts = ",".join(quote(address, safe=":[]" if not unix else "") for address in addresses)
    options = {
        "directConnection": "true" if direct else "",
        "replicaSet": "" if direct else quote(replica_set, safe=""),
        "tls": "true" if tls else "",
        # A path is no name that a certificate could have.
        "tlsAllowInvalidHostnames": "true" if tls and unix else "",
    }
    query = "&".join(f"{name}={value}" for name, value in options.items() if value)
    return f"mongodb://{hosts}/" + (f"?{query}" if query else "")


_SWITCHES: Final = {
    "tls": "tls",
    "ssl": "tls",
    "tlsallowinvalidcertificates": "tls_allow_invalid_certificates",
    "tlsallowinvalidhostnames": "tls_allow_invalid_hostnames",
    "tlsinsecure": "tlsinsecure",
    "directconnection": "direct",
}
_TEXTS: Final = {
    "replicaset": "replica_set",
    "tlscafile": "tls_ca_file",
    "tlscertificatekeyfile": "tls_certificate_key_file",
    "srvservicename": "srv_service",
}


def _with_options(seeds: tuple[Address, ...], query: str, srv: str = "") -> UpstreamUri:
    switches: dict[str, bool] = {}
    texts: dict[str, str] = {}
    for option in query.split("&") if query else ():
        name, _, raw = option.partition("=")
        value = unquote(raw)
        key = name.lower()
        if key in _SWITCHES:
            if value not in ("true", "false"):
                raise ValueError(f"option {name} has to be true or false")
            if switches.setdefault(_SWITCHES[key], value == "true") != (value == "true"):
                raise ValueError(f"option {name} contradicts another one")
        elif key in _TEXTS:
            if not value:
                raise ValueError(f"option {name} is empty")
            if texts.setdefault(_TEXTS[key], value) != value:
                raise ValueError(f"option {name} contradicts another one")
        else:
            raise ValueError(f"option {name[:60]!r} is for clients to set, not for the proxy")
    if switches.pop("tlsinsecure", False):
        switches["tls_allow_invalid_certificates"] = True
        switches["tls_allow_invalid_hostnames"] = True
    settings = {name for name in (*switches, *texts) if name.startswith("tls_")}
    # Drivers turn TLS on for any tls option too; an explicit tls=false beside one is a slip.
    if settings and not switches.setdefault("tls", True):
        raise ValueError("tls options beside tls=false")
    if switches.get("direct") and (srv or len(seeds) > 1):
        raise ValueError("directConnection=true takes one seed")
    if not srv and "srv_service" in texts:
        raise ValueError("option srvServiceName is for mongodb+srv://")
    return UpstreamUri(
        seeds,
        Srv(srv, texts.get("srv_service", "mongodb").lower()) if srv else None,
        replica_set=texts.get("replica_set"),
        tls=switches.get("tls", bool(srv)),
        tls_ca_file=texts.get("tls_ca_file"),
        tls_certificate_key_file=texts.get("tls_certificate_key_file"),
        tls_allow_invalid_certificates=switches.get("tls_allow_invalid_certificates", False),
        tls_allow_invalid_hostnames=switches.get("tls_allow_invalid_hostnames", False),
        direct=switches.get("direct", False),
    )

"""What certificates that are in use say of themselves, and what is to be known before it hurts.

Files are read again here, beside OpenSSL: that does not tell until when what it holds is good, nor
for which names. Nothing of a connection depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import idna

from proxy.addresses import parse_address
from proxy.net.tls import upstream_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509

    from proxy.settings.config import Config

DAY: Final = 86_400.0

#: Days before the end from which on it is warned of.
WARNED: Final = 21

#: The legs, as :class:`proxy.net.tls.ListenerTls` and ``UpstreamTls`` call themselves.
SIDES: Final = ("listener", "upstream")


@dataclass(frozen=True, slots=True)
class Certificate:
    """One in use on a side; ``begins`` and ``ends`` are in seconds since 1970.

    ``role`` is ``server`` (shown to clients), ``client`` (the proxy's own, shown to upstream),
    ``x509`` (shown to upstream for a client), ``chain`` (an issuer that is shown with one of
    these) or ``ca``. ``setting`` is what names the file, and ``name`` who it is.
    """

    side: str
    role: str
    setting: str
    file: Path
    name: str
    begins: float
    ends: float

    def problem(self, now: float) -> str:
        """What is wrong with its time, or will be soon; "" for nothing."""
        left = self.ends - now
        if now < self.begins:
            text = f"is not valid before {_date(self.begins)}"
        elif left < 0:
            text = f"expired on {_date(self.ends)}, {_days(-left)} ago"
        elif left < WARNED * DAY:
            text = f"expires on {_date(self.ends)}, in {_days(left)}"
        else:
            return ""
        who = f"{self.name} " if self.role in ("chain", "ca") else ""
        return f"{self.setting}: {self.file}: {who}{text}"


@dataclass(slots=True)
class Certificates:
    """Those of one side, and what could not be read or does not fit."""

    side: str
    all: list[Certificate] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def warnings(self, now: float) -> list[str]:
        """What people should know, each as ``setting: file: what``; ``now`` is since 1970."""
        dated = (certificate.problem(now) for certificate in self.all)
        # One file may be an authority twice.
        return list(dict.fromkeys([*self.problems, *filter(None, dated)]))

    def add(self, file: Path, role: str, setting: str) -> list[x509.Certificate]:
        """Look at those in a file."""
        from cryptography import x509

        try:
            found = x509.load_pem_x509_certificates(file.read_bytes())
            for number, one in enumerate(found):
                self.all.append(
                    Certificate(
                        self.side,
                        "chain" if number and role != "ca" else role,
                        setting,
                        file,
                        one.subject.rfc4514_string() or f"number {number + 1}",
                        one.not_valid_before_utc.timestamp(),
                        one.not_valid_after_utc.timestamp(),
                    )
                )
        except (OSError, LookupError, TypeError, ValueError) as error:
            self.problems.append(f"{setting}: {file}: nothing can be said of it: {error}")
            return []
        return found


def of_clients(config: Config) -> Certificates:
    """What is shown to clients, and who certifies theirs."""
    found = Certificates("listener")
    settings = config.listen.tls
    if settings is not None:
        chain = found.add(settings.certificate, "server", "listen.tls.certificate")
        if chain:
            found.problems += _not_named(chain[0], config, settings.certificate)
        if settings.ca is not None:
            found.add(settings.ca, "ca", "listen.tls.ca")
    return found


def of_upstream(config: Config) -> Certificates:
    """What is shown to upstream, and who certifies that."""
    found = Certificates("upstream")
    settings = upstream_settings(config)
    if settings is not None:
        if settings.certificate is not None:
            found.add(settings.certificate, "client", "upstream.tls.certificate")
        for number, entry in enumerate(settings.x509):
            found.add(entry.certificate, "x509", f"upstream.tls.x509[{number}].certificate")
        if settings.ca is not None:
            found.add(settings.ca, "ca", "upstream.tls.ca")
    return found


def warnings(config: Config, now: float) -> list[str]:
    """What people should know of all certificates that the settings name."""
    return of_clients(config).warnings(now) + of_upstream(config).warnings(now)


def advertised(config: Config) -> dict[str, str]:
    """The hosts by which clients know the proxy, each with the setting that says so."""
    hosts: dict[str, str] = {}
    if config.listen.advertise is not None:
        hosts[config.listen.advertise] = "listen.advertise"
    for number, member in enumerate(config.upstream.members):
        host = parse_address(member.advertise).host
        hosts.setdefault(host, f"upstream.members[{number}].advertise")
    if not hosts:
        hosts[parse_address(config.listen.address).host] = "listen.address"
    # Where it listens everywhere, or on a path, no setting says how clients call it.
    return {host: by for host, by in hosts.items() if host not in ("", "0.0.0.0", "::", "*")}


def _not_named(certificate: x509.Certificate, config: Config, file: Path) -> list[str]:
    """Hosts that a server's certificate does not name as drivers want it to."""
    from cryptography import x509

    names: Sequence[str] = ()
    addresses: Sequence[object] = ()
    try:
        kind = x509.SubjectAlternativeName
        alternative = certificate.extensions.get_extension_for_class(kind).value
        names = alternative.get_values_for_type(x509.DNSName)
        addresses = alternative.get_values_for_type(x509.IPAddress)
    except x509.ExtensionNotFound:
        pass
    except ValueError as error:
        return [f"listen.tls.certificate: {file}: its extensions cannot be read: {error}"]
    shown = ", ".join([*names, *map(str, addresses)]) or "nothing"
    return [
        f"listen.tls.certificate: {file}: does not name {host}, which {setting} gives to clients "
        f"(its subjectAltName names {shown})"
        for host, setting in advertised(config).items()
        if not _named(host, names, addresses)
    ]


def _named(host: str, names: Sequence[str], addresses: Sequence[object]) -> bool:
    try:
        return ip_address(host) in addresses
    except ValueError:
        pass
    try:
        asked = (host if host.isascii() else idna.encode(host, uts46=True).decode()).lower()
    except idna.IDNAError:
        asked = host.lower()
    # A wildcard stands for the first part, as a whole.
    _, _, domain = asked.partition(".")
    return any(name.lower() in (asked, f"*.{domain}" if domain else asked) for name in names)


def _date(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _days(seconds: float) -> str:
    days = int(seconds // DAY)
    return "less than a day" if days < 1 else "1 day" if days == 1 else f"{days} days"

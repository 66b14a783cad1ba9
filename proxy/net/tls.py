"""TLS contexts for both legs, made from the settings and made again on reload.

A new context serves new connections; those that are open keep what they negotiated. Both
sides speak TLS 1.2 or later.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.addresses import Address, parse_address, parse_upstream
from proxy.errors import ConfigError
from proxy.net import pem
from proxy.net.subjects import Subject, parse_subject, subject_of
from proxy.net.tls_records import note_server_name
from proxy.net.tls_transport import TlsTransport, start_tls
from proxy.settings.upstream import UpstreamTls as UpstreamSettings

if TYPE_CHECKING:
    import socket

    from proxy.settings.config import Config
    from proxy.settings.listen import ListenTls

_CLIENT_CERTIFICATES: Final = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}

_MOST_SESSIONS: Final = 10_000


def listener_tls(config: Config) -> ListenerTls | None:
    """TLS towards clients as configured; None for none.

    Raises:
        ConfigError: a file does not hold what it should.
    """
    return None if config.listen.tls is None else ListenerTls(config.listen.tls)


def upstream_tls(config: Config) -> UpstreamTls | None:
    """TLS towards upstream as configured, in its table or in the URI; None for none.

    Raises:
        ConfigError: a file does not hold what it should, or both places name files.
    """
    settings = upstream_settings(config)
    members = config.upstream.members
    names = {parse_address(m.upstream): m.server_name for m in members if m.server_name}
    return None if settings is None else UpstreamTls(settings, names)


def upstream_settings(config: Config) -> UpstreamSettings | None:
    """What :func:`upstream_tls` goes by.

    Raises:
        ConfigError: both places name files.
    """
    uri = parse_upstream(config.upstream.address)
    settings = config.upstream.tls
    if uri.tls:
        said = UpstreamSettings.model_construct(
            ca=Path(uri.tls_ca_file) if uri.tls_ca_file else None,
            certificate=Path(uri.tls_certificate_key_file)
            if uri.tls_certificate_key_file
            else None,
            verify=not uri.tls_allow_invalid_certificates,
            verify_hostname=not uri.tls_allow_invalid_hostnames,
        )
        if settings is None:
            settings = said
        elif said != UpstreamSettings():
            raise ConfigError(["upstream.tls: the URI has tls options too; keep them in one place"])
    return settings


class ListenerTls:
    """Towards clients. ``context`` is for the next connection."""

    side: Final = "listener"

    def __init__(self, settings: ListenTls) -> None:
        self._settings = settings
        self.context: ssl.SSLContext
        self.reload()

    def reload(self) -> None:
        """Read the files again.

        Raises:
            ConfigError: they cannot be used; ``context`` stays what it was.
        """
        settings = self._settings
        context = _context(ssl.PROTOCOL_TLS_SERVER)
        _load_certificate(context, settings.certificate, settings.key, "listen.tls")
        if settings.ca is not None:
            _load_authorities(context, settings.ca, "listen.tls")
        context.verify_mode = _CLIENT_CERTIFICATES[settings.client_certificates]
        context.sni_callback = note_server_name
        self.context = context


class UpstreamTls:
    """Towards upstream. ``context`` is for the next connection of a client without a mapping.

    ``names`` are what members are called that have a name of their own in the settings.
    """

    side: Final = "upstream"

    def __init__(
        self, settings: UpstreamSettings, names: Mapping[Address, str] | None = None
    ) -> None:
        self._settings = settings
        self._names = names or {}
        self._mapped: dict[Subject, ssl.SSLContext] = {}
        #: The latest session with each server, by the context that it belongs to.
        self._sessions: dict[tuple[ssl.SSLContext, str], ssl.SSLSession] = {}
        self.context: ssl.SSLContext
        self.reload()

    @property
    def shows_certificate(self) -> bool:
        """Whether ``context`` shows upstream a certificate, which is then nobody's but ours."""
        return self._settings.certificate is not None

    def context_for(self, certificate: bytes) -> ssl.SSLContext | None:
        """The context of a client that proved to hold this certificate (DER); None if unmapped.

        Raises:
            ValueError: its subject cannot be read, so that nobody knows whose it is.
        """
        subject = subject_of(certificate) if self._mapped else ""
        return self._mapped.get(parse_subject(subject)) if subject else None

    async def start(
        self,
        sock: socket.socket,
        address: Address,
        context: ssl.SSLContext | None = None,
        name: str = "",
    ) -> TlsTransport:
        """Do the handshake with ``address``, to which ``sock`` is connected.

        ``name`` is what it goes by where that is not the address's host.

        Where the server agrees, it goes on with the session of an earlier connection: in that the
        server proved who it is, and was shown the same certificate.

        Raises:
            PeerGoneError: it failed; the socket is closed.
        """
        context = context or self.context
        name = self.server_name(address, name)
        at = context, f"{address} {name}"
        return await start_tls(
            sock,
            context,
            server_side=False,
            server_name=name,
            session=self._sessions.get(at),
            keep=partial(self._keep, at),
        )

    def _keep(self, at: tuple[ssl.SSLContext, str], session: ssl.SSLSession) -> None:
        if len(self._sessions) >= _MOST_SESSIONS:
            self._sessions.clear()  # members come and go
        # A reload may have come between.
        if at[0] is self.context or at[0] in self._mapped.values():
            self._sessions[at] = session

    def server_name(self, address: Address, name: str = "") -> str:
        """What to verify and to send as SNI when connecting to ``address``, which may have a
        ``name`` beside its host.

        Where the servers have split horizons, it also chooses what their hello says.
        """
        own = self._names.get(address) or self._settings.server_name
        return own or name or address.host or "localhost"

    def reload(self) -> None:
        """Read the files again.

        Raises:
            ConfigError: they cannot be used; the contexts stay what they were.
        """
        settings = self._settings
        problems: list[str] = []
        mapped: dict[Subject, ssl.SSLContext] = {}
        context = self._make(settings.certificate, settings.key, "upstream.tls", problems)
        for number, entry in enumerate(settings.x509):
            where = f"upstream.tls.x509[{number}]"
            own = self._make(entry.certificate, entry.key, where, problems)
            try:
                subject = parse_subject(entry.subject)
            except ValueError as error:
                problems.append(f"{where}.subject: {error}")
                continue
            if subject in mapped:
                problems.append(f"{where}.subject: is mapped twice")
            mapped[subject] = own
        if problems:
            raise ConfigError(problems)
        if mapped:
            # Now rather than with the first client.
            import cryptography.x509  # noqa: F401
        self.context, self._mapped = context, mapped
        self._sessions.clear()

    def _make(
        self, certificate: Path | None, key: Path | None, where: str, problems: list[str]
    ) -> ssl.SSLContext:
        settings = self._settings
        context = _context(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = settings.verify and settings.verify_hostname
        if not settings.verify:
            context.verify_mode = ssl.CERT_NONE
        try:
            if settings.ca is not None:
                _load_authorities(context, settings.ca, "upstream.tls")
            elif settings.verify:
                context.load_default_certs()
            if certificate is not None:
                _load_certificate(context, certificate, key, where)
        except ConfigError as error:
            problems += [problem for problem in error.problems if problem not in problems]
        return context


def _context(side: int) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # No server of MongoDB asks for it, and whoever does could make the other end work for nothing.
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _load_authorities(context: ssl.SSLContext, file: Path, where: str) -> None:
    try:
        context.load_verify_locations(file)
    except (OSError, ValueError) as error:
        why = pem.lacking(file, "CERTIFICATE")
        said = f"not usable: {why}" if why else _reason(error)
        raise ConfigError([f"{where}.ca: {file}: {said}"]) from error


def _load_certificate(
    context: ssl.SSLContext, certificate: Path, key: Path | None, where: str
) -> None:
    try:
        context.load_cert_chain(certificate, key, _no_passphrase)
    except (OSError, ValueError) as error:
        for setting, file, needed in (
            ("certificate", certificate, "CERTIFICATE"),
            ("key" if key else "certificate", key or certificate, "PRIVATE KEY"),
        ):
            if lacking := pem.lacking(file, needed):
                raise ConfigError([f"{where}.{setting}: {file}: not usable: {lacking}"]) from error
        files = f"{certificate} and {key}" if key else str(certificate)
        raise ConfigError([f"{where}.certificate: {files}: {_reason(error)}"]) from error


def _no_passphrase() -> str:
    # Without this OpenSSL would ask at the terminal.
    raise ValueError("the key is encrypted; keep it in a file without a passphrase")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "not usable: key values mismatch: the key does not belong to the certificate"
        words = (error.reason or "no PEM data here").replace("_", " ").lower()
        return f"not usable: {words}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

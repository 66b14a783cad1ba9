"""TLS for long runs: who is certified, what the program is told of it, and how its clients come."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Secured:
    """PEM files: certificate and key of everybody who listens, and who certified it."""

    certificate: Path
    authority: Path

    @classmethod
    def made(cls, folder: Path) -> Secured:
        """Made anew."""
        made = cls(folder / "certificate.pem", folder / "authority.pem")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(made.authority)
        leaf = authority.issue_cert("127.0.0.1")
        leaf.private_key_and_cert_chain_pem.write_to_path(made.certificate)
        return made

    @property
    def tables(self) -> str:
        """The program's settings for both legs."""
        return (
            f'[listen.tls]\ncertificate = "{self.certificate}"\n'
            f'[upstream.tls]\nca = "{self.authority}"\n'
        )

    def context(self) -> ssl.SSLContext:
        """A client's."""
        return ssl.create_default_context(cafile=str(self.authority))


def uri(port: int, secured: Secured | None = None, compressor: str = "") -> str:
    """How an application finds the program on this port."""
    words = ["replicaSet=rs"]
    if secured is not None:
        words += ["tls=true", f"tlsCAFile={secured.authority}"]
    if compressor:
        words.append(f"compressors={compressor}")
    return f"mongodb://127.0.0.1:{port}/?{'&'.join(words)}"

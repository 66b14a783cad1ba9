"""TLS for the load and the responder: certificates, and OpenSSL between two buffers.

A read takes whatever records there are, so that the ends cost as little as they can: what is
measured stands between them.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

#: Which legs have TLS, by the name of the choice: the clients', upstream's.
LEGS: Final = {"both": (True, True), "client": (True, False), "upstream": (False, True)}

_RECORD: Final = 16_384
_RECEIVE: Final = 262_144


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files: certificate and key of everybody who listens, and who certified it."""

    certificate: Path
    authority: Path


@contextlib.contextmanager
def certificates() -> Iterator[Files]:
    """Made anew, and removed in the end."""
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder) / "certificate.pem", Path(folder) / "authority.pem")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(files.authority)
        leaf = authority.issue_cert("127.0.0.1")
        leaf.private_key_and_cert_chain_pem.write_to_path(files.certificate)
        yield files


@functools.cache
def client_context(authority: str) -> ssl.SSLContext:
    """What believes in who was certified by this authority (a file)."""
    return ssl.create_default_context(cafile=authority)


def server_context(files: Files) -> ssl.SSLContext:
    """What listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate)
    return context


class Secure:
    """One end's records; whoever has it moves them."""

    __slots__ = ("_incoming", "_object", "_outgoing", "_shaken")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        name = None if server_side else "127.0.0.1"
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side, name)
        self._shaken = False

    def opened(self, records: bytes) -> bytes:
        """What was in them, b"" where none is whole or they are the handshake's."""
        self._incoming.write(records)
        taken = []
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self._shaken:
                self._object.do_handshake()
                self._shaken = True
            while self._incoming.pending:
                taken.append(self._object.read(_RECORD))
        return b"".join(taken)

    def sealed(self, data: bytes | bytearray | memoryview = b"") -> bytes:
        """The records with this, behind those that the handshake wants sent."""
        view = memoryview(data)
        while view:
            view = view[self._object.write(view) :]
        return self._outgoing.read()

    def shake(self, sock: socket.socket) -> None:
        """Do the handshake on a blocking socket."""
        self.opened(b"")
        while not self._shaken:
            sock.sendall(self.sealed())
            records = sock.recv(_RECEIVE)
            if not records:
                raise ConnectionError("closed in the handshake")
            self.opened(records)
        sock.sendall(self.sealed())

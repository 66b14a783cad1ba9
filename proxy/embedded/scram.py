"""The server's side of SCRAM-SHA-1 and SCRAM-SHA-256 (RFC 5802, RFC 7677)."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pymongo.saslprep import saslprep

from proxy.embedded.failures import failure

#: The hash and the iteration count of a mechanism; the counts are the server's defaults.
MECHANISMS: Final[dict[str, tuple[str, int]]] = {
    "SCRAM-SHA-1": ("sha1", 10_000),
    "SCRAM-SHA-256": ("sha256", 15_000),
}


class Credential(NamedTuple):
    """What a server stores of a password."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


def credential(mechanism: str, user: str, password: str) -> Credential:
    """Derive the stored form; SHA-1 digests name and password first, SHA-256 normalises it."""
    algorithm, iterations = MECHANISMS[mechanism]
    if algorithm == "sha1":
        digest = hashlib.md5(f"{user}:mongo:{password}".encode(), usedforsecurity=False)
        secret = digest.hexdigest().encode()
    else:
        secret = str(saslprep(password)).encode()
    salt = os.urandom(hashlib.new(algorithm).digest_size - 4)
    salted = hashlib.pbkdf2_hmac(algorithm, secret, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", algorithm)
    stored_key = hashlib.new(algorithm, client_key).digest()
    return Credential(salt, iterations, stored_key, hmac.digest(salted, b"Server Key", algorithm))


_REFUSED: Final = "Authentication failed."


def _fields(payload: bytes) -> dict[str, str]:
    try:
        parts = payload.decode().split(",")
    except UnicodeDecodeError as error:
        raise failure(18, _REFUSED) from error
    return {part[0]: part[2:] for part in parts if part[1:2] == "="}


@dataclass
class Conversation:
    """One SCRAM exchange. ``find`` gives a user's credential, None for unknown users.

    Raises (from both steps):
        CommandError: 18, whatever was wrong, as the server does.
    """

    mechanism: str
    find: Callable[[str], Credential | None]
    skip_empty_exchange: bool
    user: str = ""
    #: The client has proved that it knows the password.
    proved: bool = False
    done: bool = False
    _nonce: str = ""
    _transcript: str = ""
    _credential: Credential | None = field(default=None, repr=False)

    def step(self, payload: bytes) -> bytes:
        """The answer to the client's next message."""
        if self.done:
            raise failure(18, _REFUSED)
        if self.proved:
            self.done = True
            return b""
        return self._final(payload) if self._nonce else self._first(payload)

    def _first(self, payload: bytes) -> bytes:
        fields = _fields(payload)
        if payload[:1] not in (b"n", b"y") or not fields.get("n") or not fields.get("r"):
            raise failure(18, _REFUSED)
        self.user = fields["n"].replace("=2C", ",").replace("=3D", "=")
        found = self.find(self.user)
        if found is None:
            raise failure(18, _REFUSED)
        self._credential = found
        self._nonce = fields["r"] + b64encode(os.urandom(24)).decode()
        reply = f"r={self._nonce},s={b64encode(found.salt).decode()},i={found.iterations}"
        bare = payload.decode().split(",", 2)[2]
        self._transcript = f"{bare},{reply}"
        return reply.encode()

    def _final(self, payload: bytes) -> bytes:
        assert self._credential is not None
        algorithm = MECHANISMS[self.mechanism][0]
        fields = _fields(payload)
        without_proof = payload.decode().rpartition(",p=")[0]
        message = f"{self._transcript},{without_proof}".encode()
        signature = hmac.digest(self._credential.stored_key, message, algorithm)
        try:
            proof = b64decode(fields.get("p", ""), validate=True)
        except ValueError as error:
            raise failure(18, _REFUSED) from error
        key = bytes(a ^ b for a, b in zip(proof, signature, strict=False))
        right = hmac.compare_digest(
            hashlib.new(algorithm, key).digest(), self._credential.stored_key
        )
        if fields.get("r") != self._nonce or len(proof) != len(signature) or not right:
            raise failure(18, _REFUSED)
        self.proved = True
        self.done = self.skip_empty_exchange
        answer = hmac.digest(self._credential.server_key, message, algorithm)
        return b"v=" + b64encode(answer)

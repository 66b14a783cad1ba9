"""Talking to the embedded server without sockets, as whichever users a test wants."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from typing import Any

import bson

from proxy.embedded.connection import Connection, Step
from proxy.embedded.node import Node, make_node
from proxy.embedded.users import EmbeddedRole, EmbeddedUser
from proxy.wire.replies import command_frame, read_reply
from tests.transcripts import Exchange, Replay, Transcript, load

#: Unix time at which tests run.
NOW = 1_800_000_000.0
PASSWORD = "pw"

#: The users of the recorded deployments.
USERS = (
    EmbeddedUser("alice", "app", PASSWORD, (("readWrite", "app"),)),
    EmbeddedUser("bob", "app", PASSWORD, (("readWrite", "app"),)),
    EmbeddedUser("alice", "other", PASSWORD, (("readWrite", "app"),)),
    EmbeddedUser("killer", "admin", PASSWORD, (("killer", "admin"),)),
    EmbeddedUser("imp", "admin", PASSWORD, (("imp", "admin"),)),
    EmbeddedUser("lister", "admin", PASSWORD, (("lister", "admin"),)),
    EmbeddedUser("root", "admin", PASSWORD, (("root", "admin"),)),
)
_CLUSTER = {"cluster": True}
ROLES = (
    EmbeddedRole("killer", "admin", ((_CLUSTER, ("killAnySession",)),)),
    EmbeddedRole("imp", "admin", ((_CLUSTER, ("killAnySession", "impersonate")),)),
    EmbeddedRole("lister", "admin", ((_CLUSTER, ("listSessions",)),)),
)


def node(**settings: Any) -> Node:
    """A server with the recorded users and roles; keywords as of ``make_node``."""
    defaults: dict[str, Any] = {
        "authorization": False,
        "roles": ROLES,
        "set_name": "rs0",
        "version": "4.2",
        "address": "127.0.0.1:27017",
        "now": NOW,
    }
    return make_node(**{**defaults, **settings})


class Client:
    """One connection to a node; time stands still unless a test moves ``now``."""

    def __init__(self, server: Node, now: float = NOW) -> None:
        self.connection = Connection(server, "127.0.0.1:50000")
        self.now = now
        self._request_id = 0

    def step(self, body: dict[str, Any]) -> Step:
        """Send one command and return what the connection wants done."""
        self._request_id += 1
        return self.connection.receive(command_frame(self._request_id, body), self.now)

    def run(self, name: str, value: Any = 1, *, db: str = "admin", **fields: Any) -> dict[str, Any]:
        """The reply to a command that answers at once."""
        return self.ask({name: value, **fields, "$db": db})

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """The reply to a whole command document."""
        return answer(self.step(body))

    def log_in(self, name: str, database: str, mechanism: str = "SCRAM-SHA-256") -> dict[str, Any]:
        """Authenticate with SCRAM; the last reply."""
        first = f"n={name.replace('=', '=3D').replace(',', '=2C')},r=clientnonce"
        reply = self.run(
            "saslStart",
            db=database,
            mechanism=mechanism,
            payload=b"n,," + first.encode(),
            options={"skipEmptyExchange": True},
        )
        if not reply["ok"]:
            return reply
        server_first = reply["payload"].decode()
        final = scram_final(mechanism, name, first, server_first)
        return self.run("saslContinue", db=database, conversationId=1, payload=final)


def answer(step: Step) -> dict[str, Any]:
    """The one reply that a step sends."""
    (frame,) = step.frames
    return bson.decode(read_reply(frame).body_bytes())


def scram_final(mechanism: str, name: str, first: str, server_first: str) -> bytes:
    """A SCRAM client's second message, written out from RFC 5802 for this password."""
    algorithm = "sha1" if mechanism == "SCRAM-SHA-1" else "sha256"
    secret = PASSWORD.encode()
    if algorithm == "sha1":
        secret = hashlib.md5(f"{name}:mongo:{PASSWORD}".encode()).hexdigest().encode()
    fields = dict(part.split("=", 1) for part in server_first.split(","))
    salted = hashlib.pbkdf2_hmac(algorithm, secret, b64decode(fields["s"]), int(fields["i"]))
    key = hmac.digest(salted, b"Client Key", algorithm)
    without_proof = f"c={b64encode(b'n,,').decode()},r={fields['r']}"
    message = f"{first},{server_first},{without_proof}".encode()
    signature = hmac.digest(hashlib.new(algorithm, key).digest(), message, algorithm)
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    return f"{without_proof},p={b64encode(proof).decode()}".encode()


Users = tuple[tuple[str, str], ...]


def recorded(name: str) -> tuple[Node, list[tuple[str, Users]]]:
    """A server as the recorded one was, and the conversations that had been held with it before.

    Those are pairs of a transcript's name and who held it. On 4.2 each conversation had been held
    once before it was recorded; on 4.9 only others had been. ``name`` is ``4.9/rs.anonymous``.
    """
    version, _, rest = name.rpartition("/")
    deployment, _, _ = rest.partition(".")
    auth = deployment == "rsauth"
    server = node(
        authorization=auth,
        users=USERS if auth else (),
        set_name=None if deployment == "standalone" else "rs0",
        version=version or "4.2",
    )
    mine = load(name).users
    others = (("bob", "app"), ("imp", "admin")) if version else (("alice", "app"), ("bob", "app"))
    before: list[tuple[str, Users]] = []
    if auth:
        # Some make collections, all make sessions.
        script = f"{version}/rsauth.alice" if version else "rsauth.alice"
        before += [(script, (user,)) for user in others if user not in mine]
    if not version:
        before.append((name, mine))
    return server, before


async def replay(name: str) -> list[Exchange]:
    """A transcript asked of a server in the state that the recorded one was in."""
    server, before = recorded(name)
    for script, users in before:
        await _converse(server, load(script), *users)
    transcript = load(name)
    return await _converse(server, transcript, *transcript.users)


async def _converse(
    server: Node, transcript: Transcript, *users: tuple[str, str]
) -> list[Exchange]:
    client = Client(server)
    for user in users:
        assert client.log_in(*user)["done"]

    async def send(request: dict[str, Any]) -> dict[str, Any]:
        return client.ask(request)

    return await Replay(transcript, send).run()

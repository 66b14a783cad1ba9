"""MONGODB-X509: nobody is let in as the proxy, and whoever is mapped is let in as himself."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.name import _ASN1Type
from pymongo.errors import OperationFailure

from proxy.net.subjects import subject_of
from proxy.process.server import Running
from proxy.wire.compression import deflate, inflate
from proxy.wire.opcodes import HEADER, OP_COMPRESSED
from tests.build import command, element, op_query, raw_document
from tests.end_to_end.tools import (
    Certificates,
    Log,
    TlsUpstream,
    proxy_before,
    pymongo_at,
    tls_client,
    users_of,
)
from tests.patience import PATIENCE
from tests.running import Client, in_time, ping, port_of
from tests.talk import connection_status
from tests.upstreams import HELLO, Seen, answered, document, echo, expects_reply

X509 = "MONGODB-X509"
REFUSED = {
    "ok": 0.0,
    "errmsg": "There is no x.509 client certificate matching the user.",
    "code": 18,
    "codeName": "AuthenticationFailed",
}


class Upstream(TlsUpstream):
    """Takes MONGODB-X509 as a server does: the subject of the connection's certificate is in."""

    def __init__(self, certificates: Certificates, asks: ssl.VerifyMode) -> None:
        context = certificates.server(certificates.issue("upstream"), asks)
        super().__init__(context, self._reply)
        self.users: dict[Seen, str] = {}

    def _reply(self, seen: Seen, frame: bytes) -> Sequence[bytes]:
        request = document(frame)
        name = next(iter(request), "")
        if name in ("hello", "isMaster", "ismaster"):
            told = dict(HELLO)
            speculation = request.get("speculativeAuthenticate")
            if speculation:
                told["speculativeAuthenticate"] = self._log_in(seen)
            if compressors := request.get("compression"):
                told["compression"] = compressors
            return (answered(frame, told),)
        if name == "authenticate":
            return (answered(frame, self._log_in(seen)),) if expects_reply(frame) else ()
        if name == "connectionStatus":
            user = self.users.get(seen)
            users = [(user, "$external")] if user else []
            return (answered(frame, connection_status(*users)),)
        return echo(seen, frame)

    def _log_in(self, seen: Seen) -> dict[str, Any]:
        certificate = seen.stream.getpeercert(binary_form=True)  # type: ignore[attr-defined]
        if certificate is None:
            return {**REFUSED, "errmsg": "upstream says so"}
        self.users[seen] = subject_of(certificate)
        return {"dbname": "$external", "user": self.users[seen], "ok": 1.0}

    def heard(self, word: bytes) -> list[bytes]:
        """The frames, inflated, that hold these bytes."""
        plain = [
            inflate(frame) if HEADER.unpack_from(frame)[3] == OP_COMPRESSED else frame
            for seen in self.seen
            for frame in seen.frames
        ]
        return [frame for frame in plain if word in frame]


@pytest.fixture(scope="module")
def files(certificates: Certificates) -> dict[str, str]:
    names = ("proxy", "alice", "bob", "alice-upstream", "bob-upstream", "unmapped")
    return {name: certificates.issue(name, file=f"x509-{name}") for name in names}


# ------------------------------------------------------------------ with the proxy's certificate


def authenticate(**more: Any) -> dict[str, Any]:
    return {"authenticate": 1, **more}


def doubled(*elements: tuple[str, Any]) -> bytes:
    return raw_document(*(element(name, value) for name, value in elements))


AUTHENTICATIONS: dict[str, Any] = {
    "authenticate": authenticate(mechanism=X509, **{"$db": "$external"}),
    "naming the user": authenticate(mechanism=X509, user="CN=proxy", **{"$db": "$external"}),
    "without mechanism": authenticate(**{"$db": "$external"}),
    "in lower case": authenticate(mechanism=X509.lower(), **{"$db": "$external"}),
    "saslStart": {"saslStart": 1, "mechanism": X509, "payload": b"", "$db": "$external"},
    "second mechanism": doubled(
        ("authenticate", 1), ("mechanism", "PLAIN"), ("mechanism", X509), ("$db", "$external")
    ),
    "first mechanism": doubled(
        ("saslStart", 1), ("mechanism", X509), ("mechanism", "PLAIN"), ("$db", "$external")
    ),
}
SPECULATION = {"authenticate": 1, "mechanism": X509, "db": "$external"}
HELLOS: dict[str, Any] = {
    "hello": {"hello": 1, "speculativeAuthenticate": SPECULATION, "$db": "admin"},
    "isMaster": {"isMaster": 1, "speculativeAuthenticate": SPECULATION, "$db": "$external"},
    "saslStart in hello": {
        "hello": 1,
        "speculativeAuthenticate": {"saslStart": 1, "mechanism": X509, "db": "$external"},
        "$db": "admin",
    },
    "second speculation": doubled(
        ("hello", 1),
        ("speculativeAuthenticate", {"saslStart": 1, "mechanism": "PLAIN", "db": "$external"}),
        ("speculativeAuthenticate", SPECULATION),
        ("$db", "admin"),
    ),
    "doubled mechanism": raw_document(
        element("hello", 1),
        b"\x03speculativeAuthenticate\0"
        + doubled(("authenticate", 1), ("mechanism", "PLAIN"), ("mechanism", X509)),
        element("$db", "admin"),
    ),
}


def as_message(value: Any) -> bytes:
    return command(value, 7)


def as_query(value: Any) -> bytes:
    namespace = "admin.$cmd"
    if isinstance(value, dict):
        namespace = f"{value['$db']}.$cmd"
        value = {name: item for name, item in value.items() if name != "$db"}
    return op_query(namespace, value, request_id=7)


def wrapped_query(value: Any) -> bytes:
    return op_query("$external.$cmd", {"$query": value}, request_id=7)


FORMS: dict[str, Callable[[Any], bytes]] = {
    "OP_MSG": as_message,
    "OP_QUERY": as_query,
    "$query": lambda value: as_query(value) if isinstance(value, bytes) else wrapped_query(value),
    **{
        name: lambda value, number=number: deflate(as_message(value), number)
        for name, number in {"snappy": 1, "zlib": 2, "zstd": 3}.items()
    },
}


@in_time
async def test_nobody_is_let_in_as_the_proxy(certificates, files, nursery):
    upstream = Upstream(certificates, asks=ssl.CERT_REQUIRED)
    port = await nursery.start(upstream.serve)
    tls = {"ca": certificates.ca, "certificate": files["proxy"]}
    log, tried = Log(), 0
    async with proxy_before(port, log=log, upstream={"tls": tls}) as running:
        for form in FORMS.values():
            for value in AUTHENTICATIONS.values():
                client = await _negotiated(running)
                reply = await client.ask(form(value))
                assert reply is not None
                assert document(_plain(reply)) == REFUSED
                await client.ping("nobody", 8)
                await client.close()
                tried += 1
            for value in HELLOS.values():
                client = await _negotiated(running)
                reply = await client.ask(form(value))
                assert reply is not None
                told = document(_plain(reply))
                assert told["ok"] == 1.0
                assert "speculativeAuthenticate" not in told
                await client.ping("nobody", 8)
                await client.close()
                tried += 1
        await log.reasons(tried)
    assert tried == 72
    assert upstream.users == {}
    assert not upstream.heard(b"X509")
    assert not upstream.heard(b"x509")
    assert not upstream.heard(b"authenticate")
    assert not log.lines("authenticated")
    nursery.cancel_scope.cancel()


async def _negotiated(running: Running) -> Client:
    client = await Client.connect(running)
    offer = {"hello": 1, "compression": ["snappy", "zlib", "zstd"], "$db": "admin"}
    reply = await client.ask(command(offer, 3))
    assert reply is not None
    assert document(reply)["compression"] == offer["compression"]
    return client


def _plain(frame: bytes) -> bytes:
    """A reply as if it were an OP_MSG one."""
    message = inflate(frame) if HEADER.unpack_from(frame)[3] == OP_COMPRESSED else frame
    if HEADER.unpack_from(message)[3] == 1:  # OP_REPLY
        return command(message[36:])
    return message


@in_time
async def test_unacknowledged_authentication_is_dropped(certificates, files, nursery):
    upstream = Upstream(certificates, asks=ssl.CERT_REQUIRED)
    port = await nursery.start(upstream.serve)
    tls = {"ca": certificates.ca, "certificate": files["proxy"]}
    async with proxy_before(port, upstream={"tls": tls}) as running:
        client = await _negotiated(running)
        for value in AUTHENTICATIONS.values():
            await client.send(command(value, 7, flags=2))
        await client.ping("the next answer is this one's", 8)
        await client.close()
    assert upstream.users == {}
    nursery.cancel_scope.cancel()


@in_time
async def test_a_driver_is_told(certificates, files, nursery):
    upstream = Upstream(certificates, asks=ssl.CERT_REQUIRED)
    port = await nursery.start(upstream.serve)
    tls = {"ca": certificates.ca, "certificate": files["proxy"]}
    listen = {
        "certificate": files["proxy"],
        "ca": certificates.ca,
        "client_certificates": "required",
    }
    options = {
        "tls": True,
        "tlsCAFile": certificates.ca,
        "tlsCertificateKeyFile": files["alice"],
        "authMechanism": X509,
    }
    async with (
        proxy_before(port, upstream={"tls": tls}, listen={"tls": listen}) as running,
        pymongo_at(running, **options) as driver,
    ):
        with pytest.raises(OperationFailure) as caught:
            await driver.command("ping")
        assert caught.value.code == 18
    assert upstream.users == {}
    nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ mapped


@pytest.mark.parametrize("own", [True, False], ids=["with own certificate", "without"])
@in_time
async def test_who_is_mapped_is_let_in_as_himself(certificates, files, nursery, own):
    upstream = Upstream(certificates, asks=ssl.CERT_OPTIONAL)
    port = await nursery.start(upstream.serve)
    tls = {
        "ca": certificates.ca,
        "x509": [
            {"subject": _subject(files[name]), "certificate": files[f"{name}-upstream"]}
            for name in ("alice", "bob")
        ],
    }
    if own:
        tls["certificate"] = files["proxy"]
    listen = {
        "certificate": files["proxy"],
        "ca": certificates.ca,
        "client_certificates": "optional",
    }
    tables = {"upstream": {"tls": tls}, "listen": {"tls": listen}}
    async with proxy_before(port, **tables) as running:
        clients = {}
        for name in ("alice", "bob", "alice"):
            client = await tls_client(running, certificates.client(files[name]))
            answer = document(await client.ask(as_message(AUTHENTICATIONS["authenticate"])) or b"")
            mapped = _subject(files[f"{name}-upstream"])
            assert answer == {"dbname": "$external", "user": mapped, "ok": 1.0}
            await client.ping(f"as {name}")
            assert upstream.users[upstream.with_mark(f"as {name}")] == mapped
            [user] = [
                row["user"]
                for row in running.server.connections()
                if row["client"].endswith(
                    f":{client.stream.transport_stream.socket.getsockname()[1]}"
                )
            ]
            assert user == f"{mapped}@$external"
            clients[client] = name
        for shown in ("unmapped", ""):
            context = certificates.client(files[shown] if shown else "")
            client = await tls_client(running, context)
            answer = document(await client.ask(as_message(AUTHENTICATIONS["authenticate"])) or b"")
            assert answer["code"] == 18
            assert (answer["errmsg"] == "upstream says so") is not own
            await client.ping("nobody")
            assert upstream.with_mark("nobody") not in upstream.users
            clients[client] = ""
        for client in clients:
            await client.ping("still here")
            await client.close()
    assert sorted(upstream.users.values()) == sorted(
        _subject(files[f"{name}-upstream"]) for name in ("alice", "alice", "bob")
    )
    nursery.cancel_scope.cancel()


def _subject(file: str) -> str:
    text = Path(file).read_text()
    first = text[text.index("-----BEGIN CERT") : text.index("-----END CERT")]
    return subject_of(ssl.PEM_cert_to_DER_cert(first + "-----END CERTIFICATE-----\n"))


@in_time
async def test_whose_subject_cannot_be_read_is_refused_alone(certificates, files, nursery):
    upstream = Upstream(certificates, asks=ssl.CERT_OPTIONAL)
    port = await nursery.start(upstream.serve)
    mapping = {"subject": _subject(files["bob"]), "certificate": files["bob-upstream"]}
    listen = {
        "certificate": files["proxy"],
        "ca": certificates.ca,
        "client_certificates": "optional",
    }
    tables = {
        "upstream": {"tls": {"ca": certificates.ca, "x509": [mapping]}},
        "listen": {"tls": listen},
    }
    log = Log()
    async with proxy_before(port, log=log, **tables) as running:
        bob = await tls_client(running, certificates.client(files["bob"]))
        await bob.ping("as bob")
        # Its part of the handshake may be done when it is refused, or not.
        with contextlib.suppress(trio.BrokenResourceError):
            client = await tls_client(running, certificates.client(_with_bits(certificates)))
            try:
                assert await client.ask(as_message({"ping": 1, "$db": "admin"})) is None
            finally:
                await client.close()
        [reason] = await log.reasons(1)
        assert reason == ("client TLS: no certificate with a readable subject: 2.5.4.45 is no text")
        await bob.ping("still there")
        await bob.close()
    nursery.cancel_scope.cancel()


def _with_bits(certificates: Certificates) -> str:
    """A certificate of the authority's whose subject holds what is no text."""
    authority = certificates.authority
    key = ec.generate_private_key(ec.SECP256R1())
    kind = x509.NameOID.X500_UNIQUE_IDENTIFIER
    name = x509.Name([x509.NameAttribute(kind, b"\0bits", _ASN1Type.BitString)])
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    signer = load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2040, 1, 1))
        .sign(signer, hashes.SHA256())
    )
    path = certificates.folder / "bits.pem"
    path.write_bytes(
        made.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return str(path)


@in_time
async def test_drivers_with_certificates_log_in_at_once(certificates, files, nursery):
    upstream = Upstream(certificates, asks=ssl.CERT_OPTIONAL)
    port = await nursery.start(upstream.serve)
    mapping = {"subject": _subject(files["bob"]), "certificate": files["bob-upstream"]}
    tls = {"ca": certificates.ca, "x509": [mapping], "certificate": files["proxy"]}
    listen = {
        "certificate": files["proxy"],
        "ca": certificates.ca,
        "client_certificates": "required",
    }
    options = {
        "tls": True,
        "tlsCAFile": certificates.ca,
        "tlsCertificateKeyFile": files["bob"],
        "authMechanism": X509,
    }
    tables = {"upstream": {"tls": tls}, "listen": {"tls": listen}}
    async with (
        proxy_before(port, **tables) as running,
        pymongo_at(running, **options) as driver,
    ):
        answers = []
        async with trio.open_nursery() as pinging:

            async def one(number: int) -> None:
                answers.append((await driver.command("ping", mark=f"number {number}"))["echo"])

            for number in range(8):
                pinging.start_soon(one, number)
        assert len(answers) == 8
        user = _subject(files["bob-upstream"])
        # Every connection of the pool, those with a resumed TLS session too, is bob's.
        marked = {upstream.with_mark(f"number {number}") for number in range(8)}
        assert {upstream.users[seen] for seen in marked} == {user}
        assert upstream.heard(b"speculativeAuthenticate")
        shown = await users_of(running, 2)
        assert f"{user}@$external" in shown
    nursery.cancel_scope.cancel()


@in_time
async def test_a_resumed_session_is_its_own_clients(certificates, files, nursery):
    upstream = Upstream(certificates, asks=ssl.CERT_OPTIONAL)
    port = await nursery.start(upstream.serve)
    names = ("alice", "bob")
    mapped = {name: _subject(files[f"{name}-upstream"]) for name in names}
    mapping = [
        {"subject": _subject(files[name]), "certificate": files[f"{name}-upstream"]}
        for name in names
    ]
    listen = {
        "certificate": files["proxy"],
        "ca": certificates.ca,
        "client_certificates": "required",
    }
    tables = {
        "upstream": {"tls": {"ca": certificates.ca, "x509": mapping}},
        "listen": {"tls": listen},
    }
    request = as_message(AUTHENTICATIONS["authenticate"])
    async with proxy_before(port, **tables) as running:

        def connect(
            context: ssl.SSLContext, session: ssl.SSLSession | None
        ) -> tuple[str, bool, ssl.SSLSession | None]:
            with (
                socket.create_connection(
                    ("127.0.0.1", port_of(running)), timeout=PATIENCE
                ) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as sock,
            ):
                sock.sendall(request)
                answer = document(sock.recv(10_000))
                return answer["user"], bool(sock.session_reused), sock.session

        contexts = {name: certificates.client(files[name]) for name in names}
        sessions = {}
        for name in names:
            user, reused, sessions[name] = await trio.to_thread.run_sync(
                connect, contexts[name], None
            )
            assert (user, reused) == (mapped[name], False)
        for name in names:
            user, reused, _ = await trio.to_thread.run_sync(connect, contexts[name], sessions[name])
            assert (user, reused) == (mapped[name], True)
    nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ no certificate at all


@in_time
async def test_without_a_certificate_upstream_judges(certificates, nursery):
    upstream = Upstream(certificates, asks=ssl.CERT_OPTIONAL)
    port = await nursery.start(upstream.serve)
    async with proxy_before(port, upstream={"tls": {"ca": certificates.ca}}) as running:
        for value in AUTHENTICATIONS.values():
            client = await _negotiated(running)
            sent = as_message(value)
            await client.ask(sent)
            assert upstream.seen[-1].frames[1] == sent
            await client.ask(ping("next", 9))
            await client.close()
        client = await _negotiated(running)
        sent = as_message(HELLOS["hello"])
        reply = await client.ask(sent)
        assert upstream.seen[-1].frames[1] == sent
        assert document(reply or b"")["speculativeAuthenticate"]["errmsg"] == "upstream says so"
        await client.close()
    nursery.cancel_scope.cancel()

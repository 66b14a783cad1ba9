from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.addresses import Address
from proxy.errors import ConfigError
from proxy.net.subjects import subject_of
from proxy.net.tls import ListenerTls, UpstreamTls, listener_tls, upstream_tls
from proxy.net.tls_transport import TlsTransport, start_tls
from proxy.settings.config import load


@dataclass(frozen=True)
class Files:
    """Certificates in ``folder``: an authority, one it does not know, and who they certified."""

    folder: Path
    authority: trustme.CA
    unknown: trustme.CA

    def __getattr__(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def issue(self, name: str, *identities: str, by: trustme.CA | None = None) -> Path:
        """Certificate and key in one file."""
        leaf = (by or self.authority).issue_cert(*identities, common_name=name)
        leaf.private_key_and_cert_chain_pem.write_to_path(self.folder / f"{name}.pem")
        return self.folder / f"{name}.pem"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")
    files = Files(folder, trustme.CA(), trustme.CA())
    files.authority.cert_pem.write_to_path(folder / "ca.pem")
    files.unknown.cert_pem.write_to_path(folder / "stranger.pem")
    files.issue("server", "upstream.example", "127.0.0.1", "localhost")
    files.issue("alice", "alice@example.org")
    files.issue("bob", "bob@example.org")
    files.issue("mallory", "mallory@example.org", by=files.unknown)
    leaf = files.authority.issue_cert("localhost")
    leaf.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    (folder / "encrypted.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    (folder / "empty.pem").write_bytes(b"")
    (folder / "garbage.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n")
    return files


def handshake(
    client: ssl.SSLContext, server: ssl.SSLContext, name: str | None = "localhost"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake in memory and one message each way."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    c = client.wrap_bio(to_client, to_server, server_hostname=name)
    s = server.wrap_bio(to_server, to_client, server_side=True)
    steps: list[Callable[[], Any]] = [c.do_handshake, s.do_handshake]
    for _ in range(20):
        for step in steps[:]:
            try:
                step()
            except ssl.SSLWantReadError:
                continue
            steps.remove(step)
        if not steps:
            break
    assert not steps
    # With TLS 1.3 a client learns only now that its certificate was refused.
    s.write(b"hello")
    assert c.read(5) == b"hello"
    return c, s


def server_context(made: Files, *, asks: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server)
    if asks:
        context.load_verify_locations(made.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(made: Files, certificate: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(made.ca))
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


def listening(made: Files, **settings: Any) -> ListenerTls:
    tls = listener_tls(
        load(None, {"listen": {"tls": {"certificate": str(made.server)} | settings}})
    )
    assert tls is not None
    return tls


def dialling(address: str = "upstream.example", **settings: Any) -> UpstreamTls:
    upstream = {"address": address, "tls": settings}
    asks = (
        {
            "tls": {
                "certificate": settings["x509"][0]["certificate"],
                "ca": settings["ca"],
                "client_certificates": "optional",
            }
        }
        if settings.get("x509")
        else {}
    )
    tls = upstream_tls(load(None, {"upstream": upstream, "listen": asks}))
    assert tls is not None
    return tls


# ---------------------------------------------------------------------- clients


def test_no_tls_unless_asked_for() -> None:
    assert listener_tls(load()) is None
    assert upstream_tls(load()) is None
    assert upstream_tls(load(None, {"upstream": {"address": "mongodb://a/?tls=false"}})) is None


def test_a_listener_shows_its_certificate_and_asks_for_none(made: Files) -> None:
    tls = listening(made)
    assert tls.side == "listener"
    client, server = handshake(client_context(made, made.alice), tls.context)
    assert server.getpeercert(True) is None
    assert subject_of(client.getpeercert(True) or b"").startswith("CN=server")


def test_certificate_and_key_may_stand_in_two_files(made: Files) -> None:
    tls = listening(made, certificate=str(made.certificate), key=str(made.key))
    handshake(client_context(made), tls.context)


def test_old_protocols_are_not_spoken(made: Files) -> None:
    assert listening(made).context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert dialling().context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("demand", "shown", "accepted"),
    [
        ("none", None, True),
        ("none", "mallory", True),
        ("optional", None, True),
        ("optional", "alice", True),
        ("optional", "mallory", False),
        ("required", None, False),
        ("required", "alice", True),
        ("required", "mallory", False),
    ],
)
def test_client_certificates(made: Files, demand: str, shown: str | None, accepted: bool) -> None:
    tls = listening(made, ca=str(made.ca), client_certificates=demand)
    client = client_context(made, getattr(made, shown) if shown else None)
    if not accepted:
        with pytest.raises(ssl.SSLError):
            handshake(client, tls.context)
        return
    _, server = handshake(client, tls.context)
    certificate = server.getpeercert(True)
    assert (certificate is not None) is (shown is not None and demand != "none")
    if certificate is not None:
        assert subject_of(certificate).startswith("CN=alice,OU=Testing cert")


def test_a_reload_serves_new_connections(made: Files, tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    own.write_bytes(made.server.read_bytes())
    tls = listening(made, certificate=str(own))
    before = tls.context
    own.write_bytes(made.issue("renewed", "localhost").read_bytes())
    tls.reload()
    assert tls.context is not before
    client, _ = handshake(client_context(made), tls.context)
    assert subject_of(client.getpeercert(True) or b"").startswith("CN=renewed")


@pytest.mark.parametrize("spoiled", [b"", b"-----BEGIN", None])
def test_a_failed_reload_keeps_what_there_was(
    made: Files, tmp_path: Path, spoiled: bytes | None
) -> None:
    own, ca = tmp_path / "own.pem", tmp_path / "ca.pem"
    own.write_bytes(made.server.read_bytes())
    ca.write_bytes(made.ca.read_bytes())
    server = listening(made, certificate=str(own))
    upstream = dialling(ca=str(ca))
    contexts = server.context, upstream.context
    for file in (own, ca):
        if spoiled is None:
            file.unlink()
        else:
            file.write_bytes(spoiled)
    with pytest.raises(ConfigError):
        server.reload()
    with pytest.raises(ConfigError):
        upstream.reload()
    assert (server.context, upstream.context) == contexts
    handshake(client_context(made), server.context)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"certificate": "empty"}, r"^listen\.tls\.certificate: \S*empty\.pem: not usable"),
        ({"certificate": "garbage"}, r"^listen\.tls\.certificate: \S*garbage\.pem: not usable"),
        ({"certificate": "certificate"}, r"^listen\.tls\.certificate: .*not usable"),
        (
            {"certificate": "server", "key": "key"},
            r"^listen\.tls\.certificate: \S*server\.pem and \S*key\.pem: not usable: .*mismatch",
        ),
        ({"certificate": "certificate", "key": "encrypted"}, "the key is encrypted"),
        ({"ca": "empty"}, r"^listen\.tls\.ca: \S*empty\.pem: not usable"),
        ({"ca": "garbage"}, r"^listen\.tls\.ca: "),
        ({"certificate": "certificate", "key": "empty"}, r"^listen\.tls\.key: \S*empty\.pem: "),
        ({"ca": "key"}, r"^listen\.tls\.ca: \S*key\.pem: .* but a private key"),
    ],
)
def test_unusable_files_are_told_with_their_setting(
    made: Files, settings: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as refusal:
        listening(made, **{key: str(getattr(made, name)) for key, name in settings.items()})
    assert len(refusal.value.problems) == 1


# ---------------------------------------------------------------------- upstream


@pytest.mark.parametrize(
    ("settings", "name", "accepted"),
    [
        ({"ca": "ca"}, "upstream.example", True),
        ({"ca": "ca"}, "127.0.0.1", True),
        ({"ca": "ca"}, "other.example", False),
        ({"ca": "ca", "verify_hostname": False}, "other.example", True),
        ({"ca": "stranger"}, "upstream.example", False),
        ({"ca": "stranger", "verify_hostname": False}, "upstream.example", False),
        ({"ca": "stranger", "verify": False}, "other.example", True),
        ({}, "upstream.example", False),
        ({"verify": False}, "other.example", True),
    ],
)
def test_upstream_is_verified_unless_told_otherwise(
    made: Files, settings: dict[str, Any], name: str, accepted: bool
) -> None:
    settings = {k: str(getattr(made, v)) if k == "ca" else v for k, v in settings.items()}
    tls = dialling(name, **settings)
    assert tls.side == "upstream"
    server = server_context(made)
    server_name = tls.server_name(Address(name, 27017))
    if accepted:
        handshake(tls.context, server, server_name)
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(tls.context, server, server_name)


def test_upstream_is_told_by_which_name_it_was_dialled(made: Files) -> None:
    names: list[str | None] = []
    server = server_context(made)
    server.sni_callback = lambda _, name, __: names.append(name)
    for address, settings in (
        (Address("upstream.example", 1), {}),
        (Address("10.9.9.9", 1), {"server_name": "upstream.example"}),
        (Address("127.0.0.1", 1), {}),
        (Address(path="/tmp/x.sock"), {}),
    ):
        tls = dialling(ca=str(made.ca), **settings)
        handshake(tls.context, server, tls.server_name(address))
    assert names == ["upstream.example", "upstream.example", None, "localhost"]


def test_a_member_is_told_its_own_name_before_that_of_all() -> None:
    first = {"upstream": "10.9.9.9:1", "listen": "x:1", "advertise": "p:1", "server_name": "one"}
    second = {"upstream": "10.9.9.8:1", "listen": "x:2", "advertise": "p:2"}
    upstream = {"members": [first, second], "tls": {"server_name": "all"}}
    for uri, others in (("10.9.9.9:1", "all"), ("mongodb://a/?tls=true", "10.9.9.8")):
        if uri.startswith("mongodb"):
            del upstream["tls"]
        tls = upstream_tls(load(None, {"upstream": {**upstream, "address": uri}}))
        assert tls is not None
        assert tls.server_name(Address("10.9.9.9", 1)) == "one"
        assert tls.server_name(Address("10.9.9.8", 1)) == others


def test_the_proxy_s_own_certificate_is_shown_upstream(made: Files) -> None:
    tls = dialling(ca=str(made.ca), certificate=str(made.bob))
    assert tls.shows_certificate
    assert not dialling(ca=str(made.ca)).shows_certificate
    _, server = handshake(tls.context, server_context(made, asks=True))
    assert subject_of(server.getpeercert(True) or b"").startswith("CN=bob")
    assert tls.context_for(b"whatever") is None


def certificate_of(made: Files, name: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(
        next(
            "-----BEGIN CERTIFICATE-----" + part
            for part in getattr(made, name).read_text().split("-----BEGIN CERTIFICATE-----")[1:]
        )
    )


def test_a_mapped_client_is_shown_upstream_as_itself(made: Files) -> None:
    alice = subject_of(certificate_of(made, "alice"))
    tls = dialling(
        ca=str(made.ca),
        certificate=str(made.bob),
        x509=[{"subject": alice.replace(",", ", "), "certificate": str(made.alice)}],
    )
    own = tls.context_for(certificate_of(made, "alice"))
    assert own is not None
    _, server = handshake(own, server_context(made, asks=True))
    assert subject_of(server.getpeercert(True) or b"") == alice
    assert tls.context_for(certificate_of(made, "bob")) is None
    # Who signed it was verified in the handshake; here it is the subject that counts.
    assert tls.context_for(certificate_of(made, "mallory")) is None
    with pytest.raises(ValueError, match="no certificate with a readable subject"):
        tls.context_for(b"\x30\x03garbage")


def test_every_problem_of_a_mapping_is_told_at_once(made: Files) -> None:
    entries = [
        {"subject": "CN=a", "certificate": str(made.alice)},
        {"subject": "alice", "certificate": str(made.alice)},
        {"subject": "cn=a", "certificate": str(made.alice)},
        {"subject": "CN=b", "certificate": str(made.alice), "key": str(made.key)},
    ]
    with pytest.raises(ConfigError) as refusal:
        dialling(ca=str(made.empty), x509=entries)
    assert [problem.split(": ")[0] for problem in refusal.value.problems] == [
        "upstream.tls.ca",
        "upstream.tls.x509[1].subject",
        "upstream.tls.x509[2].subject",
    ]
    with pytest.raises(ConfigError, match=r"x509\[0\]\.certificate: .*mismatch"):
        dialling(ca=str(made.ca), x509=entries[3:])


def test_the_uri_s_options_do_the_same_as_the_settings(made: Files) -> None:
    uri = (
        f"mongodb://upstream.example/?tls=true&tlsCAFile={made.ca}"
        f"&tlsCertificateKeyFile={made.bob}&tlsAllowInvalidHostnames=true"
    )
    tls = upstream_tls(load(None, {"upstream": {"address": uri}}))
    assert tls is not None
    assert tls.shows_certificate
    assert not tls.context.check_hostname
    _, server = handshake(tls.context, server_context(made, asks=True), "other.example")
    assert subject_of(server.getpeercert(True) or b"").startswith("CN=bob")


def test_an_unusable_file_in_the_uri_is_told(made: Files) -> None:
    for uri in (
        f"mongodb://a/?tlsCAFile={made.folder}/missing.pem",
        f"mongodb://a/?tlsCertificateKeyFile={made.empty}",
    ):
        with pytest.raises(ConfigError, match=r"(missing|empty)\.pem: "):
            upstream_tls(load(None, {"upstream": {"address": uri}}))


def test_tls_files_are_named_in_one_place(made: Files) -> None:
    settings = {"address": "mongodb://a/?tls=true", "tls": {"ca": str(made.ca)}}
    assert upstream_tls(load(None, {"upstream": settings})) is not None
    settings["address"] = "mongodb://a/?tlsInsecure=true"
    with pytest.raises(ConfigError, match="in one place"):
        upstream_tls(load(None, {"upstream": settings}))


# ---------------------------------------------------------------------- sessions


async def resumed(tls: UpstreamTls, server: ssl.SSLContext, at: str = "a", **more: Any) -> bool:
    """Connect, exchange a message, and close; whether that went on with an earlier session."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    ends: list[TlsTransport] = []

    async def serve() -> None:
        ends.append(await start_tls(other, server, server_side=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        client = await tls.start(one, Address(at, 1), **more)
    ends[0].send_now(b"hello")
    assert await client.each(lambda _: None, lambda: False)
    client.close()
    assert await ends[0].receive() == b""
    ends[0].close()
    return client.resumed


async def test_sessions_with_upstream_go_on(made: Files) -> None:
    server, other = server_context(made), server_context(made)
    tls = dialling(ca=str(made.ca), verify_hostname=False)
    assert not await resumed(tls, server)
    assert await resumed(tls, server)
    assert await resumed(tls, server)
    # Nobody else's: another member has its own, and a server that does not know it begins anew.
    assert not await resumed(tls, server, "b")
    assert not await resumed(tls, other)
    assert await resumed(tls, other)


async def test_a_session_ends_with_the_certificates_it_began_with(made: Files) -> None:
    server = server_context(made, asks=True)
    alice = subject_of(certificate_of(made, "alice"))
    tls = dialling(
        ca=str(made.ca),
        certificate=str(made.bob),
        verify_hostname=False,
        x509=[{"subject": alice, "certificate": str(made.alice)}],
    )
    own = tls.context_for(certificate_of(made, "alice"))
    assert own is not None
    assert not await resumed(tls, server)
    assert not await resumed(tls, server, context=own)
    assert await resumed(tls, server, context=own)
    assert await resumed(tls, server)
    tls.reload()
    assert not await resumed(tls, server)
    # A connection that was begun before the reload leaves nothing behind.
    assert not await resumed(tls, server, context=own)
    assert not await resumed(tls, server, context=own)


async def test_sessions_with_members_that_come_and_go_are_not_kept_for_ever(
    made: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.net.tls._MOST_SESSIONS", 2)
    server = server_context(made)
    tls = dialling(ca=str(made.ca), verify_hostname=False)
    for name in ("a", "b", "c"):
        assert not await resumed(tls, server, name)
    assert len(tls._sessions) == 1
    assert await resumed(tls, server, "c")


@pytest.mark.parametrize("name", ["upstream.example", "127.0.0.1"])
async def test_whom_a_client_means(made: Files, name: str) -> None:
    """Numbers are no names: TLS does not say them."""
    listener = listener_tls(load(None, {"listen": {"tls": {"certificate": str(made.server)}}}))
    upstream = upstream_tls(load(None, {"upstream": {"tls": {"ca": str(made.ca)}}}))
    assert listener is not None
    assert upstream is not None
    ours, theirs = socket.socketpair()
    found: list[TlsTransport] = []

    async def serve() -> None:
        found.append(await start_tls(ours, listener.context, server_side=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        found.append(await upstream.start(theirs, Address("10.0.0.5", 27017), name=name))
    by_side = {one.server_name for one in found}
    for one in found:
        one.close()
    assert by_side == {"", name} - {"127.0.0.1"}

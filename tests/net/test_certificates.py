from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy.errors import ConfigError
from proxy.net import certificates
from proxy.net.tls import listener_tls
from proxy.settings.config import Config, load

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime.datetime(2030, 6, 1, tzinfo=datetime.UTC)
TIME = NOW.timestamp()


def pem(
    name: str, days: float, since: float = -100.0, names: Sequence[x509.GeneralName] = ()
) -> bytes:
    """A certificate that ends in so many days from ``NOW``, and began so many from it."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(NOW + datetime.timedelta(days=since))
        .not_valid_after(NOW + datetime.timedelta(days=days))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


LOOPBACK = (x509.IPAddress(ipaddress.ip_address("127.0.0.1")),)
OWN_KEY = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def configured(folder: Path, files: dict[str, bytes], **tables: Any) -> Config:
    for name, content in files.items():
        (folder / name).write_bytes(content)

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: placed(one) for key, one in value.items()}
        if isinstance(value, list):
            return [placed(one) for one in value]
        return str(folder / value) if value in files else value

    return load(None, placed(tables))


def told(config: Config) -> list[str]:
    return certificates.warnings(config, TIME)


@pytest.mark.parametrize(
    ("days", "since", "words"),
    [
        (22, -1, ""),
        (21.5, -1, ""),
        (20.9, -1, "expires on 2030-06-21 21:36 UTC, in 20 days"),
        (1.5, -1, "expires on 2030-06-02 12:00 UTC, in 1 day"),
        (0.5, -1, "expires on 2030-06-01 12:00 UTC, in less than a day"),
        (-0.5, -1, "expired on 2030-05-31 12:00 UTC, less than a day ago"),
        (-30, -60, "expired on 2030-05-02 00:00 UTC, 30 days ago"),
        (30, 2, "is not valid before 2030-06-03 00:00 UTC"),
        (3, 2, "is not valid before 2030-06-03 00:00 UTC"),
    ],
)
def test_times(tmp_path: Path, days: float, since: float, words: str) -> None:
    files = {"own.pem": pem("own", days, since, LOOPBACK)}
    config = configured(tmp_path, files, listen={"tls": {"certificate": "own.pem"}})
    said = f"listen.tls.certificate: {tmp_path}/own.pem: {words}"
    assert told(config) == ([said] if words else [])


def test_every_certificate_of_both_legs(tmp_path: Path) -> None:
    files = {
        "server.pem": pem("server", 300, names=LOOPBACK) + pem("between", 5) + OWN_KEY,
        "clients.pem": pem("old", -3) + pem("new", 1_000),
        "own.pem": pem("own", 2) + pem("between", 3),
        "alice.pem": pem("alice", 4),
        "bob.pem": pem("bob", 400),
        "upstream.pem": pem("authority", 6),
    }
    config = configured(
        tmp_path,
        files,
        listen={
            "tls": {
                "certificate": "server.pem",
                "ca": "clients.pem",
                "client_certificates": "required",
            }
        },
        upstream={
            "tls": {
                "certificate": "own.pem",
                "ca": "upstream.pem",
                "x509": [
                    {"subject": "CN=a", "certificate": "bob.pem"},
                    {"subject": "CN=b", "certificate": "alice.pem"},
                ],
            }
        },
    )
    found = [*certificates.of_clients(config).all, *certificates.of_upstream(config).all]
    assert [(one.side, one.role, one.name, round((one.ends - TIME) / 86_400)) for one in found] == [
        ("listener", "server", "CN=server", 300),
        ("listener", "chain", "CN=between", 5),
        ("listener", "ca", "CN=old", -3),
        ("listener", "ca", "CN=new", 1_000),
        ("upstream", "client", "CN=own", 2),
        ("upstream", "chain", "CN=between", 3),
        ("upstream", "x509", "CN=bob", 400),
        ("upstream", "x509", "CN=alice", 4),
        ("upstream", "ca", "CN=authority", 6),
    ]
    assert [text.partition(" on ")[0].replace(f"{tmp_path}/", "") for text in told(config)] == [
        "listen.tls.certificate: server.pem: CN=between expires",
        "listen.tls.ca: clients.pem: CN=old expired",
        "upstream.tls.certificate: own.pem: expires",
        "upstream.tls.certificate: own.pem: CN=between expires",
        "upstream.tls.x509[1].certificate: alice.pem: expires",
        "upstream.tls.ca: upstream.pem: CN=authority expires",
    ]


def test_files_that_a_uri_names_count_too(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(pem("authority", 6))
    uri = f"mongodb://a/?tls=true&tlsCAFile={tmp_path}/ca.pem"
    [text] = told(load(None, {"upstream": {"address": uri}}))
    assert text.startswith(f"upstream.tls.ca: {tmp_path}/ca.pem: CN=authority expires")


def test_no_tls_has_nothing_to_be_said_of() -> None:
    assert told(load()) == []


@pytest.mark.parametrize("content", [b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_cannot_be_read_is_said(tmp_path: Path, content: bytes) -> None:
    config = configured(tmp_path, {"a.pem": content}, listen={"tls": {"certificate": "a.pem"}})
    [text] = told(config)
    assert text.startswith(f"listen.tls.certificate: {tmp_path}/a.pem: nothing can be said of it")


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


@pytest.mark.parametrize(
    ("names", "tables", "missing"),
    [
        (LOOPBACK, {}, []),
        (dns("localhost"), {}, ["127.0.0.1, which listen.address"]),
        ((), {}, ["127.0.0.1, which listen.address"]),
        (dns("localhost"), {"listen": {"address": "LocalHost:1"}}, []),
        (dns("other"), {"listen": {"address": "0.0.0.0:1"}}, []),
        (dns("other"), {"listen": {"address": "[::]:1"}}, []),
        (dns("other"), {"listen": {"address": "/tmp/x.sock"}}, []),
        (dns("db.example.net"), {"listen": {"advertise": "db.example.net"}}, []),
        (dns("*.example.net"), {"listen": {"advertise": "db.Example.net"}}, []),
        (
            dns("*.example.net"),
            {"listen": {"advertise": "a.db.example.net"}},
            ["a.db.example.net, which listen.advertise"],
        ),
        (dns("*.net"), {"listen": {"advertise": "net"}}, ["net, which listen.advertise"]),
        (dns("xn--mnchen-3ya.de"), {"listen": {"advertise": "münchen.de"}}, []),
        # Drivers look at no common name.
        ((), {"listen": {"advertise": "own"}}, ["own, which listen.advertise"]),
        (
            [*dns("a.example.net"), x509.IPAddress(ipaddress.ip_address("::1"))],
            {
                "upstream": {
                    "members": [
                        {"upstream": "m1:1", "listen": "0.0.0.0:1", "advertise": "a.example.net:1"},
                        {"upstream": "m2:1", "listen": "0.0.0.0:2", "advertise": "b.example.net:2"},
                        {"upstream": "m3:1", "listen": "0.0.0.0:3", "advertise": "[0:0::1]:3"},
                    ]
                }
            },
            ["b.example.net, which upstream.members[1].advertise"],
        ),
    ],
)
def test_hosts_that_clients_are_told(
    tmp_path: Path,
    names: Sequence[x509.GeneralName],
    tables: dict[str, Any],
    missing: list[str],
) -> None:
    files = {"own.pem": pem("own", 300, names=names)}
    listen = {**tables.get("listen", {}), "tls": {"certificate": "own.pem"}}
    config = configured(tmp_path, files, **{**tables, "listen": listen})
    start = f"listen.tls.certificate: {tmp_path}/own.pem: does not name "
    found = told(config)
    assert [text.removeprefix(start).partition(" gives")[0] for text in found] == missing
    shown = [str(name.value) for name in names]
    assert all(f"names {', '.join(shown) or 'nothing'})" in text for text in found)


def test_a_key_that_belongs_elsewhere_is_an_error_in_words(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    tls = {"certificate": "a.pem", "key": "b.pem"}
    config = configured(tmp_path, {"a.pem": pem("a", 9), "b.pem": other}, listen={"tls": tls})
    with pytest.raises(ConfigError, match="the key does not belong to the certificate"):
        listener_tls(config)

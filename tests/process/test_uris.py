"""What is printed for people to connect with."""

from __future__ import annotations

import pytest

from proxy.process.uris import pasted
from proxy.settings.config import load

A, B = "127.0.0.1:27018", "127.0.0.1:27019"
MEMBERS = [
    {"upstream": "a:1", "listen": "0.0.0.0:1", "advertise": "proxy:1"},
    {"upstream": "b:1", "listen": "0.0.0.0:2", "advertise": "Proxy:2"},
]


@pytest.mark.parametrize(
    ("settings", "addresses", "expected"),
    [
        ({}, [A], f"{A}/"),
        ({}, [A, B], f"{A},{B}/"),
        ({}, ["[::1]:1"], "[::1]:1/"),
        ({}, ["[fe80::1%eth0]:1"], "[fe80::1%25eth0]:1/"),
        ({"embedded": {}}, [A], f"{A}/?replicaSet=embedded"),
        (
            {"upstream": {"address": "mongodb://a,b/?replicaSet=rs%2B0"}},
            [A, B],
            f"{A},{B}/?replicaSet=rs%2B0",
        ),
        (
            {"listen": {"advertise": "Proxy.Example"}},
            [A, B],
            "Proxy.Example:27018,Proxy.Example:27019/",
        ),
        ({"listen": {"advertise": "::1"}}, [A], "[::1]:27018/"),
        ({"upstream": {"members": MEMBERS}}, [A, B], "proxy:1,proxy:2/"),
        # One address of a set whose hello names others.
        ({"upstream": {"hello": "pass"}}, [A], f"{A}/?directConnection=true"),
        ({"upstream": {"hello": "pass"}}, [A, B], f"{A},{B}/"),
        (
            {"upstream": {"address": "mongodb://a/?directConnection=true&replicaSet=rs"}},
            [A],
            f"{A}/?directConnection=true",
        ),
        (
            {"embedded": {}},
            ["/run/a b/+,@:ä.sock"],
            "%2Frun%2Fa%20b%2F%2B%2C%40%3A%C3%A4.sock/?directConnection=true",
        ),
        (
            {"upstream": {"members": MEMBERS}},
            ["/a.sock", "/b.sock"],
            "%2Fa.sock/?directConnection=true",
        ),
    ],
)
def test_it_works_as_it_is(settings, addresses, expected):
    assert pasted(load(None, settings), addresses) == f"mongodb://{expected}"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (A, f"{A}/?tls=true"),
        ("/a.sock", "%2Fa.sock/?directConnection=true&tls=true&tlsAllowInvalidHostnames=true"),
    ],
)
def test_behind_tls(tmp_path, address, expected):
    certificate = tmp_path / "proxy.pem"
    certificate.touch()
    config = load(None, {"listen": {"tls": {"certificate": str(certificate)}}})
    assert pasted(config, [address]) == f"mongodb://{expected}"

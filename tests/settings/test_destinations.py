from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any

import pytest

from proxy.errors import ConfigError
from proxy.settings.config import load, plain, restored
from proxy.settings.destinations import PRIVATE, parse_range


@pytest.mark.parametrize(
    ("text", "host", "port", "expected"),
    [
        ("10.0.0.0/8:27017", "10.1.2.3", 27017, True),
        ("10.0.0.0/8:27017", "10.1.2.3", 27018, False),
        ("10.0.0.0/8:27017", "11.1.2.3", 27017, False),
        ("10.0.0.0/8:27017-27019", "10.1.2.3", 27019, True),
        ("10.0.0.0/8:27017-27019", "10.1.2.3", 27020, False),
        ("10.1.2.3:27017", "10.1.2.3", 27017, True),
        ("10.1.2.3:27017", "10.1.2.4", 27017, False),
        ("0.0.0.0/0:1-65535", "192.0.2.1", 65535, True),
        ("0.0.0.0/0:1-65535", "fd00::1", 1, False),
        ("[fc00::/7]:27017", "fd00::1", 27017, True),
        ("[fd00::1]:27017", "fd00::1", 27017, True),
        ("[fd00::1]:27017", "10.0.0.1", 27017, False),
    ],
)
def test_what_a_range_holds(text: str, host: str, port: int, expected: bool) -> None:
    assert parse_range(text).holds(ip_address(host), port) is expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not NETWORK:PORTS"),
        ("10.0.0.0/8", "not NETWORK:PORTS"),
        ("10.0.0.0/8:", "'' is no port"),
        ("10.0.0.0/8:0", "'0' is no port"),
        ("10.0.0.0/8:65536", "'65536' is no port"),
        ("10.0.0.0/8:9" + "9" * 100, "is no port"),
        ("10.0.0.0/8:-5", "'' is no port"),
        ("10.0.0.0/8:\u0665", "is no port"),
        ("10.0.0.0/8:5-", "'' is no port"),
        ("10.0.0.0/8:27019-27017", "no port is from 27019 to 27017"),
        ("10.0.0.1/8:27017", "has host bits set"),
        ("db.example:27017", "does not appear to be"),
        ("fd00::1:27017", "has to stand in brackets"),
        ("[fd00::1:27017", "has to stand in brackets"),
    ],
)
def test_what_is_no_range(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse_range(text)


def test_loopback_and_what_is_public_have_to_be_named() -> None:
    default = [parse_range(text) for text in PRIVATE]
    for host, expected in (
        ("10.0.0.1", True),
        ("172.20.0.1", True),
        ("192.168.1.1", True),
        ("fd00::1", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("169.254.169.254", False),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ):
        assert any(one.holds(ip_address(host), 27017) for one in default) is expected, host
    assert not any(one.holds(ip_address("10.0.0.1"), 22) for one in default)


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ({"listen": {"destinations": ["x"]}}, "listen.destinations[0]: 'x' is not NETWORK:PORTS"),
        ({"listen": {"address": "/run/a.sock"}}, "needs host:port for an address"),
        ({"listen": {"advertise": "db.example"}}, "leaves hello alone: advertise has no effect"),
        ({"listen": {"primary": "127.0.0.1:1"}}, "and primary exclude each other"),
        ({"upstream": {"hello": "rewrite"}}, "upstream.hello has to be pass"),
        ({"embedded": {}}, "and embedded exclude each other"),
        (
            {
                "upstream": {
                    "members": [
                        {"upstream": "a:1", "listen": "127.0.0.1:1", "advertise": "b.example:1"}
                    ]
                }
            },
            "needs no upstream.members",
        ),
    ],
)
def test_what_redirection_excludes(tables: dict[str, Any], problem: str) -> None:
    tables = tables | {"listen": {"mode": "redirect"} | tables.get("listen", {})}
    with pytest.raises(ConfigError) as raised:
        load(None, tables)
    assert problem in str(raised.value)


def test_seeds_are_those_that_are_named() -> None:
    redirected = load(None, {"listen": {"mode": "redirect"}})
    assert redirected.seeds == restored(plain(redirected)).seeds == ()
    assert not redirected.rewrites
    named = load(
        None, {"listen": {"mode": "tproxy"}, "upstream": {"address": "a:1", "hello": "pass"}}
    )
    assert [str(seed) for seed in named.seeds] == ["a:1"]
    assert [str(seed) for seed in load(None).seeds] == ["127.0.0.1:27017"]
    assert load(None).rewrites

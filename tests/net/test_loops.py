from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from proxy.addresses import parse_address
from proxy.net import loops
from proxy.settings.config import load

HERE = socket.gethostname()


@pytest.mark.parametrize(
    ("upstream", "listener", "expected"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("127.0.0.1:1", "0.0.0.0:1", True),
        ("127.0.0.9:1", "0.0.0.0:1", True),
        ("127.0.0.9:1", "127.0.0.1:1", False),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("0.0.0.0:1", "0.0.0.0:1", True),
        ("[::]:1", "[::1]:1", True),
        ("[::1]:1", "[::]:1", True),
        ("[::1]:1", "0.0.0.0:1", False),
        ("[::1]:1", "*:1", True),
        ("127.0.0.1:1", "*:1", True),
        ("127.0.0.1:1", "[::]:1", False),
        ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", True),
        ("localhost:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "localhost:1", True),
        (f"{HERE}:1", "0.0.0.0:1", True),
        ("192.0.2.1:1", "0.0.0.0:1", False),
        ("no-such-name.invalid:1", "0.0.0.0:1", False),
        ("no-such-name.invalid:1", "no-such-name.invalid:1", True),
        ("/run/a.sock", "/run/a.sock", True),
        ("/run/../run/a.sock", "/run/a.sock", True),
        ("/run/b.sock", "/run/a.sock", False),
        ("/run/a.sock", "127.0.0.1:1", False),
        ("127.0.0.1:1", "/run/a.sock", False),
    ],
)
def test_where_an_address_leads(
    upstream: str, listener: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo

    def known(host: str, *arguments: Any, **how: Any) -> Any:
        if host.endswith(".invalid"):
            raise socket.gaierror
        return look_up("127.0.1.1" if host == HERE else host, *arguments, **how)

    monkeypatch.setattr(socket, "getaddrinfo", known)
    assert loops.leads_to(parse_address(upstream), parse_address(listener)) is expected


def test_a_link_to_a_socket_is_the_socket(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a.sock")
    one, other = (parse_address(str(tmp_path / name)) for name in ("link", "a.sock"))
    assert loops.leads_to(one, other)


def member(upstream: str, listen: str) -> dict[str, str]:
    return {"upstream": upstream, "listen": listen, "advertise": f"db.example:{len(upstream)}"}


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (
            {"listen": {"primary": "0.0.0.0:1"}, "upstream": {"address": "127.0.0.1:1"}},
            [
                "upstream.address: 127.0.0.1:1 is the proxy's own listener (listen.primary),"
                " so that it would be its own upstream"
            ],
        ),
        ({}, []),
        (
            {"listen": {"address": "0.0.0.0:7"}, "upstream": {"address": "127.0.0.1:7"}},
            [
                "upstream.address: 127.0.0.1:7 is the proxy's own listener (listen.address),"
                " so that it would be its own upstream"
            ],
        ),
        (
            {
                "listen": {"address": "0.0.0.0:7"},
                "upstream": {"address": "mongodb://127.0.0.1:8,127.0.0.1:7"},
            },
            [
                "upstream.address: 127.0.0.1:7 is the proxy's own listener (listen.address),"
                " so that it would be its own upstream"
            ],
        ),
        (
            {"upstream": {"address": "localhost:27080"}},
            [
                "upstream.address: localhost:27080 is the proxy's own admin endpoint"
                " (admin.address), so that it would be its own upstream"
            ],
        ),
        (
            {"listen": {"address": "0.0.0.0:27080"}},
            ["listen.address: 0.0.0.0:27080 is where the admin endpoint is (admin.address)"],
        ),
        (
            {
                "upstream": {
                    "members": [
                        member("127.0.0.1:1", "127.0.0.1:11"),
                        member("127.0.0.1:11", "0.0.0.0:27080"),
                    ]
                }
            },
            [
                "upstream.members[1].upstream: 127.0.0.1:11 is the proxy's own listener"
                " (upstream.members[0].listen), so that it would be its own upstream",
                "upstream.members[1].listen: 0.0.0.0:27080 is where the admin endpoint is"
                " (admin.address)",
            ],
        ),
        # Whom the embedded upstream stands for is nobody.
        ({"listen": {"address": "127.0.0.1:27017"}, "embedded": {}}, []),
        ({"listen": {"address": "/run/a.sock"}, "upstream": {"address": "/run/b.sock"}}, []),
    ],
)
def test_what_settings_tell(tables: dict[str, Any], expected: list[str]) -> None:
    assert loops.problems(load(None, tables)) == expected

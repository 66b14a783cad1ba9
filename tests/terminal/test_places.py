from __future__ import annotations

import socket
from typing import Any

import pytest

from proxy.terminal.places import Place, all_places, place_of, resolved, told_apart


@pytest.mark.parametrize(
    ("text", "place", "shown"),
    [
        ("proxy", Place("proxy", 27080), "proxy:27080"),
        ("proxy:1", Place("proxy", 1), "proxy:1"),
        ("[::1]:1", Place("::1", 1), "[::1]:1"),
        ("http://proxy", Place("proxy", 80), "proxy:80"),
        ("http://proxy:27080/", Place("proxy", 27080), "proxy:27080"),
        ("https://ops.example", Place("ops.example", 443, True), "https://ops.example:443"),
        (
            "HTTPS://Ops.example:8443/proxy-a/",
            Place("ops.example", 8443, True, "/proxy-a"),
            "https://ops.example:8443/proxy-a",
        ),
    ],
)
def test_a_place_is_named_by_address_or_url(text: str, place: Place, shown: str) -> None:
    assert place_of(text) == place
    assert str(place) == shown


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "a b",
            "/run/x.sock",
            "h:99999",
            "ftp://h",
            "http://",
            "http://u:p@h",
            "http://h?x=1",
        ),
        *("https://h/#x", "http://h:x"),
    ],
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"host|HOST|port|URL"):
        place_of(text)


def test_several_are_each_there_once() -> None:
    found = list(all_places(["a,b:1", " a:27080 ", "c"]))
    assert found == [Place("a", 27080), Place("b", 1), Place("c", 27080)]
    with pytest.raises(ValueError, match="has no host"):
        list(all_places(["a,,b"]))


@pytest.mark.parametrize(
    ("addresses", "ips"),
    [
        (["10.0.0.2", "10.0.0.1", "10.0.0.2"], ["10.0.0.1", "10.0.0.2"]),
        (["10.0.0.1"], [""]),
        (["127.0.0.1", "::1"], [""]),
        (["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"], ["10.0.0.1", "10.0.0.2"]),
        (["fd00::1", "fd00::2"], ["fd00::1", "fd00::2"]),
        ([], [""]),
    ],
)
def test_a_name_is_that_of_one_machine_or_of_several(
    addresses: list[str], ips: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        assert (host, port) == ("proxies", 27080)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kinds = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(kinds[":" in one], 1, 6, "", (one, port)) for one in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    found = resolved(place_of("proxies"))
    assert [one.ip for one in found] == ips
    assert {one.named for one in found} == {"proxies:27080"}
    if ips[0]:
        assert str(found[0]) in ("10.0.0.1:27080", "[fd00::1]:27080")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["127.0.0.1:27080", "127.0.0.1:27090"], [":27080", ":27090"]),
        (["10.0.0.5:27080", "10.0.0.6:27080"], ["10.0.0.5", "10.0.0.6"]),
        (["[::1]:27080", "[::2]:27080"], ["[::1]", "[::2]"]),
        (["p1.eu.example.net:1", "p2.us.example.net:1"], ["p1.eu", "p2.us"]),
        (["p1.example.net:1", "p2.example.net:2"], ["p1:1", "p2:2"]),
        (["a.b:1", "b:1"], ["a.b", "b"]),
        (["p1:1", "2 proxies", "p2:1"], ["p1", "2 proxies", "p2"]),
        (["p1:1", "p1:1", ""], ["p1:1", "p1:1", ""]),
        (["https://p1/x:1", "p1:1"], ["https://p1/x:1", "p1:1"]),
    ],
)
def test_addresses_are_told_apart_by_what_differs(given: list[str], said: list[str]) -> None:
    assert told_apart(given) == said

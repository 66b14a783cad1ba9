from __future__ import annotations

import socket
import struct
from typing import Any, cast

import pytest

from proxy.addresses import Address
from proxy.errors import NotDialledError
from proxy.net import redirected
from proxy.net.redirected import Redirection, original_destination
from proxy.settings.config import load
from proxy.settings.listen import Listen


class Accepted:
    """A socket as the kernel has made it; ``original`` None is one that it does not know."""

    def __init__(self, own: tuple[str, int], original: tuple[str, int] | None = None) -> None:
        self.family = socket.AF_INET6 if ":" in own[0] else socket.AF_INET
        self._own = own
        self._original = original
        self.asked: list[int] = []

    def getsockname(self) -> tuple[Any, ...]:
        return (*self._own, 0, 0) if self.family == socket.AF_INET6 else self._own

    def getsockopt(self, level: int, _option: int, size: int) -> bytes:
        self.asked.append(level)
        if self._original is None:
            raise FileNotFoundError(2, "No such file or directory")
        host, port = self._original
        packed = socket.inet_pton(self.family, host)
        if self.family == socket.AF_INET6:
            return struct.pack("=H2sI16sI", self.family, port.to_bytes(2, "big"), 0, packed, 0)[
                :size
            ]
        return struct.pack("=H2s4s8x", self.family, port.to_bytes(2, "big"), packed)[:size]


def destination(mode: Any, accepted: Accepted, listener: int = 27018) -> Address:
    return Redirection(Listen(mode=mode)).destination(cast("socket.socket", accepted), listener)


@pytest.mark.parametrize(
    ("own", "original"),
    [
        (("127.0.0.1", 27018), ("10.0.0.5", 27017)),
        (("127.0.0.1", 27018), ("10.0.0.5", 27018)),
        (("::1", 27018), ("fd00::5", 27019)),
    ],
)
def test_redirected_connections_lead_where_they_were_to_go(
    own: tuple[str, int], original: tuple[str, int]
) -> None:
    accepted = Accepted(own, original)
    assert original_destination(cast("socket.socket", accepted)) == original
    assert destination("redirect", accepted) == Address(*original)


def test_transparent_ones_are_bound_to_it() -> None:
    accepted = Accepted(("10.0.0.5", 27017))
    assert destination("tproxy", accepted) == Address("10.0.0.5", 27017)
    assert destination("tproxy", Accepted(("10.0.0.5", 27018))) == Address("10.0.0.5", 27018)
    assert not accepted.asked


@pytest.mark.parametrize(
    ("mode", "accepted", "problem"),
    [
        # Without redirection the kernel knows no other destination, or none at all.
        ("redirect", Accepted(("127.0.0.1", 27018), ("127.0.0.1", 27018)), "takes connections"),
        ("redirect", Accepted(("127.0.0.1", 27018)), "takes connections that are redirected"),
        ("redirect", Accepted(("::1", 27018), ("::1", 27018)), "[::1]:27018 takes connections"),
        ("tproxy", Accepted(("127.0.0.1", 27018)), "takes connections that are redirected"),
        (
            "redirect",
            Accepted(("127.0.0.1", 27018), ("192.0.2.7", 27017)),
            "192.0.2.7:27017 is none",
        ),
        ("redirect", Accepted(("127.0.0.1", 27018), ("10.0.0.5", 22)), "10.0.0.5:22 is none of"),
        ("redirect", Accepted(("127.0.0.1", 27018), ("127.0.0.1", 27017)), "listen.destinations"),
        ("tproxy", Accepted(("192.0.2.7", 27017)), "192.0.2.7:27017 is none of"),
    ],
)
def test_what_is_refused(mode: str, accepted: Accepted, problem: str) -> None:
    with pytest.raises(NotDialledError) as raised:
        destination(mode, accepted)
    assert raised.value.error.code == 6
    assert problem in raised.value.error.errmsg


def test_what_the_process_may_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = load(None, {"listen": {"mode": "tproxy"}, "upstream": {"socket_mark": 7}})
    assert redirected.problems(load(None)) == []

    def refuse(_sock: object, *_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    class Probe(socket.socket):
        setsockopt = refuse  # type: ignore[assignment]

    monkeypatch.setattr(socket, "socket", Probe)
    assert redirected.problems(load(None)) == []
    assert redirected.problems(wanted) == [
        "upstream.socket_mark: Operation not permitted: it takes CAP_NET_ADMIN",
        "listen.mode: tproxy: Operation not permitted: it takes CAP_NET_ADMIN",
    ]

"""Who may send a header, and what is read of it and behind it."""

from __future__ import annotations

import socket

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.net.proxied import NobodyError, NotServedError, Senders
from proxy.settings.listen import Listen
from proxy.wire.proxy_header import LONGEST, header_for


@pytest.mark.parametrize(
    ("peer", "may"),
    [
        ("10.1.2.3:50001", True),
        ("11.1.2.3:50001", False),
        ("[2001:db8::1]:50001", True),
        ("[2001:db9::1]:50001", False),
        ("[fe80::1%eth0]:50001", True),
        ("127.0.0.1:50001", False),
        ("unix", True),
    ],
)
def test_only_those_that_are_named_may_send(peer: str, may: bool) -> None:
    networks = ("10.0.0.0/8", "2001:db8::/32", "fe80::/10")
    assert Senders(Listen(proxy_protocol_from=networks)).may_send(peer) is may


@settings(max_examples=30)
@given(st.binary(max_size=300), st.integers(1, 200), st.booleans())
def test_whatever_comes_is_taken_or_refused_and_bounded(
    data: bytes, cut: int, required: bool
) -> None:
    header = header_for(None, None)
    mode = "require" if required else "accept"
    for begun in (data, header[:cut] + data, b"PROXY TCP4 " + data):
        trio.run(_receive, Senders(Listen.model_validate({"proxy_protocol": mode})), begun)


async def _receive(senders: Senders, data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.close()
        try:
            header, rest = await senders.receive(ours, "127.0.0.1:1")
        except NobodyError:
            assert not data
        except NotServedError:
            pass
        else:
            assert data[(header.size if header else 0) :].startswith(rest)
            assert len(rest) <= LONGEST

"""Peers that speak something else are told of, once, and nobody dials for them."""

from __future__ import annotations

import pytest

from tests.build import command
from tests.rig import FIRST, ONE, rigged

HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"
ALERT = bytes.fromhex("15030100020246")


@pytest.mark.parametrize(
    ("says", "protocol"),
    [
        (b"POST / HTTP/1.1\r\n", "HTTP"),
        (b"PROXY UNKNOWN\r\n", "PROXY protocol"),
        (bytes.fromhex("1603010200"), "TLS"),
    ],
)
async def test_for_a_client_of_another_protocol_nobody_is_dialled(
    says: bytes, protocol: str
) -> None:
    async with rigged() as rig:
        rig.client.feed(says)
        await rig.ended("client")
        assert [one[:2] for one in rig.observer.only("foreign")] == [("client", protocol)]
        assert rig.dialled == 0


async def test_what_comes_in_pieces_is_known_when_its_length_is() -> None:
    async with rigged() as rig:
        rig.client.feed(b"GE", b"T / HTTP/1.1\r\n")
        await rig.ended("client framing: message length 542393671 is out of range: this is HTTP")
        assert [one[:2] for one in rig.observer.only("foreign")] == [("client", "HTTP")]


@pytest.mark.parametrize(
    ("says", "protocol", "reason"),
    [
        (HTTP, "HTTP", "upstream framing: message length 1347703880 is out of range: this is HTTP"),
        (ALERT, "TLS", "upstream: message length 66325 is out of range: this is TLS"),
    ],
)
async def test_an_upstream_of_another_protocol(says: bytes, protocol: str, reason: str) -> None:
    async with rigged() as rig:
        assert await rig.says(ONE) == ONE
        rig.upstream.feed(says)
        await rig.ended(reason)
        assert [one[:2] for one in rig.observer.only("foreign")] == [("upstream", protocol)]


async def test_an_upstream_that_closes_is_told_of_only_if_it_never_answered() -> None:
    async with rigged() as rig:
        assert await rig.says(ONE) == ONE
        rig.upstream.feed(b"")
        await rig.ended("upstream closed: without an answer")
        assert [one[:2] for one in rig.observer.only("foreign")] == [("upstream", "nothing")]
    async with rigged() as rig:
        await rig.says(ONE)
        await rig.answers(FIRST)
        assert await rig.says(command({"ping": 1, "$db": "admin"}, 3))
        rig.upstream.feed(b"")
        await rig.ended("upstream closed")
        assert not rig.observer.only("foreign")

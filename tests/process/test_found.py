"""What the old process makes of what it is told."""

from __future__ import annotations

import json
import socket

import pytest
import trio

from proxy.process.found import Found, origin_of
from proxy.process.reads import Reading
from proxy.session.ids import Origin
from tests.patience import until

SHOP, BANK = Origin("10.0.0.1", "shop", "Go", "2"), Origin("10.0.0.2", "bank")


async def test_an_older_version_does_not_say_how_many_wait(ends):
    ours, theirs = ends
    found = Found()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.hear, ours)
        theirs.send(json.dumps({"found": [["", list(SHOP)]]}).encode())
        await until(lambda: found.since("", SHOP, 0.0, 7))
        nursery.cancel_scope.cancel()


async def test_what_a_newer_version_says_beside_that_is_not_for_this_one(ends):
    ours, theirs = ends
    found = Found()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.hear, ours)
        more = {"found": [["", [*SHOP, "and more"]]], "waiting": [1]}
        for odd in ({"news": 1}, ["found"], more, {"number": 0}, {"found": 5}):
            theirs.send(json.dumps(odd).encode())
        theirs.send(b'{"found": [["", ["cut off')
        theirs.send(json.dumps({"found": [["", list(BANK)]], "waiting": [1]}).encode())
        await until(lambda: found._news)
        assert found.since("", BANK, 0.0, 1)
        assert not found.since("", SHOP, 0.0, 1)
        nursery.cancel_scope.cancel()


async def test_one_that_tells_nothing_is_not_waited_for(ends):
    ours, theirs = ends
    found = Found()
    assert found.since("", SHOP, 1.0, 1)
    theirs.close()
    await found.hear(ours)
    assert found.since("", SHOP, 1.0, 1)


async def asked(channel: socket.socket) -> dict:
    await trio.lowlevel.wait_readable(channel)
    return json.loads(channel.recv(100_000))


async def test_an_older_version_is_not_asked_who_reads(ends, nursery):
    ours, theirs = ends
    found = Found()
    assert await found.look_there("", {SHOP}) == ({}, 0.0)
    nursery.start_soon(found.hear, ours)
    theirs.send(json.dumps({"found": [["", list(SHOP)]], "waiting": [1]}).encode())
    await until(lambda: found.since("", SHOP, 0.0, 0))
    assert await found.look_there("", {SHOP}) == ({}, 0.0)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    nursery.cancel_scope.cancel()


async def test_what_comes_too_late_or_in_parts_is_not_taken_for_an_answer(
    ends, nursery, autojump_clock
):
    ours, theirs = ends
    found = Found()
    nursery.start_soon(found.hear, ours)
    theirs.send(json.dumps({"found": [], "waiting": [], "looks": True}).encode())
    await trio.sleep(0.1)
    answers: list = []

    async def ask(*origins) -> None:
        answers.append(await found.look_there("shop", set(origins)))

    nursery.start_soon(ask, SHOP)
    first = await asked(theirs)
    assert first == {"look": "shop", "number": 1, "rest": [list(SHOP)], "more": False}
    part = {"number": 1, "reading": [[list(SHOP), [5, 0.5]]], "seconds": 0.1}
    theirs.send(json.dumps({**part, "more": True}).encode())
    await trio.sleep(5)
    assert answers == [None]
    theirs.send(json.dumps({**part, "more": False}).encode())
    nursery.start_soon(ask, SHOP, None)
    second = await asked(theirs)
    assert second["number"] == 2
    assert {origin_of(one) for one in second["rest"]} == {SHOP, None}
    theirs.send(json.dumps({**part, "number": 2, "more": True}).encode())
    part = {"number": 2, "reading": [[None, [6, 0.0]]], "seconds": 0.2, "more": False}
    theirs.send(json.dumps(part).encode())
    await trio.sleep(0.1)
    assert answers[1:] == [({SHOP: Reading(5, 0.5), None: Reading(6, 0.0)}, 0.2)]
    nursery.start_soon(ask)
    await trio.sleep(0.1)
    theirs.close()  # the new process has ended
    await trio.sleep(0.1)
    assert answers[2:] == [None]
    assert await found.look_there("shop", {SHOP}) == ({}, 0.0)

"""What came from the client and is not handed over: bounded, counted, inflated in time."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from proxy.conversation.facts import UpstreamFacts
from proxy.net.intake import MOST_ANSWERS, MOST_PIPELINED
from proxy.net.limits import CHUNK, Share
from proxy.wire.compression import NOOP, SNAPPY, ZLIB, ZSTD, deflate
from proxy.wire.messages import read_request
from proxy.wire.opcodes import MORE_TO_COME
from tests.build import body, command, op_compressed, op_msg, reply
from tests.patience import PATIENCE
from tests.rig import FIRST, LIMITS, OK, ONE, PING, SILENT, TWO, Rig, rigged
from tests.talk import connection_status
from tests.threads import no_thread_left

# ------------------------------------------------------------------ pipelining


async def test_pipelining_is_bounded():
    async with rigged() as rig:
        many = [command(PING, number) for number in range(150)]
        assert await rig.says(b"".join(many)) == b"".join(many[:MOST_PIPELINED])
        assert rig.conversation.in_flight == MOST_PIPELINED == 100
        assert rig.share.held == len(b"".join(many[MOST_PIPELINED:]))
        await rig.answers(b"".join(reply(OK, number) for number in range(10)))
        assert rig.upstream.take() == b"".join(many[100:110])
        await rig.answers(b"".join(reply(OK, number) for number in range(10, 110)))
        assert rig.upstream.take() == b"".join(many[110:])
        assert rig.share.held == 0


# ------------------------------------------------------------------ budget


async def test_half_received_messages_are_counted_until_they_are_whole():
    large = command({**PING, "b": bytes(300_000)}, 1)
    async with rigged() as rig:
        await rig.says(large[:60_000])
        assert rig.share.held == 60_000 + CHUNK
        await rig.says(large[60_000:200_000])
        assert rig.share.held == 200_000 + CHUNK
        assert await rig.says(large[200_000:] + TWO[:9]) == large
        assert rig.share.held == 9


async def test_a_message_beyond_the_budget_passes_alone():
    large = command({**PING, "b": bytes(300_000)}, 1)
    async with rigged(budget=65_536) as rig:
        for at in range(0, len(large), 65_536):
            rig.client.feed(large[at : at + 65_536])
        await wait_all_tasks_blocked()
        assert rig.upstream.take() == large


async def exhausted(rig: Rig) -> Share:
    """Somebody who has all there is, and rightly so; there is no room for anybody else."""
    other = Share(rig.budget)
    other.count(rig.budget.limit + 1)
    await other.room(0)
    other.rest(math.inf)
    return other


async def test_who_waits_for_the_budget_is_not_on_the_clock(autojump_clock):
    large = command({**PING, "b": bytes(300_000)}, 2)
    async with rigged(budget=65_536) as rig:
        await rig.says(ONE)
        await rig.answers(FIRST)
        other = await exhausted(rig)
        await rig.says(large[:100_000], large[100_000:])
        await trio.sleep(100)
        assert rig.upstream.take() == b""
        assert rig.budget.waiting == 1
        other.release()
        await wait_all_tasks_blocked()
        assert rig.upstream.take() == large
        rig.client.feed(large[:100_000])
        await trio.sleep(LIMITS.frame_seconds + 10)
        await rig.ended("half-received message timeout")


async def test_who_is_blocked_is_not_on_the_clock(autojump_clock):
    start = command({"saslStart": 1, "mechanism": "PLAIN", "payload": b"", "$db": "admin"}, 1)
    async with rigged() as rig:
        await rig.says(start)
        # Nobody pipelines behind a login, but who does is not slow.
        await rig.says(ONE + TWO[:20])
        await trio.sleep(100)
        assert await rig.answers(reply({"ok": 0.0}, 1)) == reply({"ok": 0.0}, 1)
        assert rig.upstream.take() == ONE
        assert await rig.says(TWO[20:]) == TWO


async def test_half_a_message_that_stalls_gives_way_to_others(autojump_clock):
    async with rigged(budget=65_536) as rig:
        await rig.says(ONE)
        await rig.answers(FIRST)
        await rig.says(command({**PING, "b": bytes(300_000)}, 2)[:200_000])
        await trio.sleep(3)
        await rig.running()
        waits = Share(rig.budget)
        waits.count(65_536)
        with trio.fail_after(1):
            await waits.room(CHUNK)
        await rig.ended("gave way to others")


async def test_a_request_that_upstream_does_not_read_is_counted_and_its_sender_not_blamed(
    autojump_clock,
):
    large = command({**PING, "b": bytes(300_000)}, 1)
    async with rigged(budget=65_536) as rig:
        await rig.says(SILENT)
        rig.upstream.make_room(100_000)
        rig.client.feed(large)
        await wait_all_tasks_blocked()
        assert rig.share.held == len(large) - 100_000
        waits = Share(rig.budget)
        waits.count(65_536)
        rig.nursery.start_soon(waits.room, CHUNK)
        await trio.sleep(100)
        await rig.running()
        rig.upstream.make_room(None)
        await wait_all_tasks_blocked()
        assert (rig.share.held, rig.budget.waiting) == (0, 0)


@pytest.mark.parametrize("behind", [ONE, command({"saslStart": 1, "$db": "admin"}, 1)])
async def test_what_waits_behind_a_slow_request_gives_way_to_others(behind, autojump_clock):
    large = op_msg(body({"insert": "c", "b": bytes(300_000), "$db": "t"}), flags=MORE_TO_COME)
    async with rigged(budget=65_536) as rig:
        await rig.says(behind)
        rig.upstream.make_room(0)
        rig.client.feed(large)
        await wait_all_tasks_blocked()
        assert rig.share.held == len(large)
        other = await exhausted(rig)
        waits = Share(rig.budget)
        waits.count(65_536)
        rig.nursery.start_soon(waits.room, CHUNK)
        await trio.sleep(LIMITS.frame_seconds - 1)
        await rig.running()
        await trio.sleep(2)
        await rig.ended("gave way to others")
        other.release()


# ------------------------------------------------------------------ inflated requests

KILL = {"killSessions": [], "pad": bytes(1_000_000), "$db": "admin"}


async def test_what_a_request_inflates_to_is_counted_before_it_is_inflated(autojump_clock):
    large = command({**PING, "b": bytes(200_000)}, 1)
    async with rigged(budget=65_536) as rig:
        await rig.says(SILENT)
        other = await exhausted(rig)
        rig.client.feed(deflate(large, 2))
        await trio.sleep(LIMITS.frame_seconds + 100)
        assert rig.relay._intake.inflated is None
        assert rig.upstream.take() == b""
        other.release()
        await wait_all_tasks_blocked()
        assert rig.upstream.take() == deflate(large, 2)
        assert (rig.share.held, rig.budget.used) == (0, 0)


@pytest.mark.parametrize("size", [20_000, 1_000_000])
async def test_nothing_is_inflated_behind_something_slow(size):
    large = deflate(command({**PING, "b": bytes(size)}, 2), 2)
    async with rigged() as rig:
        assert await rig.says(ONE + large) == ONE
        assert rig.share.held == len(large)
        assert rig.relay._intake.inflated is None
        rig.upstream.feed(FIRST)
        with trio.fail_after(30):
            await rig.upstream.has_got(len(large))
        await wait_all_tasks_blocked()
        assert (rig.upstream.take(), rig.share.held) == (large, 0)


async def test_look_ups_that_hang_take_no_thread_from_inflating():
    large = deflate(command({**PING, "b": bytes(1_000_000)}, 1), 2)
    async with rigged() as rig:
        rig.client.feed(large)
        with no_thread_left(), trio.fail_after(PATIENCE):
            await rig.upstream.has_got(len(large))


async def test_an_inflated_request_is_counted_while_it_is_needed():
    large = command(KILL, 1)
    async with rigged() as rig:
        rig.client.feed(deflate(large, 2))
        with trio.fail_after(30):
            await rig.upstream.has_got(1)
        await wait_all_tasks_blocked()
        asked = read_request(rig.upstream.take())
        assert asked.command == "connectionStatus"
        assert rig.share.held == len(large)
        await rig.answers(reply(connection_status(), asked.request_id))
        asked = read_request(rig.upstream.take())
        assert asked.command == "killSessions"
        assert rig.share.held == len(large)
        await rig.answers(reply(OK, asked.request_id))
        assert rig.share.held == 0
        await rig.running()


async def test_large_compressed_messages_are_inflated_beside_the_loop():
    large = command({**PING, "b": bytes(1_000_000)}, 1)
    good = deflate(large, 2)
    broken = op_compressed(good[25:-1], len(large) - 16, 2, request_id=2)
    async with rigged() as rig:
        rig.client.feed(good + broken)
        with trio.fail_after(PATIENCE):
            await rig.upstream.has_got(len(good))
            assert rig.upstream.take() == good
            rig.upstream.feed(FIRST)
            await rig.finished.wait()
        assert rig.client.take() == FIRST
        await rig.ended("client message: zlib data")


# ------------------------------------------------------------------ before login

DEMANDS = UpstreamFacts(authorization=True)
LONG = command({**PING, "b": bytes(LIMITS.before_login_bytes)}, 1)


@pytest.mark.parametrize("message", [LONG, LONG[:2_000], deflate(LONG, 2)])
async def test_before_login_messages_are_short(message):
    fits = command({**PING, "b": bytes(LIMITS.before_login_bytes - 100)}, 1)
    async with rigged(facts=DEMANDS) as rig:
        assert await rig.says(fits + message) == fits
        assert await rig.answers(FIRST) == FIRST
        await rig.ended("client")


@pytest.mark.parametrize("authorization", [False, None])
async def test_where_nobody_has_to_log_in_messages_may_be_long(authorization):
    async with rigged(facts=UpstreamFacts(authorization=authorization)) as rig:
        assert await rig.says(LONG) == LONG


async def test_after_login_messages_may_be_long():
    async with rigged(facts=DEMANDS) as rig:
        await rig.says(command({"saslContinue": 1, "$db": "admin"}, 1))
        await rig.answers(reply({"done": True, "ok": 1.0}, 1))
        asked = read_request(rig.upstream.take())
        await rig.answers(reply(connection_status(("alice", "admin")), asked.request_id))
        assert await rig.says(LONG) == LONG
        rig.client.feed(deflate(LONG, 2))
        rig.upstream.feed(FIRST)
        with trio.fail_after(30):
            await rig.upstream.has_got(len(deflate(LONG, 2)))


async def test_refusals_that_wait_their_turn_are_bounded():
    start = command({"saslStart": 1, "mechanism": "MONGODB-X509", "$db": "$external"}, 7)
    async with rigged(refuse_x509=True) as rig:
        await rig.says(ONE)
        rig.conversation.answers = MOST_ANSWERS + 1 - 100
        assert await rig.says(start + start) == b""
        assert rig.conversation.in_flight == 2
        assert rig.share.held == len(start)
        rig.conversation.answers -= MOST_ANSWERS + 1 - 100
        await rig.answers(FIRST)
        assert (rig.conversation.in_flight, rig.conversation.answers) == (0, 0)


# ------------------------------------------------------------------ at rest

MORE = {"getMore": 7, "collection": "c", "$db": "t"}
GOES_ON = [MORE, {"killCursors": "c", "cursors": [7], "$db": "t"}, {"hello": 1, "$db": "t"}]


def as_sent(form: int | None, request: dict[str, object], request_id: int = 1) -> bytes:
    """Plain, or by the compressor of this id."""
    message = command(request, request_id)
    return message if form is None else deflate(message, form)


@pytest.mark.parametrize("form", [None, NOOP, SNAPPY, ZLIB, ZSTD])
async def test_at_rest_nothing_new_begins_in_any_form_and_what_was_begun_goes_on(form):
    async with rigged() as rig:
        for number, request in enumerate(GOES_ON, 1):
            rig.relay.rest(True)
            sent = as_sent(form, request, number)
            assert await rig.says(sent) == sent
            await rig.answers(reply(OK, number, 1000 + number))
            new = as_sent(form, {"find": "getMore", "$db": "t"}, 100 + number)
            assert await rig.says(new) == b""
            rig.relay.rest(False)
            await wait_all_tasks_blocked()
            assert rig.upstream.take() == new
            await rig.answers(reply(OK, 100 + number, 1100 + number))


async def test_what_does_not_inflate_is_refused_at_rest_too():
    async with rigged() as rig:
        rig.relay.rest(True)
        broken = op_compressed(b"no zlib", 100, ZLIB)
        assert await rig.says(broken) == b""
        await rig.ended("client message")

"""The I/O of one connection: how it ends, what it waits for, and for how long."""

from __future__ import annotations

from typing import Any

import bson
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from proxy.errors import CommandError
from proxy.wire.compression import deflate
from proxy.wire.messages import read_request
from proxy.wire.opcodes import EXHAUST_ALLOWED, HEADER, MORE_TO_COME
from tests.build import command, element, raw_document, reply
from tests.malformed import UNREADABLE
from tests.rig import FIRST, LIMITS, OK, ONE, PING, SECOND, SILENT, TWO, Rig, rigged
from tests.talk import connection_status, identity

# ------------------------------------------------------------------ carrying


async def test_bytes_go_both_ways():
    async with rigged() as rig:
        assert await rig.says(ONE) == ONE
        assert await rig.answers(FIRST) == FIRST
        assert await rig.says(TWO[:7], TWO[7:] + SILENT) == TWO + SILENT
        assert await rig.answers(SECOND[:5], SECOND[5:]) == SECOND
        received = len(ONE + TWO + SILENT)
        assert rig.relay.byte_counts() == (received, received, len(FIRST * 2), len(FIRST * 2))
        assert rig.relay.connected
        await rig.running()


async def test_upstream_is_not_dialled_before_the_client_has_said_something():
    async with rigged() as rig:
        assert (rig.dialled, rig.relay.connected) == (0, False)
        await rig.says(ONE[:1])
        assert (rig.dialled, rig.relay.connected) == (1, True)
        await rig.says(ONE[1:])
        assert rig.dialled == 1


async def test_what_upstream_cannot_be_reached_for_ends_at_once():
    async with rigged(fails="nobody there") as rig:
        rig.client.feed(ONE)
        await rig.ended("upstream: nobody there")
        assert rig.client.take() == b""


async def test_every_request_of_one_read_goes_on_in_order():
    async with rigged() as rig:
        stream = [command(PING, number) for number in range(50)]
        assert await rig.says(b"".join(stream)) == b"".join(stream)
        replies = b"".join(reply(OK, number) for number in range(50))
        assert await rig.answers(replies) == replies


# ------------------------------------------------------------------ the client ends


async def test_an_idle_client_that_closes_ends_both():
    async with rigged() as rig:
        rig.client.feed(b"")
        await rig.ended("client closed")
        assert rig.dialled == 0
    async with rigged() as rig:
        await rig.says(ONE)
        await rig.answers(FIRST)
        rig.client.feed(b"")
        await rig.ended("client closed")


async def test_a_client_that_sends_no_more_still_gets_its_replies():
    async with rigged() as rig:
        assert await rig.says(ONE + TWO, b"") == ONE + TWO
        assert rig.upstream.eof_sent
        assert not rig.client.closed
        assert await rig.answers(FIRST) == FIRST
        await rig.running()
        assert await rig.answers(SECOND) == SECOND
        await rig.ended("client closed")


async def test_but_not_for_ever(autojump_clock):
    async with rigged() as rig:
        await rig.says(ONE, b"")
        await trio.sleep(LIMITS.half_close_seconds - 1)
        await rig.running()
        await trio.sleep(1)
        await rig.ended("client closed")


async def test_half_a_message_is_not_passed_on_when_the_client_dies_in_it():
    async with rigged() as rig:
        assert await rig.says(SILENT + ONE[:20]) == SILENT
        rig.client.reset()
        await rig.ended("client: reset by peer")
        assert rig.upstream.take() == b""


async def test_a_client_that_dies_while_upstream_works_is_told_upstream():
    async with rigged() as rig:
        await rig.says(ONE)
        rig.client.reset()
        await rig.running()
        assert rig.client.closed
        assert rig.upstream.eof_sent
        await rig.answers(FIRST)
        await rig.ended("client: reset by peer")


async def test_a_client_that_dies_in_the_middle_of_a_reply():
    long = reply({"ok": 1.0, "b": bytes(300_000)}, 1)
    async with rigged() as rig:
        await rig.says(ONE)
        assert await rig.answers(long[:100_000]) == long[:100_000]
        rig.client.reset()
        await wait_all_tasks_blocked()
        assert rig.upstream.eof_sent
        assert await rig.answers(long[100_000:]) == b""
        await rig.ended("client: reset by peer")


async def test_a_client_that_is_found_dead_while_it_is_sent_to():
    async with rigged(room=0) as rig:
        await rig.says(ONE + TWO)
        await rig.answers(FIRST)
        rig.client.reset()
        await rig.running()
        # What upstream still has to say is read, so that it finishes, and dropped.
        await rig.answers(SECOND)
        await rig.ended("client: reset by peer")


@pytest.mark.parametrize("end", [lambda client: client.feed(b""), lambda client: client.reset()])
async def test_a_stream_that_nobody_reads_is_cut_at_once(end):
    request = command({"getMore": 1, "$db": "t"}, 1, flags=EXHAUST_ALLOWED)
    async with rigged() as rig:
        await rig.says(request)
        await rig.answers(reply(OK, 1, 501, flags=MORE_TO_COME))
        end(rig.client)
        await rig.ended("client")
        assert rig.upstream.closed


async def test_unacknowledged_writes_before_the_end_are_sent():
    async with rigged() as rig:
        rig.client.feed(SILENT, SILENT + SILENT, b"")
        await rig.ended("client closed")
        assert rig.upstream.take() == SILENT * 3


async def test_unacknowledged_writes_outlive_a_client_that_is_found_dead_by_its_replies():
    async with rigged() as rig:
        await rig.says(ONE)
        rig.upstream.make_room(10)
        assert await rig.says(SILENT) == SILENT[:10]
        rig.client.reset()
        await rig.answers(FIRST)
        await rig.running()
        rig.upstream.make_room(None)
        await rig.ended("client: reset by peer")
        assert rig.upstream.take() == SILENT[10:]


async def test_an_upstream_that_never_takes_them_is_not_waited_for_for_ever(autojump_clock):
    async with rigged() as rig:
        await rig.says(ONE)
        rig.upstream.make_room(10)
        await rig.says(SILENT)
        rig.client.reset()
        await rig.answers(FIRST)
        await trio.sleep(LIMITS.half_close_seconds)
        await rig.ended("client: reset by peer")


# ------------------------------------------------------------------ upstream ends


async def test_an_upstream_that_closes_is_passed_on():
    async with rigged() as rig:
        await rig.says(ONE)
        rig.upstream.feed(FIRST, b"")
        await rig.ended("upstream closed")
        assert rig.client.take() == FIRST
        assert rig.client.eof_sent


async def test_an_upstream_that_dies_in_the_middle_of_a_reply():
    long = reply({"ok": 1.0, "b": bytes(300_000)}, 1)
    async with rigged() as rig:
        await rig.says(ONE)
        rig.upstream.feed(long[:100_000], b"")
        await rig.ended("upstream closed")
        assert rig.client.take() == long[:100_000]


async def test_an_upstream_that_resets():
    async with rigged() as rig:
        await rig.says(ONE)
        rig.upstream.reset("reset by upstream")
        await rig.ended("upstream: reset by upstream")


async def test_an_upstream_that_cannot_be_sent_to():
    async with rigged() as rig:
        await rig.says(ONE)
        rig.upstream.make_room(0)
        rig.client.feed(TWO)
        await rig.running()
        rig.upstream.reset("broken pipe")
        await rig.ended("upstream: broken pipe")


async def test_an_upstream_that_breaks_the_protocol():
    async with rigged() as rig:
        await rig.says(ONE)
        rig.upstream.feed(FIRST + SECOND)
        await rig.ended("upstream pairing")
        assert rig.client.take() == FIRST


# ------------------------------------------------------------------ slow readers


async def test_a_client_that_does_not_read_stops_upstream():
    async with rigged(room=0) as rig:
        await rig.says(ONE)
        long = reply({"ok": 1.0, "b": bytes(5_000_000)}, 1)
        chunks = [long[at : at + 65_536] for at in range(0, len(long), 65_536)]
        rig.upstream.feed(*chunks)
        await rig.running()
        assert rig.upstream.receives == 1
        rig.client.make_room(100_000)
        await wait_all_tasks_blocked()
        assert rig.upstream.receives == 2
        rig.client.make_room(None)
        await wait_all_tasks_blocked()
        assert rig.client.take() == long


async def test_an_upstream_that_does_not_read_stops_the_client():
    async with rigged() as rig:
        await rig.says(ONE)
        rig.upstream.make_room(0)
        rig.client.feed(*[TWO] * 90)
        await rig.running()
        assert rig.client.receives == 2
        rig.upstream.make_room(None)
        await wait_all_tasks_blocked()
        assert rig.upstream.take() == TWO * 90


async def test_replies_are_read_while_a_request_waits_for_upstream():
    """Upstream may not read on before its reply is taken."""
    async with rigged(room=0) as rig:
        assert await rig.says(ONE, TWO) == ONE + TWO
        rig.upstream.make_room(10)
        large = command(PING, 3)
        assert await rig.says(large) == large[:10]
        assert await rig.answers(FIRST) == b""
        rig.client.make_room(None)
        assert await rig.answers(SECOND) == FIRST + SECOND
        rig.upstream.make_room(None)
        await wait_all_tasks_blocked()
        assert rig.upstream.take() == large[10:]


async def test_replies_are_read_while_nobody_sends_a_rest_yet():
    """Where both pumps are woken at once, that of the replies may be the first to go on."""
    async with rigged(room=0) as rig:
        assert await rig.says(ONE, TWO) == ONE + TWO
        rig.upstream.make_room(10)
        large = command(PING, 3)
        rig.relay._take_requests(large)
        assert not rig.relay._settle_requests()
        assert rig.upstream.take() == large[:10]
        assert await rig.answers(FIRST) == b""
        rig.client.make_room(None)
        await wait_all_tasks_blocked()
        assert await rig.answers(SECOND) == FIRST + SECOND
        rig.upstream.make_room(None)
        await wait_all_tasks_blocked()
        assert rig.upstream.take() == large[10:]


async def test_a_rest_that_upstream_breaks_at_ends_both():
    async with rigged(room=0) as rig:
        assert await rig.says(ONE, TWO) == ONE + TWO
        rig.upstream.make_room(10)
        rig.relay._take_requests(command(PING, 3))
        assert not rig.relay._settle_requests()
        await rig.answers(FIRST)
        rig.client.make_room(None)
        await rig.running()
        rig.upstream.reset()
        await rig.ended("upstream: reset by peer")


# ------------------------------------------------------------------ deadlines


async def test_a_client_that_says_nothing(autojump_clock):
    async with rigged() as rig:
        await trio.sleep(LIMITS.handshake_seconds - 1)
        await rig.running()
        await trio.sleep(1)
        await rig.ended("handshake timeout")
        assert rig.dialled == 0


async def test_the_time_for_a_first_message_runs_since_the_client_came(autojump_clock):
    async with rigged(since=trio.current_time() - 15) as rig:
        await trio.sleep(LIMITS.handshake_seconds - 16)
        await rig.running()
        await trio.sleep(1)
        await rig.ended("handshake timeout")


async def test_a_client_that_dribbles_its_first_message(autojump_clock):
    async with rigged() as rig:
        for at in range(int(LIMITS.handshake_seconds)):
            rig.client.feed(ONE[at : at + 1])
            await trio.sleep(1)
        await rig.ended("handshake timeout")
        assert rig.upstream.take() == b""


async def test_an_idle_client_is_left_alone(autojump_clock):
    async with rigged() as rig:
        await rig.says(ONE)
        await trio.sleep(80_000)
        assert await rig.answers(FIRST) == FIRST
        await trio.sleep(80_000)
        assert await rig.says(TWO) == TWO


async def test_half_a_message_has_its_time_and_dribbling_does_not_extend_it(autojump_clock):
    async with rigged() as rig:
        await rig.says(ONE)
        await trio.sleep(1000)
        for at in range(int(LIMITS.frame_seconds)):
            await rig.running()
            rig.client.feed(TWO[at : at + 1])
            await trio.sleep(1)
        await trio.sleep(1)
        await rig.ended("half-received message timeout")
        assert rig.upstream.take() == ONE[:0]


async def test_a_large_message_has_more_time(autojump_clock):
    large = command({**PING, "b": bytes(10_000_000)}, 2)
    async with rigged() as rig:
        await rig.says(ONE)
        rig.client.feed(large[:100])
        await trio.sleep(LIMITS.frame_seconds + 100)
        assert await rig.says(large[100:]) == large
        rig.client.feed(large[:100])
        await trio.sleep(LIMITS.frame_seconds + 200)
        await rig.ended("half-received message timeout")


async def test_the_time_starts_anew_with_the_next_message(autojump_clock):
    async with rigged() as rig:
        for number in range(5):
            request = command(PING, number)
            await rig.says(request[:20])
            await trio.sleep(LIMITS.handshake_seconds - 5)
            assert await rig.says(request[20:]) == request
        await rig.running()


async def test_a_slow_upstream_is_not_on_the_clients_clock(autojump_clock):
    async with rigged() as rig:
        await rig.says(ONE)
        rig.upstream.make_room(10)
        await rig.says(TWO[:20])
        await rig.says(TWO[20:])
        await trio.sleep(80_000)
        await rig.running()
        rig.upstream.make_room(None)
        await wait_all_tasks_blocked()
        assert rig.upstream.take().endswith(TWO[10:])


# ------------------------------------------------------------------ broken bytes


@pytest.mark.parametrize("garbage", [bytes(16), b"\xff" * 16, b"POST / HTTP/1.1\r\n"])
async def test_bytes_that_cannot_be_framed(garbage):
    async with rigged() as rig:
        rig.client.feed(garbage)
        await rig.ended("client framing")
        assert rig.upstream.take() == rig.client.take() == b""


async def test_what_came_before_broken_bytes_is_answered_before_the_end():
    async with rigged() as rig:
        assert await rig.says(SILENT + ONE + bytes(16) + TWO) == SILENT + ONE
        await rig.running()
        assert await rig.answers(FIRST) == FIRST
        await rig.ended("client framing")


async def test_but_not_for_ever_either(autojump_clock):
    async with rigged() as rig:
        await rig.says(ONE + bytes(16))
        await trio.sleep(LIMITS.half_close_seconds - 1)
        await rig.running()
        await trio.sleep(1)
        await rig.ended("client framing")


@pytest.mark.parametrize("malformed", UNREADABLE, ids=lambda m: m.name)
async def test_messages_that_no_server_reads(malformed):
    async with rigged() as rig:
        assert await rig.says(ONE + malformed.frame + TWO) == ONE
        assert await rig.answers(FIRST) == FIRST
        await rig.ended("client message")


async def test_too_many_fields_to_judge():
    many = raw_document(element("ping", 1), element("a", None) * 10_000)
    async with rigged() as rig:
        assert await rig.says(command(many)) == b""
        assert bson.decode(rig.client.take()[21:])["code"] == 2
        # Where no answer is due there is none, and the connection goes on.
        assert await rig.says(command(many, flags=MORE_TO_COME) + ONE) == ONE
        assert await rig.answers(FIRST) == FIRST


async def test_compressed_messages_that_nobody_agreed_to():
    for size in (10, 10_000_000):
        async with rigged(strip_compression=True) as rig:
            assert await rig.says(ONE + deflate(command({**PING, "b": bytes(size)}, 2), 2)) == ONE
            assert await rig.answers(FIRST) == FIRST
            await rig.ended("client message: compressed")


async def test_somebody_tries_a_browser():
    async with rigged() as rig:
        rig.client.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await rig.ended("client: HTTP on this port")
        head, _, text = rig.client.take().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert f"Content-Length: {len(text)}".encode() in head
        assert rig.client.eof_sent
        assert rig.dialled == 0


@pytest.mark.parametrize("version", [1, 3])
async def test_somebody_tries_tls(version):
    async with rigged() as rig:
        rig.client.feed(bytes([0x16, 3, version, 2, 0, 1, 0, 1, 0xFC, 3, 3]) + bytes(100))
        await rig.ended("client: TLS")
        assert rig.dialled == 0


async def test_a_first_message_of_790_bytes_is_no_tls():
    request = command({**PING, "b": bytes(790 - len(command({**PING, "b": b""})))}, 1)
    assert request.startswith(b"\x16\x03\0\0")
    async with rigged() as rig:
        assert await rig.says(request) == request


# ------------------------------------------------------------------ held requests


CONTINUE = command({"saslContinue": 1, "payload": b"", "$db": "app"}, 1)
DONE = reply({"done": True, "ok": 1.0}, 1)


async def test_nothing_goes_upstream_while_it_is_unsettled_who_asks():
    async with rigged() as rig:
        assert await rig.says(CONTINUE + TWO) == CONTINUE
        assert await rig.answers(DONE) == b""
        question = read_request(rig.upstream.take())
        assert question.command == "connectionStatus"
        status = reply(connection_status(("alice", "app")), question.request_id)
        assert await rig.answers(status) == DONE
        assert rig.upstream.take() == TWO
        assert identity(rig.conversation).name == "alice@app"
        assert await rig.answers(SECOND) == SECOND


@pytest.mark.parametrize(
    "end", [lambda client: client.feed(b""), lambda client: client.reset()], ids=["eof", "reset"]
)
@pytest.mark.parametrize("pipelined", [b"", SILENT, SILENT + TWO + SILENT])
async def test_what_a_client_sent_before_it_went_is_carried_out_all_the_same(end, pipelined):
    control = command({"endSessions": [], "$db": "admin"}, 1)
    async with rigged() as rig:
        rig.client.feed(control + pipelined)
        await wait_all_tasks_blocked()
        end(rig.client)
        await rig.running()
        asked = read_request(rig.upstream.take())
        assert asked.command == "connectionStatus"
        assert not rig.upstream.eof_sent
        status = reply(connection_status(), asked.request_id)
        await rig.answers(status)
        sent = rig.upstream.take()
        carried = read_request(sent[: HEADER.unpack_from(sent)[0]])
        assert carried.command == "endSessions"
        rest = sent[len(carried.frame) :]
        await rig.answers(reply(OK, carried.request_id))
        rest += rig.upstream.take()
        assert rest == pipelined
        if TWO in pipelined:
            assert rig.upstream.eof_sent
            await rig.answers(SECOND)
        await rig.ended("client")


async def test_a_slow_client_does_not_keep_what_it_sent_from_upstream():
    failed = reply({"ok": 0.0, "code": 18}, 1)
    async with rigged(room=0) as rig:
        assert await rig.says(CONTINUE + TWO) == CONTINUE
        assert await rig.answers(failed) == b""
        rig.client.make_room(None)
        await wait_all_tasks_blocked()
        assert rig.client.take() == failed
        assert rig.upstream.take() == TWO


async def test_a_failed_authentication_lets_the_next_request_go():
    failed = reply({"ok": 0.0, "code": 18}, 1)
    async with rigged() as rig:
        assert await rig.says(CONTINUE, TWO) == CONTINUE
        assert await rig.answers(failed) == failed
        assert rig.upstream.take() == TWO


async def test_unknown_identity_ends_the_connection_without_the_held_reply():
    async with rigged() as rig:
        await rig.says(CONTINUE + TWO)
        await rig.answers(DONE)
        question = read_request(rig.upstream.take())
        assert await rig.answers(reply({"ok": 0.0, "code": 13}, question.request_id)) == b""
        await rig.ended("upstream identity")
        assert rig.upstream.take() == b""


async def test_a_refusal_to_a_slow_client_waits_behind_the_reply_it_follows():
    x509 = command({"authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external"}, 2)
    async with rigged(room=0, refuse_x509=True) as rig:
        await rig.says(ONE + x509)
        await rig.answers(FIRST)
        rig.client.make_room(None)
        await wait_all_tasks_blocked()
        sent = rig.client.take()
        assert sent.startswith(FIRST)
        assert HEADER.unpack_from(sent, len(FIRST))[2] == 2
        assert bson.decode(sent[len(FIRST) + 21 :])["code"] == 18


async def test_local_answers_go_out_without_upstream_saying_anything():
    async with rigged() as rig:
        refusal = CommandError(13, "Unauthorized", "no")
        await rig.says(SILENT)
        rig.conversation.refuse(read_request(ONE), refusal, 0.0)
        await rig.says(SILENT)
        assert bson.decode(rig.client.take()[21:])["code"] == 13


# ------------------------------------------------------------------ from outside


async def test_a_question_from_outside_holds_the_clients_next_request_back():
    question = bson.encode({"ping": 1, "$db": "admin"})
    told = []
    async with rigged() as rig:
        await rig.says(ONE)
        await rig.answers(FIRST)
        rig.conversation.ask_between([question], lambda _, got, now: told.append(got.ok()), 0.0)
        rig.relay.flush_soon()
        await wait_all_tasks_blocked()
        asked = read_request(rig.upstream.take())
        assert asked.body_bytes() == question
        assert await rig.says(TWO) == b""
        assert await rig.answers(reply(OK, asked.request_id)) == b""
        assert told == [True]
        assert rig.upstream.take() == TWO
        assert await rig.answers(SECOND) == SECOND


async def test_how_long_a_request_was_held_back_is_told_of_it(autojump_clock):
    question = bson.encode({"ping": 1, "$db": "admin"})
    async with rigged() as rig:
        rig.observer.slow_seconds = 2.0
        await rig.says(ONE)
        await rig.answers(FIRST)
        rig.conversation.ask_between([question], lambda *_: None, trio.current_time())
        rig.relay.flush_soon()
        await wait_all_tasks_blocked()
        asked = read_request(rig.upstream.take())
        await rig.says(TWO)
        await trio.sleep(3)
        await rig.answers(reply(OK, asked.request_id))
        await rig.says(ONE)
        await trio.sleep(1)
        await rig.answers(SECOND + FIRST)
        [(held,)] = rig.observer.only("slow")
        assert held.seconds == pytest.approx(4.0)
        assert held.upstream_seconds == pytest.approx(1.0)


async def test_an_end_from_outside_is_told_to_the_client():
    async with rigged() as rig:
        await rig.says(ONE)
        rig.conversation.to_client.append(FIRST)
        rig.conversation.close = "interrupted: killed"
        rig.relay.flush_soon()
        await rig.ended("interrupted: killed")
        assert rig.client.take() == FIRST


async def test_from_outside_nothing_is_sent_before_the_start_or_to_who_is_gone():
    idle = Rig()
    idle.conversation.to_client.append(FIRST)
    idle.relay.flush_soon()
    await wait_all_tasks_blocked()
    assert idle.client.take() == b""
    async with rigged() as rig:
        await rig.says(ONE)
        rig.upstream.make_room(0)
        rig.conversation.to_upstream.append(TWO)
        rig.relay.flush_soon()
        await rig.running()
        rig.upstream.reset("gone")
        await rig.ended("")
        assert "gone" in rig.relay.reason


# ------------------------------------------------------------------ stopping


async def test_stop_and_cancellation_close_both():
    async with rigged() as rig:
        await rig.says(ONE)
        rig.relay.stop("enough")
        await rig.ended("enough")
    rig = Rig()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.run)
            await rig.says(ONE)
            scope.cancel()
    assert rig.client.closed
    assert rig.upstream.closed


async def test_draining_closes_the_idle_at_once():
    async with rigged() as rig:
        rig.relay.drain()
        await rig.ended("draining")
    async with rigged() as rig:
        await rig.says(ONE)
        await rig.answers(FIRST)
        rig.relay.drain()
        await rig.ended("draining")


async def test_draining_lets_work_in_flight_finish():
    async with rigged() as rig:
        await rig.says(ONE + TWO)
        rig.relay.drain()
        assert await rig.answers(FIRST) == FIRST
        await rig.running()
        assert await rig.answers(SECOND) == SECOND
        await rig.ended("draining")


async def test_draining_waits_for_a_slow_client():
    async with rigged(room=0) as rig:
        await rig.says(ONE)
        rig.relay.drain()
        await rig.answers(FIRST)
        await rig.running()
        rig.client.make_room(None)
        await rig.ended("draining")
        assert rig.client.take() == FIRST


async def test_draining_waits_for_a_client_that_has_half_of_its_reply():
    async with rigged(room=10) as rig:
        await rig.says(ONE)
        assert await rig.answers(FIRST) == FIRST[:10]
        rig.relay.drain()
        await rig.running()
        rig.client.make_room(None)
        await rig.ended("draining")
        assert rig.client.take() == FIRST[10:]


async def test_draining_waits_until_upstream_has_taken_what_has_no_reply():
    async with rigged() as rig:
        await rig.says(ONE)
        await rig.answers(FIRST)
        rig.upstream.make_room(10)
        assert await rig.says(SILENT) == SILENT[:10]
        rig.relay.drain()
        await rig.running()
        rig.upstream.make_room(None)
        await rig.ended("draining")
        assert rig.upstream.take() == SILENT[10:]


async def test_draining_lets_a_half_received_message_finish():
    async with rigged() as rig:
        await rig.says(ONE[:20])
        rig.relay.drain()
        await rig.running()
        assert await rig.says(ONE[20:]) == ONE
        assert await rig.answers(FIRST) == FIRST
        await rig.ended("draining")
    async with rigged() as rig:
        await rig.says(SILENT[:20])
        rig.relay.drain()
        assert await rig.says(SILENT[20:]) == SILENT
        await rig.ended("draining")


async def test_draining_does_not_wait_for_a_monitors_hello():
    hello = command({"hello": 1, "maxAwaitTimeMS": 10_000, "$db": "admin"}, 1)
    async with rigged() as rig:
        await rig.says(hello)
        rig.relay.drain()
        await rig.ended("draining")


# ---------------------------------------------------------------------- replies that are held


def _status(size: int) -> dict[str, Any]:
    """An answer to who is there that is about so long."""
    status = connection_status(("alice", "app"))
    privilege = {"resource": {"db": "app", "collection": "c"}, "actions": ["find", "insert"]}
    count = size // len(bson.encode(privilege))
    status["authInfo"]["authenticatedUserPrivileges"] = [privilege] * count
    return status


async def _asked_who_is_there(rig: Rig) -> int:
    """A session command is under way; the id of the proxy's own question."""
    question = await rig.says(command({"killSessions": [], "$db": "admin"}, 7))
    return int(HEADER.unpack_from(question)[1])


async def test_a_reply_that_is_read_whole_counts_while_it_arrives():
    async with rigged() as rig:
        answer = reply(_status(300_000), await _asked_who_is_there(rig))
        await rig.answers(answer[:100_000])
        assert rig.budget.used == 100_000
        await rig.answers(answer[100_000:200_000])
        assert rig.budget.used == 200_000
        await rig.answers(answer[200_000:])
        assert rig.budget.used == 0
        await rig.running()
    assert rig.budget.gave_way == 0


async def test_without_room_it_waits_and_then_gives_way(autojump_clock):
    async with rigged(budget=150_000) as rig:
        answer = reply(_status(300_000), await _asked_who_is_there(rig))
        rig.upstream.feed(answer[:200_000])
        await trio.sleep(1.9)
        assert not rig.finished.is_set()
        await trio.sleep(0.2)
        await rig.ended("gave way to others")
    assert (rig.budget.gave_way, rig.budget.used) == (1, 0)


async def test_where_room_comes_it_goes_on(autojump_clock):
    async with rigged(budget=150_000) as rig:
        answer = reply(_status(300_000), await _asked_who_is_there(rig))
        rig.upstream.feed(answer[:200_000])
        await trio.sleep(1)
        assert rig.budget.used == 200_000
        rig.budget.limit = 1_000_000
        rig.upstream.feed(answer[200_000:])
        await trio.sleep(1)
        assert rig.budget.used == 0
        await rig.running()


async def test_a_long_reply_that_is_passed_on_does_not_count():
    async with rigged(budget=20_000) as rig:
        await rig.says(ONE)
        answer = reply({"ok": 1.0, "b": bytes(300_000)}, 1)
        for start in range(0, len(answer), 70_000):
            assert await rig.answers(answer[start : start + 70_000])
            assert rig.budget.used == 0
        await rig.running()


LONG = reply({"ok": 1.0, "b": bytes(1 << 20)}, 1)


@pytest.mark.parametrize("parts", [[LONG], [LONG[:1_000], LONG[1_000:]]], ids=["whole", "parts"])
@pytest.mark.parametrize(
    "request_", [{"hello": 1}, {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": b""}]
)
async def test_a_greeting_is_not_longer_than_any(request_, parts):
    async with rigged() as rig:
        await rig.says(command({**request_, "$db": "admin"}, 1))
        for part in parts:
            await rig.answers(part)
        await rig.ended("upstream message: 1048")


async def test_a_compressed_greeting_is_not_inflated_to_more():
    async with rigged() as rig:
        await rig.says(command({"hello": 1, "$db": "admin"}, 1))
        await rig.answers(deflate(LONG, 2))
        await rig.ended("upstream message: 1048")

"""Conversations as transcripts: what the client sends, what goes where, what ends it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.passing import PASS_ABOVE
from proxy.errors import CommandError
from proxy.observe.telemetry import Telemetry
from proxy.wire.compression import deflate
from proxy.wire.messages import read_request
from proxy.wire.opcodes import (
    EXHAUST_ALLOWED,
    HEADER,
    MAX_MESSAGE_SIZE,
    MORE_TO_COME,
    OP_COMPRESSED,
    OP_MSG,
    OP_REPLY,
    QUERY_EXHAUST,
)
from tests.build import (
    body,
    command,
    element,
    frame,
    op_compressed,
    op_delete,
    op_get_more,
    op_insert,
    op_kill_cursors,
    op_msg,
    op_query,
    op_reply,
    op_update,
    raw_document,
    reply,
    sequence,
    with_length,
)
from tests.effort import milliseconds
from tests.malformed import ALL
from tests.talk import Talk

PING = {"ping": 1, "$db": "admin"}
OK = {"ok": 1.0}
ONE, TWO, THREE = (command(PING, number) for number in (1, 2, 3))
FIRST, SECOND, THIRD = (reply(OK, number, 1000 + number) for number in (1, 2, 3))
REFUSAL = CommandError(13, "Unauthorized", "no")
REFUSED = {"ok": 0.0, "errmsg": "no", "code": 13, "codeName": "Unauthorized"}

COMPRESSORS = [None, 0, 1, 2, 3]


def compressed(message: bytes, compressor: int | None) -> bytes:
    return message if compressor is None else deflate(message, compressor)


def getmore(request_id: int = 1, **how: int) -> bytes:
    how.setdefault("flags", EXHAUST_ALLOWED)
    value = {"getMore": bson.Int64(7), "collection": "c", "$db": "t"}
    return command(value, request_id, **how)


# ------------------------------------------------------------------ pairing


def test_a_request_and_its_reply():
    (
        Talk()
        .client(ONE)
        .upstream_gets(ONE)
        .upstream(FIRST)
        .client_gets(FIRST)
        .idle()
        .client(TWO)
        .upstream_gets(TWO)
        .upstream(SECOND)
        .client_gets(SECOND)
        .idle()
    )


def test_pipelined_requests_are_answered_in_their_order():
    (
        Talk()
        .client(ONE)
        .upstream_gets(ONE)
        .client(TWO)
        .upstream_gets(TWO)
        .client(THREE)
        .upstream_gets(THREE)
        .upstream(FIRST)
        .client_gets(FIRST)
        .upstream(SECOND + THIRD)
        .client_gets(SECOND, THIRD)
        .idle()
    )


def test_equal_request_ids_are_told_apart_by_their_place():
    (
        Talk()
        .client(ONE)
        .upstream_gets(ONE)
        .client(ONE)
        .upstream_gets(ONE)
        .upstream(FIRST)
        .client_gets(FIRST)
        .upstream(FIRST)
        .client_gets(FIRST)
        .idle()
    )


@pytest.mark.parametrize("number", [-(2**31), -1, 0, 2**31 - 1])
def test_any_request_id_will_do(number):
    request, answer = command(PING, number), reply(OK, number)
    Talk().client(request).upstream_gets(request).upstream(answer).client_gets(answer).idle()


def test_a_reply_to_another_request_closes():
    talk = Talk().client(ONE).upstream_gets(ONE).client(TWO).upstream_gets(TWO)
    talk.upstream(SECOND).closes("upstream pairing")
    assert talk.observer.only("violation") == [("upstream pairing",)]


def test_a_reply_nobody_asked_for_closes():
    Talk().upstream(FIRST).closes("upstream pairing")
    answered = Talk().client(ONE).upstream_gets(ONE)
    answered.upstream(FIRST + FIRST).client_gets(FIRST).closes("upstream pairing")


def test_nothing_behind_a_broken_reply_is_passed_on():
    talk = Talk().client(ONE).upstream_gets(ONE).client(TWO).upstream_gets(TWO)
    talk.upstream(FIRST + THIRD + SECOND).client_gets(FIRST).closes("upstream pairing")


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_replies_are_paired_by_the_outer_header_where_compressed(compressor):
    answer = compressed(FIRST, compressor)
    Talk().client(ONE).upstream_gets(ONE).upstream(answer).client_gets(answer).idle()
    wrong = compressed(SECOND, compressor)
    Talk().client(ONE).upstream_gets(ONE).upstream(wrong).closes("upstream pairing")


@pytest.mark.parametrize(
    "answer",
    [
        frame(OP_MSG, bytes(3), 1001, 1),
        frame(OP_REPLY, bytes(19), 1001, 1),
    ],
)
def test_a_reply_without_room_for_its_flags_closes(answer):
    Talk().client(ONE).upstream_gets(ONE).upstream(answer).closes("upstream message")


def test_a_reply_that_cannot_be_read_is_the_clients_to_judge():
    answer = frame(OP_MSG, bytes(4) + b"\7garbage", 1001, 1)
    Talk().client(ONE).upstream_gets(ONE).upstream(answer).client_gets(answer).idle()
    unknown = op_compressed(b"???", 100, 77, response_to=1)
    Talk().client(ONE).upstream_gets(ONE).upstream(unknown).client_gets(unknown).idle()


@pytest.mark.parametrize("length", [-1, 0, 15, MAX_MESSAGE_SIZE + 1])
def test_a_broken_length_closes_behind_the_whole_replies(length):
    broken = with_length(SECOND, length)
    talk = Talk().client(ONE).upstream_gets(ONE).client(TWO).upstream_gets(TWO)
    talk.upstream(FIRST + broken).client_gets(FIRST).closes("upstream framing")


def test_a_broken_reply_and_a_broken_length_in_one_read():
    broken = frame(OP_MSG, b"", 1001, 1) + bytes(16)
    Talk().client(ONE).upstream_gets(ONE).upstream(broken).closes("upstream message")


# ------------------------------------------------------------------ no reply


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize(
    "silent",
    [
        op_msg(body({"insert": "c", "$db": "t"}), sequence("documents", {}), flags=MORE_TO_COME),
        op_msg(body({"nonsense": 1}), flags=MORE_TO_COME),
        op_msg(b"\7", flags=MORE_TO_COME),
        op_msg(body(PING), flags=MORE_TO_COME | EXHAUST_ALLOWED),
        op_insert("t.c", {}),
        op_update("t.c", {}, {}),
        op_delete("t.c", {}),
        op_kill_cursors(1),
    ],
)
def test_what_has_no_reply_takes_no_place(silent, compressor):
    silent = compressed(silent, compressor)
    (
        Talk()
        .client(silent)
        .upstream_gets(silent)
        .idle()
        .client(ONE)
        .upstream_gets(ONE)
        .client(silent)
        .upstream_gets(silent)
        .upstream(FIRST)
        .client_gets(FIRST)
        .idle()
    )


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize(
    "request_frame",
    [op_get_more("t.c", 5), op_query("t.c", {}), op_query("t.$cmd", {"ping": 1})],
)
def test_legacy_requests_are_answered_by_op_reply(request_frame, compressor):
    request_frame = compressed(request_frame, compressor)
    answer = compressed(op_reply({"a": 1}, response_to=1, cursor_id=9), compressor)
    (
        Talk()
        .client(request_frame)
        .upstream_gets(request_frame)
        .upstream(answer)
        .client_gets(answer)
        .idle()
    )


# ------------------------------------------------------------------ streams


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_each_reply_of_a_stream_answers_the_one_before(compressor):
    request = compressed(getmore(1), compressor)
    stream = [
        compressed(reply(OK, 1, 501, flags=MORE_TO_COME), compressor),
        compressed(reply(OK, 501, 502, flags=MORE_TO_COME), compressor),
        compressed(reply(OK, 502, 503), compressor),
    ]
    talk = Talk().client(request).upstream_gets(request)
    assert not talk.conversation.streaming
    talk.upstream(stream[0]).client_gets(stream[0]).quiet()
    assert talk.conversation.streaming
    talk.upstream(stream[1]).client_gets(stream[1]).quiet()
    assert talk.conversation.in_flight == 1
    talk.upstream(stream[2]).client_gets(stream[2]).idle()
    talk.client(TWO).upstream_gets(TWO).upstream(SECOND).client_gets(SECOND).idle()


@pytest.mark.parametrize("answers", [(1, 501, 502), (1, 1, 1)])
def test_of_a_stream_the_first_reply_has_a_time_and_the_others_come_by_themselves(answers):
    long = {"ok": 1.0, "text": "x" * (2 * PASS_ABOVE)}
    talk = Talk().at(10.0).client(getmore()).upstream_gets(getmore())
    for number, what in enumerate((OK, long, OK)):
        flags = MORE_TO_COME if number < 2 else 0
        frame = reply(what, answers[number], 501 + number, flags=flags)
        talk.at(11.0 + number)
        for part in (frame[:1000], frame[1000:]):
            if part:
                talk.upstream(part).client_gets(part)
    replies = [one for one in talk.observer.seen if one[0].startswith("replied")]
    assert [(one[0], one[2]) for one in replies] == [
        ("replied", 1.0),
        ("replied again", 2.0),
        ("replied again", 3.0),
    ]


def test_each_reply_of_a_stream_may_answer_the_request_itself():
    """As some servers that others wrote do it; drivers do not look."""
    stream = [
        reply(OK, 1, 501, flags=MORE_TO_COME),
        reply(OK, 1, 502, flags=MORE_TO_COME),
        reply(OK, 1, 503),
    ]
    talk = Talk().client(getmore()).upstream_gets(getmore())
    for one in stream:
        talk.upstream(one).client_gets(one)
    talk.idle().client(TWO).upstream_gets(TWO)
    talk.upstream(reply(OK, 1, 504)).closes("upstream pairing")


@pytest.mark.parametrize("wrong", [2, 999])
def test_a_stream_that_breaks_its_chain_closes(wrong):
    first = reply(OK, 1, 501, flags=MORE_TO_COME)
    talk = Talk().client(getmore()).upstream_gets(getmore()).upstream(first).client_gets(first)
    talk.upstream(reply(OK, wrong, 502)).closes("upstream pairing")


def test_a_stream_that_was_allowed_need_not_come():
    Talk().client(getmore()).upstream_gets(getmore()).upstream(FIRST).client_gets(FIRST).idle()


def test_what_is_sent_into_a_stream_is_answered_behind_it():
    stream = [reply(OK, 1, 501, flags=MORE_TO_COME), reply(OK, 501, 502)]
    (
        Talk()
        .client(getmore())
        .upstream_gets(getmore())
        .upstream(stream[0])
        .client_gets(stream[0])
        .client(TWO)
        .upstream_gets(TWO)
        .upstream(stream[1] + SECOND)
        .client_gets(stream[1], SECOND)
        .idle()
    )


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_a_legacy_stream_goes_on_while_there_is_a_cursor(compressor):
    request = compressed(op_query("t.c", {}, flags=QUERY_EXHAUST), compressor)
    stream = [
        compressed(op_reply({}, response_to=1, request_id=501, cursor_id=9), compressor),
        compressed(op_reply({}, response_to=501, request_id=502, cursor_id=-9), compressor),
        compressed(op_reply({}, response_to=502, request_id=503), compressor),
    ]
    talk = Talk().client(request).upstream_gets(request)
    for answer in stream:
        talk.upstream(answer).client_gets(answer).quiet()
    talk.idle()


def test_a_legacy_cursor_without_the_flag_is_one_reply():
    request = op_query("t.c", {})
    answer = op_reply({}, response_to=1, cursor_id=9)
    Talk().client(request).upstream_gets(request).upstream(answer).client_gets(answer).idle()


@pytest.mark.parametrize("compressor", [1, 2, 3])
def test_long_compressed_replies_of_a_stream_are_not_inflated(compressor):
    request = compressed(getmore(1), compressor)
    more = deflate(reply({**OK, "b": bytes(1_000_000)}, 1, 501, flags=MORE_TO_COME), compressor)
    last = deflate(reply({**OK, "b": bytes(1_000_000)}, 501, 502), compressor)
    talk = Talk().client(request).upstream_gets(request)
    for answer in (more, last):
        took = milliseconds(lambda: talk.upstream(answer), tries=1)  # noqa: B023
        assert took < 3
        talk.client_gets(answer)
    talk.idle()


# ------------------------------------------------------------------ some at a time


def test_what_is_enough_stops_it_and_nothing_is_lost():
    talk = Talk()
    asked = [command(PING, number) for number in range(1, 8)]
    answers = [reply(OK, number) for number in range(1, 8)]
    for one in asked:
        talk.client(one).upstream_gets(one)
    conversation = talk.conversation
    conversation.on_upstream(b"".join(answers), talk.now, lambda: True)
    for answer in answers[:-1]:
        assert conversation.unfinished
        talk.client_gets(answer)
        conversation.go_on(talk.now, lambda: True)
    talk.client_gets(answers[-1]).idle()
    assert not conversation.unfinished


def test_work_is_done_in_steps_and_the_next_work_after_it():
    talk = Talk()
    conversation = talk.conversation
    done: list[str] = []

    def second() -> Iterator[None]:
        done.append("second")
        yield

    def first() -> Iterator[None]:
        for _ in range(3):
            done.append("first")
            yield
        conversation.work = second()

    conversation.work = first()
    calls = 0
    while conversation.unfinished:
        conversation.go_on(talk.now, lambda: True)
        calls += 1
    assert done == ["first", "first", "first", "second"]
    assert calls == 6
    conversation.work = first()
    conversation.closed(talk.now)
    assert not conversation.unfinished


def test_a_request_with_too_many_fields_is_refused_and_nothing_else_happens():
    many = raw_document(element("ping", 1), element("a", None) * 5_000)
    talk = Talk().client(command(many, 3))
    (frame,) = talk.conversation.to_client
    assert bson.decode(frame[21:])["code"] == 2
    assert not talk.conversation.to_upstream
    assert not talk.conversation.close


# ------------------------------------------------------------------ local answers


def refuse(talk: Talk, request: bytes) -> Talk:
    talk.conversation.refuse(read_request(request), REFUSAL, talk.now)
    return talk


def test_a_refusal_is_answered_at_once_where_nothing_is_due():
    talk = Talk()
    refuse(talk, ONE).client_is_told(ONE, REFUSED).idle()
    assert talk.observer.only("replied") == [("ping", 0.0, False)]


def test_refusals_wait_for_what_was_asked_before():
    talk = Talk().client(ONE).upstream_gets(ONE)
    refuse(talk, TWO).quiet()
    refuse(talk, THREE).quiet()
    four = command(PING, 4)
    fourth = reply(OK, 4)
    talk.client(four).upstream_gets(four)
    talk.upstream(FIRST)
    told = talk.conversation.to_client.copy()
    assert told[0] == FIRST
    assert [HEADER.unpack_from(answer)[2] for answer in told] == [1, 2, 3]
    talk.conversation.to_client.clear()
    talk.upstream(fourth).client_gets(fourth).idle()


def test_refusals_wait_for_the_end_of_a_stream():
    stream = [reply(OK, 1, 501, flags=MORE_TO_COME), reply(OK, 501, 502)]
    talk = Talk().client(getmore()).upstream_gets(getmore())
    talk.upstream(stream[0]).client_gets(stream[0])
    refuse(talk, TWO).quiet()
    talk.upstream(stream[1])
    assert [HEADER.unpack_from(a)[2] for a in talk.conversation.to_client] == [501, 2]


def test_a_refused_request_without_a_reply_is_not_answered():
    refuse(Talk(), op_msg(body(PING), flags=MORE_TO_COME)).idle()
    refuse(Talk(), op_insert("t.c", {})).idle()


# ------------------------------------------------------------------ what cannot be read


@pytest.mark.parametrize(
    "malformed", [m for m in ALL if m.reading in ("problem", "command")], ids=lambda m: m.name
)
def test_what_cannot_be_read_is_upstreams_to_judge(malformed):
    answer = reply({"ok": 0.0, "code": 1}, 1)
    (
        Talk()
        .client(malformed.frame)
        .upstream_gets(malformed.frame)
        .upstream(answer)
        .client_gets(answer)
        .idle()
    )


@pytest.mark.parametrize("malformed", [m for m in ALL if m.reading == "wire"], ids=lambda m: m.name)
def test_what_every_server_closes_for_closes_here(malformed):
    talk = Talk().client(malformed.frame).closes("client message")
    assert talk.observer.only("violation") == [("client message",)]


@pytest.mark.parametrize("malformed", [m for m in ALL if m.reading == "wire"], ids=lambda m: m.name)
def test_but_not_before_everything_else_is_answered(malformed):
    (
        Talk()
        .client(ONE)
        .upstream_gets(ONE)
        .client(TWO)
        .upstream_gets(TWO)
        .client(malformed.frame, THREE)
        .ends("client message")
        .upstream(FIRST)
        .client_gets(FIRST)
        .ends("client message")
        .upstream(SECOND)
        .client_gets(SECOND)
        .closes("client message")
    )


def test_broken_framing_ends_in_the_same_way():
    talk = Talk().client(ONE).upstream_gets(ONE)
    talk.conversation.on_garbage("a length")
    talk.ends("client framing: a length")
    talk.upstream(FIRST).client_gets(FIRST).closes("client framing: a length")
    idle = Talk()
    idle.conversation.on_garbage("a length")
    idle.closes("client framing")


def test_a_refusal_that_waits_is_sent_before_the_end():
    talk = Talk().client(ONE).upstream_gets(ONE)
    refuse(talk, TWO)
    talk.conversation.on_garbage("x")
    talk.upstream(FIRST)
    assert len(talk.conversation.to_client) == 2
    assert talk.conversation.close


# ------------------------------------------------------------------ long replies


#: No shorter where it is compressed.
NOISE = random.Random(1).randbytes(PASS_ABOVE + 100)

LONG = reply({"ok": 1.0, "text": "x" * (2 * PASS_ABOVE)}, 1, 1001)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(place % len(data) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(at)]


@given(st.lists(st.integers(0, 10**6), max_size=6))
def test_any_split_of_replies_long_and_short_gives_the_client_the_same(places):
    talk = Talk()
    for request in (ONE, TWO, THREE, command(PING, 4)):
        talk.client(request).upstream_gets(request)
    stream = LONG + SECOND + reply({"ok": 1.0, "b": bytes(PASS_ABOVE)}, 3) + reply(OK, 4)
    got = b""
    for chunk in cut(stream, places):
        talk.upstream(chunk)
        got += b"".join(talk.conversation.to_client)
        talk.conversation.to_client.clear()
    assert got == stream
    talk.idle()
    assert [entry[0] for entry in talk.observer.only("replied")] == ["ping"] * 4


@given(st.lists(st.integers(0, 10**6), max_size=8), st.sampled_from([None, 1]))
def test_any_split_of_a_stream_of_long_replies(places, compressor):
    request = compressed(getmore(), compressor)
    talk = Talk().client(request).upstream_gets(request).client(TWO).upstream_gets(TWO)
    document = {"ok": 1.0, "data": NOISE}
    stream = b"".join(
        compressed(answer, compressor)
        for answer in (
            reply(document, 1, 501, flags=MORE_TO_COME),
            reply(OK, 501, 502, flags=MORE_TO_COME),
            reply(document, 502, 503, flags=MORE_TO_COME),
            reply(document, 503, 504),
            SECOND,
        )
    )
    got = b""
    for chunk in cut(stream, places):
        talk.upstream(chunk)
        got += b"".join(talk.conversation.to_client)
        talk.conversation.to_client.clear()
    assert got == stream
    talk.idle()


def test_a_long_reply_is_passed_on_while_it_arrives():
    talk = Talk().client(ONE).upstream_gets(ONE)
    talk.upstream(LONG[:63]).quiet()
    talk.upstream(LONG[63:1000]).client_gets(LONG[:1000])
    assert not talk.conversation.idle
    assert talk.conversation.command == "ping"
    talk.upstream(LONG[1000:-1]).client_gets(LONG[1000:-1])
    assert talk.conversation.in_flight == 1
    talk.upstream(LONG[-1:] + b"").client_gets(LONG[-1:]).idle()


def test_a_long_reply_is_verified_before_any_of_it_goes_out():
    talk = Talk().client(TWO).upstream_gets(TWO)
    talk.upstream(LONG[:1000]).closes("upstream pairing")


def test_a_long_reply_that_nobody_asked_for_goes_nowhere():
    talk = Talk()
    for chunk in cut(LONG, [10_000, 70_000]):
        talk.upstream(chunk)
    talk.closes("upstream pairing")


def test_a_long_legacy_stream_is_followed_by_its_cursor():
    request = op_query("t.c", {}, flags=QUERY_EXHAUST)
    long = {"text": "x" * PASS_ABOVE}
    stream = [
        op_reply(long, response_to=1, request_id=501, cursor_id=9),
        op_reply(long, response_to=501, request_id=502),
    ]
    talk = Talk().client(request).upstream_gets(request)
    for answer in stream:
        talk.upstream(answer[:100]).client_gets(answer[:100])
        talk.upstream(answer[100:]).client_gets(answer[100:]).quiet()
    talk.idle()


def test_a_refusal_waits_for_a_long_reply():
    talk = Talk().client(ONE).upstream_gets(ONE).upstream(LONG[:1000]).client_gets(LONG[:1000])
    refuse(talk, TWO).quiet()
    talk.upstream(LONG[1000:])
    assert talk.conversation.to_client[0] == LONG[1000:]
    assert HEADER.unpack_from(talk.conversation.to_client[1])[2] == 2


def test_a_compressed_stream_is_never_passed_on_unseen():
    # Whether another reply follows can only be told from the inflated one.
    big = deflate(reply({"b": NOISE}, 1, 501, flags=MORE_TO_COME), 0)
    assert HEADER.unpack_from(big)[3] == OP_COMPRESSED
    talk = Talk().client(getmore()).upstream_gets(getmore())
    talk.upstream(big[:200]).quiet()
    talk.upstream(big[200:]).client_gets(big)
    assert talk.conversation.streaming


# ------------------------------------------------------------------ what is told


def test_requests_and_replies_are_counted_with_their_times():
    talk = Talk().at(10.0).client(ONE).upstream_gets(ONE).at(12.0)
    fails = reply({"ok": 0.0, "code": 59}, 2)
    talk.client(TWO).upstream_gets(TWO).at(15.0).upstream(FIRST + fails).client_gets(FIRST, fails)
    assert talk.observer.seen == [
        ("request", "ping"),
        ("request", "ping"),
        ("replied", "ping", 5.0, True),
        ("failed", 59, "upstream"),
        ("replied", "ping", 3.0, False),
    ]
    assert talk.conversation.requests == 2


def test_what_is_due_has_a_name():
    talk = Talk()
    assert talk.conversation.command == ""
    talk.client(getmore()).upstream_gets(getmore())
    assert talk.conversation.command == "getMore"
    assert not talk.conversation.idle


def test_own_request_ids_are_no_clients_likely_choice():
    ids = []
    for _ in range(3):
        talk = refuse(Talk(), ONE)
        ids.append(HEADER.unpack_from(talk.conversation.to_client[0])[1])
    assert ids == [ids[0], ids[0] + 1, ids[0] + 2]
    assert ids[0] >= 0x4D530000


# ------------------------------------------------------------------ by namespace


def counted(talk: Talk) -> dict[str, tuple[int, int, int, int, int]]:
    assert talk.observer.namespaces is not None
    return {
        name: (one.requests, sum(one.counts), one.errors, one.received, one.sent)
        for (name, _), one in talk.observer.namespaces.counted().items()
    }


def by_namespace() -> Talk:
    observer = Telemetry("1")
    observer.name_namespaces(5)
    talk = Talk()
    talk.observer.namespaces = observer.namespaces
    assert observer.namespaces is not None
    observer.namespaces.admit = lambda name: True
    talk.observer.replied = observer.replied
    talk.conversation._namespaces = observer.namespaces
    return talk


FOUND = command({"find": "c", "$db": "t"}, 1)


def test_a_request_and_its_reply_are_counted_by_namespace() -> None:
    talk = by_namespace()
    talk.client(FOUND).upstream_gets(FOUND).upstream(FIRST).client_gets(FIRST)
    assert counted(talk) == {"t.c": (1, 1, 0, len(FOUND), len(FIRST))}
    error = reply({"ok": 0.0, "code": 1}, 1)
    talk.client(FOUND).upstream_gets(FOUND).upstream(error).client_gets(error)
    assert counted(talk)["t.c"] == (2, 2, 1, 2 * len(FOUND), len(FIRST) + len(error))


def test_a_long_reply_is_counted_when_all_of_it_is_there() -> None:
    talk = by_namespace()
    long = reply({"a": "x" * 2 * PASS_ABOVE, **OK}, 1)
    talk.client(FOUND).upstream_gets(FOUND).upstream(long[:-5]).client_gets(long[:-5])
    assert counted(talk)["t.c"][1] == 0
    talk.upstream(long[-5:]).client_gets(long[-5:])
    assert counted(talk)["t.c"] == (1, 1, 0, len(FOUND), len(long))


def test_a_long_error_is_one() -> None:
    talk = by_namespace()
    error = reply({"ok": 0.0, "errmsg": "x" * 2 * PASS_ABOVE, "code": 2}, 1)
    talk.client(FOUND).upstream_gets(FOUND).upstream(error[:-5]).client_gets(error[:-5])
    talk.upstream(error[-5:]).client_gets(error[-5:])
    assert counted(talk)["t.c"] == (1, 1, 1, len(FOUND), len(error))
    assert ("failed", 2, "upstream") in talk.observer.seen


def test_writes_that_nobody_answers_are_counted_with_those_like_them() -> None:
    talk = by_namespace()
    write = op_msg(
        body({"insert": "c", "$db": "t"}), sequence("documents", {"a": 1}), flags=MORE_TO_COME
    )
    talk.client(write).upstream_gets(write)
    assert talk.conversation.repeat_run(write * 3, MAX_MESSAGE_SIZE) == 3 * len(write)
    talk.upstream_gets(write * 3)
    assert counted(talk) == {"t.c": (4, 0, 0, 4 * len(write), 0)}


def test_a_refusal_is_an_error_of_its_namespace() -> None:
    talk = by_namespace()
    usage = talk.conversation._namespaces.usage(read_request(FOUND))
    talk.conversation.refuse(read_request(FOUND), REFUSAL, 0.0, usage)
    talk.conversation.to_client.clear()
    assert counted(talk)["t.c"][1:3] == (1, 1)

"""Hello and authentication: replies are held until upstream has said who that let in."""

from __future__ import annotations

from typing import Any

import bson
import pytest

from proxy.conversation.hello import ClientMetadata
from proxy.session.identity import NOBODY
from proxy.wire.compression import deflate, inflate
from proxy.wire.opcodes import (
    CHECKSUM_PRESENT,
    EXHAUST_ALLOWED,
    HEADER,
    MORE_TO_COME,
    OP_COMPRESSED,
)
from tests.build import body, command, element, op_msg, op_query, op_reply, raw_document, reply
from tests.talk import Talk, connection_status

PING = command({"ping": 1, "$db": "admin"}, 9)
PONG = reply({"ok": 1.0}, 9)
ALICE = connection_status(("alice", "app"), actions=("listSessions",))

START = command({"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": b"n", "$db": "app"}, 1)
CONTINUE = command({"saslContinue": 1, "conversationId": 1, "payload": b"c", "$db": "app"}, 1)
NOT_YET = reply({"conversationId": 1, "done": False, "payload": b"s", "ok": 1.0}, 1)
DONE = reply({"conversationId": 1, "done": True, "payload": b"", "ok": 1.0}, 1)
FAILED = reply({"ok": 0.0, "errmsg": "Authentication failed.", "code": 18}, 1)

#: Authentication steps and logout, with the replies that let somebody in or out.
STEPS = {
    "saslStart": (START, DONE),
    "saslContinue": (CONTINUE, DONE),
    "saslContinue without done": (CONTINUE, reply({"ok": 1.0}, 1)),
    "saslContinue, done as a number": (CONTINUE, reply({"ok": 1, "done": 0}, 1)),
    "authenticate": (
        command({"authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external"}, 1),
        reply({"dbname": "$external", "user": "CN=a", "ok": 1.0}, 1),
    ),
    "logout": (command({"logout": 1, "$db": "app"}, 1), reply({"ok": 1.0}, 1)),
    "OP_QUERY": (
        op_query("app.$cmd", {"saslContinue": 1, "payload": b""}),
        op_reply({"ok": 1.0, "done": True}, response_to=1),
    ),
    "OP_QUERY, an array": (
        op_query(
            "app.$cmd",
            raw_document(b"\x04$query\0" + bson.encode({"saslContinue": 1, "payload": b""})),
        ),
        op_reply({"ok": 1.0, "done": True}, response_to=1),
    ),
    "compressed": (deflate(CONTINUE, 2), deflate(DONE, 2)),
    "checksum": (
        command({"saslContinue": 1, "payload": b"", "$db": "app"}, 1, checksum=True),
        reply({"ok": 1.0, "done": True}, 1, checksum=True),
    ),
    "exhaust allowed": (
        command({"saslContinue": 1, "payload": b"", "$db": "a"}, 1, flags=EXHAUST_ALLOWED),
        DONE,
    ),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_reply_that_lets_somebody_in_waits_for_the_name(step):
    request, success = STEPS[step]
    talk = Talk().client(request).upstream_gets(request)
    assert talk.conversation.blocked
    talk.upstream(success).upstream_is_asked().quiet()
    assert talk.identity is NOBODY
    assert not talk.conversation.idle
    talk.upstream_says(ALICE).client_gets(success).idle()
    assert talk.identity.name == "alice@app"
    assert talk.identity.cluster_actions == {"listSessions"}
    assert talk.observer.only("identified") == [("alice@app",)]
    talk.client(PING).upstream_gets(PING).upstream(PONG).client_gets(PONG).idle()


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_is_passed_on_and_changes_nobody(step):
    request, _ = STEPS[step]
    failed = FAILED
    if HEADER.unpack_from(request)[3] == 2004:
        failed = op_reply({"ok": 0.0, "code": 18}, response_to=1)
    talk = Talk().client(request).upstream_gets(request).upstream(failed).client_gets(failed)
    talk.idle()
    assert talk.identity is NOBODY
    assert talk.observer.only("identified") == []


def test_ok_without_done_is_not_success():
    Talk().client(START).upstream_gets(START).upstream(NOT_YET).client_gets(NOT_YET).idle()


def test_a_whole_scram_exchange_asks_once():
    talk = Talk()
    for request, answer in ((START, NOT_YET), (CONTINUE, NOT_YET)):
        talk.client(request).upstream_gets(request).upstream(answer).client_gets(answer).idle()
    talk.client(CONTINUE).upstream_gets(CONTINUE).upstream(DONE).upstream_is_asked()
    talk.upstream_says(ALICE).client_gets(DONE).idle()


def test_the_last_word_on_who_is_there_replaces_the_one_before():
    talk = Talk()
    for status, name in (
        (ALICE, "alice@app"),
        (connection_status(("alice", "app"), ("bob", "b")), "alice@app,bob@b"),
        (connection_status(), ""),
    ):
        talk.client(CONTINUE).upstream_gets(CONTINUE).upstream(DONE).upstream_is_asked()
        talk.upstream_says(status).client_gets(DONE).idle()
        assert talk.identity.name == name
    assert talk.identity == NOBODY


def test_requests_before_the_step_are_answered_before_the_question():
    (
        Talk()
        .client(PING)
        .upstream_gets(PING)
        .client(CONTINUE)
        .upstream_gets(CONTINUE)
        .upstream(PONG)
        .client_gets(PONG)
        .upstream(DONE)
        .upstream_is_asked()
        .upstream_says(ALICE)
        .client_gets(DONE)
        .idle()
    )


@pytest.mark.parametrize(
    "request_frame",
    [
        op_msg(body({"saslContinue": 1, "payload": b"", "$db": "a"}), flags=MORE_TO_COME),
        op_msg(body({"logout": 1, "$db": "a"}), flags=MORE_TO_COME),
        deflate(op_msg(body({"logout": 1, "$db": "a"}), flags=MORE_TO_COME), 1),
        op_msg(body({"hello": 1, "speculativeAuthenticate": {}, "$db": "a"}), flags=MORE_TO_COME),
    ],
)
def test_a_step_without_a_reply_is_asked_about_at_once(request_frame):
    talk = Talk().client(PING).upstream_gets(PING)
    talk.conversation.on_request(request_frame, 0.0)
    assert talk.conversation.to_upstream.pop(0) == request_frame
    talk.upstream_is_asked().upstream(PONG).client_gets(PONG).quiet()
    assert talk.conversation.blocked
    talk.upstream_says(ALICE).idle()
    assert talk.identity.name == "alice@app"


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": 0.0, "errmsg": "no", "code": 13},
        {"ok": 1.0},
    ],
)
def test_when_nobody_can_say_who_it_is_the_connection_closes(answer):
    talk = Talk().client(CONTINUE).upstream_gets(CONTINUE).upstream(DONE).upstream_is_asked()
    talk.upstream_says(answer).closes("upstream identity")
    assert talk.identity is NOBODY


def test_another_reply_in_place_of_the_answer_closes():
    talk = Talk().client(CONTINUE).upstream_gets(CONTINUE).upstream(DONE).upstream_is_asked()
    talk.upstream(PONG).closes("upstream pairing")


def test_where_versions_are_required_the_question_is_put_again_with_one():
    required = {"ok": 0.0, "errmsg": "apiVersion is required", "code": 498870}
    talk = Talk().client(CONTINUE).upstream_gets(CONTINUE).upstream(DONE).upstream_is_asked()
    talk.upstream_says(required).upstream_is_asked(apiVersion="1").quiet()
    talk.upstream_says(ALICE).client_gets(DONE).idle()
    again = Talk().client(CONTINUE).upstream_gets(CONTINUE).upstream(DONE).upstream_is_asked()
    again.upstream_says(required).upstream_is_asked(apiVersion="1")
    again.upstream_says(required).closes("upstream identity")


def test_an_authentication_that_streams_closes():
    streaming = reply({"ok": 1.0, "done": True}, 1, flags=MORE_TO_COME)
    Talk().client(CONTINUE).upstream_gets(CONTINUE).upstream(streaming).closes("upstream message")


def test_a_long_authentication_reply_is_held_whole():
    long = reply({"done": True, "payload": bytes(200_000), "ok": 1.0}, 1)
    talk = Talk().client(CONTINUE).upstream_gets(CONTINUE)
    for at in range(0, len(long), 65_536):
        talk.upstream(long[at : at + 65_536])
    talk.upstream_is_asked().upstream_says(ALICE).client_gets(long).idle()


def test_the_time_of_an_authentication_includes_the_question():
    talk = Talk().client(CONTINUE).upstream_gets(CONTINUE).at(2.0).upstream(DONE)
    talk.upstream_is_asked().at(3.0).upstream_says(ALICE).client_gets(DONE)
    assert talk.observer.only("replied") == [("saslContinue", 3.0, True)]


def test_broken_bytes_while_asked_end_behind_the_held_reply():
    talk = Talk().client(CONTINUE).upstream_gets(CONTINUE).upstream(DONE).upstream_is_asked()
    talk.conversation.on_garbage("x")
    talk.ends("client framing").upstream_says(ALICE).client_gets(DONE).closes("client framing")


# ------------------------------------------------------------------ speculative


SPECULATION = {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": b"n", "db": "app"}


def hello(**more: Any) -> bytes:
    return command({"hello": 1, **more, "$db": "admin"}, 1)


def test_a_speculative_authentication_that_is_complete_is_held():
    request = hello(speculativeAuthenticate=SPECULATION)
    answer = reply({"ok": 1.0, "speculativeAuthenticate": {"done": True, "payload": b""}}, 1)
    talk = Talk().client(request).upstream_gets(request)
    assert talk.conversation.blocked
    talk.upstream(answer).upstream_is_asked()
    talk.upstream_says(ALICE).client_gets(answer).idle()
    assert talk.identity.name == "alice@app"


def test_x509_is_complete_when_hello_returns():
    request = hello(speculativeAuthenticate={"authenticate": 1, "mechanism": "MONGODB-X509"})
    answer = reply({"ok": 1.0, "speculativeAuthenticate": {"user": "CN=a"}}, 1)
    talk = Talk().client(request).upstream_gets(request).upstream(answer).upstream_is_asked()
    talk.upstream_says(ALICE).client_gets(answer).idle()


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": 1.0, "speculativeAuthenticate": {"done": False, "payload": b""}},
        {"ok": 1.0},
        {"ok": 0.0, "code": 1},
    ],
)
def test_a_speculation_that_goes_on_or_fails_is_not_success(answer):
    request = hello(speculativeAuthenticate=SPECULATION)
    frame = reply(answer, 1)
    Talk().client(request).upstream_gets(request).upstream(frame).client_gets(frame).idle()


# ------------------------------------------------------------------ X509


def refusing() -> Talk:
    return Talk(refuse_x509=True)


X509 = command({"authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external"}, 1)
NO_CERTIFICATE = {
    "ok": 0.0,
    "errmsg": "There is no x.509 client certificate matching the user.",
    "code": 18,
    "codeName": "AuthenticationFailed",
}


def test_x509_through_the_proxys_certificate_is_refused():
    refusing().client(X509).client_is_told(X509, NO_CERTIFICATE).idle()


def test_that_refusal_takes_its_turn():
    talk = refusing().client(PING).upstream_gets(PING).client(X509).quiet()
    talk.upstream(PONG)
    first, second = talk.conversation.to_client
    assert first == PONG
    assert bson.decode(second[21:]) == NO_CERTIFICATE


def test_and_is_silent_where_no_reply_is_expected():
    refusing().client(command({"authenticate": 1, "$db": "$external"}, flags=MORE_TO_COME)).idle()


def test_speculative_x509_is_taken_out():
    request = hello(speculativeAuthenticate={"authenticate": 1, "mechanism": "MONGODB-X509"})
    answer = reply({"ok": 1.0}, 1)
    talk = refusing().client(request).upstream_gets(hello()).upstream(answer)
    talk.client_gets(answer).idle()


def test_scram_passes_all_the_same():
    talk = refusing().client(START).upstream_gets(START).upstream(NOT_YET).client_gets(NOT_YET)
    talk.idle()


# ------------------------------------------------------------------ hello


ADDRESSES = {"up1:27017": "proxy:1", "up2:27017": "proxy:2"}
MEMBER = {
    "hosts": ["up1:27017", "up2:27017"],
    "primary": "up1:27017",
    "me": "up2:27017",
    "setName": "rs",
    "ok": 1.0,
}
SHOWN = {
    "hosts": ["proxy:1", "proxy:2"],
    "primary": "proxy:1",
    "me": "proxy:2",
    "setName": "rs",
    "ok": 1.0,
}


def rewriting(**more: Any) -> Talk:
    return Talk(own="proxy:2", addresses=lambda: ADDRESSES, **more)


@pytest.mark.parametrize("name", ["hello", "isMaster", "ismaster"])
@pytest.mark.parametrize("compressor", [None, 1, 2, 3])
def test_members_are_shown_under_their_listeners(name, compressor):
    request = command({name: 1, "$db": "anything"}, 1)
    answer, shown = reply(MEMBER, 1), reply(SHOWN, 1)
    talk = rewriting()
    if compressor is None:
        talk.client(request).upstream_gets(request).upstream(answer).client_gets(shown).idle()
    else:
        request = deflate(request, compressor)
        talk.client(request).upstream_gets(request).upstream(deflate(answer, compressor))
        [frame] = talk.conversation.to_client
        assert HEADER.unpack_from(frame)[3] == OP_COMPRESSED
        assert inflate(frame) == shown
    assert talk.observer.only("unknown member") == []


def test_members_in_op_reply_and_with_a_checksum():
    request = op_query("test.$cmd", {"ismaster": 1})
    answer, shown = (op_reply(document, response_to=1) for document in (MEMBER, SHOWN))
    rewriting().client(request).upstream_gets(request).upstream(answer).client_gets(shown).idle()
    request = command({"hello": 1, "$db": "admin"}, 1, checksum=True)
    answer, shown = (reply(document, 1, checksum=True) for document in (MEMBER, SHOWN))
    rewriting().client(request).upstream_gets(request).upstream(answer).client_gets(shown).idle()


def test_only_replies_to_hello_are_rewritten():
    answer = reply(MEMBER, 9)
    rewriting().client(PING).upstream_gets(PING).upstream(answer).client_gets(answer).idle()


def test_every_reply_of_a_streaming_hello_is_rewritten():
    request = command(
        {"hello": 1, "topologyVersion": {}, "maxAwaitTimeMS": 1, "$db": "admin"},
        1,
        flags=EXHAUST_ALLOWED,
    )
    talk = rewriting().client(request).upstream_gets(request)
    for request_id, response_to in ((501, 1), (502, 501)):
        talk.upstream(reply(MEMBER, response_to, request_id, flags=MORE_TO_COME))
        talk.client_gets(reply(SHOWN, response_to, request_id, flags=MORE_TO_COME)).quiet()
        assert talk.conversation.streaming
        assert talk.conversation.idle
    talk.upstream(reply(MEMBER, 502, 503)).client_gets(reply(SHOWN, 502, 503)).idle()


def test_a_hello_that_waits_does_not_count_as_work():
    talk = rewriting().client(hello()).upstream_gets(hello())
    assert talk.conversation.idle
    talk.client(PING).upstream_gets(PING)
    assert not talk.conversation.idle


def test_a_member_without_a_listener_is_left_out_and_told():
    answer = reply({**MEMBER, "hosts": ["up1:27017", "new:1"]}, 1)
    shown = reply({**SHOWN, "hosts": ["proxy:1"]}, 1)
    talk = rewriting().client(hello()).upstream_gets(hello()).upstream(answer).client_gets(shown)
    assert talk.observer.only("unknown member") == [()]


def test_the_map_is_asked_for_at_every_reply():
    known: dict[str, str] = {}
    talk = Talk(own="proxy:1", addresses=lambda: known or None)
    answer = reply(MEMBER, 1)
    talk.client(hello()).upstream_gets(hello()).upstream(answer).client_gets(answer)
    known.update(ADDRESSES)
    talk.client(hello()).upstream_gets(hello()).upstream(answer)
    [frame] = talk.conversation.to_client
    assert b"up1" not in frame


def test_compressors_are_taken_out_of_the_offer():
    request = hello(compression=["zstd", "lz4", "zlib"])
    Talk().client(request).upstream_gets(hello(compression=["zstd", "zlib"]))
    Talk(strip_compression=True).client(request).upstream_gets(hello())
    known = hello(compression=["snappy"])
    Talk().client(known).upstream_gets(known)


def test_a_broken_checksum_is_not_mended_by_a_change():
    request = bytearray(
        op_msg(body({"hello": 1, "compression": ["lz4"], "$db": "admin"}), checksum=True)
    )
    assert request[16] & CHECKSUM_PRESENT
    request[-1] ^= 1
    Talk().client(bytes(request)).closes("client message")


def test_a_hello_that_need_not_change_passes_with_its_broken_checksum():
    request = bytearray(op_msg(body({"hello": 1, "$db": "admin"}), checksum=True))
    request[-1] ^= 1
    Talk().client(bytes(request)).upstream_gets(bytes(request)).quiet()


def test_the_client_says_who_it_is_once():
    first = {"application": {"name": "app"}, "driver": {"name": "d", "version": "1"}, "os": {}}
    talk = Talk()
    assert talk.conversation.metadata is None
    for client in (first, {"application": {"name": "other"}}):
        request = hello(client=client)
        answer = reply({"ok": 1.0}, 1)
        talk.client(request).upstream_gets(request).upstream(answer).client_gets(answer)
    assert talk.conversation.metadata == ClientMetadata("app", "d", "1", "")


def test_a_hello_reply_that_cannot_be_read_closes():
    # It may name members, so it cannot be passed on unseen.
    broken = op_msg(b"\0\xff\0\0\0", response_to=1)
    talk = rewriting().client(hello()).upstream_gets(hello())
    talk.upstream(broken).closes("upstream message")


def test_a_hello_with_the_first_of_two_names_counts():
    twice = command(raw_document(element("hello", 1), element("saslContinue", 1)), 1)
    answer = reply(MEMBER, 1)
    talk = rewriting().client(twice).upstream_gets(twice).upstream(answer)
    talk.client_gets(reply(SHOWN, 1)).idle()

"""What is told of a request that was slow, when it is over."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.finished import Finished
from proxy.errors import CommandError
from tests.build import body, command, op_msg, op_query, op_reply, reply
from tests.talk import Talk

LSID = {"id": Binary(bytes(16), 4)}
FIND = {"find": "orders", "filter": {"secret": 1}, "comment": "page", "lsid": LSID, "$db": "shop"}
DONE = {"ok": 1.0}
OLD = UpstreamFacts(authorization=False, wire_version=9, has_transactions=True)


def slow_talk(**how: Any) -> Talk:
    talk = Talk(facts=OLD, **how)
    talk.observer.slow_seconds = 1.0
    return talk


def told(talk: Talk) -> list[Finished]:
    return [finished for (finished,) in talk.observer.only("slow")]


def answered(document: dict[str, Any], answer: dict[str, Any] = DONE, seconds: float = 2.0) -> Talk:
    talk = slow_talk().client(command(document))
    talk.now = seconds
    talk.conversation.to_upstream.clear()
    talk.upstream(reply(answer, 1))
    return talk


def test_a_slow_request_is_told_of_with_its_namespace_and_comment() -> None:
    [finished] = told(answered(FIND))
    assert finished[:3] == ("find", "shop.orders", "page")
    assert finished.session is not None
    assert finished.session.id == bytes(16)
    assert finished[4:8] == (2.0, 2.0, True, None)


def test_a_quick_one_is_not() -> None:
    assert told(answered(FIND, seconds=0.9)) == []
    assert len(told(answered(FIND, seconds=1.0))) == 1


def test_of_an_error_the_code_is_told() -> None:
    [finished] = told(answered(FIND, {"ok": 0.0, "code": 50, "errmsg": "too late"}))
    assert (finished.ok, finished.code) == (False, 50)


@pytest.mark.parametrize("size", [0, 100_000])
def test_of_a_long_one_the_same_is_told_without_keeping_it(size: int) -> None:
    [finished] = told(answered({**FIND, "filter": {"a": "x" * size}}))
    assert finished[:3] == ("find", "shop.orders", "page")


@pytest.mark.parametrize("comment", [{"a": 1}, 7, None, ["page"]])
def test_a_comment_that_is_no_text_is_not_told(comment: object) -> None:
    [finished] = told(answered({**FIND, "comment": comment}))
    assert finished.comment is None


def test_time_that_a_request_waited_here_is_the_proxys() -> None:
    talk = slow_talk()
    talk.now = 10.0
    talk.conversation.waited = 4.0
    talk.client(command(FIND)).conversation.to_upstream.clear()
    talk.now = 11.0
    talk.upstream(reply(DONE, 1))
    [finished] = told(talk)
    assert (finished.seconds, finished.upstream_seconds) == (5.0, 1.0)


def test_a_refusal_that_waited_its_turn_was_never_upstream() -> None:
    talk = slow_talk().client(command({**FIND, "comment": "first"}))
    talk.conversation.to_upstream.clear()
    error = CommandError(13, "Unauthorized", "no")
    from proxy.wire.messages import read_request

    talk.conversation.refuse(read_request(command(FIND, 2)), error, 0.0)
    talk.now = 3.0
    talk.upstream(reply(DONE, 1))
    first, refused = told(talk)
    assert (first.comment, first.upstream_seconds) == ("first", 3.0)
    assert (refused.seconds, refused.upstream_seconds, refused.code) == (3.0, 0.0, 13)


def test_what_is_held_here_after_the_answer_is_the_proxys() -> None:
    """Upstream should refuse it, and the proxy asks before it goes on."""
    talk = slow_talk()
    talk.client(command({**FIND, "txnNumber": "x"})).conversation.to_upstream.clear()
    talk.now = 2.0
    talk.upstream(reply({"ok": 0.0, "code": 14, "errmsg": "no"}, 1))
    [finished] = told(talk)
    assert (finished.seconds, finished.upstream_seconds, finished.ok) == (2.0, 2.0, False)


MORE = {"getMore": Int64(7), "collection": "orders", "lsid": LSID, "$db": "shop"}


@pytest.mark.parametrize(
    ("request_", "cursor", "slow"),
    [
        (MORE, {"nextBatch": [{}], "id": Int64(7), "ns": "shop.orders"}, True),
        (MORE, {"nextBatch": [], "id": Int64(0), "ns": "shop.orders"}, True),
        # It has waited for what is new: in vain, or by its own word, or for a change.
        (MORE, {"nextBatch": [], "id": Int64(7), "ns": "shop.orders"}, False),
        ({**MORE, "maxTimeMS": 500}, {"nextBatch": [{}], "id": Int64(7), "ns": "a.b"}, False),
        (MORE, {"nextBatch": [{}], "postBatchResumeToken": {}, "id": Int64(7)}, False),
    ],
)
def test_a_cursor_that_waits_for_what_is_new_is_not_slow(request_, cursor, slow) -> None:
    assert bool(told(answered(request_, {"cursor": cursor, **DONE}))) is slow


def test_one_whose_connection_ends_first_is_told_of_without_an_answer() -> None:
    talk = slow_talk().client(command(FIND))
    talk.conversation.closed(5.0)
    [finished] = told(talk)
    assert (finished.ok, finished.seconds) == (None, 5.0)


def test_one_with_a_long_reply_is_slow_when_all_of_it_is_there() -> None:
    talk = slow_talk().client(command(FIND))
    talk.conversation.to_upstream.clear()
    answer = reply({"cursor": {"firstBatch": ["x" * 200_000]}, **DONE}, 1)
    talk.upstream(answer[:100_000])
    talk.conversation.to_client.clear()
    talk.now = 2.0
    talk.upstream(answer[100_000:])
    [finished] = told(talk)
    assert finished.seconds == 2.0


def test_a_query_of_old_has_its_namespace_too() -> None:
    talk = slow_talk().client(op_query("shop.orders", {}))
    talk.conversation.to_upstream.clear()
    talk.now = 2.0
    talk.upstream(op_reply({"a": 1}, response_to=1))
    [finished] = told(talk)
    assert finished[:2] == ("", "shop.orders")


def test_a_hello_that_waits_for_news_is_never_told_of() -> None:
    hello = {"hello": 1, "maxAwaitTimeMS": 10_000, "topologyVersion": {}, "$db": "admin"}
    talk = slow_talk().client(op_msg(body(hello), flags=1 << 16))
    talk.conversation.to_upstream.clear()
    talk.now = 10.0
    talk.upstream(reply({**DONE, "maxWireVersion": 9}, 1))
    assert told(talk) == []


def test_off_nothing_is_kept() -> None:
    talk = Talk().client(command(FIND))
    assert talk.conversation._pending[0].told is None


# ------------------------------------------------------------------ traces

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def traced(document: dict[str, Any]) -> list[Finished]:
    talk = Talk(facts=OLD)
    talk.observer.traces = True
    talk.client(command(document))
    talk.conversation.to_upstream.clear()
    talk.now = 0.1
    talk.upstream(reply(DONE, 1))
    assert told(talk) == []
    return [finished for (finished,) in talk.observer.only("traced")]


@pytest.mark.parametrize(
    "comment",
    [PARENT, f"order page /*traceparent='{PARENT}'*/", {"traceparent": PARENT, "app": 1}],
)
def test_a_request_with_a_traceparent_is_told_of_however_quick(comment: object) -> None:
    [finished] = traced({**FIND, "comment": comment})
    assert (finished.parent, finished.seconds, finished.refused) == (PARENT, 0.1, False)


@pytest.mark.parametrize(
    "comment",
    [
        "order page",
        7,
        PARENT[:-1],
        f"{PARENT}a",
        PARENT.upper(),
        f"ff{PARENT[2:]}",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        {"traceparent": 1},
        {"inner": {"traceparent": PARENT}},
        [PARENT],
        "x" * 5_000 + PARENT,
    ],
)
def test_one_without_is_not(comment: object) -> None:
    assert traced({**FIND, "comment": comment}) == []


def test_without_a_comment_nothing_is_kept() -> None:
    talk = Talk(facts=OLD)
    talk.observer.traces = True
    talk.client(command({"find": "orders", "filter": {"comment": PARENT}, "$db": "shop"}))
    assert talk.conversation._pending[0].told is None

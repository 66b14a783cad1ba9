"""Requests behind the handshake are refused for as long as somebody says so."""

from __future__ import annotations

import pytest

from proxy.conversation.firsts import HANDSHAKE
from proxy.errors import CommandError
from tests.build import body, command, op_msg
from tests.talk import Watching, converse
from tests.upstreams import document

ERROR = CommandError(462, "IngressRequestRateLimitExceeded", "too many", ("RetryableError",))


@pytest.mark.parametrize("name", ["ping", "find", "endSessions", "odd"])
def test_what_is_refused_is_answered_in_turn_and_the_connection_stays(name: str) -> None:
    conversation = converse(Watching())
    errors: list[CommandError | None] = [ERROR, ERROR, None]
    conversation.until_used(lambda: errors.pop(0))
    for number in (5, 6):
        conversation.on_request(command({name: 1, "$db": "admin"}, number), 0.0)
        answer = conversation.to_client.pop()
        assert document(answer)["code"] == 462
        assert answer[8:12] == bytes([number, 0, 0, 0])
    assert not conversation.to_upstream
    assert conversation.quiet
    for number in (7, 8):
        conversation.on_request(command({"ping": 1, "$db": "admin"}, number), 0.0)
    assert not errors
    assert len(conversation.to_upstream) == 2


@pytest.mark.parametrize("name", sorted(HANDSHAKE))
def test_a_handshake_asks_nobody(name: str) -> None:
    conversation = converse(Watching())
    asked: list[None] = []
    conversation.until_used(lambda: asked.append(None))
    conversation.on_request(command({name: 1, "$db": "admin"}, 5), 0.0)
    assert not asked


def test_an_unacknowledged_write_is_refused_without_a_word() -> None:
    conversation = converse(Watching())
    conversation.until_used(lambda: ERROR)
    write = {"insert": "c", "documents": [{"_id": 1}], "writeConcern": {"w": 0}, "$db": "a"}
    conversation.on_request(op_msg(body(write), flags=2), 0.0)
    assert not conversation.to_upstream
    assert not conversation.to_client
    assert conversation.quiet

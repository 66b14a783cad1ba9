from __future__ import annotations

import pytest

from proxy.conversation.hello import HELLO_COMMANDS
from proxy.errors import CommandError
from tests.build import command
from tests.talk import Watching, converse
from tests.upstreams import document

ERROR = CommandError(6, "HostUnreachable", "not there")


@pytest.mark.parametrize("name", [*sorted(HELLO_COMMANDS), "ping", "find", "saslStart", "odd"])
def test_whatever_comes_first_is_refused_and_the_connection_ends(name: str) -> None:
    conversation = converse(Watching())
    conversation.refuse_all(ERROR)
    conversation.on_request(command({name: 1, "$db": "admin"}, 5), 0.0)
    (answer,) = conversation.to_client
    said = {"ok": 0.0, "code": 6, "codeName": "HostUnreachable", "errmsg": "not there"}
    assert document(answer) == said
    assert answer[8:12] == b"\5\0\0\0"
    assert conversation.close == "upstream not dialled: not there"
    assert not conversation.to_upstream
    conversation.on_request(command({"ping": 1, "$db": "admin"}, 6), 0.0)
    assert len(conversation.to_client) == 1

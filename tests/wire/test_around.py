"""What stands around a command is found where servers look for it."""

from __future__ import annotations

import pytest

from proxy.wire.around import (
    documents_of,
    is_wrapped_beside,
    numbers_to_return,
    repeated_in_metadata,
)
from proxy.wire.messages import read_request
from tests.build import command, document, element, op_command, op_query, raw_document

PING = {"ping": 1}


@pytest.mark.parametrize(
    ("sent", "beside"),
    [
        (op_query("a.$cmd", {"$query": PING, "$maxTimeMS": 1}), True),
        (op_query("a.$cmd", {"query": PING, "$maxTimeMS": None}), True),
        (op_query("a.$cmd", {"$query": {**PING, "$maxTimeMS": 1}}), False),
        (op_query("a.$cmd", {**PING, "$maxTimeMS": 1}), False),
        (op_query("a.$cmd", {**PING, "$query": {}, "$maxTimeMS": 1}), False),
    ],
)
def test_what_stands_beside_a_wrapper(sent: bytes, beside: bool) -> None:
    assert is_wrapped_beside(read_request(sent), b"$maxTimeMS") is beside


@pytest.mark.parametrize("count", [1, -1, 0, -(2**31)])
def test_how_many_documents_are_wanted(count: int) -> None:
    assert numbers_to_return(op_query("a.$cmd", PING, count=count)) == count


def test_the_documents_of_a_message() -> None:
    options = {**PING, "$queryOptions": {"x": 1}}
    longest = len(document(options)) + 10
    large = {**PING, "$db": "a", "x": "x" * longest}
    for sent, found in (
        (command(large), []),
        (op_command("a", "ping", PING, {"$c": large}), [PING]),
        (command({**PING, "$db": "a"}), [{**PING, "$db": "a"}]),
        (op_query("a.$cmd", {"$query": PING}), [{"$query": PING}]),
        (op_query("a.$cmd", PING, projection={"b": 1}), [PING, {"b": 1}]),
        (op_query("a.$cmd", options), [{**PING, "x": 1}, options]),
        (op_command("a", "ping", PING, {"$c": 1}), [PING, {"$c": 1}]),
    ):
        assert documents_of(read_request(sent), longest) == [document(one) for one in found]


@pytest.mark.parametrize(
    ("metadata", "repeated"),
    [
        ({}, None),
        ({"$a": 1}, None),
        ({"$b": 1, "$c": 2}, b"$c"),
        (raw_document(element("$a", 1), element("$b", 1), element("$a", 1)), b"$a"),
        (raw_document(element("$ssm", 1), element("$ssm", 1)), None),
        ({"$ssm": 1}, None),
    ],
)
def test_what_metadata_repeats(metadata: dict[str, int] | bytes, repeated: bytes | None) -> None:
    sent = op_command("a", "ping", {**PING, "$c": 1, "$ssm": 1}, metadata)
    assert repeated_in_metadata(read_request(sent)) == repeated


def test_other_messages_have_no_metadata() -> None:
    assert repeated_in_metadata(read_request(command({**PING, "$db": "a"}))) is None

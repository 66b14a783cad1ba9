"""Whatever form a request has, it is for the same namespace."""

from __future__ import annotations

import pytest
from bson import Int64

from proxy.wire.compression import deflate
from proxy.wire.messages import read_request
from proxy.wire.namespaces import comment_of, namespace_of
from tests.build import (
    body,
    command,
    element,
    frame,
    op_command,
    op_get_more,
    op_insert,
    op_msg,
    op_query,
    raw_document,
    sequence,
)

FIND = {"find": "orders", "filter": {"$db": "x", "find": "y"}, "comment": "page"}


@pytest.mark.parametrize(
    "message",
    [
        command({**FIND, "$db": "shop"}),
        command({"find": "orders", "$db": "shop", "filter": {}, "comment": "page"}),
        deflate(command({**FIND, "$db": "shop"}), 2),
        op_msg(body({**FIND, "$db": "shop"}), checksum=True),
        op_query("shop.$cmd", FIND),
        op_query("shop.$cmd", {"$query": FIND}),
    ],
)
def test_all_forms_of_a_find_are_for_the_same_namespace(message: bytes) -> None:
    request = read_request(message)
    assert namespace_of(request) == "shop.orders"
    assert comment_of(request) == "page"


@pytest.mark.parametrize(
    ("document", "namespace"),
    [
        ({"getMore": Int64(7), "collection": "orders"}, "shop.orders"),
        ({"getMore": Int64(7)}, "shop.$cmd"),
        ({"aggregate": "orders", "pipeline": []}, "shop.orders"),
        ({"aggregate": 1, "pipeline": []}, "shop.$cmd"),
        ({"findAndModify": "orders"}, "shop.orders"),
        ({"killCursors": "orders", "cursors": []}, "shop.orders"),
        # The name is a user's.
        ({"dropUser": "alice"}, "shop.$cmd"),
        ({"commitTransaction": 1}, "shop.$cmd"),
        ({"bulkWrite": 1, "ops": []}, "shop.$cmd"),
        ({"explain": {"find": "orders"}}, "shop.$cmd"),
    ],
)
def test_commands_have_their_collection_where_their_kind_has_it(document, namespace) -> None:
    assert namespace_of(read_request(command({**document, "$db": "shop"}))) == namespace


def test_documents_in_a_section_of_their_own_change_nothing() -> None:
    request = read_request(
        op_msg(sequence("documents", {"_id": 1}), body({"insert": "orders", "$db": "shop"}))
    )
    assert namespace_of(request) == "shop.orders"


def test_queries_of_old_have_it_in_front() -> None:
    assert namespace_of(read_request(op_query("shop.orders", {}))) == "shop.orders"
    assert namespace_of(read_request(op_get_more("shop.orders", 7))) == "shop.orders"
    assert namespace_of(read_request(frame(2005, bytes(4) + b"x" * 300))) == ""
    assert namespace_of(read_request(op_insert("shop.orders", {}))) == ""


def test_names_that_are_none_do_no_harm() -> None:
    twice = raw_document(
        element("find", "a"), element("$db", "shop"), element("$db", "other"), element("find", 1)
    )
    assert namespace_of(read_request(command(twice))) == "shop.a"
    assert namespace_of(read_request(command({"find": 1, "$db": 1}))) == ""
    assert namespace_of(read_request(command({"find": "a"}))) == ""
    assert len(namespace_of(read_request(command({"find": "a" * 5000, "$db": "shop"})))) == 255
    assert comment_of(read_request(command({"find": "a", "comment": {"a": 1}}))) is None


def test_the_old_form_of_commands_has_a_database_of_its_own() -> None:
    request = read_request(op_command("shop", "find", {"find": "orders"}))
    assert namespace_of(request) == "shop.orders"

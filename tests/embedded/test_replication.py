from __future__ import annotations

import pytest

from tests.embedded.support import Client, node


def test_the_set_is_its_only_member() -> None:
    client = Client(node())
    status = client.run("replSetGetStatus")
    (member,) = status["members"]
    assert (status["set"], status["myState"]) == ("rs0", 1)
    assert (member["name"], member["stateStr"]) == ("127.0.0.1:27017", "PRIMARY")
    config = client.run("replSetGetConfig")["config"]
    assert [member["host"] for member in config["members"]] == ["127.0.0.1:27017"]


@pytest.mark.parametrize("name", ["replSetGetStatus", "replSetGetConfig"])
def test_a_standalone_has_no_set(name: str) -> None:
    reply = Client(node(set_name=None)).run(name)
    assert (reply["code"], reply["errmsg"]) == (76, "not running with --replSet")

"""What differs from one server version to the next, as the embedded server plays them."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest
from bson import Int64

from proxy.embedded import EmbeddedUpstream
from proxy.embedded.versions import DEFAULT, named
from proxy.settings.process import Embedded
from tests.embedded.support import USERS
from tests.embedded.versions import ALL, ID, LSID, another, before, client, outcome, since


def test_the_settings_name_the_versions_that_there_are() -> None:
    version = get_type_hints(Embedded)["version"]
    assert get_args(version) == ALL
    assert Embedded().version == DEFAULT


@pytest.mark.parametrize(
    ("version", "wire"),
    [
        ("4.2", 8),
        ("4.4", 9),
        ("4.9", 12),
        ("5.0", 13),
        ("6.0", 17),
        ("7.0", 21),
        ("8.0", 25),
        ("8.2", 27),
    ],
)
def test_each_announces_itself(version: str, wire: int) -> None:
    asked = client(version)
    assert asked.run("hello")["maxWireVersion"] == wire
    assert asked.run("buildInfo")["version"] == f"{version}.0"
    assert asked.run("getParameter", featureCompatibilityVersion=1)[
        "featureCompatibilityVersion"
    ] == {"version": version}


# ---------------------------------------------------------------------- texts and names


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize(
    ("command", "named_since", "name"),
    [
        ({"killSessions": [{"id": ID, "x": 1}]}, "8.0", "IDLUnknownField"),
        ({"killSessions": [{}]}, "8.0", "IDLFailedToParse"),
        (
            {"ping": 1, "find": "c", "lsid": LSID, "txnNumber": Int64(1)},
            "5.0",
            None,
        ),
        (
            {"count": "c", "lsid": LSID, "txnNumber": Int64(1)},
            "5.0",
            "NotARetryableWriteCommand",
        ),
    ],
)
def test_codes_that_got_names(
    version: str, command: dict[str, Any], named_since: str, name: str | None
) -> None:
    reply = client(version).ask({**command, "$db": "admin"})
    if name is None:
        assert reply["codeName"] == "Location50889"
    elif version in since(named_since):
        assert reply["codeName"] == name
    else:
        assert reply["codeName"] == f"Location{reply['code']}"


@pytest.mark.parametrize("version", ALL)
def test_the_times_stand_last_from_4_9_on(version: str) -> None:
    names = list(client(version).run("nonsense"))
    assert (names[0] == "operationTime") == (version in before("4.9"))
    assert names.index("$clusterTime") > names.index("codeName")


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize(
    ("argument", "refused_since", "code"),
    [
        ({}, "7.0", 14),
        ({"0": LSID}, "7.0", 14),
        (1, "4.2", None),
        (None, "4.2", None),
        ([None], "8.2", "ok"),
    ],
)
def test_lists(version: str, argument: Any, refused_since: str, code: Any) -> None:
    reply = client(version).run("killSessions", argument)
    if code is None:
        expected = 10065
        if argument == 1 and version in since("7.0"):
            expected = 14
        if argument is None and version in since("8.0"):
            expected = 40414
        assert outcome(reply) == expected
    else:
        assert outcome(reply) == (code if version in since(refused_since) else "ok")


@pytest.mark.parametrize("version", ALL)
def test_binary_data_is_spelled_anew(version: str) -> None:
    text = client(version).run("killSessions", [{"id": bytes(16)}])["errmsg"]
    kind = "binData" if version in since("5.0") else "bindData"
    assert f"is the wrong {kind} type 'general'" in text


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("command", ["endSessions", "refreshSessions"])
def test_typed_session_commands_are_strict_and_record_nothing_wrong(
    version: str, command: str
) -> None:
    asked = client(version)
    fields = {"lsid": LSID, "comment": "x", "bogus": 1}
    reply = asked.run(command, [], **fields)
    recorded = len(list(asked.connection.node.sessions))
    if version in before("5.0"):
        assert (outcome(reply), recorded) == ("ok", 1)
        path = f"{command[0].upper()}{command[1:]}CmdFromClient"
    else:
        assert (outcome(reply), recorded) == (40415, 0)
        assert reply["errmsg"] == f"BSON field '{command}.bogus' is an unknown field."
        path = command
    text = asked.run(command, [{}])["errmsg"]
    assert text == f"BSON field '{path}.{command}.id' is missing but a required field"


@pytest.mark.parametrize("version", ALL)
def test_the_session_fields_are_the_commands_own_from_8_0_on(version: str) -> None:
    text = client(version).run("find", "c", lsid={})["errmsg"]
    root = "find" if version in since("8.0") else "OperationSessionInfo"
    assert text == f"BSON field '{root}.lsid.id' is missing but a required field"


@pytest.mark.parametrize("version", ALL)
def test_errors_about_statement_ids_print_them(version: str) -> None:
    text = client(version).run("insert", "c", db="app", documents=[{"a": 1}], stmtIds=[0, 1])[
        "errmsg"
    ]
    short = "Number of statement ids must match the number of batch entries"
    if version in before("5.0"):
        assert text == short
    else:
        assert text == (
            f"{short}. Got 2 statement ids but 1 operations. Statement ids: "
            "{ stmtIds: [ 0, 1 ] }. Write command: "
            '{ insert: "c", documents: [ { a: 1 } ], stmtIds: [ 0, 1 ] }'
        )


@pytest.mark.parametrize("version", ALL)
def test_a_number_that_is_too_old(version: str) -> None:
    asked = client(version)

    def insert(number: int, **fields: Any) -> dict[str, Any]:
        documents = [{"a": 1}]
        return asked.run(
            "insert", "c", db="app", documents=documents, lsid=LSID, txnNumber=Int64(number),
            **fields,
        )  # fmt: skip

    assert insert(5)["ok"]
    retried, begun = insert(4), insert(4, autocommit=False, startTransaction=True)
    assert (retried["code"], begun["code"]) == (225, 225)
    assert retried["errmsg"].startswith(
        "Retryable write with txnNumber 4 is prohibited"
        if version in since("4.9")
        else "Cannot start transaction 4 on session"
    )
    assert begun["errmsg"].startswith(
        "Cannot start transaction with { txnNumber: 4, txnRetryCounter: 0 } on session"
        if version in since("6.0")
        else "Cannot start transaction 4 on session"
    )
    assert (" -  -  because" in begun["errmsg"]) == (version in since("6.0"))


@pytest.mark.parametrize("version", ALL)
def test_replies_name_the_statements_that_were_retried(version: str) -> None:
    asked = client(version)
    documents = [{"a": 1}, {"a": 2}]
    for _ in range(2):
        reply = asked.run(
            "insert", "c", db="app", documents=documents, lsid=LSID, txnNumber=Int64(1)
        )
    assert reply["n"] == 2
    assert reply.get("retriedStmtIds") == ([0, 1] if version in since("5.0") else None)


@pytest.mark.parametrize("version", ALL)
def test_a_full_cache(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.embedded.sessions.MAX_SESSIONS", 0)
    reply = client(version).run("find", "c", lsid=LSID)
    assert reply["code"] == 261
    if version in before("4.9"):
        assert reply["errmsg"] == "cannot add session into the cache"
    else:
        named = " ID 00000000-" in reply["errmsg"]
        assert named == (version in since("6.0"))
        assert reply["errmsg"].endswith("because the number of active sessions is too high")


# ---------------------------------------------------------------------- kills


@pytest.mark.parametrize("version", ALL)
def test_kills_have_no_session_of_their_own_from_4_9_on(version: str) -> None:
    asked = client(version)
    new = version in since("4.9")
    fields = {"lsid": LSID, "txnNumber": Int64(1)}
    assert outcome(asked.run("killSessions", [], lsid=LSID)) == ("ok" if new else 11601)
    assert outcome(asked.run("killSessions", [], **fields)) == ("ok" if new else 50768)
    inside = asked.run("killSessions", [], **fields, autocommit=False, startTransaction=True)
    assert outcome(inside) == ("ok" if new else 263)
    assert bool(list(asked.connection.node.sessions)) != new


@pytest.mark.parametrize("version", ALL)
def test_kill_all_sessions_of_nobody(version: str) -> None:
    reply = client(version, ("root", "admin")).run("killAllSessions", [{"user": "x", "db": "y"}])
    assert outcome(reply) == ("ok" if version in since("6.0") else 11)


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize(
    ("pattern", "killed"),
    [
        ([{"users": [{"user": "bob", "db": "app"}], "roles": []}], True),
        ([{"users": [], "roles": [{"role": "nobody", "db": "x"}]}], True),
        ([{"uid": bytes(32), "users": [{"user": "alice", "db": "app"}], "roles": []}], False),
    ],
)
def test_users_and_roles_select_nothing(version: str, pattern: Any, killed: bool) -> None:
    alice = client(version, ("alice", "app"))
    system = another(alice, ("__system", "local"))
    alice.run("insert", "c", db="app", documents=[{"a": 1}])
    fields = {"lsid": LSID, "txnNumber": Int64(1), "autocommit": False}
    assert alice.run("find", "c", db="app", **fields, startTransaction=True)["ok"]
    assert system.run("killAllSessionsByPattern", pattern)["ok"]
    assert outcome(alice.run("find", "c", db="app", **fields)) == (251 if killed else "ok")


@pytest.mark.parametrize("version", ALL)
def test_more_than_one_impersonated_user(version: str) -> None:
    system = client(version, ("__system", "local"))
    users = [{"user": "a", "db": "x"}, {"user": "b", "db": "x"}]
    pattern = [{"users": users, "roles": []}]
    assert system.run("killAllSessionsByPattern", pattern)["ok"]
    system.run("find", "c", lsid=LSID)
    expected = 2 if version in since("6.0") else "ok"
    assert outcome(system.run("killAllSessionsByPattern", pattern)) == expected


# ---------------------------------------------------------------------- who one is


@pytest.mark.parametrize("version", ALL)
def test_one_user_per_connection_from_6_0_on(version: str) -> None:
    asked = client(version, ("alice", "app"))
    assert asked.log_in("alice", "app")["done"]
    same, other = asked.log_in("bob", "app"), asked.log_in("root", "admin")
    if version in before("6.0"):
        assert same["done"]
        assert other["done"]
        found = 2
    else:
        assert (same["code"], other["code"]) == (5626701, 5626702)
        found = 1
    users = asked.run("connectionStatus")["authInfo"]["authenticatedUsers"]
    assert len(users) == found
    assert asked.run("logout", db="app")["ok"]


@pytest.mark.parametrize("version", ALL)
def test_nobody(version: str) -> None:
    asked = client(version, authorization=True, users=USERS)
    text = asked.run("find", "c")["errmsg"]
    word = "Command" if version in since("7.0") else "command"
    assert text == f"{word} find requires authentication"


@pytest.mark.parametrize("version", since("7.0"))
def test_a_login_that_expired(version: str) -> None:
    asked = client(version, ("alice", "app"))
    assert asked.connection.node.expire_logins("alice@app") == 1
    status = asked.run("connectionStatus")
    assert status["ok"]
    assert status["authInfo"]["authenticatedUsers"] == []
    assert asked.run("ping")["ok"]
    reply = asked.run("find", "c", db="app", lsid=LSID)
    assert (reply["code"], reply["codeName"]) == (391, "ReauthenticationRequired")
    assert reply["errmsg"] == (
        "Command find requires reauthentication since the current authorization session has "
        "expired. Please re-auth."
    )
    assert list(asked.connection.node.sessions) == []
    assert asked.log_in("bob", "app")["code"] == 5626701
    assert asked.run("find", "c", db="app")["code"] == 391
    assert asked.log_in("alice", "app")["done"]
    assert asked.run("find", "c", db="app")["ok"]


@pytest.mark.parametrize("version", before("7.0"))
def test_logins_do_not_expire_before_7_0(version: str) -> None:
    with pytest.raises(ValueError, match="do not expire"):
        client(version).connection.node.expire_logins("alice@app")


def test_the_systems_own_user_may_do_anything() -> None:
    asked = client("8.0", ("__system", "local"))
    info = asked.run("connectionStatus", showPrivileges=True)["authInfo"]
    assert info["authenticatedUserPrivileges"] == [
        {"resource": {"anyResource": True}, "actions": ["anyAction"]}
    ]
    assert asked.run("killAllSessionsByPattern", [{"users": [], "roles": []}])["ok"]


# ---------------------------------------------------------------------- overload


@pytest.mark.parametrize("version", ALL)
def test_one_request_in_three_is_refused_unread_from_8_2_on(version: str) -> None:
    asked = client(version)
    asked.connection.node.reject_every = 3
    replies = [asked.run("find", "c", lsid=LSID) for _ in range(6)]
    refused = [reply["ok"] == 0.0 for reply in replies]
    if version in before("8.2"):
        assert not any(refused)
        return
    assert refused == [False, False, True] * 2
    reply = {name: replies[2][name] for name in ("ok", "errmsg", "code", "codeName", "errorLabels")}
    assert reply == {
        "ok": 0.0,
        "errmsg": "Rate limiter 'ingressRequestRateLimiter' rate exceeded",
        "code": 462,
        "codeName": "IngressRequestRateLimitExceeded",
        "errorLabels": ["SystemOverloadedError", "RetryableError"],
    }


def test_who_has_not_logged_in_is_not_refused() -> None:
    asked = client("8.2", authorization=True, users=USERS)
    asked.connection.node.reject_every = 1
    assert asked.run("ping")["ok"]
    assert asked.log_in("alice", "app")["done"]
    assert asked.run("ping")["code"] == 462


@pytest.mark.parametrize(
    ("wire", "name"), [(0, "4.2"), (8, "4.2"), (9, "4.4"), (16, "5.0"), (21, "7.0"), (99, "8.2")]
)
def test_a_version_by_its_wire_version(wire: int, name: str) -> None:
    assert named(wire) == name
    assert EmbeddedUpstream(max_wire_version=wire).node.version.name == name

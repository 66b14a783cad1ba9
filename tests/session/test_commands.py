"""What each command is narrowed to, and the cases in which the manual wins over the server."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary, Int64, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.control import HANDLERS
from proxy.session import bsonout
from proxy.session.caller import Caller
from proxy.session.commands import SESSION_COMMANDS
from proxy.session.identity import NO_OWNER, user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.known import KnownUsers
from proxy.session.patterns import Learnt
from proxy.session.plans import Ask, Forward, Plan, Refusal
from proxy.session.records import Selection
from proxy.session.store import SessionStore
from proxy.wire.messages import read_request
from tests import build
from tests.session.sessions import (
    ALICE,
    ANYBODY,
    AS_ALICE,
    BOB,
    IMPERSONATOR,
    KILLER,
    NOBODY,
    caller,
    deciding,
    lsid,
    request,
    selected,
    uuid,
)

EVERYBODY = Selection(everything=True)
BOTH = caller("alice@app", "bob@app")
ONE = Int64(1)
PATTERNS = "KillAllSessionsByPatternCmd.killAllSessionsByPattern"


def user(name: str, database: str = "app") -> dict[str, str]:
    return {"user": name, "db": database}


def key(number: int = 2, owner: bytes = ALICE) -> LogicalSessionId:
    return LogicalSessionId(uuid(number), owner)


def plan(document: dict[str, Any], who: Caller = AS_ALICE, **how: Any) -> Plan:
    decision = deciding(request(document), who, **how)
    assert isinstance(decision, Plan), decision
    return decision


def refusal(document: dict[str, Any], who: Caller = AS_ALICE, **how: Any) -> tuple[int, str]:
    decision = deciding(request(document), who, **how)
    assert isinstance(decision, Refusal), decision
    return decision.error.code, decision.error.errmsg


def sent(made: Plan) -> dict[str, Any]:
    (command,) = made.upstream
    document = bson.decode(command)
    assert document.pop("$db") == "admin"
    return document


# startSession


def test_start_session() -> None:
    made = plan({"startSession": 1, "bogus": 1, "$clusterTime": {"clusterTime": Timestamp(1, 1)}})
    id_ = bytes.fromhex("000102030405460788090a0b0c0d0e0f")
    assert made.reply == {"id": {"id": Binary(id_, 4)}, "timeoutMinutes": 30}
    assert made.lsids == (LogicalSessionId(id_, ALICE),)
    assert sent(made) == {
        "refreshSessions": [{"id": Binary(id_, 4)}],
        "$clusterTime": {"clusterTime": Timestamp(1, 1)},
    }


def test_start_session_of_a_name_too_long_is_made_though_of_no_use() -> None:
    name = "a" * 9999
    made = plan({"startSession": 1}, caller(f"{name}@admin"), timeout_minutes=7)
    assert made.lsids[0].uid == user_digest(name, "admin")
    assert made.reply["timeoutMinutes"] == 7
    assert sent(made) == {"ping": 1}


def test_start_session_finds_the_store_full() -> None:
    store = SessionStore(max_sessions=0)
    assert refusal({"startSession": 1}, store=store) == (261, "cannot add session into the cache")


def test_start_session_without_authorization_has_no_owner() -> None:
    made = plan({"startSession": 1}, caller("alice@app", authorization=False))
    assert made.lsids[0].uid == NO_OWNER


# refreshSessions, endSessions


@pytest.mark.parametrize("command", ["refreshSessions", "endSessions"])
def test_ids_are_sent_once_and_with_a_foreign_uid_only(command: str) -> None:
    ids = [lsid(2), lsid(3, ALICE), lsid(2), lsid(4, BOB)]
    who = caller("alice@app", may=("impersonate",))
    made = plan({command: ids, "comment": "hi", "lsid": lsid(9)}, who)
    assert made.lsids == (key(2), key(3), key(4, BOB))
    assert made.own_lsid == key(9)
    assert sent(made) == {
        command: [lsid(2), lsid(3), lsid(4, BOB)],
        "comment": "hi",
        "lsid": lsid(9),
    }


@pytest.mark.parametrize("command", ["refreshSessions", "endSessions"])
@pytest.mark.parametrize("value", [[None], {}, {"0": None}])
def test_nulls_mean_nothing_where_nothing_is_killed(command: str, value: Any) -> None:
    made = plan({command: value})
    assert made.lsids == ()
    assert sent(made) == {command: []}


@pytest.mark.parametrize("command", ["refreshSessions", "endSessions", "killSessions"])
def test_a_name_too_long_has_no_sessions(command: str) -> None:
    who = caller("a" * 9994 + "@admin")
    assert refusal({command: [lsid()]}, who) == (
        2,
        "Username too long to use with logical sessions",
    )
    assert plan({command: []}, who).lsids == ()


# killSessions


@pytest.mark.parametrize(
    ("who", "selection"),
    [
        (AS_ALICE, Selection(uids=frozenset((ALICE,)))),
        (KILLER, Selection(uids=KILLER.users)),
        (BOTH, Selection(uids=frozenset((ALICE, BOB)))),
        (ANYBODY, EVERYBODY),
        (caller("alice@app", authorization=False), EVERYBODY),
    ],
)
def test_killing_all_of_ones_own(who: Caller, selection: Selection) -> None:
    made = plan(
        {"killSessions": [], "lsid": lsid(9)} if who is AS_ALICE else {"killSessions": []}, who
    )
    assert made.selection == selection
    assert sent(made) == {"killSessions": []}


def test_kill_sessions_of_somebody_else() -> None:
    made = plan({"killSessions": [lsid(2, BOB), lsid(3)]}, KILLER)
    own = LogicalSessionId(uuid(3), user_digest("killer", "admin"))
    assert made.selection == Selection(keys=frozenset((key(2, BOB), own)))
    assert sent(made) == {"killSessions": [lsid(2, BOB), lsid(3)]}
    assert refusal({"killSessions": [lsid(2, BOB)]}) == (
        13,
        "Unauthorized to set user digest in LogicalSessionId",
    )


def test_a_kill_is_never_its_own_victim() -> None:
    made = plan({"killSessions": [lsid(4)], "lsid": lsid(4), "maxTimeMS": 5})
    assert made.selection == Selection(keys=frozenset((key(4),)))
    assert sent(made) == {"killSessions": [lsid(4)], "maxTimeMS": 5}


@pytest.mark.parametrize(
    ("command", "path", "who"),
    [
        ("killSessions", "KillSessionsCmd.killSessions", AS_ALICE),
        ("killAllSessions", "KillAllSessionsCmd.killAllSessions", KILLER),
        ("killAllSessionsByPattern", PATTERNS, KILLER),
    ],
)
def test_null_and_empty_documents_do_not_become_everybody(
    command: str, path: str, who: Caller
) -> None:
    for value in ([None], {"0": None}):
        assert refusal({command: value}, who) == (
            14,
            f"BSON field '{path}.0' is the wrong type 'null', expected type 'object'",
        )
    assert refusal({command: {}}, who) == (
        14,
        f"BSON field '{path}' is the wrong type 'object', expected type 'array'",
    )
    undefined = build.raw_document(
        b"\x04" + command.encode() + b"\0" + build.raw_document(b"\x060\0"),
        build.element("$db", "admin"),
    )
    decision = deciding(request(undefined), who)
    assert isinstance(decision, Refusal)
    assert "wrong type 'undefined'" in decision.error.errmsg


def test_null_behind_a_good_id() -> None:
    assert refusal({"killSessions": [lsid(), None]})[0] == 14


# killAllSessions


def test_kill_all_sessions() -> None:
    made = plan({"killAllSessions": []}, KILLER)
    assert (made.selection, sent(made)) == (EVERYBODY, {"killAllSessions": []})


def test_named_users_are_upstreams_to_find() -> None:
    made = plan({"killAllSessions": [user("bob"), user("bob"), user("x", "y")]}, KILLER)
    assert made.selection == Selection(uids=frozenset((BOB, user_digest("x", "y"))))
    assert sent(made) == {"killAllSessions": [user("bob"), user("x", "y")]}


def test_users_may_kill_their_own_by_name() -> None:
    made = plan({"killAllSessions": [user("alice"), user("alice")]})
    assert made.selection == Selection(uids=frozenset((ALICE,)))
    assert sent(made) == {"killSessions": []}


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ([], "[]"),
        ([user("bob")], '[ { user: "bob", db: "app" } ]'),
        (
            [user("alice"), user("bob")],
            '[ { user: "alice", db: "app" }, { user: "bob", db: "app" } ]',
        ),
        ([user("alice", "other")], '[ { user: "alice", db: "other" } ]'),
        ([None], "[ null ]"),
        ({}, "{}"),
        ("x", '"x"'),
    ],
)
def test_whoever_names_others_is_not_authorized(value: Any, printed: str) -> None:
    assert refusal({"killAllSessions": value}) == (
        13,
        "not authorized on admin to execute command"
        f' {{ killAllSessions: {printed}, $db: "admin" }}',
    )


def test_two_users_on_one_connection_are_nobodys_own() -> None:
    assert refusal({"killAllSessions": [user("alice")]}, BOTH)[0] == 13
    assert refusal({"killAllSessionsByPattern": [{"uid": ALICE}]}, BOTH)[0] == 13


# killAllSessionsByPattern


@pytest.mark.parametrize("value", [[], [{}], [{"uid": BOB}, {}]])
def test_the_empty_pattern_is_everybody(value: Any) -> None:
    made = plan({"killAllSessionsByPattern": value}, KILLER)
    assert (made.selection, sent(made)) == (EVERYBODY, {"killAllSessionsByPattern": []})
    assert refusal({"killAllSessionsByPattern": value})[0] == 13


@pytest.mark.parametrize(
    ("patterns", "selection", "upstream"),
    [
        (
            [{"uid": BOB}, {"uid": BOB}],
            Selection(uids=frozenset((BOB,))),
            [{"uid": BOB}],
        ),
        (
            [{"lsid": lsid(2, BOB)}],
            Selection(keys=frozenset((key(2, BOB),))),
            [{"lsid": lsid(2, BOB)}],
        ),
        (
            [{"lsid": lsid(2), "uid": BOB}],
            Selection(keys=frozenset((key(2, BOB),))),
            [{"lsid": lsid(2, BOB)}],
        ),
        (
            [{"users": [user("bob")]}],
            Selection(uids=frozenset((BOB,))),
            [{"uid": BOB}],
        ),
        (
            [{"users": [user("bob"), user("alice")], "uid": ALICE}],
            Selection(uids=frozenset((ALICE,))),
            [{"uid": ALICE}],
        ),
        (
            [{"users": [user("bob")], "lsid": lsid(2)}],
            Selection(keys=frozenset((key(2, BOB),))),
            [{"lsid": lsid(2, BOB)}],
        ),
        (
            [{"uid": ALICE, "lsid": lsid(2, ALICE)}, {"uid": ALICE}],
            Selection(uids=frozenset((ALICE,)), keys=frozenset((key(2, ALICE),))),
            [{"uid": ALICE}],
        ),
    ],
)
def test_patterns_select(patterns: list[Any], selection: Selection, upstream: list[Any]) -> None:
    made = plan({"killAllSessionsByPattern": patterns}, IMPERSONATOR)
    assert made.selection == selection
    assert sent(made) == {"killAllSessionsByPattern": upstream}


@pytest.mark.parametrize(
    "pattern",
    [
        {"users": [user("bob")], "uid": ALICE},
        {"lsid": lsid(2, BOB), "uid": ALICE},
        {"lsid": lsid(2, BOB), "users": [user("alice")]},
        {"users": [user("bob")], "roles": [], "uid": ALICE},
    ],
)
def test_a_pattern_that_matches_nobody_kills_nobody(pattern: dict[str, Any]) -> None:
    made = plan({"killAllSessionsByPattern": [pattern]}, IMPERSONATOR, learnt=Learnt())
    assert not made.selection
    assert sent(made) == {"ping": 1}


@pytest.mark.parametrize(
    ("lists", "selection"),
    [
        ({}, Selection(everything=True)),
        ({"uid": ALICE}, Selection(uids=frozenset((ALICE,)))),
        ({"users": [user("bob")]}, Selection(uids=frozenset((BOB,)))),
        (
            {"lsid": lsid(2, BOB)},
            Selection(keys=frozenset((LogicalSessionId(uuid(2), BOB),))),
        ),
    ],
)
@pytest.mark.parametrize("empty", [("users",), ("roles",), ("users", "roles")])
def test_an_empty_list_selects_as_if_it_were_not_given(
    lists: dict[str, Any], selection: Selection, empty: tuple[str, ...]
) -> None:
    pattern = {**{name: [] for name in empty}, **lists}
    document = {"killAllSessionsByPattern": [pattern]}
    assert plan(document, IMPERSONATOR, learnt=Learnt()).selection == selection
    # To give them at all takes impersonate.
    refused = deciding(request(document), KILLER)
    assert isinstance(refused, Refusal)
    assert refused.error.code == 13


def test_roles_select_whom_connections_and_upstream_have_shown() -> None:
    known = KnownUsers()
    known.seen(caller("alice@app").identity)
    role = {"role": "readWrite", "db": "app"}
    known._roles[ALICE] = frozenset((("readWrite", "app"),))
    document = {"killAllSessionsByPattern": [{"roles": [role]}]}
    asked = deciding(request(document), IMPERSONATOR, known=known)
    assert isinstance(asked, Ask)
    assert bson.decode(asked.commands[0]) == {"usersInfo": {"forAllDBs": True}, "$db": "admin"}
    learnt = Learnt(roles={BOB: frozenset((("readWrite", "app"),))}, gaps=["one"])
    made = plan(document, IMPERSONATOR, known=known, learnt=learnt)
    assert made.selection == Selection(uids=frozenset((ALICE, BOB)))
    assert made.unknown == "one"


def test_an_emulated_effect_asks_nothing() -> None:
    document = {"killAllSessionsByPattern": [{"roles": [{"role": "r", "db": "d"}]}]}
    made = plan(document, IMPERSONATOR, native=False)
    assert not made.selection
    assert sent(made) == {"ping": 1}


@pytest.mark.parametrize("field", ["users", "roles"])
def test_users_and_roles_need_impersonate(field: str) -> None:
    first = field[:-1]
    for value in ([], [{first: "a", "db": "b"}]):
        document = {"killAllSessionsByPattern": [{"uid": ALICE}, {field: value}]}
        assert refusal(document, KILLER) == (
            13,
            "Not authorized to impersonate in killAllSessionsByPattern",
        )
        assert refusal(document)[1].startswith("not authorized on admin")


def test_an_id_without_uid_means_whoever_owns_it() -> None:
    store = SessionStore()
    store.use(key(2, BOB), 0.0)
    store.use(key(3, NO_OWNER), 0.0)
    learnt = Learnt(owners={uuid(2): {ALICE}})
    made = plan(
        {"killAllSessionsByPattern": [{"lsid": lsid(2)}]}, KILLER, store=store, learnt=learnt
    )
    (own,) = KILLER.users
    assert made.unknown == "owners of an lsid without uid: killer@admin may not list sessions"
    assert made.selection == Selection(keys=frozenset((key(2, BOB), key(2, ALICE), key(2, own))))


def test_an_id_without_uid_asks_upstream_whose_it_is() -> None:
    who = caller("root@admin", may=("killAnySession", "listSessions"))
    asked = deciding(request({"killAllSessionsByPattern": [{"lsid": lsid(2)}]}), who)
    assert isinstance(asked, Ask)
    (command,) = map(bson.decode, asked.commands)
    assert command["pipeline"][1] == {"$match": {"_id.id": {"$in": [Binary(uuid(2), 4)]}}}


@pytest.mark.parametrize(
    ("patterns", "selection", "upstream"),
    [
        ([{"uid": ALICE}], Selection(uids=frozenset((ALICE,))), []),
        ([{"lsid": lsid(2)}], Selection(keys=frozenset((key(2),))), [lsid(2)]),
        ([{"lsid": lsid(2, ALICE)}], Selection(keys=frozenset((key(2),))), [lsid(2)]),
        (
            [{"lsid": lsid(2), "uid": ALICE}],
            Selection(keys=frozenset((key(2),))),
            [lsid(2)],
        ),
    ],
)
def test_users_may_kill_their_own_by_pattern(
    patterns: list[Any], selection: Selection, upstream: list[Any]
) -> None:
    made = plan({"killAllSessionsByPattern": patterns})
    assert made.selection == selection
    assert sent(made) == {"killSessions": upstream}


@pytest.mark.parametrize(
    "pattern",
    [
        {"uid": BOB},
        {"lsid": lsid(2, BOB)},
        {"lsid": lsid(2), "uid": BOB},
        {"lsid": lsid(2, BOB), "uid": ALICE},
        {"users": [user("alice")]},
        {"uid": ALICE, "users": [user("alice")]},
        {"uid": None},
        {"lsid": None},
        {"bogus": 1},
    ],
)
def test_patterns_that_name_others_are_not_authorized(pattern: dict[str, Any]) -> None:
    for patterns in ([pattern], [{"uid": ALICE}, pattern]):
        code, errmsg = refusal({"killAllSessionsByPattern": patterns})
        assert code == 13
        assert errmsg.startswith("not authorized on admin to execute command { killAll")


@pytest.mark.parametrize("pattern", [{"lsid": None}, {"uid": None}, {"users": None}])
def test_null_in_a_pattern_does_not_become_everybody(pattern: dict[str, Any]) -> None:
    assert refusal({"killAllSessionsByPattern": [pattern]}, IMPERSONATOR)[0] in (14, 10065)


# What holds for all


COMMANDS = {
    "startSession": 1,
    "refreshSessions": [],
    "endSessions": [],
    "killSessions": [],
    "killAllSessions": [],
    "killAllSessionsByPattern": [],
}


@pytest.mark.parametrize(("command", "value"), COMMANDS.items())
def test_the_envelope_is_judged_in_the_servers_order(command: str, value: Any) -> None:
    def judged(who: Caller = KILLER, **fields: Any) -> tuple[int, str]:
        return refusal({command: value, **fields}, who)

    assert judged(NOBODY, lsid=1) == (13, f"command {command} requires authentication")
    assert judged(lsid=1, txnNumber=ONE)[0] == 14
    assert judged(lsid=lsid(), txnNumber=ONE)[0] == 50768
    assert judged(lsid=lsid(), txnNumber=ONE, autocommit=False) == (
        263,
        f"Cannot run '{command}' in a multi-document transaction.",
    )
    assert judged(writeConcern={"w": 1}) == (72, "Command does not support writeConcern")


@pytest.mark.parametrize(("command", "value"), COMMANDS.items())
def test_document_sequences_and_duplicates(command: str, value: Any) -> None:
    body = build.body({command: value, "$db": "admin"})
    one = read_request(build.op_msg(body, build.sequence("x", {})))
    decision = deciding(one, KILLER)
    assert isinstance(decision, Refusal)
    assert (decision.error.code, decision.error.errmsg) == (
        40472,
        f"The {command} command does not support document sequences.",
    )
    twice = build.raw_document(
        build.element(command, value),
        build.element("x", 1),
        build.element("x", 1),
        build.element("$db", "admin"),
    )
    decision = deciding(request(twice), KILLER)
    assert isinstance(decision, Refusal)
    assert decision.error.errmsg == "Parsed command object contains duplicate top level key: x"


@pytest.mark.parametrize(("command", "value"), COMMANDS.items())
@pytest.mark.parametrize(
    ("wish", "forward"),
    [
        *((wish, True) for wish in (True, 1, -1, 1.5, "x", "", b"", {}, [], bson.MinKey())),
        *((wish, False) for wish in (False, 0, 0.0, -0.0, bson.Int64(0), None)),
        (bson.Decimal128("0"), False),
        (bson.Decimal128("-0E+3"), False),
        (bson.Decimal128("0.1"), True),
    ],
)
def test_help_is_upstreams_to_give(command: str, value: Any, wish: Any, forward: bool) -> None:
    decision = deciding(request({command: value, "help": wish}), KILLER)
    assert isinstance(decision, Forward) is forward


def test_a_message_without_a_database_is_refused() -> None:
    decision = deciding(request(bson.encode({"killSessions": []})))
    assert isinstance(decision, Refusal)
    assert decision.error.code == 40571


def test_a_query_is_answered_for_its_database() -> None:
    one = read_request(build.op_query("app.$cmd", {"killAllSessions": []}))
    decision = deciding(one)
    assert isinstance(decision, Refusal)
    assert decision.error.errmsg == (
        'not authorized on app to execute command { killAllSessions: [], $db: "app" }'
    )
    made = deciding(read_request(build.op_query("app.$cmd", {"$query": {"killSessions": []}})))
    assert isinstance(made, Plan)
    assert bson.decode(made.upstream[0]) == {"killSessions": [], "$db": "app"}


def test_an_upstream_without_the_commands_is_only_asked_for_its_times() -> None:
    for command, value in COMMANDS.items():
        made = plan({command: value}, KILLER, native=False)
        assert sent(made) == {"ping": 1}


def test_long_lists_are_split() -> None:
    store = SessionStore()
    ids = [{"id": Binary(number.to_bytes(16, "big"), 4)} for number in range(2_500)]
    decision = deciding(request({"killSessions": ids}), store=store)
    assert isinstance(decision, Plan)
    sizes = [len(bson.decode(one)["killSessions"]) for one in decision.upstream]
    assert sizes == [bsonout.BATCH] * 2 + [500]
    assert len(decision.selection.keys) == 2_500
    parts = [decision.part(number).selection.keys for number in range(3)]
    assert [len(keys) for keys in parts] == sizes
    assert frozenset().union(*parts) == decision.selection.keys


def test_long_lists_of_users_and_owners_are_split_too() -> None:
    users = [{"user": f"u{number}", "db": "x"} for number in range(bsonout.BATCH + 1)]
    decision = deciding(request({"killAllSessions": users}), KILLER)
    assert isinstance(decision, Plan)
    assert decision.part(1).selection == Selection(
        uids=frozenset((user_digest(f"u{bsonout.BATCH}", "x"),))
    )
    lsids = [{"id": Binary(number.to_bytes(16, "big"), 4)} for number in range(bsonout.BATCH + 1)]
    decision = deciding(request({"endSessions": lsids}))
    assert isinstance(decision, Plan)
    assert list(decision.part(1).lsids) == [
        LogicalSessionId(bsonout.BATCH.to_bytes(16, "big"), ALICE)
    ]


def test_two_users_with_the_same_uuid_never_meet() -> None:
    store = SessionStore()
    store.use(key(2, ALICE), 0.0, "alice@app")
    store.use(key(2, BOB), 0.0, "bob@app")
    for document in (
        {"killSessions": [lsid(2)]},
        {"killSessions": []},
        {"killAllSessions": [user("alice")]},
        {"killAllSessionsByPattern": [{"lsid": lsid(2)}]},
        {"killAllSessionsByPattern": [{"uid": ALICE}]},
    ):
        made = plan(document, store=store)
        assert selected(store, made.selection) == {key(2, ALICE)}
    assert list(plan({"endSessions": [lsid(2)]}, store=store).lsids) == [key(2, ALICE)]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.text(max_size=3)
    | st.builds(Binary, st.binary(min_size=15, max_size=33), st.sampled_from([0, 3, 4])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "uid", "lsid", "users", "roles", "user", "role", "db", "0", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(
    st.sampled_from(list(COMMANDS)),
    values,
    st.dictionaries(st.sampled_from(["lsid", "txnNumber", "help", "x"]), values, max_size=2),
    st.sampled_from([AS_ALICE, KILLER, IMPERSONATOR, BOTH, NOBODY, ANYBODY]),
)
def test_no_argument_raises_or_widens(
    command: str, value: Any, fields: dict[str, Any], who: Caller
) -> None:
    decision = deciding(request({command: value, **fields}), who, learnt=Learnt())
    if isinstance(decision, Plan) and not who.may("killAnySession"):
        assert not decision.selection.everything
        assert decision.selection.uids <= who.users
        assert {one.uid for one in decision.selection.keys} <= who.users
    if isinstance(decision, Plan) and decision.selection.everything:
        entries = list(value.values()) if isinstance(value, dict) else value
        assert value == [] or {} in entries


@given(st.sampled_from(list(COMMANDS)), st.binary(max_size=60), st.sampled_from([3, 4]))
def test_arbitrary_bytes_are_decided_without_raising(
    command: str, payload: bytes, kind: int
) -> None:
    sized = (len(payload) + 5).to_bytes(4, "little") + payload + b"\0"
    argument = bytes((kind,)) + command.encode() + b"\0" + sized
    one = request(build.raw_document(argument, build.element("$db", "admin")))
    for who in (AS_ALICE, KILLER, BOTH):
        if one.command == command:
            assert deciding(one, who) is not None


def test_the_conversation_hands_over_every_command_that_is_decided_here() -> None:
    assert set(HANDLERS) == set(SESSION_COMMANDS) == set(COMMANDS)


ROOTS = {
    "refreshSessions": "RefreshSessionsCmdFromClient",
    "endSessions": "EndSessionsCmdFromClient",
    "killSessions": "KillSessionsCmd",
    "killAllSessions": "KillAllSessionsCmd",
    "killAllSessionsByPattern": "KillAllSessionsByPatternCmd",
}


@pytest.mark.parametrize("command", ROOTS)
@pytest.mark.parametrize(("value", "kind"), [({}, "object"), ({"0": {}}, "object"), (1, "int")])
def test_from_7_0_on_lists_are_arrays(command: str, value: Any, kind: str) -> None:
    who = caller("killer@admin", may=("killAnySession", "impersonate"), wire_version=21)
    path = f"{ROOTS[command]}.{command}"
    text = f"BSON field '{path}' is the wrong type '{kind}', expected type 'array'"
    assert refusal({command: value}, who) == (14, text)


@pytest.mark.parametrize("command", ROOTS)
def test_from_8_0_on_null_is_no_list(command: str) -> None:
    for version, code in ((17, 10065), (21, 10065), (25, 40414)):
        who = caller("killer@admin", may=("killAnySession",), wire_version=version)
        assert refusal({command: None}, who)[0] == code


@pytest.mark.parametrize("command", ["refreshSessions", "endSessions"])
def test_a_write_concern_goes_along_where_upstream_takes_it(command: str) -> None:
    document = {command: [lsid()], "writeConcern": {"w": 1}}
    for version in (None, 9):
        assert refusal(document, caller("alice@app", wire_version=version))[0] == 72
    made = plan(document, caller("alice@app", wire_version=12))
    assert sent(made)["writeConcern"] == {"w": 1}


@pytest.mark.parametrize("command", ["refreshSessions", "endSessions"])
@pytest.mark.parametrize("version", [None, 9, 12, 25])
def test_it_is_left_out_where_no_reply_is_wanted(command: str, version: int | None) -> None:
    one = request({command: [lsid()], "writeConcern": {"w": 0}, "comment": "bye"})
    one.expects_reply = False
    made = deciding(one, caller("alice@app", wire_version=version))
    assert isinstance(made, Plan)
    assert made.lsids
    assert sent(made) == {command: [lsid()], "comment": "bye"}

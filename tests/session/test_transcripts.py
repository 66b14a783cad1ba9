"""What a real server answered, against what is decided for the same request and caller."""

from __future__ import annotations

import bson
import pytest

from proxy.session.commands import SESSION_COMMANDS
from proxy.session.info import read_operation_session_info
from proxy.session.plans import Ask, Plan, Refusal
from tests.session.sessions import NAMES, Probe, deciding, recorded

#: Where the manual wins (``docs/differences.md``): ok here, an error there.
_OWN_SESSIONS = {
    "killAllSessions alice",
    "killAllSessions alice twice",
    "killAllSessions on app db",
    "killAllSessions with lsid",
    "killAllSessionsByPattern lsid id only",
    "killAllSessionsByPattern lsid own",
    "killAllSessionsByPattern uid alice",
    "killAllSessionsByPattern lsid and uid",
    "killAllSessionsByPattern on app db",
}
_ANY_OWNER = {
    "killAllSessionsByPattern lsid id only",
    "killAllSessionsByPattern lsid and uid",
}
_OK_HERE = {
    "mongos.alice": _OWN_SESSIONS | {"killSessions its own lsid"},
    "rsauth.alice": _OWN_SESSIONS | {"killSessions its own lsid"},
    "rsauth.killer": _ANY_OWNER | {"killSessions its own lsid"},
    "rsauth.root": _ANY_OWNER | {"killSessions its own lsid"},
    "rs.anonymous": _ANY_OWNER | {"killSessions its own lsid"},
    "standalone.anonymous": _ANY_OWNER | {"killSessions its own lsid"},
}
#: Only upstream knows its users: it is sent the names and answers this itself.
_USER_NOT_FOUND = 11

#: What 4.2 judges before the session fields and the proxy leaves to it.
_JUDGED_EARLIER = {"stmtIds too few", "stmtIds too many", "stmtIds empty", "txn commit on app db"}


def _control(name: str) -> list[Probe]:
    return [probe for probe in recorded(name) if probe.request.command in SESSION_COMMANDS]


@pytest.mark.parametrize("name", NAMES)
def test_session_control_is_decided_as_the_server_did(name: str) -> None:
    probes = _control(name)
    assert len(probes) > 100
    different = set()
    for probe in probes:
        decision = deciding(probe.request, probe.who)
        if isinstance(decision, Refusal):
            error = decision.error
            given = (error.code, error.code_name, error.errmsg)
            assert given == probe.error, probe.name
            assert error.labels == tuple(probe.reply.get("errorLabels", ()))
        elif probe.error is not None and probe.error[0] != _USER_NOT_FOUND:
            assert isinstance(decision, (Plan, Ask)), probe.name
            different.add(probe.name)
    assert different == _OK_HERE.get(name, set())


@pytest.mark.parametrize("name", NAMES)
def test_plans_answer_with_the_recorded_fields(name: str) -> None:
    for probe in _control(name):
        decision = deciding(probe.request, probe.who)
        if isinstance(decision, Plan) and probe.error is None:
            fields = [key for key in probe.reply if key not in ("operationTime", "$clusterTime")]
            assert [*decision.reply, "ok"] == fields, probe.name


@pytest.mark.parametrize("name", NAMES)
def test_plans_send_upstream_neither_transactions_nor_a_killers_lsid(name: str) -> None:
    for probe in _control(name):
        decision = deciding(probe.request, probe.who)
        if isinstance(decision, Plan):
            for command in map(bson.decode, decision.upstream):
                assert not command.keys() & {"txnNumber", "autocommit", "startTransaction"}
                assert not (decision.kills and "lsid" in command)
                assert command["$db"] == probe.request.database


@pytest.mark.parametrize("name", NAMES)
def test_session_fields_are_judged_as_the_server_did(name: str) -> None:
    judged = 0
    for probe in recorded(name):
        info = read_operation_session_info(probe.request, probe.who)
        if info.malformed is not None:
            if probe.name not in _JUDGED_EARLIER:
                error = info.malformed
                assert (error.code, error.code_name, error.errmsg) == probe.error, probe.name
                judged += 1
        elif probe.error is not None and b"lsid" in probe.request.fields:
            assert "OperationSessionInfo" not in probe.error[2], probe.name
            assert probe.error[0] not in (12, 207), probe.name
    assert judged > 70


@pytest.mark.parametrize("name", ["mongos.alice", "rs.anonymous", "rsauth.root"])
def test_statement_ids_against_the_manual_are_refused(name: str) -> None:
    forbidden = {
        probe.name: info.forbidden.errmsg
        for probe in recorded(name)
        if (info := read_operation_session_info(probe.request, probe.who)).forbidden is not None
    }
    assert forbidden == {
        "stmtIds descending": "stmtIds must be strictly increasing",
        "stmtIds negative": "stmtIds cannot be negative",
        "stmtId negative": "stmtId cannot be negative",
    }

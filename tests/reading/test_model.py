"""The model itself, against what a real server did: a second reading has to be right."""

from __future__ import annotations

import bson
import pytest

from tests import build, malformed, transcripts
from tests.reading.envelopes import LONGEST, V36, V40, V42, V50, V51, V80
from tests.reading.model import SESSION_CONTROL, Reading, SessionId, read
from tests.transcripts import Probe

ALL = (V36, V40, V42, V50, V51, V80)
_NAMES = frozenset(name.decode() for name in SESSION_CONTROL)


def _frame(probe: Probe) -> bytes:
    return build.command({**probe.request, "$db": probe.database})


def _probes() -> list[tuple[str, Probe]]:
    return [
        (f"{name}: {probe.name}", probe)
        for name in transcripts.names()
        for probe in transcripts.load(name).probes
    ]


def _is_about_the_deployment(reply: dict[str, object]) -> bool:
    """Who asks, and what kind of server, comes first; the model knows neither."""
    return reply.get("code") == 13 or "replica set member" in str(reply.get("errmsg"))


def test_what_the_model_refuses_was_refused_with_its_code() -> None:
    refused = [(name, read(_frame(probe), V42), probe.reply) for name, probe in _probes()]
    wrong = [
        (name, reading.code, reply)
        for name, reading, reply in refused
        if reading.outcome == "refused"
        if reply.get("code") != reading.code and not _is_about_the_deployment(reply)
    ]
    assert sum(reading.outcome == "refused" for _, reading, _ in refused) > 500
    assert not wrong


def test_what_was_wrong_with_session_fields_is_refused_by_the_model() -> None:
    wrong = []
    for name, probe in _probes():
        code, text = probe.reply.get("code"), str(probe.reply.get("errmsg", ""))
        if _NAMES & set(probe.request) or code == 13:
            continue
        about = "OperationSessionInfo" in text or "stmtId" in text or "tatement ids" in text
        if about or code in (50889, 207, 40413, 40571):
            reading = read(_frame(probe), V42)
            if (reading.outcome, reading.code) != ("refused", code):
                wrong.append((name, reading, code, text))
    assert not wrong


@pytest.mark.parametrize("version", ALL)
def test_what_real_clients_sent_is_read_as_commands(version: int) -> None:
    for where, frame in build.recorded("request"):
        reading = read(frame, version)
        by_query = frame[12:16] == b"\xd4\7\0\0" and version >= V51
        assert reading.outcome == "command" or (by_query and reading.code == 352), where


def test_sessions_of_real_clients_are_read_whole() -> None:
    statements = sessions = 0
    for _, frame in build.recorded("request"):
        reading = read(frame, V42)
        sessions += reading.session is not None
        statements += reading.start_transaction is True
    assert sessions > 100
    assert statements >= 5


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("case", malformed.ALL, ids=lambda case: case.name)
def test_broken_messages_get_the_servers_reaction(case: malformed.Malformed, version: int) -> None:
    reading = read(case.frame, version)
    if case.reaction == "close":
        assert reading.outcome in ("closed", "refused")
    elif case.reaction == "answer":
        assert reading.outcome == "command"
    elif case.codes == (288,):
        assert reading.outcome == ("refused" if version >= V42 else "command")
    elif case.name != "an unknown command":
        assert reading.outcome in ("refused", "closed")
        assert reading.code in (*case.codes, None, 22, 59)


def _query(document: object, version: int) -> Reading:
    return read(build.op_query("admin.$cmd", bson.encode(document)), version)  # type: ignore[arg-type]


LSID = {"id": bson.Binary(bytes(16), 4)}


@pytest.mark.parametrize("version", ALL)
def test_query_options(version: int) -> None:
    """Appended to 7.x, dropped from 8.0 on; and what is behind is the command."""
    reading = _query({"$queryOptions": {"lsid": LSID}, "isMaster": 1}, version)
    assert reading.command == b"isMaster"
    assert (reading.session is not None) == (V36 < version < V80)


def test_query_options_alone_name_the_command() -> None:
    assert _query({"$queryOptions": {"killAllSessions": []}}, V42).command == b"killAllSessions"


def test_a_wrapper_is_taken_off_before_query_options() -> None:
    inner = {"ping": 1, "$queryOptions": {"lsid": LSID}}
    reading = _query({"$query": inner, "$queryOptions": {"lsid": LSID}}, V42)
    assert (reading.command, reading.session) == (b"ping", None)


def test_metadata_of_op_command_counts() -> None:
    frame = build.op_command("app", "find", {"find": "c"}, {"lsid": LSID})
    assert read(frame, V40).session == SessionId(bytes(16))
    assert read(frame, V42).outcome == "closed"


def test_a_mechanism_ends_at_the_first_nul_to_4_2() -> None:
    frame = build.command({"authenticate": 1, "mechanism": "MONGODB-X509\0x", "$db": "$external"})
    assert read(frame, V42).mechanism == b"MONGODB-X509"
    assert read(frame, V50).mechanism == b"MONGODB-X509\0x"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((True, "yes"), (False, "no"), (None, "no"), (0, "no"), (-0.0, "no"), (1, "perhaps")),
        *(("", "perhaps"), ({}, "perhaps"), (bson.Decimal128("0E+9"), "no")),
        *((bson.Decimal128("NaN"), "perhaps"), (bson.Decimal128("-1"), "perhaps")),
    ],
)
def test_help(value: object, expected: str) -> None:
    frame = build.command({"killSessions": [], "help": value, "$db": "admin"})
    assert read(frame, V42).help == expected


@pytest.mark.parametrize(
    ("ids", "version", "expected"),
    [
        ([4, 5], V42, (4, 5)),
        ({"0": 4, "1": 4}, V42, (4, 4)),
        ({"0": 4, "1": 4}, V80, None),
        ([None, 1, None, 1], V42, (1, 1)),
        ([1], V42, None),
        ([bson.Int64(1), 2], V42, None),
    ],
)
def test_statement_ids(ids: object, version: int, expected: tuple[int, ...] | None) -> None:
    write = {"insert": "c", "documents": [{}, {}], "stmtIds": ids, "$db": "app"}
    reading = read(build.command(write), version)
    assert reading.statements == expected
    assert (reading.outcome == "refused") == (expected is None)


def test_length_limits() -> None:
    ping = build.command({"ping": 1, "$db": "admin"})
    for length in (15, -1, len(ping) + 1, LONGEST + 1):
        assert read(build.with_length(ping, length), V42).outcome == "closed"

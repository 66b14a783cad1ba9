"""What the product made of a frame, and where that is not what servers make of it.

The product may err to one side only. Of a request that it lets through untouched it must know
all that matters: the command, the database, the session and what is done with it, statement ids,
whether it is a login or a hello, and whether a reply comes. It may refuse or close instead, and it
need not know what a request says that servers of all versions refuse anyway.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import bson

from policies.stmt_ids import StmtIds
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.rule import Mode
from proxy.errors import WireError
from proxy.session.identity import NO_OWNER
from proxy.session.ids import LogicalSessionId, child_fields
from proxy.session.info import OperationSessionInfo, read_operation_session_info
from proxy.session.store import SessionStore
from proxy.wire.messages import read_request
from proxy.wire.opcodes import OP_COMMAND, OP_MSG
from tests import build
from tests.reading.envelopes import V36, V40, V42, V44, V50, V51, V60, V70, V80
from tests.reading.model import KILLS, SESSION_CONTROL, Reading, read
from tests.talk import Watching, converse

VERSIONS = (V36, V40, V42, V44, V50, V51, V60, V70, V80)

_FACTS = UpstreamFacts(authorization=False, has_transactions=True)
_MEMBERS = {"raw.example:1": "shown.example:2"}
_RULES = ((StmtIds(StmtIds.Settings()), Mode.ENFORCE),)
#: A reply that says something to whoever reads replies to hello, to logins, and of identities.
_REPLY = bson.encode(
    {
        "hosts": ["raw.example:1"],
        "me": "raw.example:1",
        "done": True,
        "speculativeAuthenticate": {"done": True},
        "authInfo": {"authenticatedUsers": [], "authenticatedUserRoles": []},
        "ok": 1.0,
    }
)


@dataclass
class Seen:
    """What a conversation did with one frame."""

    closed: bool = False
    #: What of the client's went upstream, changed or not.
    forwarded: bytes | None = None
    #: Commands of the proxy's own that followed: it has decided and acted.
    acted: list[bytes] = field(default_factory=list)
    answers: int = 0
    expects: bool = False
    is_control: bool = False
    is_login: bool = False
    is_hello: bool = False
    command: str = ""
    database: str | None = None
    info: OperationSessionInfo | None = None
    sessions: frozenset[LogicalSessionId] = frozenset()


def look(frame: bytes, known: int | None = None) -> Seen:
    """Hand the frame to a new conversation and answer whatever it asks.

    ``known`` is the version of which the conversation knows that upstream has it.
    """
    seen = Seen()
    conversation = converse(
        Watching(),
        facts=replace(_FACTS, wire_version=known),
        rules=_RULES,
        own="shown.example:2",
        addresses=lambda: _MEMBERS,
        refuse_x509=True,
    )
    conversation.on_request(frame, 0.0)
    if conversation.ending or conversation.close:
        seen.closed = True
        return seen
    seen.answers = len(conversation.to_client)
    try:
        request = read_request(frame)
    except WireError:
        return seen
    seen.command, seen.database = request.command, request.database
    seen.info = read_operation_session_info(request, conversation.desk.caller)
    store = conversation.desk.store
    sent = _taken(conversation.to_upstream)
    asked_about = conversation.blocked
    if not sent:
        return seen
    if asked_about and is_own(sent[0]):
        seen.is_control = True
        conversation.to_client.clear()
        while sent and is_own(sent[0]):
            seen.acted += sent
            conversation.on_upstream(answer_to(sent[-1], _REPLY), 0.0)
            sent = _taken(conversation.to_upstream)
            seen.closed = bool(conversation.close)
        seen.acted = seen.acted[1:]
        seen.answers = len(conversation.to_client)
        seen.forwarded = sent[0] if sent else None
        seen.expects = bool(conversation.in_flight) if sent else bool(seen.answers)
        seen.sessions = frozenset(_noted(store))
        return seen
    seen.forwarded = sent[0]
    seen.expects = conversation.in_flight > (len(sent) > 1)
    seen.sessions = frozenset(_noted(store))
    if not seen.expects:
        seen.is_login = len(sent) > 1
        return seen
    conversation.to_client.clear()
    conversation.on_upstream(answer_to(frame, _REPLY), 0.0)
    seen.is_login = any(is_own(one) for one in conversation.to_upstream)
    for one in _taken(conversation.to_upstream):
        conversation.on_upstream(answer_to(one, _REPLY), 0.0)
    seen.is_hello = b"shown.example" in b"".join(conversation.to_client)
    return seen


def _noted(store: SessionStore) -> Iterator[LogicalSessionId]:
    page = store.page(0, 10)
    return (LogicalSessionId(session.id, session.owner.uid) for session in page.sessions)


def _taken(queue: list[bytes]) -> list[bytes]:
    sent = list(queue)
    queue.clear()
    return sent


def is_own(frame: bytes) -> bool:
    """Whether the proxy made this up: its own ids are from a range of their own."""
    return 0x4D53 <= int.from_bytes(frame[6:8], "little") < 0x8000 and frame[8:12] == bytes(4)


def answer_to(frame: bytes, document: bytes, request_id: int = 1000) -> bytes:
    """The reply to a frame, in its form."""
    number = int.from_bytes(frame[4:8], "little", signed=True)
    opcode = int.from_bytes(frame[12:16], "little", signed=True)
    if opcode == 2012:
        opcode = int.from_bytes(frame[16:20], "little", signed=True)
    if opcode == OP_MSG:
        return build.reply(document, number, request_id)
    if opcode == OP_COMMAND:
        return build.frame(2011, document + b"\5\0\0\0\0", request_id, number)
    return build.op_reply(document, response_to=number, request_id=request_id)


# ---------------------------------------------------------------------- agreement


def read_differently(
    frame: bytes, versions: Sequence[int] = VERSIONS, known: int | None = None
) -> Iterator[tuple[str, int]]:
    """What the product takes for something else than servers do, each with the server's version.

    With ``known`` it knows the version, and that one alone counts.
    """
    wanted = versions if known is None else (known,)
    return differences(frame, look(frame, known), wanted, known)


def differences(
    frame: bytes, seen: Seen, versions: Sequence[int] = VERSIONS, known: int | None = None
) -> Iterator[tuple[str, int]]:
    """:func:`read_differently` of what was seen."""
    if seen.closed:
        return
    if seen.forwarded is None and seen.acted:
        # Where it does not know the version, one that reads it so is enough.
        acting = VERSIONS if known is None else (known,)
        faults = [list(_of_an_act(read(frame, version), seen)) for version in acting]
        if all(faults):
            for version, found in zip(acting, faults, strict=True):
                yield found[0], version
        return
    for version in versions:
        reading = read(frame, version)
        if seen.forwarded is None:
            if reading.outcome != "closed" and bool(seen.answers) != reading.answered:
                yield "answers", version
            continue
        if seen.forwarded is not frame:
            changed = read(seen.forwarded, version)
            if reading.code == 288 and changed.outcome == "command":
                yield "a wrong checksum mended", version
            reading = changed
        for what in _of_what_passed(reading, version, seen):
            yield what, version


def _of_an_act(reading: Reading, seen: Seen) -> Iterator[str]:
    """The proxy has decided the command itself."""
    if reading.outcome == "closed":
        yield "acted where servers close"
    elif reading.outcome == "refused":
        # What goes along with the proxy's own command may well be what they refuse.
        if not any(read(own, V42).outcome == "refused" for own in seen.acted):
            yield "acted on what servers refuse"
    elif reading.command.decode("latin-1") != seen.command:
        yield "acted on another command"
    elif reading.help == "yes":
        yield "acted on help"
    elif reading.answered != bool(seen.answers):
        yield "answers"


def _of_what_passed(reading: Reading, version: int, seen: Seen) -> Iterator[str]:
    if reading.outcome == "closed":
        return
    if reading.answered != seen.expects:
        yield "expects a reply"
    if reading.outcome == "refused":
        if reading.recorded == "yes" and _key(reading) not in seen.sessions:
            yield "a session that a refused request leaves"
        return
    if reading.outcome == "operation":
        return
    if not _is_same(reading.command, seen.command):
        yield "command"
    if not _is_same(reading.database, seen.database):
        yield "database"
    if reading.command in SESSION_CONTROL and reading.help != "yes":
        yield "session control passed" if reading.help == "no" else "help of mongod alone"
    if reading.is_login and not seen.is_login:
        yield "login"
    if reading.is_login and reading.mechanism == b"MONGODB-X509" and reading.help == "no":
        yield "X509 passed"
    if reading.is_hello and reading.answered and not seen.is_hello:
        yield "hello"
    yield from _of_sessions(reading, version, seen)


def _is_same(name: bytes, text: str | None) -> bool:
    """What is no UTF-8 is nobody's name: it need not be told from others of its kind."""
    try:
        return name.decode() == text
    except UnicodeDecodeError:
        return True


def _key(reading: Reading) -> LogicalSessionId:
    assert reading.session is not None
    return LogicalSessionId(reading.session.id, reading.session.uid or NO_OWNER)


def _of_sessions(reading: Reading, version: int, seen: Seen) -> Iterator[str]:
    if reading.command in KILLS or reading.command in SESSION_CONTROL:
        return
    if reading.recorded == "no":
        return
    if _key(reading) not in seen.sessions or len(seen.sessions) != 1:
        yield "session" if reading.recorded == "yes" else "session where no login is needed"
        return
    info = seen.info
    assert info is not None
    if reading.recorded != "yes" or reading.help != "no":
        return
    assert reading.session is not None
    child = b""
    if reading.session.txn_uuid is not None:
        child = child_fields(reading.session.txn_number, reading.session.txn_uuid)
    if info.malformed is None and info.child != child:
        # Its numbers have nothing to do with its parent's.
        yield "child session"
    if child and info.malformed is not None:
        return
    if info.malformed is not None:
        # Not expected to be carried out, and noted where it is: a lower bound is enough.
        if reading.start_transaction and version > V36:
            yield "startTransaction"
        if reading.txn_number is not None and _is_against_the_manual(reading.statements):
            yield "statement ids against the manual"
        return
    if reading.txn_number != info.txn_number:
        yield "txnNumber"
    if version > V36 and reading.autocommit != info.autocommit:
        yield "autocommit"
    if version > V36 and reading.start_transaction != info.start_transaction:
        yield "startTransaction"
    if reading.txn_number is not None and reading.autocommit is None:
        yield from _of_statements(reading, info)


def _of_statements(reading: Reading, info: OperationSessionInfo) -> Iterator[str]:
    ids = reading.statements
    if ids is None:
        return
    if info.stmt_ids is not None:
        mine: tuple[int, ...] = info.stmt_ids
    elif info.stmt_id is not None:
        mine = tuple(range(info.stmt_id, info.stmt_id + len(ids)))
    else:
        mine = tuple(range(len(ids)))
    if mine != ids:
        yield "statement ids"
    elif _is_against_the_manual(ids):
        yield "statement ids against the manual"


def _is_against_the_manual(ids: tuple[int, ...] | None) -> bool:
    return ids is not None and (
        any(number < 0 for number in ids)
        or any(before >= after for before, after in itertools.pairwise(ids))
    )

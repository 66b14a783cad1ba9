"""How servers read a request: a second reading, to hold the product's against.

Written from the reference and the recordings alone; nothing here is shared with ``proxy``. Where it
is not established what a server does, the reading that is worse for the proxy is given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tests.reading import documents
from tests.reading.documents import (
    ARRAY,
    BINARY,
    BOOL,
    INT,
    LONG,
    OBJECT,
    STRING,
    Document,
    Element,
)
from tests.reading.envelopes import (
    QUERY,
    V36,
    V40,
    V42,
    V44,
    V50,
    V51,
    V60,
    V70,
    V80,
    Closed,
    Envelope,
    Refused,
    unpack,
)

HELLO = frozenset((b"hello", b"isMaster", b"ismaster"))
LOGIN = frozenset((b"saslStart", b"saslContinue", b"authenticate", b"logout"))
KILLS = frozenset((b"killSessions", b"killAllSessions", b"killAllSessionsByPattern"))
SESSION_CONTROL = KILLS | {b"startSession", b"refreshSessions", b"endSessions"}

#: Need no login in every version; others need none in some.
_FREE = HELLO | {b"ping", b"saslStart", b"saslContinue", b"authenticate"}
_PERHAPS_FREE = frozenset(
    (
        *(b"logout", b"getnonce", b"buildInfo", b"buildinfo", b"connectionStatus", b"whatsmyuri"),
        *(b"isdbgrid", b"listCommands", b"_isSelf", b"getLastError", b"getlasterror"),
        *(b"getPrevError", b"getpreverror", b"resetError", b"reseterror", b"availableQueryOptions"),
        *(b"features", b"driverOIDCTest"),
    )
)
_FREE_SINCE_42 = _FREE | {b"connectionStatus", b"whatsmyuri", b"buildInfo", b"isdbgrid"}
_BY_OP_QUERY = HELLO | {
    *(b"_isSelf", b"authenticate", b"buildinfo", b"buildInfo", b"saslStart", b"saslContinue")
}
_BATCHES = {
    b"insert": b"documents",
    b"update": b"updates",
    b"delete": b"deletes",
    b"bulkWrite": b"ops",
}
_ONE_STATEMENT = frozenset((b"findAndModify", b"findandmodify"))
#: Generated parsers refuse these when they are doubled, in every version.
_KNOWN = frozenset(
    (b"lsid", b"txnNumber", b"autocommit", b"startTransaction", b"stmtId", b"stmtIds", b"help")
)
_NO_DATABASE = re.compile(rb'[\0/\\ ".]')


@dataclass(frozen=True)
class SessionId:
    id: bytes
    uid: bytes | None = None
    txn_number: int | None = None
    txn_uuid: bytes | None = None


@dataclass
class Reading:
    """What a server makes of one frame.

    ``refused`` is certain: nothing is executed. Then ``session`` is one that is recorded even so,
    and ``code`` the error, where it is known.
    """

    outcome: Literal["closed", "refused", "command", "operation"]
    answered: bool = False
    opcode: int = 0
    code: int | None = None
    command: bytes = b""
    database: bytes = b""
    session: SessionId | None = None
    #: Whether the session is recorded: not on commands that need no login, for some versions.
    recorded: Literal["yes", "no", "perhaps"] = "no"
    txn_number: int | None = None
    autocommit: bool | None = None
    start_transaction: bool | None = None
    statements: tuple[int, ...] | None = None
    mechanism: bytes | None = None
    is_login: bool = False
    is_hello: bool = False
    #: "perhaps": one kind of server (mongod, mongos) gives help, the other executes.
    help: Literal["no", "yes", "perhaps"] = "no"


def read(frame: bytes, version: int) -> Reading:
    """How a server of that wire version reads the frame."""
    try:
        envelope = unpack(frame, version)
    except Closed:
        return Reading("closed")
    except Refused as error:
        return Reading("refused", error.answered, error.opcode, error.code)
    if envelope.body is None:
        return Reading("operation", envelope.answered, envelope.opcode)
    reading = Reading("command", envelope.answered, envelope.opcode)
    try:
        _fill(reading, envelope, envelope.body, version)
    except Refused as error:
        reading.outcome, reading.code = "refused", error.code
    return reading


def _fill(reading: Reading, envelope: Envelope, body: Document, version: int) -> None:
    if not body:
        raise Refused(None)
    name = reading.command = body[0].name
    if envelope.opcode == QUERY and version >= V51 and name not in _BY_OP_QUERY:
        raise Refused(352)
    reading.database = _database(envelope, body)
    if not name or (name.startswith(b"$") and name != b"$eval"):
        raise Refused(59)
    if name in SESSION_CONTROL and envelope.sequences:
        raise Refused(40472)
    doubled = _doubled(body)
    free = _is_free(name, version)
    if doubled and (version == V40 or (version == V36 and not free)):
        raise Refused(40413)
    if doubled & _KNOWN:
        raise Refused(40413)
    if version > V36 or not free:
        _session(reading, body, version)
    if _NO_DATABASE.search(reading.database) or not 0 < len(reading.database) < 64:
        raise Refused(73)
    if doubled and version <= V44:
        raise Refused(9)
    reading.help = _help(documents.first(body, b"help"))
    _login(reading, name, body, version)
    if reading.help != "yes":
        reading.statements = _statements(name, body, envelope, version)


def _database(envelope: Envelope, body: Document) -> bytes:
    if envelope.database is not None:
        return envelope.database
    found = documents.first(body, b"$db")
    if found is None:
        raise Refused(40571)
    if found.type != STRING:
        raise Refused(14)
    return documents.text(found)


def _is_free(name: bytes, version: int) -> bool:
    """Whether it is certain that the command needs no login."""
    return name in (_FREE if version < V42 else _FREE_SINCE_42)


def _doubled(body: Document) -> frozenset[bytes]:
    names = [element.name for element in body]
    if len(set(names)) == len(names):
        return frozenset()
    return frozenset(name for name in names if names.count(name) > 1)


def _help(found: Element | None) -> Literal["no", "yes", "perhaps"]:
    """mongod asks whether the value is true; mongos wants the boolean itself, and a right one."""
    if not documents.is_true(found):
        return "no"
    certain = found is not None and found.type == BOOL and found.value == b"\1"
    return "yes" if certain else "perhaps"


def _session(reading: Reading, body: Document, version: int) -> None:
    """The generic fields of sessions: types, then what may stand beside what."""
    session = _session_id(documents.first(body, b"lsid"), version)
    number = documents.first(body, b"txnNumber")
    if not documents.is_nothing(number):
        assert number is not None
        if number.type != LONG:
            raise Refused(14)
        reading.txn_number = int(documents.number(number))
    if version > V36:
        reading.autocommit = _flag(documents.first(body, b"autocommit"))
        reading.start_transaction = _flag(documents.first(body, b"startTransaction"))
    if _is_free(reading.command, version):
        if reading.autocommit is not None:
            raise Refused(263)
        if reading.txn_number is not None:
            raise Refused(50889)
    reading.session = session
    reading.recorded = "no" if session is None else _recorded(reading.command, version)
    if reading.command in _FREE or reading.command in _PERHAPS_FREE or reading.command in KILLS:
        return
    _beside(reading, version)


def _recorded(command: bytes, version: int) -> Literal["yes", "no", "perhaps"]:
    if command in KILLS:
        return "perhaps" if version < V42 else "no"
    if command in _FREE or command in _PERHAPS_FREE:
        return "perhaps"
    return "yes"


def _beside(reading: Reading, version: int) -> None:
    number, autocommit, start = reading.txn_number, reading.autocommit, reading.start_transaction
    if number is not None and reading.session is None:
        raise Refused(20 if version == V36 else 72)
    if number is not None and number < 0:
        raise Refused(2 if version == V36 else 72)
    if autocommit is not None and number is None:
        raise Refused(72)
    if autocommit:
        raise Refused(72)
    if start is not None and autocommit is None:
        raise Refused(72)
    if start is False:
        raise Refused(72)
    if reading.command in SESSION_CONTROL and autocommit is False:
        raise Refused(263)
    if reading.command in SESSION_CONTROL and number is not None and version > V36:
        raise Refused(50768)


def _flag(found: Element | None) -> bool | None:
    if documents.is_nothing(found):
        return None
    assert found is not None
    if found.type != BOOL:
        raise Refused(14)
    return found.value != b"\0"


def _session_id(found: Element | None, version: int) -> SessionId | None:
    if documents.is_nothing(found):
        return None
    assert found is not None
    if found.type != OBJECT:
        raise Refused(14)
    known = [b"id", b"uid", b"txnNumber", b"txnUUID"] if version >= V60 else [b"id", b"uid"]
    values: dict[bytes, Element] = {}
    for element in documents.whole(found.value):
        if element.name not in known:
            raise Refused(40415)
        if element.name in values:
            raise Refused(40413)
        values[element.name] = element
    identity = values.get(b"id")
    if identity is None:
        raise Refused(40414)
    if documents.is_nothing(identity):
        if version > V40:
            raise Refused(40414)
        own = bytes(16)
    else:
        own = uuid(identity)
    uid = values.get(b"uid")
    number = values.get(b"txnNumber")
    child = values.get(b"txnUUID")
    if number is not None and not documents.is_nothing(number) and number.type != LONG:
        raise Refused(14)
    session = SessionId(
        own,
        None if documents.is_nothing(uid) else digest(uid),
        None if number is None or documents.is_nothing(number) else int(documents.number(number)),
        None if documents.is_nothing(child) else uuid(child),
    )
    if session.txn_number is not None and session.txn_uuid is None:
        raise Refused(72)
    return session


def uuid(element: Element | None) -> bytes:
    if element is None or element.type != BINARY:
        raise Refused(14)
    subtype, data = documents.binary(element)
    if subtype != 4:
        raise Refused(14)
    if len(data) != 16:
        raise Refused(207)
    return data


def digest(element: Element | None) -> bytes:
    if element is None or element.type != BINARY:
        raise Refused(14)
    subtype, data = documents.binary(element)
    if subtype != 0:
        raise Refused(14)
    if len(data) != 32:
        raise Refused(12)
    return data


def _login(reading: Reading, name: bytes, body: Document, version: int) -> None:
    if name in LOGIN:
        reading.is_login = True
        if name in (b"authenticate", b"saslStart"):
            reading.mechanism = _mechanism(name, body, version)
    if name in HELLO:
        reading.is_hello = True
        inner = documents.first(body, b"speculativeAuthenticate")
        if version >= V44 and inner is not None and inner.type == OBJECT:
            command = documents.whole(inner.value)
            if command and command[0].name in (b"saslStart", b"authenticate"):
                reading.is_login = True
                reading.mechanism = _mechanism(command[0].name, command, version)


def _mechanism(name: bytes, body: Document, version: int) -> bytes | None:
    found = documents.first(body, b"mechanism")
    if found is None or found.type != STRING:
        return None
    value = documents.text(found)
    if name == b"authenticate" and version <= V42:
        return value.partition(b"\0")[0]
    return value


def _statements(
    name: bytes, body: Document, envelope: Envelope, version: int
) -> tuple[int, ...] | None:
    """The ids that the statements are given, or None where they are only counted."""
    batch = _BATCHES.get(name)
    if batch is None and (name not in _ONE_STATEMENT or version < V50):
        return None
    if name == b"bulkWrite" and version < V80:
        return None
    if batch is None and documents.first(body, b"stmtIds"):
        raise Refused(40415)
    count = 1 if batch is None else _count(batch, body, envelope)
    base = documents.first(body, b"stmtId")
    if not documents.is_nothing(base) and base is not None and base.type != INT:
        raise Refused(14)
    listed = documents.first(body, b"stmtIds")
    ids = None if documents.is_nothing(listed) else _list_of_ids(listed, version)
    if ids is not None and len(ids) != count:
        raise Refused(16)
    if base is not None and not documents.is_nothing(base):
        if ids is not None:
            raise Refused(72)
        start = int(documents.number(base))
        return tuple(range(start, start + count))
    return ids


def _count(batch: bytes, body: Document, envelope: Envelope) -> int:
    if batch in envelope.sequences:
        return envelope.sequences[batch]
    found = documents.first(body, batch)
    if found is None or found.type not in (ARRAY, OBJECT):
        raise Refused(None)
    return len(documents.whole(found.value))


def index(name: bytes) -> int | None:
    """The number that an array's key stands for: decimal, octal or hexadecimal, as C reads it."""
    digits = name.removeprefix(b"+").lower()
    base = 16 if digits.startswith(b"0x") else 8 if digits.startswith(b"0") else 10
    digits = digits[2:] if base == 16 else digits
    if not digits or not digits.isalnum():
        return None
    try:
        return int(digits, base)
    except ValueError:
        return None


def _list_of_ids(found: Element | None, version: int) -> tuple[int, ...]:
    """Older servers take a document for an array; all skip null and undefined."""
    if found is None or found.type not in (ARRAY, OBJECT):
        raise Refused(10065 if version < V70 else 14)
    if found.type == OBJECT and version >= V70:
        raise Refused(14)
    ids = []
    for position, element in enumerate(documents.whole(found.value)):
        if index(element.name) != position:
            raise Refused(None)
        if documents.is_nothing(element):
            continue
        if element.type != INT:
            raise Refused(14)
        ids.append(int(documents.number(element)))
    return tuple(ids)

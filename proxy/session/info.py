"""What one request says of sessions, read and judged as the server does (4.2, reference 1.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from proxy.errors import CommandError, WireError
from proxy.session import idl, refusals
from proxy.session.ids import LogicalSessionId, make_key
from proxy.session.plainlists import plain_ints
from proxy.wire.fields import (
    ARRAY,
    DOCUMENT,
    DOUBLE,
    INT32_TYPE,
    Element,
    every,
    in_order,
    integer,
    true_value,
    walk,
)
from proxy.wire.layouts import TO_CHILD, TO_UID
from proxy.wire.opcodes import INT32, INT64

if TYPE_CHECKING:
    from proxy.session.caller import Caller
    from proxy.wire.messages import Request

_STRUCT: Final = "OperationSessionInfo"
_FIELDS: Final = frozenset((b"lsid", b"txnNumber", b"autocommit", b"startTransaction"))
_STATEMENTS: Final = frozenset((b"stmtId", b"stmtIds"))

#: IDLFailedToParse: a field is missing that has to be there.
_MISSING: Final = 40414

#: Bytes of the statement ids that are read one by one, as no driver and no server sends them; and
#: of all that are read, which are 100,000: no batch has more statements.
_FEW: Final = 16_384
_MANY: Final = 1_100_000

#: Commands that a server parses before it looks at the session fields.
_TYPED: Final = frozenset(("insert", "update", "delete"))

#: Commands that need no authentication in 4.2; session fields mean less on them. A wrong
#: entry can only misplace the words of a refusal that upstream gives as well.
PRE_AUTH: Final = frozenset(
    (
        "isMaster",
        "ismaster",
        "hello",
        "ping",
        "saslStart",
        "saslContinue",
        "authenticate",
        "logout",
        "getnonce",
        "getLastError",
        "getlasterror",
        "getPrevError",
        "getpreverror",
        "resetError",
        "reseterror",
        "buildInfo",
        "buildinfo",
        "connectionStatus",
        "whatsmyuri",
        "isdbgrid",
        "_isSelf",
        "listCommands",
        "availableQueryOptions",
        "availablequeryoptions",
    )
)


@dataclass(slots=True)
class OperationSessionInfo:
    """The server's name for these fields of one request; ours adds the statement ids.

    ``lsid`` is the key the request works under, None where it names no session (or the server
    ignores it). ``malformed`` is what the server itself refuses, in its words: forward such a
    request untouched, unless early refusal is wanted. Versions differ in what they refuse, and
    in whether they have noted the session by then: ``lsid`` is what they would note, and
    ``unparsed`` says that this server would not have come so far. ``ambiguous`` is malformed and
    taken by some version for another session than what the client may use: refuse it.
    ``forbidden`` is what the server accepts against the manual: refuse it, if the rule says so.
    ``starts_or_continues`` is what one shard says to another (8.0): it may begin here.
    ``stmt_ids`` are the ids given, None where the command gives none (then they count from 0).
    """

    lsid: LogicalSessionId | None = None
    txn_number: int | None = None
    autocommit: bool | None = None
    start_transaction: bool | None = None
    stmt_id: int | None = None
    stmt_ids: tuple[int, ...] | None = None
    malformed: CommandError | None = None
    forbidden: CommandError | None = None
    ambiguous: CommandError | None = None
    unparsed: bool = False
    starts_or_continues: bool = False


#: Commands that work outside sessions, and from which version on (4.9, or a little before): a
#: txnNumber beside them is not looked at.
_DETACHED: Final = frozenset(("killSessions", "killAllSessions", "killAllSessionsByPattern"))
_DETACHED_FROM: Final = 12

#: Commands beside which transaction fields do not mean what they mean elsewhere.
_ODD: Final = PRE_AUTH | _DETACHED

_int64 = INT64.unpack_from
_double = Struct("<d").unpack_from

#: Shared by all requests that say nothing of sessions. Never changed.
NO_SESSION: Final = OperationSessionInfo()


def read_operation_session_info(request: Request, caller: Caller) -> OperationSessionInfo:
    """What ``request`` says of sessions, sent by ``caller``. Raises nothing."""
    layout = request.layout
    if layout.sessionless:
        return NO_SESSION
    if layout.usual and caller.digest is not None:
        # By far the most requests, at a tenth of the cost.
        at = request.base + layout.session_id
        lsid = make_key((request.message[at : at + 16], caller.digest))
        if not layout.txn_number:
            return OperationSessionInfo(lsid)
        number = _int64(request.message, request.base + layout.txn_number)[0]
        if number >= 0 and caller.has_transactions is not False and layout.name not in _ODD:
            return OperationSessionInfo(lsid, number, layout.autocommit, layout.start_transaction)
    if layout.orderly and (info := _of_named_owner(request, caller)) is not None:
        return info
    info = OperationSessionInfo()
    problems: list[CommandError] = []
    _read(request, caller, info, problems)
    if problems:
        info.malformed = problems[0]
    return info


def _of_named_owner(request: Request, caller: Caller) -> OperationSessionInfo | None:
    """What all traffic of a mongos says, read as quickly as drivers'; None where more decides.

    A child session has transactions of its own: its number says nothing of its parent's.
    """
    layout = request.layout
    at = request.base + layout.owned_id
    uid = request.message[at + TO_UID : at + TO_CHILD]
    if layout.name in _ODD or not (uid == caller.digest or caller.may("impersonate")):
        return None
    if layout.child and not caller.is_server:
        return None
    lsid = make_key((request.message[at : at + 16], uid))
    if layout.child or not layout.txn_number:
        return OperationSessionInfo(lsid)
    number = _int64(request.message, request.base + layout.txn_number)[0]
    if number < 0 or caller.has_transactions is False:
        return None
    return OperationSessionInfo(lsid, number, layout.autocommit, layout.start_transaction)


def _read(
    request: Request, caller: Caller, info: OperationSessionInfo, problems: list[CommandError]
) -> None:
    """Fill ``info``; ``problems`` are put in the order in which a server comes upon them."""
    pre_auth = request.command in PRE_AUTH
    if caller.anonymous and not pre_auth:
        problems.append(refusals.requires_authentication(request.command))
    if not request.fields.keys().isdisjoint(_STATEMENTS):
        _judge_statements(request, info, problems)
    begins = request.fields.get(b"startOrContinueTransaction")
    info.starts_or_continues = begins is not None and true_value(request.message, begins)
    before = len(problems)
    lsid = _parse(request, info, problems)
    info.unparsed = not before and bool(problems)
    if pre_auth:
        if info.autocommit is not None:
            problems.append(refusals.AUTOCOMMIT_ILLEGAL_HERE)
        if info.txn_number is not None:
            problems.append(refusals.TXN_ILLEGAL_HERE)
    if caller.anonymous:
        return
    if lsid is not None:
        try:
            info.lsid = LogicalSessionId(lsid[0], caller.session_uid(lsid[1]))
        except CommandError as error:
            problems.append(error.with_traceback(None))
    if request.command in _DETACHED and caller.faces(_DETACHED_FROM):
        info.txn_number = info.autocommit = info.start_transaction = None
        return
    if lsid is None and info.txn_number is not None:
        problems.append(refusals.TXN_WITHOUT_LSID)
    if (wrong := _wrong_transaction(caller, info)) is not None:
        problems.append(wrong)


def _parse(
    request: Request, info: OperationSessionInfo, problems: list[CommandError]
) -> tuple[bytes, bytes | None] | None:
    """The types, in document order; then fields given twice (40413)."""
    data = request.message
    lsid: tuple[bytes, bytes | None] | None = None
    for name, element in request.fields.items():
        if name not in _FIELDS or idl.is_absent(element):
            continue
        path = f"{_STRUCT}.{name.decode()}"
        try:
            if name == b"lsid":
                lsid = idl.likely_lsid(data, element)
                lsid = idl.lsid(data, element, path)
            elif name == b"txnNumber":
                info.txn_number = idl.long(data, element, path)
            elif name == b"autocommit":
                info.autocommit = idl.boolean(data, element, path)
            else:
                info.start_transaction = idl.boolean(data, element, path)
        except CommandError as error:
            problems.append(error.with_traceback(None))
            if name == b"lsid" and error.code == _MISSING and idl.has_field(data, element, b"id"):
                # Servers up to 4.0 take an id of null for the all-zero UUID, which would be one
                # session shared by everybody.
                info.ambiguous = error
    problems += [
        refusals.duplicate_field(f"{_STRUCT}.{name.decode()}")
        for name in request.fields.duplicates
        if name in _FIELDS
    ]
    return lsid


def _wrong_transaction(caller: Caller, info: OperationSessionInfo) -> CommandError | None:
    if info.txn_number is not None:
        if caller.has_transactions is False:
            return refusals.TXN_ON_STANDALONE
        if info.txn_number < 0:
            return refusals.TXN_NEGATIVE
    elif info.autocommit is not None:
        return refusals.AUTOCOMMIT_WITHOUT_TXN
    if info.autocommit:
        return refusals.AUTOCOMMIT_TRUE
    if info.start_transaction is not None:
        if info.autocommit is None:
            return refusals.START_WITHOUT_AUTOCOMMIT
        if not info.start_transaction:
            return refusals.START_FALSE
    return None


def _judge_statements(
    request: Request, info: OperationSessionInfo, problems: list[CommandError]
) -> None:
    """What is wrong with the statement ids, whatever else is wrong with the request.

    They count where there is a txnNumber. Commands that are no writes ignore these fields.
    """
    numbered = not idl.is_absent(request.fields.get(b"txnNumber"))
    if numbered:
        info.forbidden = _against_the_manual(request)
    if not numbered and request.command not in _TYPED:
        return
    try:
        _read_statements(request, info)
    except CommandError as error:
        info.stmt_id = info.stmt_ids = None
        if request.command in _TYPED:
            problems.append(error.with_traceback(None))


def _read_statements(request: Request, info: OperationSessionInfo) -> None:
    """``stmtId`` and ``stmtIds`` (reference 1.5).

    A list as a document and nulls in it count as the server counts them, or a forbidden list
    could hide in another form.
    """
    data, fields, command = request.message, request.fields, request.command
    base = fields.get(b"stmtId")
    if not idl.is_absent(base) and base is not None:
        info.stmt_id = _int(data, base, f"{command}.stmtId")
    listed = fields.get(b"stmtIds")
    if listed is not None and not idl.is_absent(listed):
        path = f"{command}.stmtIds"
        plain: Iterable[int] | None = plain_ints(data, listed)
        if plain is None and listed.end - listed.value > _FEW and listed.type in (ARRAY, DOCUMENT):
            plain = ()  # for upstream to judge, which has nothing to do with sessions
        elif plain is None:
            plain = (
                _int(data, entry, f"{path}.{position}")
                for position, entry in idl.entries(data, listed, "stmtIds", path)
                if not idl.is_absent(entry)
            )
        info.stmt_ids = tuple(plain)
        if info.stmt_id is not None:
            raise refusals.BOTH_STMT_ID_FORMS.again()
    for name in fields.duplicates:
        if name in _STATEMENTS:
            raise refusals.duplicate_field(f"{command}.{name.decode()}")


def _against_the_manual(request: Request) -> CommandError | None:
    """What the manual has against ids, be they of another type or given twice."""
    data = request.message
    for base in every(request.fields, b"stmtId"):
        if (_number(data, base) or 0) < 0:
            return refusals.bad_value("stmtId cannot be negative")
    plainly = oddly = 0
    for listed in every(request.fields, b"stmtIds"):
        if listed.type not in (ARRAY, DOCUMENT):
            continue
        plain = plain_ints(data, listed)
        if plain is None:
            oddly += listed.end - listed.value
        else:
            plainly += listed.end - listed.value
        if oddly > _FEW or plainly > _MANY:
            return refusals.bad_value("stmtIds are too many to be judged")
        previous: float = -1
        try:
            for number in _numbers(data, listed) if plain is None else plain:
                if number < 0:
                    return refusals.bad_value("stmtIds cannot be negative")
                if number <= previous:
                    return refusals.bad_value("stmtIds must be strictly increasing")
                previous = number
        except WireError as error:
            return refusals.bad_value(f"stmtIds cannot be read: {error}")
    return None


def _numbers(data: bytes, listed: Element) -> Iterator[float]:
    """The numbers of a list, in whatever form."""
    for entry in in_order(walk(data, listed.value, listed.end, idl.MAX_ENTRIES)):
        if (number := _number(data, entry)) is not None:
            yield number


def _number(data: bytes, element: Element) -> float | None:
    """The value of a number, but for decimals."""
    if element.type == DOUBLE:
        return float(_double(data, element.value)[0])
    return integer(data, element)


def _int(data: bytes, element: Element, path: str) -> int:
    if element.type != INT32_TYPE:
        raise refusals.wrong_type(path, idl.type_name(element.type), "int")
    return int(INT32.unpack_from(data, element.value)[0])

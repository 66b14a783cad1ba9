"""What one request says of sessions, read and judged as the server does (4.2, reference 1.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.errors import CommandError
from proxy.session import idl, refusals
from proxy.session.ids import LogicalSessionId, make_key
from proxy.wire.fields import INT32_TYPE, Element
from proxy.wire.opcodes import INT32, INT64

if TYPE_CHECKING:
    from proxy.session.caller import Caller
    from proxy.wire.messages import Request

_STRUCT: Final = "OperationSessionInfo"
_FIELDS: Final = frozenset((b"lsid", b"txnNumber", b"autocommit", b"startTransaction"))
_STATEMENTS: Final = frozenset((b"stmtId", b"stmtIds"))

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
        "availableQueryOptions",
        "availablequeryoptions",
    )
)


@dataclass(slots=True)
class OperationSessionInfo:
    """The server's name for these fields of one request; ours adds the statement ids.

    ``lsid`` is the key the request works under, None where it names no session (or the server
    ignores it). ``malformed`` is what the server itself refuses, in its words: forward such a
    request untouched, unless early refusal is wanted. It has an ``lsid`` all the same if the
    server comes to that before it refuses the rest, and so has made the session. ``forbidden`` is
    what the server accepts against the manual: refuse it. ``stmt_ids`` are the ids given, None
    where the command gives none (then they count from 0).
    """

    lsid: LogicalSessionId | None = None
    txn_number: int | None = None
    autocommit: bool | None = None
    start_transaction: bool | None = None
    stmt_id: int | None = None
    stmt_ids: tuple[int, ...] | None = None
    malformed: CommandError | None = None
    forbidden: CommandError | None = None


_int64 = INT64.unpack_from

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
        if number >= 0 and caller.has_transactions is not False and layout.name not in PRE_AUTH:
            return OperationSessionInfo(lsid, number, layout.autocommit, layout.start_transaction)
    info = OperationSessionInfo()
    try:
        _read(request, caller, info)
    except CommandError as error:
        info.malformed = error.with_traceback(None)
        info.txn_number = info.autocommit = info.start_transaction = None
    return info


def _read(request: Request, caller: Caller, info: OperationSessionInfo) -> None:
    pre_auth = request.command in PRE_AUTH
    if caller.anonymous and not pre_auth:
        raise refusals.requires_authentication(request.command)
    if request.command in _TYPED and not request.fields.keys().isdisjoint(_STATEMENTS):
        _read_statements(request, info)
    lsid = _parse(request, info)
    if pre_auth:
        if info.autocommit is not None:
            raise refusals.AUTOCOMMIT_ILLEGAL_HERE.again()
        if info.txn_number is not None:
            raise refusals.TXN_ILLEGAL_HERE.again()
        if caller.anonymous:
            return
    if lsid is not None:
        info.lsid = LogicalSessionId(lsid[0], caller.session_uid(lsid[1]))
    elif info.txn_number is not None:
        raise refusals.TXN_WITHOUT_LSID.again()
    _judge_transaction(caller, info)
    if info.txn_number is not None and not request.fields.keys().isdisjoint(_STATEMENTS):
        if request.command not in _TYPED:
            _read_statements(request, info)
        info.forbidden = _against_the_manual(info)


def _parse(request: Request, info: OperationSessionInfo) -> tuple[bytes, bytes | None] | None:
    """The types, in document order; then fields given twice (40413)."""
    data = request.message
    lsid: tuple[bytes, bytes | None] | None = None
    for name, element in request.fields.items():
        if name not in _FIELDS or idl.is_absent(element):
            continue
        path = f"{_STRUCT}.{name.decode()}"
        if name == b"lsid":
            lsid = idl.lsid(data, element, path)
        elif name == b"txnNumber":
            info.txn_number = idl.long(data, element, path)
        elif name == b"autocommit":
            info.autocommit = idl.boolean(data, element, path)
        else:
            info.start_transaction = idl.boolean(data, element, path)
    for name in request.fields.duplicates:
        if name in _FIELDS:
            raise refusals.duplicate_field(f"{_STRUCT}.{name.decode()}")
    return lsid


def _judge_transaction(caller: Caller, info: OperationSessionInfo) -> None:
    if info.txn_number is not None:
        if caller.has_transactions is False:
            raise refusals.TXN_ON_STANDALONE.again()
        if info.txn_number < 0:
            raise refusals.TXN_NEGATIVE.again()
    elif info.autocommit is not None:
        raise refusals.AUTOCOMMIT_WITHOUT_TXN.again()
    if info.autocommit:
        raise refusals.AUTOCOMMIT_TRUE.again()
    if info.start_transaction is not None:
        if info.autocommit is None:
            raise refusals.START_WITHOUT_AUTOCOMMIT.again()
        if not info.start_transaction:
            raise refusals.START_FALSE.again()


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
        info.stmt_ids = tuple(
            _int(data, entry, f"{path}.{position}")
            for position, entry in idl.entries(data, listed, "stmtIds", path)
            if not idl.is_absent(entry)
        )
        if info.stmt_id is not None:
            raise refusals.BOTH_STMT_ID_FORMS.again()


def _against_the_manual(info: OperationSessionInfo) -> CommandError | None:
    if info.stmt_id is not None and info.stmt_id < 0:
        return refusals.bad_value("stmtId cannot be negative")
    previous = -1
    for number in info.stmt_ids or ():
        if number < 0:
            return refusals.bad_value("stmtIds cannot be negative")
        if number <= previous:
            return refusals.bad_value("stmtIds must be strictly increasing")
        previous = number
    return None


def _int(data: bytes, element: Element, path: str) -> int:
    if element.type != INT32_TYPE:
        raise refusals.wrong_type(path, idl.type_name(element.type), "int")
    return int(INT32.unpack_from(data, element.value)[0])

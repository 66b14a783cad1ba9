"""What one request says of sessions, read and judged as the server does (4.2, reference 1.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.errors import CommandError
from proxy.session import idl, refusals
from proxy.session.ids import LogicalSessionId, make_key
from proxy.session.statements import STATEMENTS, against_the_manual, read_statements
from proxy.wire.fields import (
    INT32_TYPE,
    Element,
    every,
    true_value,
)
from proxy.wire.layouts import TO_CHILD, TO_UID
from proxy.wire.opcodes import INT32, INT64

if TYPE_CHECKING:
    from proxy.session.caller import Caller
    from proxy.wire.messages import Request

_STRUCT: Final = "OperationSessionInfo"
_FIELDS: Final = frozenset((b"lsid", b"txnNumber", b"autocommit", b"startTransaction"))

#: IDLFailedToParse: a field is missing that has to be there.
_MISSING: Final = 40414

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
    ``child`` are the fields of a child session (:mod:`proxy.session.children`), whose transaction
    the request is about; ``lsid`` is its parent then.
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
    child: bytes = b""


#: Commands that work outside sessions, and from which version on (4.9, or a little before): a
#: txnNumber beside them is not looked at.
_DETACHED: Final = frozenset(("killSessions", "killAllSessions", "killAllSessionsByPattern"))
_DETACHED_FROM: Final = 12

#: Commands beside which transaction fields do not mean what they mean elsewhere.
_ODD: Final = PRE_AUTH | _DETACHED

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
    lsid = make_key((request.message[at : at + 16], uid))
    if layout.child and (layout.autocommit is None or not caller.may_use_children):
        return None
    if not layout.txn_number:
        return OperationSessionInfo(lsid)
    number = _int64(request.message, request.base + layout.txn_number)[0]
    if number < 0 or caller.has_transactions is False:
        return None
    info = OperationSessionInfo(lsid, number, layout.autocommit, layout.start_transaction)
    if layout.child:
        at += TO_CHILD
        info.child = request.message[at : at + layout.child]
    return info


def _read(
    request: Request, caller: Caller, info: OperationSessionInfo, problems: list[CommandError]
) -> None:
    """Fill ``info``; ``problems`` are put in the order in which a server comes upon them."""
    pre_auth = request.command in PRE_AUTH
    if caller.anonymous and not pre_auth:
        problems.append(refusals.requires_authentication(request.command))
    if not request.fields.keys().isdisjoint(STATEMENTS):
        _judge_statements(request, info, problems)
    begins = request.fields.get(b"startOrContinueTransaction")
    info.starts_or_continues = begins is not None and true_value(request.message, begins)
    before = len(problems)
    lsid = _parse(request, caller, info, problems)
    info.unparsed = not before and bool(problems)
    if pre_auth:
        if info.autocommit is not None:
            problems.append(refusals.AUTOCOMMIT_ILLEGAL_HERE)
        if info.txn_number is not None:
            problems.append(refusals.TXN_ILLEGAL_HERE)
    if caller.anonymous:
        return
    if lsid is not None:
        if lsid.is_stray:
            info.unparsed = info.unparsed or not problems
            problems.append(refusals.LSID_NUMBER_ALONE)
        try:
            info.lsid = LogicalSessionId(lsid.id, caller.session_uid(lsid.uid))
        except CommandError as error:
            problems.append(error.with_traceback(None))
    if request.command in _DETACHED and caller.faces(_DETACHED_FROM):
        info.txn_number = info.autocommit = info.start_transaction = None
        return
    if lsid is not None and lsid.child:
        _judge_child(request, caller, info, lsid.child, problems)
    if lsid is None and info.txn_number is not None:
        problems.append(refusals.TXN_WITHOUT_LSID)
    if (wrong := _wrong_transaction(caller, info)) is not None:
        problems.append(wrong)
    counter = request.fields.get(b"txnRetryCounter")
    if counter is not None and not idl.is_absent(counter) and caller.knows_children:
        _judge_retry_counter(request.message, counter, caller, info, problems)


def _judge_child(
    request: Request,
    caller: Caller,
    info: OperationSessionInfo,
    child: bytes,
    problems: list[CommandError],
) -> None:
    """Child sessions are for servers, and for transactions. Where they are not, none is noted."""
    wrong = None
    if not caller.may_use_children:
        wrong = refusals.CHILD_OF_CLIENT
    elif info.txn_number is None or info.autocommit is not False:
        wrong = refusals.CHILD_WITHOUT_TRANSACTION
    if wrong is not None:
        info.unparsed = info.unparsed or not problems
        problems.append(wrong)
        if info.forbidden is not None:
            # Upstream says so before it looks at statements; but they are not shown to it.
            info.forbidden = wrong
        return
    info.child = child
    if info.forbidden is not None:
        info.forbidden = against_the_manual(request, in_child=True)


def _judge_retry_counter(
    data: bytes,
    counter: Element,
    caller: Caller,
    info: OperationSessionInfo,
    problems: list[CommandError],
) -> None:
    """How often servers have tried a transaction of a child session's again."""
    if counter.type != INT32_TYPE:
        path = f"{_STRUCT}.txnRetryCounter"
        problems.append(refusals.wrong_type(path, idl.type_name(counter.type), "int"))
    elif not caller.may_use_children:
        problems.append(refusals.RETRY_COUNTER_OF_CLIENT)
    elif info.autocommit is None:
        problems.append(refusals.RETRY_COUNTER_WITHOUT_TRANSACTION)
    elif INT32.unpack_from(data, counter.value)[0] < 0:
        problems.append(refusals.RETRY_COUNTER_NEGATIVE)


def _parse(
    request: Request, caller: Caller, info: OperationSessionInfo, problems: list[CommandError]
) -> idl.Lsid | None:
    """The types, in document order; then fields given twice (40413)."""
    data = request.message
    lsid: idl.Lsid | None = None
    for name, element in request.fields.items():
        if name not in _FIELDS or idl.is_absent(element):
            continue
        path = f"{_STRUCT}.{name.decode()}"
        try:
            if name == b"lsid":
                children = caller.knows_children or (None if caller.wire_version is None else False)
                lsid = idl.any_lsid(data, element, path, children=children)
            elif name == b"txnNumber":
                info.txn_number = idl.long(data, element, path)
            elif name == b"autocommit":
                info.autocommit = idl.boolean(data, element, path)
            else:
                info.start_transaction = idl.boolean(data, element, path)
        except CommandError as error:
            problems.append(error.with_traceback(None))
            if name != b"lsid":
                continue
            lsid = idl.likely_lsid(data, element)
            if error.code == _MISSING and idl.has_field(data, element, b"id"):
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

    They count where there is a txnNumber, be it behind one that is null. Commands that are no
    writes ignore these fields.
    """
    numbered = not all(map(idl.is_absent, every(request.fields, b"txnNumber")))
    if numbered:
        info.forbidden = against_the_manual(request)
    if not numbered and request.command not in _TYPED:
        return
    try:
        info.stmt_id, info.stmt_ids = read_statements(request)
    except CommandError as error:
        if request.command in _TYPED:
            problems.append(error.with_traceback(None))

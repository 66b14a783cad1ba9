"""The six session commands: what each request is allowed to do, in the server's order.

Where the manual wins over the server says ``docs/differences.md``. Everything else is as a server
4.2 answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from bson.binary import UUID_SUBTYPE, Binary

from proxy.errors import CommandError
from proxy.session import bsonout, refusals
from proxy.session.across import Control  # noqa: TC001 - fields', see test_compiled
from proxy.session.arguments import Argument, patterns_of, reading_keys, reading_users
from proxy.session.asking import asking, note_gaps
from proxy.session.caller import Caller  # noqa: TC001 - fields', see test_compiled
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId, OwnedKeys, child_text
from proxy.session.info import OperationSessionInfo  # noqa: TC001 - fields', see test_compiled
from proxy.session.known import KnownUsers  # noqa: TC001 - fields', see test_compiled
from proxy.session.patterns import (
    Learnt,
    Pattern,
    id_of_any_owner,
    names_only,
    selecting,
)
from proxy.session.plans import CARRIER, Ask, Forward, Plan, Refusal
from proxy.session.records import Selection
from proxy.session.shelltext import document_text
from proxy.session.steps import MANY, Steps, in_one_go
from proxy.texts import decoded
from proxy.wire.fields import true_value
from proxy.wire.messages import Request  # noqa: TC001 - fields', see test_compiled
from proxy.wire.opcodes import INT32

E = TypeVar("E")

#: From which version on (4.9, by maxWireVersion) sessions are refreshed and ended with a
#: writeConcern.
_CONCERN_FROM: Final = 12

Decision = Refusal | Forward | Ask | Plan


@dataclass(slots=True)
class Facts:
    """What deciding needs to know beside the request.

    ``random`` gives 16 random bytes. ``timeout_minutes`` is upstream's own. ``learnt`` is what
    came of an :class:`Ask`, None before. ``native`` is false where upstream lacks the session
    commands: then a plan's ``upstream`` is only a ``ping``. Never changed.
    """

    caller: Caller
    store: Control
    known: KnownUsers
    random: Callable[[], bytes]
    timeout_minutes: int = 30
    native: bool = True
    learnt: Learnt | None = None


@dataclass(slots=True)
class _Case:
    """One request on its way through the rules."""

    request: Request
    info: OperationSessionInfo
    facts: Facts
    argument: Argument

    @property
    def command(self) -> str:
        return self.request.command


def decide(request: Request, info: OperationSessionInfo, facts: Facts) -> Decision:
    """What to do about a session command. Changes nothing and raises nothing.

    ``info`` is what :func:`proxy.session.info.read_operation_session_info` read.
    """
    return in_one_go(deciding(request, info, facts))


def deciding(request: Request, info: OperationSessionInfo, facts: Facts) -> Steps[Decision]:
    """:func:`decide` in steps."""
    element = next(iter(request.fields.values()))
    case = _Case(request, info, facts, Argument(request, facts.caller, element))
    try:
        _check_envelope(case)
        if true_value(request.message, request.fields.get(b"help")):
            return _help(case)
        decision = yield from _COMMANDS[request.command](case)
    except CommandError as error:
        return Refusal(error.with_traceback(None))
    if isinstance(decision, Plan) and not facts.native:
        decision.upstream = (_carrier(case),)
    return decision


def _check_envelope(case: _Case) -> None:
    """All that the server checks before it asks what the caller may do."""
    request, info, command = case.request, case.info, case.command
    if case.facts.caller.anonymous:
        raise refusals.requires_authentication(command)
    if request.sequences:
        raise refusals.no_sequences(command)
    if request.database is None:
        raise CommandError(40571, "Location40571", "OP_MSG requests require a $db argument")
    if info.malformed is not None:
        raise info.malformed.again()
    if info.autocommit is not None:
        raise refusals.not_in_transactions(
            f"Cannot run '{command}' in a multi-document transaction."
        )
    if info.txn_number is not None:
        raise refusals.not_retryable(command)
    if request.fields.duplicates:
        raise refusals.duplicate_key(decoded(request.fields.duplicates[0]))


def _help(case: _Case) -> Forward:
    """The question made anew, so that upstream cannot take it for the command itself."""
    name = bsonout.number(case.command, 1)
    rest = bsonout.carried(case.request, same_command=False, with_lsid=True)
    if case.request.namespace is not None:
        rest.pop()  # the form says the database elsewhere, and must not say it twice
    return Forward(bsonout.document(name, bsonout.true("help"), *rest))


def _not_authorized(case: _Case) -> CommandError:
    request = case.request
    end = request.body + INT32.unpack_from(request.message, request.body)[0]
    extra = "" if b"$db" in request.fields else f'$db: "{request.database}"'
    printed = document_text(request.message, request.body, end, extra=extra)
    return refusals.unauthorized(
        f"not authorized on {request.database} to execute command {printed}"
    )


def _carrier(case: _Case) -> bytes:
    rest = bsonout.carried(case.request, same_command=False, with_lsid=False)
    return bsonout.document(bsonout.number(CARRIER, 1), *rest)


def _check_concern(case: _Case) -> None:
    # readConcern, maxTimeMS and their like go along upstream, which refuses them in its words.
    if b"writeConcern" in case.request.fields:
        raise refusals.NO_WRITE_CONCERN.again()


def _check_concern_of_lists(case: _Case) -> bool:
    """Whether a writeConcern goes along, where there is one, on what refreshes or ends sessions.

    Drivers that close send ``{w: 0}`` and wait for no reply: their sessions end on every version.
    Upstream's reply is waited for, so that nothing of it goes along then.
    """
    if not case.request.expects_reply:
        return False
    if not case.facts.caller.faces(_CONCERN_FROM):
        _check_concern(case)
    return True


# startSession, refreshSessions, endSessions


def _start_session(case: _Case) -> Steps[Decision]:
    facts = case.facts
    caller = facts.caller
    uid = caller.digest
    if uid is None:
        # The limit on names is not checked here: the session is made, and of no use.
        if len(caller.users) != 1:
            raise (caller.digest_error or refusals.NO_USERS).again()
        (uid,) = caller.users
    _check_concern(case)
    if facts.store.full:
        raise refusals.TOO_MANY_SESSIONS.again()
    made = bytearray(facts.random())
    made[6] = made[6] & 0x0F | 0x40
    made[8] = made[8] & 0x3F | 0x80
    lsid = LogicalSessionId(bytes(made), uid)
    # A refresh makes upstream list the session too, as its own startSession would, and brings
    # its refusals and times; without a digest upstream could not take it.
    if caller.digest is None:
        upstream: Sequence[bytes] = (_carrier(case),)
    else:
        rest = bsonout.carried(case.request, same_command=False, with_lsid=True)
        forms = partial(bsonout.sessions, own=uid)
        upstream = bsonout.Batches("refreshSessions", [lsid], forms, rest)
    reply = {
        "id": {"id": Binary(lsid.id, UUID_SUBTYPE)},
        "timeoutMinutes": facts.timeout_minutes,
    }
    yield
    return Plan(case.command, caller, upstream, reply, lsids=(lsid,), own_lsid=case.info.lsid)


def _refresh_or_end(case: _Case) -> Steps[Decision]:
    caller = case.facts.caller
    if caller.authorization is not False and caller.identity.users and len(caller.users) != 1:
        raise _not_authorized(case)
    with_concern = _check_concern_of_lists(case)
    struct = case.command[0].upper() + case.command[1:] + "CmdFromClient"
    path = f"{struct}.{case.command}"
    keys, children = yield from reading_keys(case.argument, path)
    if children and case.command == "endSessions":
        key, child = children[0]
        text = f"Cannot specify a child session id {key} - {child_text(child)}"
        raise refusals.invalid_options(text)
    if children:
        # A child is in use where its parent is.
        keys = dict.fromkeys((*keys, *(key for key, _ in children)))
    lsids = keys if isinstance(keys, OwnedKeys) else tuple(keys)
    if isinstance(keys, OwnedKeys) and (with_concern or b"writeConcern" not in case.request.fields):
        same = bsonout.as_it_came(case.request, keys, with_lsid=True)
        if same is not None:
            own = case.info.lsid
            return Plan(case.command, caller, (same,), lsids=keys, own_lsid=own, whole=True)
    rest = bsonout.carried(case.request, same_command=True, with_lsid=True)
    if not with_concern:
        rest = [one for one in rest if not one.startswith(b"writeConcern\0", 1)]
    forms = partial(bsonout.sessions, own=caller.digest)
    upstream = bsonout.Batches(case.command, lsids, forms, rest)
    return Plan(case.command, caller, upstream, lsids=lsids, own_lsid=case.info.lsid)


# killSessions, killAllSessions, killAllSessionsByPattern


def _kill_sessions(case: _Case) -> Steps[Decision]:
    caller = case.facts.caller
    _check_concern(case)
    path = "KillSessionsCmd.killSessions"
    keys, children = yield from reading_keys(
        case.argument, path, "killAnySession", refuse_absent=True
    )
    if not keys and not children:
        # Upstream's own form for "all of mine"; without authorization that is everybody's.
        own = caller.users
        everything = not own or caller.authorization is False
        selection = Selection(everything=True) if everything else Selection(uids=own)
        return _kill_plan(case, selection, "killSessions")
    forms = partial(bsonout.sessions, own=caller.digest)
    if isinstance(keys, OwnedKeys):
        same = bsonout.as_it_came(case.request, keys, with_lsid=False)
        if same is not None:
            selection = Selection(keys=keys)
            return Plan(case.command, caller, (same,), selection=selection, whole=True)
        return _kill_plan(case, Selection(keys=keys), "killSessions", keys, forms)
    # Children are killed with their parents only: what names one means nobody.
    selection = Selection(keys=frozenset(keys))
    yield
    return _kill_named(case, selection, "killSessions", tuple(keys), forms)


def _kill_all_sessions(case: _Case) -> Steps[Decision]:
    caller = case.facts.caller
    if not caller.may("killAnySession"):
        own = caller.digest
        try:
            users = yield from reading_users(
                case.argument, lambda names: user_digest(*names) == own
            )
        except CommandError:
            raise _not_authorized(case) from None
        if not users:
            raise _not_authorized(case)
        _check_concern(case)
        return _kill_plan(case, Selection(uids=caller.users), "killSessions")
    _check_concern(case)
    users = yield from reading_users(case.argument)
    if not users:
        return _kill_plan(case, Selection(everything=True), case.command)
    uids: set[bytes] = set()
    for number, names in enumerate(users):
        if number % MANY == MANY - 1:
            yield
        uids.add(user_digest(*names))
    # Upstream is given the names, not digests: only it can say that a user does not exist.
    selection = Selection(uids=frozenset(uids))
    return _kill_plan(case, selection, case.command, tuple(users), bsonout.users)


def _kill_by_pattern(case: _Case) -> Steps[Decision]:
    caller = case.facts.caller
    if not caller.may("killAnySession"):
        return (yield from _kill_own_by_pattern(case))
    _check_concern(case)
    patterns: list[Pattern] = []
    impersonates = everybody = roles = False
    ids: dict[bytes, None] = {}
    for pattern in patterns_of(case.argument):
        if pattern is None:
            yield
            continue
        patterns.append(pattern)
        impersonates = impersonates or pattern.impersonates
        everybody = everybody or pattern.is_everybody
        roles = roles or bool(pattern.roles)
        if (one := id_of_any_owner(pattern)) is not None:
            ids[one] = None
    if impersonates and not caller.may("impersonate"):
        raise refusals.NO_IMPERSONATION.again()
    if not patterns or everybody:
        return _kill_plan(case, Selection(everything=True), case.command)
    facts, learnt = case.facts, case.facts.learnt
    if learnt is None:
        asked = yield from asking(roles, ids, caller)
        if asked is not None and facts.native:
            return asked
        learnt = Learnt()
    note_gaps(ids, caller, learnt)
    selection = yield from selecting(patterns, caller, facts.store, facts.known, learnt)
    entries: list[bytes | LogicalSessionId] = list(selection.uids)
    yield
    for number, key in enumerate(selection.keys):
        if number % MANY == MANY - 1:
            yield
        if key.uid not in selection.uids:
            entries.append(key)
    gaps = "; ".join(learnt.gaps)
    return _kill_named(case, selection, case.command, entries, bsonout.patterns, gaps)


def _kill_own_by_pattern(case: _Case) -> Steps[Decision]:
    """For a caller who may kill only their own: the first pattern that names others is refused."""
    caller = case.facts.caller
    own = caller.digest
    keys: dict[LogicalSessionId, None] = {}
    whole = False
    try:
        for pattern in patterns_of(case.argument):
            if pattern is None:
                yield
            elif own is None or not names_only(pattern, caller):
                raise _not_authorized(case)
            elif pattern.lsid is None:
                whole = True
            else:
                keys[LogicalSessionId(pattern.lsid[0], own)] = None
    except CommandError:
        raise _not_authorized(case) from None
    if own is None or not (whole or keys):
        raise _not_authorized(case)
    _check_concern(case)
    if whole:
        return _kill_plan(case, Selection(uids=frozenset((own,))), "killSessions")
    yield
    forms = partial(bsonout.sessions, own=own)
    selection = Selection(keys=frozenset(keys))
    return _kill_named(case, selection, "killSessions", tuple(keys), forms)


def _kill_named(
    case: _Case,
    selection: Selection,
    name: str,
    entries: bsonout.Entries[E],
    forms: bsonout.Forms[E],
    unknown: str = "",
) -> Plan:
    """As :func:`_kill_plan`; without entries nobody is killed."""
    if not entries:
        # An empty list upstream would mean everybody, where nobody is meant.
        return Plan(case.command, case.facts.caller, (_carrier(case),), unknown=unknown)
    return _kill_plan(case, selection, name, entries, forms, unknown)


def _kill_plan(
    case: _Case,
    selection: Selection,
    name: str,
    entries: bsonout.Entries[E] = (),
    forms: bsonout.Forms[E] = lambda _: [],
    unknown: str = "",
) -> Plan:
    # Without the lsid: servers up to 4.2 let a kill interrupt itself.
    rest = bsonout.carried(case.request, same_command=True, with_lsid=False)
    upstream = bsonout.Batches(name, entries, forms, rest)
    return Plan(case.command, case.facts.caller, upstream, selection=selection, unknown=unknown)


_COMMANDS: Final[dict[str, Callable[[_Case], Steps[Decision]]]] = {
    "startSession": _start_session,
    "refreshSessions": _refresh_or_end,
    "endSessions": _refresh_or_end,
    "killSessions": _kill_sessions,
    "killAllSessions": _kill_all_sessions,
    "killAllSessionsByPattern": _kill_by_pattern,
}

SESSION_COMMANDS: Final = tuple(_COMMANDS)

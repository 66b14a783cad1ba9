"""What a session command comes to: a refusal, or what to send, answer and remember."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import CommandError  # noqa: TC001 - fields', see test_compiled
from proxy.session import bsonout
from proxy.session.caller import Caller  # noqa: TC001 - fields', see test_compiled
from proxy.session.identity import NO_OWNER, user_digest
from proxy.session.ids import LogicalSessionId, OpenTransaction, Origin, OwnedKeys
from proxy.session.records import Selection
from proxy.session.steps import MANY, Steps, in_one_go

if TYPE_CHECKING:
    from proxy.session.across import Control, Known
    from proxy.session.records import Hit, InFlight

#: Sessions and owners that are looked up in one go.
_LOOKED_UP: Final = 5_000

#: Tells nothing and changes nothing, but brings upstream's operationTime and $clusterTime.
CARRIER: Final = "ping"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The command is not carried out; upstream's times may be fetched with a ``ping``."""

    error: CommandError


@dataclass(frozen=True, slots=True)
class Forward:
    """The request only asks for ``help``: relay it with the document ``body`` for its own."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask upstream these commands (BSON) on the caller's connection, then decide again."""

    commands: tuple[bytes, ...]
    subjects: tuple[str, ...]


@dataclass(slots=True)
class Plan:
    """A command that is to be carried out.

    Send ``upstream`` (BSON commands, in order, on the caller's own connection), each without
    anything added. When one succeeds, :func:`commit` its :meth:`part`. If all do, answer
    ``reply`` + ``ok: 1`` + the last reply's times; otherwise hand the failed reply to the
    client. Where upstream lacks the command, carry out :func:`emulation` instead.

    ``selection`` is what a kill hits, ``lsids`` what is started, refreshed or ended,
    ``own_lsid`` the session the command itself works under. ``unknown`` says in words what the
    decision could not cover, for the audit log.
    """

    command: str
    caller: Caller
    upstream: Sequence[bytes]
    reply: dict[str, Any] = field(default_factory=dict)
    selection: Selection = field(default_factory=Selection)
    lsids: Collection[LogicalSessionId] = ()
    own_lsid: LogicalSessionId | None = None
    unknown: str = ""
    #: ``upstream`` is the request's own command, and judges whatever is in it.
    whole: bool = False
    #: What :meth:`new_sessions`, :meth:`new_places` and :meth:`hits` have found; 0 and None where
    #: nobody asked.
    makes: int = 0
    takes: int = 0
    hit: Hit | None = None
    weighed: bool = False

    @property
    def kills(self) -> bool:
        return self.command.startswith("kill")

    @property
    def creates_sessions(self) -> bool:
        return self.command in ("startSession", "refreshSessions")

    @property
    def means_own(self) -> bool:
        """Whether all sessions it means are the caller's own, and so whatever the caller may do.

        Where it names them, without saying whose they are.
        """
        caller = self.caller
        if caller.digest is None or (
            self.own_lsid is not None and self.own_lsid.uid != caller.digest
        ):
            return False
        if self.command == "startSession":
            return True
        keys = self.selection.keys if self.kills else self.lsids
        return isinstance(keys, OwnedKeys) and len(keys) > 0 and keys.uid == caller.digest

    @property
    def names_sessions(self) -> bool:
        """Whether the client gave session ids."""
        return self.command != "startSession" and bool(self.lsids or self.selection.keys)

    @property
    def kills_everybody(self) -> bool:
        """Whether nobody's sessions are spared. Where authorization is off, or may be, all have
        the same owner: nobody, who has a digest too."""
        selection = self.selection
        return selection.everything or (
            self.caller.authorization is not True and NO_OWNER in selection.uids
        )

    def new_sessions(self, store: Known) -> int:
        """How many sessions it brings into being that ``store`` does not know."""
        if not self.weighed:
            in_one_go(self.weighing(store))
        return self.makes

    def new_places(self, store: Known) -> int:
        """How many sessions take a place by it: those, and known ones that were over."""
        if not self.weighed:
            in_one_go(self.weighing(store))
        return self.takes

    def hits(self, store: Known) -> Hit:
        """How much a kill hits, on all upstreams together."""
        if self.hit is None:
            self.hit = store.hit(self.selection)
        return self.hit

    def weighing(self, store: Known) -> Steps[None]:
        """Find out in steps what :meth:`new_sessions` and :meth:`hits` say, for lists are long."""
        if self.kills:
            self.hit = yield from store.hitting(self.selection)
        else:
            own = self.own_lsid
            makes = int(own is not None and own not in store)
            takes = int(own is not None and not store.has_place(own))
            if self.creates_sessions:
                for number, lsid in enumerate(self.lsids):
                    if number % MANY == MANY - 1:
                        yield
                    if not store.has_place(lsid):
                        takes += 1
                        makes += lsid not in store
            self.makes, self.takes = makes, takes
        self.weighed = True

    def part(self, number: int) -> Plan:
        """What the command number ``number`` of ``upstream`` carries out."""
        if len(self.upstream) == 1 or not isinstance(self.upstream, bsonout.Batches):
            return self
        entries = self.upstream.entries(number)
        if not self.kills:
            return replace(self, lsids=entries, upstream=())
        if isinstance(entries, OwnedKeys):
            return replace(self, selection=Selection(keys=entries))
        uids: set[bytes] = set()
        keys: set[LogicalSessionId] = set()
        for entry in entries:
            if isinstance(entry, LogicalSessionId):
                keys.add(entry)
            else:
                uids.add(entry if isinstance(entry, bytes) else user_digest(*entry))
        return replace(self, selection=Selection(False, frozenset(uids), frozenset(keys)))

    def targets(self, store: Control) -> int:
        """How many sessions that the store knows it means; for the audit log and previews.

        Where a kill names too many to look them up at once, as many as it names.
        """
        named = len(self.selection.uids) + len(self.selection.keys)
        if self.kills and named > _LOOKED_UP:
            return named
        return store.count(self.selection) if self.kills else len(self.lsids)

    def own_targets(self, store: Control, targets: int) -> int:
        """How many of the ``targets`` that a kill means are the caller's own."""
        selection, own = self.selection, self.caller.digest
        if own is None or not targets:
            return 0
        if selection.everything or own in selection.uids:
            return store.count(Selection(uids=frozenset((own,))))
        if isinstance(selection.keys, OwnedKeys) and selection.keys.uid == own:
            return targets
        keys = frozenset(key for key in selection.keys if key.uid == own)
        return store.count(Selection(keys=keys))


@dataclass(frozen=True, slots=True)
class Errand:
    """A command about what ``owner`` (a digest) has open: best sent on a connection of theirs,
    where they have one, else on the one of ``caller`` (a digest) in the other form.

    It is made when it is asked for, as there may be very many.
    """

    owner: bytes
    caller: bytes | None
    #: A transaction, or cursors of one ``db.collection``.
    about: OpenTransaction | tuple[str, list[int]]

    @property
    def as_owner(self) -> bytes:
        """The command (BSON) as the owner would send it."""
        return self._command(self.owner)

    @property
    def as_caller(self) -> bytes:
        """The command (BSON) as the caller has to send it."""
        return self._command(self.caller)

    def _command(self, own: bytes | None) -> bytes:
        if isinstance(self.about, OpenTransaction):
            return abort_command(self.about, own)
        return kill_cursors_command(*self.about)


@dataclass(frozen=True, slots=True)
class Emulation:
    """The same effect as a kill, for an upstream without session commands.

    Run the ``errands``, errors ignored; answer each operation with 11601 and close its upstream
    connection.
    """

    errands: tuple[Errand, ...]
    operations: tuple[InFlight, ...]


def emulation(plan: Plan, store: Control, upstream: str) -> Emulation:
    """What the plan's kill comes to on ``upstream`` (an address). Nothing for other commands."""
    return in_one_go(emulating(plan, store, upstream))


def emulating(plan: Plan, store: Control, upstream: str) -> Steps[Emulation]:
    """:func:`emulation` in steps."""
    if not plan.kills:
        return Emulation((), ())
    found = yield from store.opening_at(upstream, plan.selection)
    caller = plan.caller.digest
    errands: list[Errand] = []
    for (owner, namespace), ids in found.cursors.items():
        for start in range(0, len(ids), MANY):
            if len(errands) % MANY == MANY - 1:
                yield
            errands.append(Errand(owner, caller, (namespace, ids[start : start + MANY])))
    for one in found.transactions:
        if len(errands) % MANY == MANY - 1:
            yield
        errands.append(Errand(one.key.uid, caller, one))
    return Emulation(tuple(errands), tuple(found.operations))


def kill_cursors_command(namespace: str, ids: list[int], api: bytes = b"") -> bytes:
    """``killCursors`` for cursors of one ``db.collection``, with API parameters (raw elements)."""
    database, _, collection = namespace.partition(".")
    return bsonout.document(
        bsonout.text("killCursors", collection),
        bsonout.longs("cursors", ids),
        api,
        bsonout.text("$db", database),
    )


def abort_command(one: OpenTransaction, own: bytes | None) -> bytes:
    """``abortTransaction`` for one session; ``own`` is the digest of whoever sends it."""
    return bsonout.document(
        bsonout.number("abortTransaction", 1),
        bsonout.nested("lsid", bsonout.session(one.key, own, one.child)),
        b"\x12txnNumber\0" + one.number.to_bytes(8, "little", signed=True),
        b"\x08autocommit\0\0",
        one.api,
        bsonout.text("$db", "admin"),
    )


def commit(plan: Plan, store: Control, now: float, *, upstream: str | None, origin: Origin) -> int:
    """Note what has happened, once upstream has said so; returns the plan's targets.

    ``upstream`` is the address that carried it out: a kill closes cursors and transactions
    there only, as servers act on themselves.
    """
    return in_one_go(committing(plan, store, now, upstream=upstream, origin=origin))


def committing(
    plan: Plan, store: Control, now: float, *, upstream: str | None, origin: Origin
) -> Steps[int]:
    """:func:`commit` in steps, of which only a kill takes several."""
    if plan.kills:
        return (yield from store.killing(plan.selection, now, upstream)) if plan.selection else 0
    note(plan, store, now, origin)
    return len(plan.lsids)


def note(
    plan: Plan, store: Control, now: float, origin: Origin, asked: float | None = None
) -> None:
    """:func:`commit` of what is no kill. Upstream was ``asked`` at that time, or just now: what was
    used since it has not surely ended."""
    if plan.command == "endSessions":
        store.end(plan.lsids, now if asked is None else asked)
    else:
        _use(plan, store, now, origin)
    if plan.own_lsid is not None:
        store.use(plan.own_lsid, now, plan.caller.name, origin)


def _use(plan: Plan, store: Control, now: float, origin: Origin) -> None:
    own, name, lsids = plan.caller.digest, plan.caller.name, plan.lsids
    if isinstance(lsids, OwnedKeys):
        store.use_all(lsids, now, name if lsids.uid == own else "", origin)
    else:
        for lsid in lsids:
            store.use(lsid, now, name if lsid.uid == own else "", origin)

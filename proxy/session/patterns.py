"""The patterns of killAllSessionsByPattern: grammar, and which sessions they select.

The fields of one pattern must all match, patterns are alternatives, and ``users`` and ``roles``
select by owner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from proxy.session import idl, refusals
from proxy.session.caller import Caller, owner_name
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.records import Selection
from proxy.session.steps import MANY, STEP, Steps, in_one_go
from proxy.wire.fields import DOCUMENT, Element

if TYPE_CHECKING:
    from proxy.session.across import Control
    from proxy.session.known import KnownUsers, Role

_FIELDS: Final = (b"lsid", b"uid", b"users", b"roles")

#: Exact keys that lsids of several owners may become; more are left to what the store knows.
_MAX_KEYS: Final = 50_000

_NOBODY: Final[frozenset[bytes]] = frozenset()

#: Lists of roles for which it is kept who has them, while one command is decided on.
_MAX_REMEMBERED: Final = 100


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern; None for a field that is not given. ``uid`` of ``lsid`` may be None."""

    lsid: tuple[bytes, bytes | None] | None = None
    uid: bytes | None = None
    users: tuple[tuple[str, str], ...] | None = None
    roles: tuple[Role, ...] | None = None

    @property
    def is_everybody(self) -> bool:
        """Whether it says nothing; empty lists select as if they were not given."""
        return self.lsid is None and self.uid is None and not self.names_owners

    @property
    def names_owners(self) -> bool:
        return bool(self.users or self.roles)

    @property
    def impersonates(self) -> bool:
        """Whether the server asks for ``impersonate``, be the lists empty or not."""
        return self.users is not None or self.roles is not None


def read_pattern(data: bytes, element: Element, path: str) -> Pattern:
    """One element of the command's array.

    A field that is null is refused: dropped silently it would turn one session into all.
    """
    return in_one_go(reading_pattern(data, element, path))


def reading_pattern(
    data: bytes, element: Element, path: str, *, children: bool = False
) -> Steps[Pattern]:
    """:func:`read_pattern` in steps. ``children`` says that upstream knows child sessions, and
    that none of them can be killed."""
    if element.type != DOCUMENT:
        raise refusals.wrong_type(path, idl.type_name(element.type), "object")
    path = path.rpartition(".")[0]
    lsid: tuple[bytes, bytes | None] | None = None
    uid: bytes | None = None
    lists: dict[bytes, tuple[tuple[str, str], ...]] = {}
    for name, value in idl.struct(data, element, path, _FIELDS):
        at = f"{path}.{name.decode()}"
        if name == b"lsid":
            one = idl.any_lsid(data, value, at, children=children)
            if one.txn_uuid is not None or one.number is not None:
                raise refusals.CHILD_IN_PATTERN.again()
            lsid = one.id, one.uid
        elif name == b"uid":
            uid = idl.digest(data, value, at)
        else:
            first = "user" if name == b"users" else "role"
            lists[name] = yield from _names(data, value, at, first)
    return Pattern(lsid, uid, lists.get(b"users"), lists.get(b"roles"))


def _names(
    data: bytes, element: Element, path: str, first: str
) -> Steps[tuple[tuple[str, str], ...]]:
    pairs: dict[tuple[str, str], None] = {}
    for position, entry in idl.entries(data, element, f"{first}s", path):
        if position % STEP == STEP - 1:
            yield
        if idl.is_absent(entry):
            continue
        if entry.type != DOCUMENT:
            raise refusals.wrong_type(f"{path}.{position}", idl.type_name(entry.type), "object")
        pairs[idl.name_pair(data, entry, path, first)] = None
    return tuple(pairs)


def names_only(pattern: Pattern, caller: Caller) -> bool:
    """Whether a pattern names only the caller, which needs no privilege.

    An lsid without a uid means the caller's own for who may not kill others'.
    """
    own = caller.digest
    return (
        own is not None
        and not pattern.impersonates
        and not pattern.is_everybody
        and pattern.uid in (None, own)
        and (pattern.lsid is None or pattern.lsid[1] in (None, own))
    )


@dataclass(slots=True)
class Learnt:
    """What upstream told the caller when asked; ``gaps`` says what it would not tell.

    ``listed`` are the sessions whose owners it told.
    """

    roles: dict[bytes, frozenset[Role]] = field(default_factory=dict)
    owners: dict[bytes, set[bytes]] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    listed: int = 0


def id_of_any_owner(pattern: Pattern) -> bytes | None:
    """The UUID that is to be matched whoever owns it; None where there is none, or an owner is
    named."""
    lsid = pattern.lsid
    if lsid is None or lsid[1] is not None or pattern.uid is not None or pattern.names_owners:
        return None
    return lsid[0]


def select(
    patterns: Sequence[Pattern],
    caller: Caller,
    store: Control,
    known: KnownUsers,
    learnt: Learnt,
) -> Selection:
    """The sessions that match any of ``patterns``, for a caller who may kill others'.

    None of them may mean everybody: that is not for this function to spell out. It reaches
    beyond the store wherever a uid or an exact key says what was decided.
    """
    return in_one_go(selecting(patterns, caller, store, known, learnt))


def selecting(
    patterns: Sequence[Pattern],
    caller: Caller,
    store: Control,
    known: KnownUsers,
    learnt: Learnt,
) -> Steps[Selection]:
    """:func:`select` in steps."""
    selector = _Selector(caller, store, known, learnt)
    wanted: set[Role] = set()
    for number, pattern in enumerate(patterns):
        if number % MANY == MANY - 1:
            yield
        wanted.update(pattern.roles or ())
    yield from selector.look_up(wanted)
    for number, pattern in enumerate(patterns):
        if number % STEP == STEP - 1:
            yield
        yield from selector.add(pattern)
    yield
    uids = frozenset(selector.uids)
    yield
    keys = frozenset(selector.keys)
    yield
    return Selection(uids=uids, keys=keys)


class _Selector:
    """Takes one pattern after the other. Each user and each role is looked up once."""

    def __init__(self, caller: Caller, store: Control, known: KnownUsers, learnt: Learnt) -> None:
        self.uids: set[bytes] = set()
        self.keys: set[LogicalSessionId] = set()
        self._caller = caller
        self._store = store
        self._known = known
        self._learnt = learnt
        self._everybody: frozenset[bytes] | None = None
        self._digests: dict[tuple[str, str], bytes] = {}
        self._added: set[Role] = set()
        #: By role, and by what a pattern names of them.
        self._having: dict[Role, set[bytes]] = {}
        self._holding: dict[tuple[Role, ...], frozenset[bytes]] = {}

    def look_up(self, wanted: set[Role]) -> Steps[None]:
        """Find who has these roles."""
        if not wanted:
            return
        for roles in (self._known.roles(), self._learnt.roles):
            for number, (uid, held) in enumerate(list(roles.items())):
                if number % MANY == MANY - 1:
                    yield
                for role in held & wanted:
                    self._having.setdefault(role, set()).add(uid)

    def add(self, pattern: Pattern) -> Steps[None]:
        """Add what matches ``pattern``."""
        if pattern.roles and pattern.lsid is None and pattern.uid is None and not pattern.users:
            for role in pattern.roles:
                if role not in self._added:
                    self._added.add(role)
                    self.uids |= self._having.get(role, _NOBODY)
                    yield
            return
        owners = yield from self._owners(pattern)
        if pattern.lsid is not None:
            yield from self._add_keys(pattern.lsid, owners)
        elif owners is not None and not owners <= self.uids:
            self.uids |= owners
            yield
        if pattern.users and self._caller.authorization is False:
            for number, key in enumerate(_made_by(pattern, self._store)):
                if number % MANY == MANY - 1:
                    yield
                self.keys.add(key)

    def _owners(self, pattern: Pattern) -> Steps[frozenset[bytes] | None]:
        """The owners that satisfy all of ``uid``, ``users`` and ``roles``; None for any."""
        sets: list[frozenset[bytes]] = []
        if pattern.uid is not None:
            sets.append(frozenset((pattern.uid,)))
        if pattern.users:
            named: set[bytes] = set()
            for number, names in enumerate(pattern.users):
                if number % MANY == MANY - 1:
                    yield
                digest = self._digests.get(names)
                if digest is None:
                    digest = self._digests[names] = user_digest(*names)
                named.add(digest)
            sets.append(frozenset(named))
        if pattern.roles:
            few = len(pattern.roles) < STEP
            holding = self._holding.get(pattern.roles) if few else None
            if holding is None:
                found: set[bytes] = set()
                for role in pattern.roles:
                    found |= self._having.get(role, _NOBODY)
                    yield
                holding = frozenset(found)
                if few and len(self._holding) < _MAX_REMEMBERED:
                    self._holding[pattern.roles] = holding
            sets.append(holding)
        if len(sets) == 1:
            return sets[0]
        return frozenset.intersection(*sets) if sets else None

    def _add_keys(
        self, lsid: tuple[bytes, bytes | None], owners: frozenset[bytes] | None
    ) -> Steps[None]:
        """Add the keys of one UUID with each of ``owners``, or of whoever may own it."""
        session_id, uid = lsid
        if uid is not None:
            owners = frozenset((uid,)) if owners is None or uid in owners else frozenset()
        if owners is not None and (len(owners) <= 1 or len(self.keys) + len(owners) <= _MAX_KEYS):
            yield from self._put(session_id, owners)
            return
        candidates = set(self._store.owners_of(session_id))
        candidates |= self._learnt.owners.get(session_id, set())
        if owners is not None:
            self._gap("owners of an lsid with roles or users: too many to try each")
            yield from self._put(session_id, candidates & owners)
            return
        candidates |= self._caller.users
        if self._caller.digest is not None:
            candidates.add(self._caller.digest)
        if self._everybody is None:
            self._everybody = self._known.digests()
        if len(self.keys) + len(self._everybody) <= _MAX_KEYS:
            candidates |= self._everybody
        else:
            self._gap("owners of an lsid without uid: too many users to try each")
        yield from self._put(session_id, candidates)

    def _put(self, session_id: bytes, owners: Collection[bytes]) -> Steps[None]:
        if len(owners) < STEP:
            self.keys.update(LogicalSessionId(session_id, owner) for owner in owners)
            return
        for number, owner in enumerate(owners):
            if number % MANY == 0:
                yield
            self.keys.add(LogicalSessionId(session_id, owner))

    def _gap(self, gap: str) -> None:
        if gap not in self._learnt.gaps:
            self._learnt.gaps.append(gap)


def _made_by(pattern: Pattern, store: Control) -> Iterable[LogicalSessionId]:
    """The owner-less sessions that the named users made, where authorization is off."""
    if pattern.roles:
        return
    for user, database in pattern.users or ():
        for key in store.made_by(owner_name(user, database)):
            if pattern.uid in (None, key.uid) and (
                pattern.lsid is None
                or (pattern.lsid[0] == key.id and pattern.lsid[1] in (None, key.uid))
            ):
                yield key

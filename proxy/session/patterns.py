"""The patterns of killAllSessionsByPattern: grammar, and which sessions they select.

The fields of one pattern must all match, patterns are alternatives, and ``users`` and ``roles``
select by owner.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from proxy.session import idl, refusals
from proxy.session.caller import Caller, owner_name
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.records import Selection
from proxy.wire.fields import DOCUMENT, Element

if TYPE_CHECKING:
    from proxy.session.across import Control
    from proxy.session.known import KnownUsers, Role

_FIELDS: Final = (b"lsid", b"uid", b"users", b"roles")

#: Exact keys that an lsid without a uid may become; more are left to what the store knows.
_MAX_KEYS: Final = 50_000


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
    if element.type != DOCUMENT:
        raise refusals.wrong_type(path, idl.type_name(element.type), "object")
    path = path.rpartition(".")[0]
    lsid: tuple[bytes, bytes | None] | None = None
    uid: bytes | None = None
    lists: dict[bytes, tuple[tuple[str, str], ...]] = {}
    for name, value in idl.struct(data, element, path, _FIELDS):
        at = f"{path}.{name.decode()}"
        if name == b"lsid":
            lsid = idl.lsid(data, value, at)
        elif name == b"uid":
            uid = idl.digest(data, value, at)
        else:
            lists[name] = _names(data, value, at, "user" if name == b"users" else "role")
    return Pattern(lsid, uid, lists.get(b"users"), lists.get(b"roles"))


def _names(data: bytes, element: Element, path: str, first: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for position, entry in idl.entries(data, element, f"{first}s", path):
        if idl.is_absent(entry):
            continue
        if entry.type != DOCUMENT:
            raise refusals.wrong_type(f"{path}.{position}", idl.type_name(entry.type), "object")
        pairs.append(idl.name_pair(data, entry, path, first))
    return tuple(pairs)


def names_only(patterns: Iterable[Pattern], caller: Caller) -> bool:
    """Whether every pattern names only the caller, which needs no privilege.

    An lsid without a uid means the caller's own for who may not kill others'.
    """
    own = caller.digest
    return own is not None and all(
        not pattern.impersonates
        and not pattern.is_everybody
        and pattern.uid in (None, own)
        and (pattern.lsid is None or pattern.lsid[1] in (None, own))
        for pattern in patterns
    )


@dataclass(slots=True)
class Learnt:
    """What upstream told the caller when asked; ``gaps`` says what it would not tell."""

    roles: dict[bytes, frozenset[Role]] = field(default_factory=dict)
    owners: dict[bytes, set[bytes]] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)


def needs_roles(patterns: Iterable[Pattern]) -> bool:
    """Whether it must be known who has a role."""
    return any(pattern.roles for pattern in patterns)


def ids_of_any_owner(patterns: Iterable[Pattern]) -> list[bytes]:
    """The UUIDs that are to be matched whoever owns them, as far as no owner is named."""
    return [
        pattern.lsid[0]
        for pattern in patterns
        if pattern.lsid is not None
        and pattern.lsid[1] is None
        and pattern.uid is None
        and not pattern.names_owners
    ]


def select(
    patterns: Iterable[Pattern],
    caller: Caller,
    store: Control,
    known: KnownUsers,
    learnt: Learnt,
) -> Selection:
    """The sessions that match any of ``patterns``, for a caller who may kill others'.

    None of them may mean everybody: that is not for this function to spell out. It reaches
    beyond the store wherever a uid or an exact key says what was decided.
    """
    uids: set[bytes] = set()
    keys: set[LogicalSessionId] = set()
    for pattern in patterns:
        owners = _owners(pattern, known, learnt)
        if pattern.lsid is not None:
            keys.update(_keys(pattern.lsid, owners, caller, store, known, learnt, len(keys)))
        elif owners is not None:
            uids |= owners
        if pattern.users and caller.authorization is False:
            keys.update(_made_by(pattern, store))
    return Selection(uids=frozenset(uids), keys=frozenset(keys))


def select_own(patterns: Iterable[Pattern], uid: bytes) -> Selection:
    """The same for a caller who may kill only their own (:func:`names_only` holds)."""
    uids: set[bytes] = set()
    keys: set[LogicalSessionId] = set()
    for pattern in patterns:
        if pattern.lsid is None:
            uids.add(uid)
        else:
            keys.add(LogicalSessionId(pattern.lsid[0], uid))
    return Selection(uids=frozenset(uids), keys=frozenset(keys))


def _owners(pattern: Pattern, known: KnownUsers, learnt: Learnt) -> frozenset[bytes] | None:
    """The owners that satisfy all of ``uid``, ``users`` and ``roles``; None for any."""
    sets: list[frozenset[bytes]] = []
    if pattern.uid is not None:
        sets.append(frozenset((pattern.uid,)))
    if pattern.users:
        sets.append(frozenset(user_digest(user, database) for user, database in pattern.users))
    if pattern.roles:
        wanted = frozenset(pattern.roles)
        told = frozenset(uid for uid, held in learnt.roles.items() if held & wanted)
        sets.append(known.holding(pattern.roles) | told)
    return frozenset.intersection(*sets) if sets else None


def _keys(
    lsid: tuple[bytes, bytes | None],
    owners: frozenset[bytes] | None,
    caller: Caller,
    store: Control,
    known: KnownUsers,
    learnt: Learnt,
    taken: int,
) -> set[LogicalSessionId]:
    session_id, uid = lsid
    if uid is not None:
        owners = frozenset((uid,)) if owners is None or uid in owners else frozenset()
    if owners is not None:
        return {LogicalSessionId(session_id, owner) for owner in owners}
    candidates = set(store.owners_of(session_id))
    candidates |= learnt.owners.get(session_id, set())
    candidates |= caller.users
    if caller.digest is not None:
        candidates.add(caller.digest)
    everybody = known.digests()
    if taken + len(everybody) <= _MAX_KEYS:
        candidates |= everybody
    else:
        gap = "owners of an lsid without uid: too many users to try each"
        if gap not in learnt.gaps:
            learnt.gaps.append(gap)
    return {LogicalSessionId(session_id, owner) for owner in candidates}


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

"""The server versions that can be played, and everything that one does otherwise than another.

This is the only place that knows versions by number. Commands ask a fact by its name
(``call.version.strict_lists``). A fact holds from one wire version on; what a version between two
that were looked at does is taken from the older of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final


def _since(wire: int) -> Any:  # noqa: ANN401 - stands for a bool, as dataclasses have it
    """A fact of every server from this wire version on."""
    return field(default=False, metadata={"since": wire})


@dataclass(frozen=True, slots=True)
class Version:
    """One server version: its name (``8.0``), its ``maxWireVersion``, and its facts."""

    name: str
    wire: int

    # ---- 4.4
    #: ``topologyVersion`` in hello, and hellos that wait for it to change.
    topology_version: bool = _since(9)
    #: The first step of a login inside hello.
    speculative_login: bool = _since(9)

    # ---- 4.9, as recorded
    #: ``operationTime`` stands after the error, as it does after any other reply.
    times_last: bool = _since(12)
    #: The kill commands take no session of their own: txnNumber beside them is ignored, and they
    #: do not interrupt themselves.
    detached_kills: bool = _since(12)
    #: ``create`` and ``createIndexes`` may stand in a transaction.
    schema_in_transactions: bool = _since(12)
    #: No ``ns`` in an index, and names in ``keyValue``.
    tidy_indexes: bool = _since(12)
    #: ``nModified`` stands before ``upserted``.
    modified_first: bool = _since(12)
    #: 225 tells retryable writes and transactions apart.
    says_what_is_newer: bool = _since(12)
    #: 261 says that there are too many sessions.
    says_too_many_sessions: bool = _since(12)
    #: ``apiVersion``, ``apiStrict`` and ``apiDeprecationErrors``.
    stable_api: bool = _since(12)

    # ---- 5.0
    #: Every command of a transaction repeats the API parameters of the first (347), where 4.9
    #: wants none of them (4937700).
    api_repeated: bool = _since(13)
    #: endSessions and refreshSessions are parsed strictly, and before their session is recorded.
    typed_sessions: bool = _since(13)
    #: "binData type", where it was "bindData type".
    bin_data: bool = _since(13)
    #: The errors about statement ids print what was given.
    prints_statement_ids: bool = _since(13)
    #: Replies to writes name the statements that had been carried out before.
    retried_statements: bool = _since(13)

    # ---- 5.1
    #: OP_QUERY carries hello and logins only, and no other opcode of its age is served.
    only_messages: bool = _since(14)

    # ---- 6.0
    #: A connection has one user, once and for all.
    one_user: bool = _since(17)
    #: ``lsid`` may have ``txnNumber`` and ``txnUUID``: sessions of the servers' own.
    child_sessions: bool = _since(17)
    #: "Logical sessions require authentication".
    sessions_want_login: bool = _since(17)
    #: killAllSessions takes users that do not exist.
    kills_unknown_users: bool = _since(17)
    #: Too many impersonated users in a pattern are an error, if it matches.
    one_impersonated: bool = _since(17)
    #: 323 says where to read more.
    says_where_api: bool = _since(17)

    # ---- 7.0
    #: A list is an array, and no document with the keys 0, 1, ...
    strict_lists: bool = _since(21)
    #: "Command X requires authentication", with a capital letter.
    capital_command: bool = _since(21)
    #: Logins expire (391).
    logins_expire: bool = _since(21)
    #: Connections of other servers need no ``apiVersion``.
    internal_exempt: bool = _since(21)

    # ---- 8.0
    #: The session fields are arguments of the command that has them, in errors about them too.
    generic_arguments: bool = _since(25)
    #: ``startOrContinueTransaction``.
    start_or_continue: bool = _since(25)
    #: A list that is null is missing.
    null_is_missing: bool = _since(25)

    # ---- 8.2
    #: Requests beyond a rate are refused unread (462).
    rate_limiter: bool = _since(27)

    def has(self, command: str) -> bool:
        """Whether the version has this command, of those that not all have."""
        first, last = _COMMANDS.get(command, _ALWAYS)
        return first <= self.wire <= last

    def lets_in(self, command: str) -> bool:
        """Whether the version serves this command unauthenticated, where not all do."""
        return self.wire >= _PUBLIC.get(command, self.wire + 1)

    def code_name(self, code: int, name: str) -> str:
        """How the version calls the error ``code``; ``name`` is what 4.2 calls it."""
        since, newer = _CODE_NAMES.get(code, (0, name))
        return newer if self.wire >= since else name


_ALWAYS: Final = (0, 1_000)

#: Commands that some versions lack: the first and the last wire version with them.
_COMMANDS: Final[Mapping[str, tuple[int, int]]] = {
    "bulkWrite": (25, 1_000),
    "getLastError": (0, 13),
    "getlasterror": (0, 13),
    "getFreeMonitoringStatus": (0, 20),
}

#: Commands that need no login any more: since when.
_PUBLIC: Final[Mapping[str, int]] = {"listCommands": 13}

#: Names that codes got later: since when, and the name.
_CODE_NAMES: Final[Mapping[int, tuple[int, str]]] = {
    40413: (25, "IDLDuplicateField"),
    40414: (25, "IDLFailedToParse"),
    40415: (25, "IDLUnknownField"),
    50768: (13, "NotARetryableWriteCommand"),
}


def _version(name: str, wire: int) -> Version:
    facts = {
        fact.name: wire >= fact.metadata["since"]
        for fact in fields(Version)
        if "since" in fact.metadata
    }
    return Version(name, wire, **facts)


#: Every version that can be played, by name.
VERSIONS: Final[Mapping[str, Version]] = {
    name: _version(name, wire)
    for name, wire in (
        ("4.2", 8),
        ("4.4", 9),
        ("4.9", 12),
        ("5.0", 13),
        ("6.0", 17),
        ("7.0", 21),
        ("8.0", 25),
        ("8.2", 27),
    )
}


def named(wire: int) -> str:
    """The newest version whose ``maxWireVersion`` is not above ``wire``; the oldest below all."""
    fitting = [name for name, version in VERSIONS.items() if version.wire <= wire]
    return fitting[-1] if fitting else next(iter(VERSIONS))


#: 4.2 with the hello of 4.4, which drivers of today want.
DEFAULT: Final = "4.4"

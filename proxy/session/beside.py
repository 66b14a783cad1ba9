"""Which operations drivers have in flight beside each other under one session, and which they do
not."""

from __future__ import annotations

from typing import Final, NamedTuple

CONCURRENT: Final = "concurrent"
IN_TRANSACTION: Final = "concurrent_in_transaction"

#: What drivers send beside anything else.
BESIDE: Final = frozenset(
    (
        *("killCursors", "abortTransaction", "endSessions", "refreshSessions", "startSession"),
        *("killSessions", "killAllSessions", "killAllSessionsByPattern"),
    )
)


class Use(NamedTuple):
    """What a request does with its session: ``number`` is its txnNumber, None without one.
    ``child`` are the fields of a child session, which has transactions of its own."""

    command: str
    number: int | None = None
    in_transaction: bool = False
    child: bytes = b""


def beside(later: Use, earlier: Use) -> str:
    """What it is that both are in flight on two connections: a kind of incident, or "" for what
    drivers do of their own accord."""
    if later.command in BESIDE or earlier.command in BESIDE or later.child != earlier.child:
        return ""
    same = later.number is not None and later.number == earlier.number
    if same and later.in_transaction and earlier.in_transaction:
        # A commit is asked for again on another connection.
        repeated = later.command == earlier.command == "commitTransaction"
        return "" if repeated else IN_TRANSACTION
    if same or later.command == "getMore" or earlier.command == "getMore":
        # A write is asked for again; a cursor may be read, or waited for, beside other things.
        return ""
    return CONCURRENT


def in_words(kind: str, later: Use, on: int, earlier: Use, there: int) -> str:
    """That in words; ``on`` and ``there`` are the connections of the two."""
    reason = (
        f"{later.command} came on connection {on} while {earlier.command} was under way on"
        f" connection {there}"
    )
    if kind == IN_TRANSACTION:
        reason += f", both in transaction {later.number}"
    return reason

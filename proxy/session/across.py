"""What is asked of all sessions, whichever process tracks them.

One process tracks what passes through its own connections, in its own ``SessionStore``, which
answers all of this alone. Questions and answers are plain data (keys, names, numbers,
selections), so that with several processes on the same ports others can answer for their part:
numbers add up, keys unite. Whoever holds a live ``Session`` speaks of its own process only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.session.ids import LogicalSessionId, OpenTransaction, Origin
    from proxy.session.records import CursorId, Hit, Open, Selection, Session
    from proxy.session.steps import Steps
    from proxy.session.transactions import State


class Totals(Protocol):
    """What limits are held to. A request waits for it, so the answer is there at once: with
    other processes, what they told last."""

    @property
    def max_sessions(self) -> int:
        """How many sessions there may be."""

    def __len__(self) -> int:
        """How many there are."""

    def owner_sessions(self, name: str) -> int:
        """How many sessions of this owner (``user@db``) are not forgotten."""

    def owner_live(self, name: str) -> int:
        """How many of them have a place (:mod:`proxy.session.places`)."""

    def owner_transactions(self, name: str) -> int:
        """How many transactions this owner (``user@db``) has open, or may have, or begins."""

    def application_sessions(self, application: str) -> int:
        """How many sessions come from ``application.name``."""

    def application_live(self, application: str) -> int:
        """How many of them have a place."""

    def live(self) -> int:
        """How many sessions have a place."""

    def promised(self) -> int:
        """How many sessions are about to be made beside those that are there."""

    def count(self, within: Selection) -> int:
        """How many sessions are selected."""

    def hit(self, within: Selection) -> Hit:
        """How much a kill of the selected sessions would hit, on all upstreams together."""

    def hitting(self, within: Selection) -> Steps[Hit]:
        """:meth:`hit` in steps."""


class Known(Totals, Protocol):
    """What rules see: the totals, and of single sessions what this process knows itself."""

    def __contains__(self, lsid: LogicalSessionId) -> bool:
        """Whether the session is known."""

    def has_place(self, lsid: LogicalSessionId) -> bool:
        """Whether it is known and has a place: its use takes no other one."""

    def get(self, lsid: LogicalSessionId) -> Session | None:
        """The session with this key."""

    def cursor_session(self, cursor: CursorId) -> Session | None:
        """The session that opened a cursor."""


class Control(Protocol):
    """What session control asks, and tells once upstream has carried it out."""

    @property
    def full(self) -> bool:
        """Whether another session would be one too many."""

    def owners_of(self, session_id: bytes) -> Iterable[bytes]:
        """The digests of those who have a session with this UUID."""

    def made_by(self, name: str) -> Iterable[LogicalSessionId]:
        """The sessions that ``user@db`` made."""

    def count(self, within: Selection) -> int:
        """How many sessions are selected."""

    def hit(self, within: Selection) -> Hit:
        """How much a kill of the selected sessions would hit, on all upstreams together."""

    def opening_at(self, upstream: str, within: Selection) -> Steps[Open]:
        """What the selected sessions have open at ``upstream`` (an address)."""

    def use(self, lsid: LogicalSessionId, now: float, user: str, origin: Origin) -> object:
        """Note a use; an unknown session comes into being, made by ``user`` from ``origin``."""

    def use_all(
        self, lsids: Iterable[LogicalSessionId], now: float, user: str, origin: Origin
    ) -> None:
        """As :meth:`use` for many sessions, each of which is named once."""

    def end(self, lsids: Iterable[LogicalSessionId], now: float) -> None:
        """Note that upstream has ended these, as it was asked to at ``now``."""

    def transaction_ended(self, one: OpenTransaction, now: float, state: State) -> bool:
        """Note how a transaction has ended that upstream was asked to abort; whether it was seen
        open until now."""

    def killing(self, within: Selection, now: float, upstream: str | None = None) -> Steps[int]:
        """Note a kill on ``upstream`` (None: all); returns how many sessions it has hit."""

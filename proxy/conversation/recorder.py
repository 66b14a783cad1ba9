"""Whom a connection's way to the sessions tells what was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.conversation.rule import Decision, Overdue
    from proxy.errors import CommandError
    from proxy.session.caller import Caller
    from proxy.session.identity import Identity
    from proxy.session.ids import LogicalSessionId, Origin
    from proxy.session.suspicion import Suspicion


class Asker(Protocol):
    """The connection about whose request something was decided."""

    @property
    def connection(self) -> int:
        """Its number."""

    @property
    def upstream(self) -> str:
        """The address that it leads to."""

    @property
    def origin(self) -> Origin:
        """Where it comes from."""

    @property
    def identity(self) -> Identity:
        """Who is logged in."""

    @property
    def caller(self) -> Caller:
        """The same, as far as sessions are concerned."""

    def owner(self, lsid: LogicalSessionId) -> str:
        """``user@db`` of whose session it is; "" where that is not known."""


class Recorder(Protocol):
    """Told of every decision, to count it and write it to the audit log. Must not raise."""

    def malformed(
        self,
        error: CommandError,
        command: str,
        now: float,
        desk: Asker,
        decision: str,
        lsid: LogicalSessionId | None = None,
    ) -> None:
        """Session fields came that are wrong; ``lsid`` is a session that is named with its owner.
        ``decision`` is ``reported`` where upstream is left to refuse them, ``refused`` where that
        is done here, "" where a rule has done it."""

    def incident(self, kind: str, now: float, desk: Asker, suspicion: Suspicion) -> None:
        """A session is used as it should not be."""

    def trespassed(
        self,
        error: CommandError,
        command: str,
        now: float,
        desk: Asker,
        lsid: LogicalSessionId | None,
    ) -> None:
        """A session command names somebody else's session, and is refused; ``lsid`` is its own, if
        it names that with its owner."""

    def surprised(self, error: CommandError, command: str, first: bool, desk: Asker) -> None:
        """Upstream carried out what it should have refused with this error, as it had not
        before on this connection or had."""

    def ruled(
        self,
        decision: Decision,
        command: str,
        now: float,
        desk: Asker,
        lsid: LogicalSessionId | None = None,
    ) -> None:
        """A rule refused a request, or would have in mode enforce. ``lsid`` is what it named."""

    def control(
        self,
        command: str,
        decision: str,
        targets: int,
        reason: str,
        desk: Asker,
        refusal: tuple[CommandError, float] | None = None,
    ) -> None:
        """A session command was refused, failed upstream or was done, for so many
        sessions that are known. ``refusal`` is the proxy's own error, and when it fell."""

    def login_failed(self, command: str, claimed: str, reason: str, desk: Asker) -> None:
        """Upstream, or the proxy in its place, let nobody in who claimed to be ``claimed``."""

    def crowded(self, error: CommandError, now: float, desk: Asker) -> None:
        """A connection is one too many in use: what is asked on it is refused, for now."""

    def killed(self, own: int, others: int) -> None:
        """A kill is done: so many sessions of the caller's own and of others, that are known."""

    def late(self, overdue: Overdue, decision: str, code: int | None, now: float) -> None:
        """A transaction that was open too long was to be aborted upstream, and was (``aborted``),
        had ended before (``over``) or was not (``failed``), by an error of upstream's."""

    def gave_up(self, overdue: Overdue, code: int | None, now: float) -> None:
        """Upstream refused that so often, at last with ``code``, that it is not asked again."""

    def look(self, now: float) -> None:
        """A second has passed: what was left unsaid may have to be said now."""

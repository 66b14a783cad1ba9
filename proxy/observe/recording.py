"""Decisions about sessions as metrics and audit lines."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from proxy import logs
from proxy.observe.audit import fields
from proxy.session.commands import SESSION_COMMANDS
from proxy.session.refusals import FOREIGN_DIGEST
from proxy.texts import MOST_SHOWN

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from proxy.conversation.desk import Desk
    from proxy.conversation.rule import Decision, Overdue
    from proxy.errors import CommandError
    from proxy.observe.audit import Audit
    from proxy.observe.telemetry import Telemetry
    from proxy.session.ids import Origin


class DecisionRecorder:
    """A cluster's :class:`proxy.conversation.desk.Recorder`."""

    def __init__(
        self, telemetry: Telemetry, audit: Audit, log: FilteringBoundLogger | None = None
    ) -> None:
        self._telemetry = telemetry
        self._audit = audit
        self._log = log or logs.logger()

    def malformed(
        self, error: CommandError, command: str, now: float, desk: Desk, decision: str
    ) -> None:
        """Count session fields that are wrong; who means others' sessions is named."""
        self._telemetry.malformed(error.code_name)
        if error == FOREIGN_DIGEST:
            self.incident("foreign_uid", now, desk)
            if decision:
                self._write(desk, command, decision, error.errmsg, rule=None, targets=None)

    def surprised(self, error: CommandError, command: str, first: bool, desk: Desk) -> None:
        """Count what upstream should have refused and did; say so once for a connection."""
        self._telemetry.surprised(error.code_name)
        if first:
            self._log.warning(
                "upstream carried out what it should have refused",
                conn=desk.connection,
                upstream=desk.upstream,
                user=desk.identity.name,
                command=command,
                expected=error.code_name,
            )

    def incident(self, kind: str, now: float, desk: Desk) -> None:
        """Count a use of a session that no driver makes, and remember whose it was."""
        self._telemetry.incident(kind, desk.identity.name, desk.origin, now)

    def ruled(self, decision: Decision, command: str, now: float, desk: Desk) -> None:
        """Count and write down what a rule said."""
        decided = "refused" if decision.refused else "reported"
        who = desk.identity.name, desk.origin
        self._telemetry.ruled(decision.rule, decided)
        self._telemetry.rule_incident(decision.rule, decided, *who, now)
        if decision.refused and command in SESSION_COMMANDS:
            self._telemetry.control(command, "refused")
        if decision.failure is not None:
            self._log.error(
                "rule failed", rule=decision.rule, conn=desk.connection, exc_info=decision.failure
            )
        self._write(desk, command, decided, decision.error.errmsg, rule=decision.rule, targets=None)

    def control(self, command: str, decision: str, targets: int, reason: str, desk: Desk) -> None:
        """Count and write down what became of a session command."""
        self._telemetry.control(command, decision)
        self._write(desk, command, decision, reason, rule=None, targets=targets)

    def killed(self, own: int, others: int) -> None:
        """Count sessions that a command killed."""
        self._telemetry.killed("owner", own)
        self._telemetry.killed("other", others)

    def aborted(self, overdue: Overdue, ok: bool) -> None:
        """Count and write down a transaction that was aborted for being open too long."""
        self._ended_late(overdue, "aborted" if ok else "failed", overdue.reason)

    def gave_up(self, overdue: Overdue, code: int | None) -> None:
        """Count and write down one that upstream does not let be aborted; the log says so too."""
        self._ended_late(overdue, "given_up", f"{overdue.reason}; upstream refuses: {code}")
        self._log.warning(
            "upstream does not let a late transaction be aborted",
            session=str(overdue.session.key),
            txn_number=overdue.txn_number,
            owner=overdue.session.owner.name,
            code=code,
        )

    def _ended_late(self, overdue: Overdue, decision: str, reason: str) -> None:
        session = overdue.session
        upstream = session.transaction.upstream if session.transaction is not None else ""
        self._telemetry.ruled("transaction_guard", decision)
        self._audit.record(
            conn=None,
            user="",
            owner=session.owner.name,
            client=session.origin.client,
            application=session.origin.application,
            driver=session.origin.driver,
            driver_version=session.origin.driver_version,
            upstream=upstream,
            session=str(session.key),
            command="abortTransaction",
            decision=decision,
            reason=reason,
            rule="transaction_guard",
            targets=1,
        )

    def _write(
        self,
        desk: Desk,
        command: str,
        decision: str,
        reason: str,
        *,
        rule: str | None,
        targets: int | None,
    ) -> None:
        name = desk.caller.name
        whose = _whose if len(name) <= MOST_SHOWN else _whose.__wrapped__
        who = whose(desk.connection, name, desk.origin, desk.upstream)
        what = _what(command, decision, logs.redact(reason) if reason else "", rule, targets)
        self._audit.append(f"{who}, {what}")


# Most lines say twice the same: who it was as the last line of the connection, what it was as many
# others. To put a line together of both takes an eighth of what it takes to make it anew.


@lru_cache(1000)
def _whose(connection: int, user: str, origin: Origin, upstream: str) -> str:
    return fields(
        conn=connection,
        user=user,
        client=origin.client,
        application=origin.application,
        driver=origin.driver,
        driver_version=origin.driver_version,
        upstream=upstream,
    )


@lru_cache(1000)
def _what(command: str, decision: str, reason: str, rule: str | None, targets: int | None) -> str:
    return fields(command=command, decision=decision, reason=reason, rule=rule, targets=targets)

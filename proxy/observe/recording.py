"""Decisions about sessions as metrics and audit lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from proxy import logs
from proxy.observe.audit import fields
from proxy.observe.audit_lines import about, redacted, what_line, whose_line
from proxy.observe.labels import ITSELF, code_name
from proxy.observe.refusals import Whose
from proxy.session.commands import SESSION_COMMANDS
from proxy.session.ids import LogicalSessionId
from proxy.session.refusals import FOREIGN_DIGEST
from proxy.texts import shown

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from proxy.conversation.recorder import Asker
    from proxy.conversation.rule import Decision, Overdue
    from proxy.errors import CommandError
    from proxy.observe.audit import Audit
    from proxy.observe.flight import FlightLog
    from proxy.observe.labels import Incident
    from proxy.observe.refusals import Account
    from proxy.observe.telemetry import Telemetry
    from proxy.session.suspicion import Suspicion
    from proxy.wire.subjects import Subject


#: What the log says of each kind of incident that is written down.
_SAID: Final = {
    "refused": "request refused",
    "reported": "request would be refused",
    "foreign_uid": "session of somebody else named",
    "shared": "session used by two client processes",
    "concurrent": "session used for two things at once",
    "concurrent_in_transaction": "transaction used for two things at once",
    "txn_number_backwards": "txnNumber goes backwards",
    "txn_number_reused": "txnNumber used twice",
    "aborted": "late transaction aborted",
    "over": "late transaction was over already",
    "given_up": "upstream does not let a late transaction be aborted",
}

#: The rule whose transactions are aborted behind the backs of their clients.
_GUARD: Final = "transaction_guard"


class DecisionRecorder:
    """A cluster's :class:`proxy.conversation.recorder.Recorder`."""

    def __init__(
        self,
        telemetry: Telemetry,
        audit: Audit,
        log: FilteringBoundLogger | None = None,
        flight: FlightLog | None = None,
    ) -> None:
        self._flight = flight
        self._telemetry = telemetry
        self._audit = audit
        self._log = log or logs.logger()
        #: By the name of a rule.
        self._failures: dict[str, logs.Seldom] = {}

    def malformed(
        self,
        error: CommandError,
        command: str,
        now: float,
        desk: Asker,
        decision: str,
        lsid: LogicalSessionId | None = None,
    ) -> None:
        """Count session fields that are wrong; who means others' sessions is named."""
        self._telemetry.malformed(error.code_name)
        if error == FOREIGN_DIGEST:
            self._foreign(error, command, now, desk, decision, lsid)
        elif decision == "refused":
            self._refused(error, command, now, desk)

    def surprised(self, error: CommandError, command: str, first: bool, desk: Asker) -> None:
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

    def trespassed(
        self,
        error: CommandError,
        command: str,
        now: float,
        desk: Asker,
        lsid: LogicalSessionId | None,
    ) -> None:
        """Count and write down that a session command named somebody else's session."""
        self._telemetry.control(command, "refused")
        self._foreign(error, command, now, desk, "refused", lsid)

    def incident(self, kind: str, now: float, desk: Asker, suspicion: Suspicion) -> None:
        """Count a use of a session that no driver makes, remember whose it was, and say so."""
        incident = self._telemetry.incident(kind, desk.identity.name, desk.origin, now)
        latest = {"reason": suspicion.reason, "command": shown(suspicion.command)}
        latest |= self._where(desk, suspicion.lsid)
        self._say(incident, self._note(incident, latest), now)
        if self._flight is not None:
            told = {"kind": kind, **_of(suspicion)}
            self._flight.happened("incident", told, desk.identity.name, desk.origin)

    def ruled(
        self,
        decision: Decision,
        command: str,
        now: float,
        desk: Asker,
        lsid: LogicalSessionId | None = None,
    ) -> None:
        """Count and write down what a rule said."""
        decided = "refused" if decision.refused else "reported"
        who = desk.identity.name, desk.origin
        self._telemetry.ruled(decision.rule, decided)
        incident = self._telemetry.rule_incident(decision.rule, decided, *who, now)
        if decision.refused and command in SESSION_COMMANDS:
            self._telemetry.control(command, "refused")
        if decision.failure is not None:
            self._failed(decision.rule).warn(
                now, rule=decision.rule, conn=desk.connection, exc_info=decision.failure
            )
        self._account(incident, decision.error, decided, command, now, desk, lsid, decision.subject)

    def control(
        self,
        command: str,
        decision: str,
        targets: int,
        reason: str,
        desk: Asker,
        refusal: tuple[CommandError, float] | None = None,
    ) -> None:
        """Count and write down what became of a session command."""
        self._telemetry.control(command, decision)
        if refusal is not None:
            self._refused(refusal[0], command, refusal[1], desk)
            return
        if self._flight is not None and command.startswith("kill"):
            what = {
                "kind": decision,
                "command": command,
                "sessions": targets,
                "reason": reason or None,
            }
            self._flight.happened("kill", what, desk.identity.name, desk.origin)
        self._write(desk, command, decision, reason, rule=None, targets=targets)

    def login_failed(self, command: str, claimed: str, reason: str, desk: Asker) -> None:
        """Count and write down who was not let in."""
        self._telemetry.login_failed(command, claimed, desk.origin.application)
        more = fields(claimed=claimed)
        if self._flight is not None:
            self._flight.happened("login_failed", {"reason": reason}, claimed, desk.origin)
        self._write(desk, command, "failed", reason, rule=None, targets=None, more=more)

    def crowded(self, error: CommandError, now: float, desk: Asker) -> None:
        """Write down that a connection is one too many in use, which the log has as such."""
        who = desk.identity.name, desk.origin
        incident = self._telemetry.rule_incident(ITSELF, "refused", *who, now)
        self._account(incident, error, "refused", "", now, desk, None, quiet=True)

    def killed(self, own: int, others: int) -> None:
        """Count sessions that a command killed."""
        self._telemetry.killed("owner", own)
        self._telemetry.killed("other", others)

    def late(self, overdue: Overdue, decision: str, code: int | None, now: float) -> None:
        """Tell of a transaction that was to be aborted for being open too long; where that has
        failed it is tried again."""
        self._ended_late(overdue, decision, now, code)

    def gave_up(self, overdue: Overdue, code: int | None, now: float) -> None:
        """Tell of one that upstream does not let be aborted."""
        self._ended_late(overdue, "given_up", now, code)

    def look(self, now: float) -> None:
        """Say what the log has left out of what has not happened again since."""
        for incident, account in self._telemetry.refusals.left_out(now):
            self._warn("lines left out", incident, account, about=_SAID[incident.kind])

    def _failed(self, rule: str) -> logs.Seldom:
        # One that fails may do so at every request.
        found = self._failures.get(rule)
        if found is None:
            found = self._failures[rule] = logs.Seldom(self._log, "rule failed", error=True)
        return found

    def _foreign(
        self,
        error: CommandError,
        command: str,
        now: float,
        desk: Asker,
        decision: str,
        lsid: LogicalSessionId | None,
    ) -> None:
        """Somebody else's session was named; a rule that refused that has told of it itself."""
        incident = self._telemetry.incident("foreign_uid", desk.identity.name, desk.origin, now)
        if decision:
            self._account(incident, error, decision, command, now, desk, lsid)

    def _refused(self, error: CommandError, command: str, now: float, desk: Asker) -> None:
        """The proxy itself refused, and no rule."""
        who = desk.identity.name, desk.origin
        incident = self._telemetry.rule_incident(ITSELF, "refused", *who, now)
        self._account(incident, error, "refused", command, now, desk, None)

    def _account(
        self,
        incident: Incident,
        error: CommandError,
        decision: str,
        command: str,
        now: float,
        desk: Asker,
        lsid: LogicalSessionId | None,
        subject: Subject | None = None,
        *,
        quiet: bool = False,
    ) -> None:
        """Keep account of a refusal or a report, write it down, and say it unless it was lately."""
        name, value = ("", None) if error.bound is None else error.bound
        if error.session is not None:
            lsid = LogicalSessionId(*error.session)
        latest = {
            "reason": redacted(error.reason or error.errmsg),
            "bound": name or None,
            "limit": value,
            "error": f"{error.code} {error.code_name}",
            "command": shown(command),
            **self._where(desk, lsid),
        }
        if self._flight is not None:
            which = "" if lsid is None else lsid.id.hex()
            told = latest | {"rule": incident.rule or None, "session": which, "client": None}
            told |= about(subject)
            self._flight.happened(incident.kind, told, desk.identity.name, desk.origin)
        account = self._note(incident, latest)
        times = account.row()
        rule = incident.rule if incident.rule not in ("", ITSELF) else None
        self._write(
            desk,
            command,
            decision,
            error.reason or error.errmsg,
            rule=rule,
            targets=None,
            more=fields(
                bound=name or None,
                limit=value,
                session=latest["session"],
                owner=latest["owner"],
                count=times["count"],
                first=times["first"],
                last=times["last"],
                **about(subject),
            ),
        )
        if not quiet:
            self._say(incident, account, now)

    def _where(self, desk: Asker, lsid: LogicalSessionId | None) -> dict[str, Any]:
        """On which connection it was, and about which session."""
        return {
            "client": desk.origin.client,
            "conn": desk.connection,
            "session": None if lsid is None else str(lsid),
            "owner": None if lsid is None else shown(desk.owner(lsid)) or None,
        }

    def _note(self, incident: Incident, latest: dict[str, Any]) -> Account:
        return self._telemetry.refusals.note(Whose(*incident[:4]), latest, incident)

    def _say(self, incident: Incident, account: Account, now: float) -> None:
        """Tell the log, unless it was told of the same lately."""
        if self._telemetry.refusals.may_say(account, now):
            self._warn(_SAID[incident.kind], incident, account)

    def _warn(self, event: str, incident: Incident, account: Account, **more: str) -> None:
        known = {name: value for name, value in account.row().items() if value is not None}
        left_out = {"left_out": account.left_out} if account.left_out else {}
        account.left_out = 0
        self._log.warning(
            event,
            **more,
            rule=incident.rule if incident.rule not in ("", ITSELF) else None,
            user=incident.user,
            application=incident.application,
            driver=f"{incident.driver} {incident.driver_version}".rstrip(),
            **known,
            **left_out,
        )

    def _ended_late(self, overdue: Overdue, decision: str, now: float, code: int | None) -> None:
        reason = overdue.reason
        if decision != "aborted":
            what = "it had ended before" if decision == "over" else "upstream refuses"
            reason = f"{reason}; {what}: {code} {code_name(code)}"
        session, (bound, limit) = overdue.session, overdue.bound
        tracker, origin, owner = session.transaction, session.origin, session.owner.name
        self._telemetry.ruled(_GUARD, decision)
        line: dict[str, Any] = {}
        if decision != "failed":
            incident = self._telemetry.rule_incident(_GUARD, decision, owner, origin, now)
            latest = {
                "reason": reason,
                "bound": bound,
                "limit": limit,
                "command": "abortTransaction",
                "client": origin.client,
                "conn": None if tracker is None else tracker.connection or None,
                "session": str(session.key),
                "owner": shown(owner) or None,
                "txn_number": overdue.txn_number,
                "code": code,
            }
            if self._flight is not None:
                told = latest | {"kind": decision, "rule": _GUARD, "session": session.id.hex()}
                self._flight.happened("incident", told | {"client": None}, owner, origin)
            account = self._note(incident, latest)
            line = {name: account.row()[name] for name in ("count", "first", "last")}
            self._say(incident, account, now)
        self._audit.record(
            conn=None,
            user="",
            owner=owner,
            client=origin.client,
            application=origin.application,
            driver=origin.driver,
            driver_version=origin.driver_version,
            upstream="" if tracker is None else tracker.upstream,
            session=str(session.key),
            command="abortTransaction",
            decision=decision,
            reason=reason,
            rule=_GUARD,
            targets=1,
            bound=bound,
            limit=limit,
            **line,
        )

    def _write(
        self,
        desk: Asker,
        command: str,
        decision: str,
        reason: str,
        *,
        rule: str | None,
        targets: int | None,
        more: str = "",
    ) -> None:
        name = desk.caller.name
        who = whose_line(desk.connection, name, desk.origin, desk.upstream)
        what = what_line(command, decision, redacted(reason) if reason else "", rule, targets)
        self._audit.append(f"{who}, {what}, {more}" if more else f"{who}, {what}")


def _of(suspicion: Suspicion) -> dict[str, Any]:
    """What is remembered of a use of a session beside its kind."""
    which = suspicion.lsid.id.hex()
    return {"reason": suspicion.reason, "command": suspicion.command, "session": which}

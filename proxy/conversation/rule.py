"""What a rule sees, what it may say, and how the rules together decide.

A rule is a class with a ``name``, a frozen dataclass ``Settings`` with defaults, and a method
``refuse``. It is made with its settings, sees one :class:`Context` per request, returns the
refusal or None, never waits and never changes anything. Rules of one's own are named
``module:Class`` in the configuration; ``policies/`` has examples.

Attributes of a rule save time. One that has nothing to say about *routine* requests (see
:func:`is_routine`) may have ``judges_routine = False``: where no rule judges them, none is asked,
which saves a seventh of what a request costs. With ``judges_transactions = False`` it has nothing
to say either where such a request is part of a transaction or a retryable write that upstream
checks itself; with ``judges_plans = False`` nothing about session commands that have no lsid
themselves.
One whose answer does not hang on the caller's roles or privileges may have
``judges_privileges = False``: a session command need not wait then until upstream has said what
they are by now. A rule that can refuse nothing as it is set may say so with ``idle = True``: it is
never asked. One that asks a plan how much it hits or makes says ``weighs_plans = True``, so that a
long list was looked up before, in turns with other work.

Rules are asked about requests that have to do with sessions. One that says ``judges = "all"`` is
asked about all others as well, but for ``hello`` and logins, and about everything that the other
attributes could spare it. What it is promised of a command is bounded: ``command``,
``namespaces`` and ``writes`` of the context (:mod:`proxy.wire.subjects`), beside who asks.

What a rule refuses is told to operators with ``reason`` and ``bound`` of its error
(:meth:`proxy.errors.CommandError.because`), and the client is told that the proxy refused, unless
``speaks_as_server = True`` says that upstream gives the same error for the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol, TypeVar

from proxy.errors import CommandError
from proxy.session.ids import UNKNOWN_ORIGIN, Origin
from proxy.session.records import CursorId
from proxy.wire.subjects import subject_of

if TYPE_CHECKING:
    from proxy.session.across import Known
    from proxy.session.caller import Caller
    from proxy.session.info import OperationSessionInfo
    from proxy.session.plans import Plan
    from proxy.session.records import Session
    from proxy.wire.messages import Request
    from proxy.wire.subjects import Subject


P = TypeVar("P")


@dataclass(slots=True)
class Context:
    """One request as a rule sees it. Everything in it is for reading only.

    ``session`` is what the store knows of ``info.lsid``, None for a new one. ``plan`` is set
    for session commands: what they would do. ``origin`` says where the connection comes
    from, ``upstream`` (an address) where it leads. ``upstream_checks`` is false where upstream
    is known not to validate session fields, so that only the proxy refuses a wrong one.
    ``ran_open`` says that upstream was seen to run without authorization and has it on now.

    ``now`` is in seconds on the proxy's own clock, that of all times in the store, and
    ``wall_now`` in seconds since 1970, that of people.
    """

    request: Request
    info: OperationSessionInfo
    caller: Caller
    store: Known
    now: float
    session: Session | None = None
    plan: Plan | None = None
    origin: Origin = UNKNOWN_ORIGIN
    upstream: str = ""
    upstream_checks: bool = True
    ran_open: bool = False
    wall_now: float = 0.0
    _subject: Subject | None = None

    @property
    def command(self) -> str:
        """The command's name, the same for every form of it; "" for what cannot be read."""
        return self.subject.command

    @property
    def namespaces(self) -> tuple[str, ...]:
        """What it names as its own or writes to: each ``database.collection``, or
        ``database.$cmd``; "" among them for what cannot be told."""
        return self.subject.namespaces

    @property
    def writes(self) -> bool:
        """False only for what is known to write no data."""
        return self.subject.writes

    @property
    def subject(self) -> Subject:
        """These three."""
        if self._subject is None:
            self._subject = subject_of(self.request)
        return self._subject


def is_routine(
    request: Request,
    info: OperationSessionInfo,
    session: Session | None,
    plan: Plan | None,
    upstream: str,
) -> bool:
    """Whether a request does no more than to use a session that is known, not over and the
    caller's own.

    If it says something of a transaction or a retry, that is how drivers say it. It controls no
    session, and the cursor that it reads from, if any, is one that the session has opened itself.
    """
    if (
        session is None
        or not session.place
        or plan is not None
        or not request.layout.usual
        or info.malformed is not None
    ):
        return False
    if request.command != "getMore":
        return True
    number, activity = request.integer(b"getMore"), session.activity
    return (
        number is not None
        and activity is not None
        and CursorId(upstream, number) in activity.cursors
    )


class Rule(Protocol):
    """One rule."""

    #: The name of its table in the configuration, and the rule's in metrics and the audit log.
    name: ClassVar[str]
    #: A frozen dataclass in which every field has a default.
    Settings: ClassVar[type[Any]]

    def refuse(self, context: Context) -> CommandError | None:
        """The error that the client gets instead of an answer; None to let the request go on."""


class Mode(StrEnum):
    """What becomes of a refusal: given, only noted, or not even looked for."""

    ENFORCE = "enforce"
    REPORT = "report"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Decision:
    """What one rule said about one request, to be counted and audited.

    ``refused`` is false in mode report. ``failed`` says that the rule raised ``failure``.
    ``as_server`` says that upstream would say the same in the same case. ``subject`` is what the
    request is about.
    """

    rule: str
    refused: bool
    error: CommandError
    failure: Exception | None = None
    as_server: bool = False
    subject: Subject | None = None

    @property
    def failed(self) -> bool:
        return self.failure is not None


class Rules:
    """The rules in order; the first that refuses decides.

    Those that are ``lenient`` let a request go on when they raise; all others refuse it.
    """

    __slots__ = (
        "_asked",
        "_lenient",
        "_of_all",
        "_rules",
        "judge_all",
        "judge_plans",
        "judge_privileges",
        "judge_routine",
        "judge_transactions",
        "weigh_plans",
    )

    def __init__(self, rules: Iterable[tuple[Rule, Mode]], lenient: Iterable[Rule] = ()) -> None:
        self._rules: Final = [(rule, mode) for rule, mode in rules if mode is not Mode.OFF]
        self._asked: Final = [one for one in self._rules if not getattr(one[0], "idle", False)]
        self._of_all: Final = [one for one in self._asked if judges_all(one[0])]
        self._lenient: Final = list(lenient)
        #: Whether any rule has to be asked about requests that say nothing of sessions.
        self.judge_all = bool(self._of_all)
        #: Whether any that does not judge all has to be asked about routine requests.
        self.judge_routine = self._any("judges_routine")
        #: And about those that are part of a transaction.
        self.judge_transactions = self.judge_routine or self._any("judges_transactions")
        #: Whether any has to be asked about session commands that have no lsid themselves.
        self.judge_plans = self._any("judges_plans")
        #: Whether any looks at what the caller may do.
        self.judge_privileges = any(
            getattr(rule, "judges_privileges", True) for rule, _ in self._asked
        )
        #: Whether any wants to know how much a session command hits or makes.
        self.weigh_plans = any(getattr(rule, "weighs_plans", False) for rule, _ in self._asked)

    def _any(self, attribute: str) -> bool:
        return any(
            getattr(rule, attribute, True) for rule, _ in self._asked if not judges_all(rule)
        )

    def decide(self, context: Context) -> list[Decision]:
        """What the rules say: nothing, or reports and at most one refusal, which comes last.

        A rule that raises refuses, as nobody knows what it would have said.
        """
        return self._decide(self._asked, context)

    def decide_plain(self, context: Context) -> list[Decision]:
        """As :meth:`decide`, of a request about which only those are asked that judge all. What
        cannot be read they refuse unseen."""
        return self._decide(self._of_all, context)

    def _decide(self, asked: Iterable[tuple[Rule, Mode]], context: Context) -> list[Decision]:
        decisions: list[Decision] = []
        problem = context.request.problem
        for rule, mode in asked:
            failure: Exception | None = None
            refused = mode is Mode.ENFORCE
            try:
                error = unreadable(problem) if problem else rule.refuse(context)
            except Exception as caught:
                failure = caught
                error = CommandError(1, "InternalError", f"the rule {rule.name} failed")
                refused = refused and not any(rule is one for one in self._lenient)
            if error is not None:
                as_server = failure is None and getattr(rule, "speaks_as_server", False)
                subject = context.subject
                decisions.append(Decision(rule.name, refused, error, failure, as_server, subject))
                if refused:
                    break
        return decisions

    def __iter__(self) -> Iterator[tuple[Rule, Mode]]:
        """Those that are not off, in order."""
        return iter(self._rules)

    def enforced(self, kind: type[P]) -> Iterator[P]:
        """The rules of one class that are in mode enforce."""
        for rule, mode in self._rules:
            if isinstance(rule, kind) and mode is Mode.ENFORCE:
                yield rule


def judges_all(rule: Rule | type[Rule]) -> bool:
    """Whether a rule asks to be shown every request."""
    return getattr(rule, "judges", "sessions") == "all"


def unreadable(problem: str) -> CommandError:
    """What a server says to a message that it cannot read."""
    return CommandError(22, "InvalidBSON", problem)


class Overdue(NamedTuple):
    """A transaction to abort upstream (``plans.abort_command``), and why: the setting that bounds
    it, with its value, and in words."""

    session: Session
    txn_number: int
    reason: str
    bound: tuple[str, float]


def refusal(decisions: list[Decision]) -> CommandError | None:
    """The error to answer with, None where the request goes on."""
    return decisions[-1].error if decisions and decisions[-1].refused else None


def signed(decision: Decision) -> CommandError:
    """The error of a refusal that says who refused, unless upstream would say the same."""
    error = decision.error
    if decision.as_server:
        return error
    said = [f"rule {decision.rule}"]
    if error.bound is not None:
        name, value = error.bound
        said.append(f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}")
    if error.reason and error.reason not in error.errmsg:
        said.append(error.reason)
    return replace(error, added=f" (mongo-session-proxy: {'; '.join(said)})")

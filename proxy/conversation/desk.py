"""Where one client connection meets the process's sessions: who calls, what may pass, and what
is tracked. Decides without I/O; what was decided is told to a recorder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.conversation.facts import Newcomer
from proxy.conversation.hello import BEGINNING
from proxy.conversation.judging import recorded, somebody_elses
from proxy.conversation.lookout import Lookout
from proxy.conversation.noting import Noting
from proxy.conversation.rule import Context, is_routine
from proxy.conversation.tracking import Doubted, Tracked, Tracking
from proxy.session import passed_on
from proxy.session.caller import Caller
from proxy.session.commands import Facts
from proxy.session.identity import NOBODY, Identities, Identity
from proxy.session.ids import Origin
from proxy.session.info import NO_SESSION, OperationSessionInfo, read_operation_session_info
from proxy.session.records import CursorId, Operation
from proxy.session.stable_api import repeats_parameters
from proxy.wire.reading_on import cursors_read

if TYPE_CHECKING:
    from proxy.conversation.facts import UpstreamFacts
    from proxy.conversation.hello import ClientMetadata
    from proxy.conversation.said import Said
    from proxy.conversation.sharing import Sessions
    from proxy.errors import CommandError
    from proxy.session.ids import LogicalSessionId
    from proxy.session.patterns import Learnt
    from proxy.session.plans import Plan
    from proxy.session.records import Session
    from proxy.session.steps import Steps
    from proxy.session.store import SessionStore
    from proxy.session.suspicion import Suspicion
    from proxy.wire.messages import Request


class Desk:
    """One client connection's way to the sessions.

    ``connection`` is its number, ``client`` the host it comes from, ``upstream`` the address it
    leads to, about which ``facts`` tells what is known by now.
    """

    def __init__(
        self,
        sessions: Sessions,
        connection: int,
        client: str,
        upstream: str,
        facts: Callable[[], UpstreamFacts],
    ) -> None:
        self._sessions = sessions
        self._find_facts = facts
        self._facts = facts()
        self._newcomer: Newcomer | None = None
        self.connection = connection
        self.upstream = upstream
        self.identity: Identity = NOBODY
        #: Whether upstream has said so when it was asked last.
        self.told = False
        #: How it said so, as far as that can be recognised.
        self._said: Said | None = None
        self._surprised = False
        #: Whom the client has claimed to be when it logged in last, ``user@db``.
        self.claimed = ""
        #: What the last request said of sessions that said no more than which one: the next one
        #: mostly says the same. As the same caller only.
        self._last: OperationSessionInfo = NO_SESSION
        #: What notes admitted requests, and is to be told of the replies to them.
        self.tracking = Tracking(
            sessions.store, sessions.known, connection, upstream, Origin(client)
        )
        #: What session commands of this connection come to.
        self.noting = Noting(sessions.store, sessions.unfinished, self.tracking, upstream)
        self._lookout = Lookout(sessions.store, self.tracking)
        #: Whether the client says that it is a server, which is believed where nobody logs in.
        self._internal = False
        self._called()

    # ------------------------------------------------------------------ who calls

    @property
    def store(self) -> SessionStore:
        return self._sessions.store

    @property
    def origin(self) -> Origin:
        """Where the connection comes from."""
        return self.tracking.origin

    @property
    def let_in(self) -> bool:
        """False while nobody is logged in although upstream is known to ask for that."""
        return bool(self.identity.users) or self._find_facts().authorization is not True

    @property
    def upstream_facts(self) -> UpstreamFacts:
        """What is known of upstream by now."""
        return self._find_facts()

    @property
    def caller(self) -> Caller:
        """Who calls, as far as sessions are concerned."""
        facts = self._find_facts()
        if facts is not self._facts:
            self._facts = facts
            self._called()
        return self._caller

    def identified(self, identity: Identity) -> None:
        """Upstream said who is authenticated from now on."""
        self.identity = identity
        self._sessions.known.seen(identity)
        self.tracking.user = identity.name
        if self._newcomer is not None:
            self._find_facts = self._newcomer.finder(logs_in=bool(identity.users))
            self._facts = self._find_facts()
        self._called()

    def knows(self, frame: bytes) -> bool:
        """Whether a reply names whoever is bound, with all that they may do, as one before."""
        said = self._said
        return said is not None and said.identity is self.identity and said.again(frame)

    def keep(self, said: Said | None) -> None:
        """Upstream has said it in these words."""
        self._said = None if said is None else self._sessions.sayings.one(said)

    def meets(self, process: bytes) -> bool:
        """Upstream said which process it is; whether another one was asked what it is."""
        newcomer = Newcomer(self._find_facts, process)
        if newcomer.is_known:
            return False
        self._newcomer = newcomer
        return True

    def introduced(self, metadata: ClientMetadata) -> None:
        """The client said what it is, in its first hello."""
        self.tracking.origin = Origin(
            self.origin.client,
            metadata.application,
            metadata.driver,
            metadata.driver_version,
            metadata.platform,
        )
        self._internal = metadata.internal
        self._called()

    def _called(self) -> None:
        """Somebody else calls from now on, or upstream is another than was thought."""
        facts = self._facts
        self._caller = Caller.of(
            self.identity, facts.authorization, facts.has_transactions, facts.wire_version
        )
        self._is_server = self._caller.is_server
        self._last = NO_SESSION
        self.tracking.own = self._caller.digest
        self.tracking.repeats_api = repeats_parameters(facts.wire_version)
        closed = facts.authorization
        # Servers bring what others asked for, and one session may come by way of several.
        self._watches = not (self._is_server or (self._internal and closed is not True))
        self._lookout.anew(names=closed is False and bool(self.identity.users))

    # ------------------------------------------------------------------ ordinary requests

    def admit(self, request: Request, now: float) -> CommandError | Doubted | Tracked | None:
        """Judge a request that is no session control and note that it goes upstream.

        The error to refuse it with; or what to hand back with its reply, None for nothing, and
        wrapped where upstream must refuse the request.
        """
        if not self._sessions.enabled:
            return self.plain_refusal(request, now) if self.judges_all else None
        if self.tracking.unsettled:
            upheld = self._lookout.upheld()
            if self._watches:
                self._suspected(upheld, now)
        if request.layout.sessionless:
            if request.command == "getMore" or self._sessions.rules.judge_all:
                refusal = self.sessionless_refusal(request, now)
                if refusal is not None:
                    return refusal
            return self.tracking.requested(request, NO_SESSION, None, now)
        caller, layout, info = self.caller, request.layout, self._last
        at = request.base + layout.session_id
        if (
            info.lsid is None
            or layout.txn_number
            or not layout.usual
            or request.message[at : at + 16] != info.lsid[0]
        ):
            info = read_operation_session_info(request, caller)
            if layout.usual and not layout.txn_number and info.malformed is None:
                self._last = info
        session = None if info.lsid is None else self._sessions.store.get(info.lsid)
        error = self._judge(request, info, session, now)
        tracked = None
        if error is None:
            tracked = self.tracking.requested(request, info, session, now)
            if session is None and info.txn_number is not None and isinstance(tracked, Operation):
                session = tracked.session
        if session is not None and self._watches:
            activity = session.activity
            if (
                session.group.origin is not self._lookout.alike
                or info.txn_number is not None
                or (activity is not None and len(activity.operations) > 1)
            ):
                self._suspected(self._lookout.sees(request, info, session, tracked), now)
        if error is not None:
            return error
        if info.malformed is None or self._caller.is_server:
            return tracked
        return Doubted(info.malformed, tracked)

    def _suspected(self, found: list[Suspicion], now: float) -> None:
        for one in found:
            self._sessions.recorder.incident(one.kind, now, self, one)

    def owner(self, lsid: LogicalSessionId) -> str:
        """``user@db`` of whose session it is; "" where that is not known."""
        return self._sessions.known.name_of(lsid.uid)

    def surprised(self, error: CommandError, command: str) -> None:
        """Record that upstream has carried out what it should have refused with ``error``."""
        first, self._surprised = not self._surprised, True
        self._sessions.recorder.surprised(error, command, first, self)

    def login_failed(self, command: str, reason: str) -> None:
        """Record that a step of authentication has failed."""
        self._sessions.recorder.login_failed(command, self.claimed, reason, self)

    def sessionless_refusal(self, request: Request, now: float) -> CommandError | None:
        """What the rules have against a request that names no session: it may read from the cursor
        of one."""
        store = self._sessions.store
        if self._sessions.enabled and store.open_cursors():
            for number in cursors_read(request):
                if store.cursor_session(CursorId(self.upstream, number)) is not None:
                    return self._judge(request, NO_SESSION, None, now)
        return self.plain_refusal(request, now)

    def refusal(
        self, request: Request, info: OperationSessionInfo, now: float, plan: Plan | None = None
    ) -> CommandError | None:
        """What the rules have against a request; reports are recorded on the way."""
        session = None if info.lsid is None else self._sessions.store.get(info.lsid)
        if session is not None and self._watches:
            self._suspected(self._lookout.sees(request, info, session, None), now)
        return self._judge(request, info, session, now, plan)

    @property
    def judges_all(self) -> bool:
        """Whether some rule is to be shown every request."""
        return self._sessions.rules.judge_all

    def plain_refusal(self, request: Request, now: float) -> CommandError | None:
        """What the rules that judge all have against a request about which no other is asked."""
        caller = self.caller
        if self._is_server or not self.judges_all or request.command in BEGINNING:
            return None
        info = NO_SESSION
        if not request.layout.sessionless:
            info = read_operation_session_info(request, caller)
        sessions, context = self._sessions, self._context(request, info, None, now, None)
        return recorded(self, sessions, context, sessions.rules.decide_plain(context))

    def _judge(
        self,
        request: Request,
        info: OperationSessionInfo,
        session: Session | None,
        now: float,
        plan: Plan | None = None,
    ) -> CommandError | None:
        sessions = self._sessions
        if self._is_server:
            # It brings what others asked for, and upstream knows best what it may.
            return None
        checks = self._facts.native and not sessions.refuse_early
        rules = sessions.rules
        judged = rules.judge_routine
        if info.txn_number is not None and not judged:
            judged = rules.judge_transactions or not checks
        spared = not judged and is_routine(request, info, session, plan, self.upstream)
        if info is NO_SESSION and plan is not None and not rules.judge_plans:
            spared = True
        if spared and not rules.judge_all:
            return None
        context = self._context(request, info, session, now, plan)
        decisions = rules.decide_plain(context) if spared else rules.decide(context)
        error = recorded(self, sessions, context, decisions)
        here = info.malformed if info.ambiguous is None and not checks else info.ambiguous
        if info.malformed is not None:
            left = "" if error is not None else "reported" if here is None else "refused"
            told = info.malformed, request.command, now, self, left
            sessions.recorder.malformed(*told, somebody_elses(request))
        return here if error is None else error

    def _context(
        self,
        request: Request,
        info: OperationSessionInfo,
        session: Session | None,
        now: float,
        plan: Plan | None,
    ) -> Context:
        caller, sessions, facts = self.caller, self._sessions, self._facts
        return Context(
            request,
            info,
            caller,
            sessions.store,
            now,
            session,
            plan,
            self.origin,
            self.upstream,
            facts.native and not sessions.refuse_early,
            facts.ran_open,
            sessions.wall_clock(),
        )

    # ------------------------------------------------------------------ session control

    @property
    def identities(self) -> Identities:
        """What upstream has said of connections lately."""
        return self._sessions.identities

    @property
    def judges_privileges(self) -> bool:
        """Whether some rule looks at what the caller may do."""
        return self._sessions.rules.judge_privileges

    def facts(self, learnt: Learnt | None) -> Facts:
        """What deciding a session command needs to know."""
        sessions = self._sessions
        return Facts(
            self.caller,
            sessions.store,
            sessions.known,
            sessions.random,
            self._facts.timeout_minutes,
            self._facts.native,
            learnt,
        )

    def weighing(self, plan: Plan) -> Steps[None]:
        """Look up in steps what the rules will ask of a plan."""
        if self._sessions.rules.weigh_plans and not self._caller.is_server:
            yield from plan.weighing(self.store)

    def passing_on(self, request: Request, ok: bool, now: float, asked: float) -> Steps[None]:
        """Note in steps what a server's session command, which went upstream as it came (not before
        ``asked``), has done there."""
        store, command = self.store, request.command
        if passed_on.is_help(request):
            return
        targets = 0
        # Where no reply comes upstream may have refused the kill.
        if ok and command.startswith("kill") and request.expects_reply:
            selection = passed_on.hit(request, self.caller)
            if selection:
                targets = yield from self.noting.noted(store.killing(selection, now, self.upstream))
            self._sessions.recorder.killed(0, targets)
        elif ok and command in ("endSessions", "refreshSessions"):
            lsids = passed_on.named(request, self.caller)
            targets = len(lsids)
            if command == "endSessions":
                # As with kills.
                store.end(lsids if request.expects_reply else (), asked)
            else:
                for lsid in lsids:
                    store.use(lsid, now, self._sessions.known.name_of(lsid.uid), self.origin)
        self.decided(command, "done" if ok else "failed", targets)

    def decided(self, command: str, decision: str, targets: int, reason: str = "") -> None:
        """Record what became of a session command."""
        self._sessions.recorder.control(command, decision, targets, reason, self)

    def refused(self, command: str, error: CommandError, now: float) -> None:
        """Record a session command that no rule refused, but the proxy itself."""
        recorder = self._sessions.recorder
        recorder.control(command, "refused", 0, str(error), self, (error, now))

    def trespassed(self, request: Request, error: CommandError, now: float) -> None:
        """Record a session command that names somebody else's session, and is refused."""
        lsid = somebody_elses(request)
        self._sessions.recorder.trespassed(error, request.command, now, self, lsid)

    def killed(self, plan: Plan, targets: int) -> None:
        """Record whose sessions a kill has hit, ``targets`` in all."""
        own = plan.own_targets(self.store, targets)
        self._sessions.recorder.killed(own, targets - own)

"""The session commands: asked here, decided here, carried out upstream.

Upstream is first asked who the caller is, since privileges may have changed since the login;
then the decision is made, its commands are sent on the caller's own connection, and the answer
goes out when they have succeeded. What upstream refuses, the client gets in upstream's words.
Where no privilege decides, the question and the command go together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import bson

from proxy.conversation.conversation import Conversation  # noqa: TC001 - fields', see test_compiled
from proxy.conversation.doubt import forward_doubted
from proxy.conversation.envelope import broken, invalid, is_plain, wrong_form
from proxy.conversation.question import ask_along, ask_identity
from proxy.conversation.tracking import Doubted, tracked_of
from proxy.errors import CommandError, WireError
from proxy.session import bsonout, stable_api
from proxy.session.asking import learning
from proxy.session.commands import SESSION_COMMANDS, decide, deciding
from proxy.session.dialect import said_by
from proxy.session.info import read_operation_session_info
from proxy.session.patterns import Learnt
from proxy.session.plans import Ask, Errand, Forward, Plan, Refusal, emulating
from proxy.session.refusals import FOREIGN_DIGEST, requires_authentication
from proxy.session.steps import MANY, STEP, Steps, in_one_go
from proxy.wire.messages import with_body
from proxy.wire.replies import error_document

if TYPE_CHECKING:
    from proxy.conversation.conversation import RequestHandler
    from proxy.conversation.facts import UpstreamFacts
    from proxy.conversation.pending import Pending
    from proxy.wire.messages import Request
    from proxy.wire.replies import Reply

#: Times that an emulated kill looks for a connection of an owner's; the rest of what is to be
#: closed is asked for on the caller's own. Each time takes as long as there are connections.
_LOOKED_FOR: Final = 1_000

#: Bytes of a request that is decided on in one go where it may not have to wait.
_SHORT: Final = 2_048

_OK: Final = bson.encode({"ok": 1.0})[4:-1]
_OPERATION_TIME: Final = b"operationTime"
_CLUSTER_TIME: Final = b"$clusterTime"


def on_session_control(conversation: Conversation, request: Request, now: float) -> None:
    """Handle one of :data:`SESSION_COMMANDS`."""
    if not is_plain(request):
        version = conversation.desk.upstream_facts.wire_version or 0
        problem = broken(request, version)
        if problem:
            conversation.end("client message", problem)
            return
        wrong = wrong_form(request, version)
        if wrong is not None:
            conversation.refuse(request, wrong, now)
            return
    _Command(conversation, request, now).begin(now)


@dataclass(slots=True)
class _Series:
    """Commands that are sent one after the other, as long as ``each`` says so of each one's number
    and reply; ``then`` gets the last reply, None where there was nothing to send. No other is kept.

    A class, as a function that names itself would be left behind as a cycle
    (:mod:`proxy.memory`).
    """

    conversation: Conversation
    commands: Iterator[bytes]
    then: Callable[[Reply | None, float], None]
    each: Callable[[int, Reply, float], Steps[bool]]
    number: int = -1

    def go_on_with(self, last: Reply | None, now: float) -> None:
        command = next(self.commands, None)
        if command is None:
            self.then(last, now)
        else:
            self.number += 1
            self.conversation.ask(command, self.answered, now)

    def answered(self, _pending: Pending, reply: Reply, now: float) -> None:
        self.conversation.do(self._answered(reply, now))

    def _answered(self, reply: Reply, now: float) -> Iterator[None]:
        if (yield from self.each(self.number, reply, now)):
            self.go_on_with(reply, now)
        else:
            self.then(reply, now)


def _go_on(_number: int, _reply: Reply, _now: float) -> Steps[bool]:
    yield from ()
    return True


class _Command:
    """One session command on its way through the questions to upstream."""

    __slots__ = ("_conversation", "_request", "_started", "_targets", "_times", "_unexpected")

    def __init__(self, conversation: Conversation, request: Request, started: float) -> None:
        self._conversation = conversation
        self._request = request
        self._started = started
        #: operationTime and $clusterTime of upstream's latest reply; absent on standalones.
        self._times: dict[bytes, bytes] = {}
        #: Sessions that are known, of those that the command has reached.
        self._targets = 0
        #: What upstream should say, where it has just said that nobody is authenticated.
        self._unexpected: CommandError | None = None

    def begin(self, now: float) -> None:
        if self._goes_at_once(now):
            return
        wrong = invalid(self._request)
        if wrong is not None:
            self._conversation.refuse(self._request, wrong, now)
            return
        self._ask(self._identified, now)

    def _ask(self, then: Callable[[Reply, float], None], now: float) -> None:
        conversation = self._conversation
        # Without authorization upstream would carry it out, for whoever it is.
        demands = conversation.desk.upstream_facts.authorization is True
        expired = self._expired if demands else None
        ask_identity(conversation, now, then, refused=self._later, expired=expired)

    def _goes_at_once(self, now: float) -> bool:
        """Send the command right behind the question, where the answer could change nothing.

        That is where it means sessions that are the caller's own, which hangs on the users alone.
        Those do not change without a login that is seen here; they can only expire, and what a
        server does for nobody then is nothing, if it asks for logins.
        """
        conversation, request = self._conversation, self._request
        desk = conversation.desk
        if not desk.told or desk.judges_privileges or len(request.message) > _SHORT:
            return False
        facts, caller = desk.upstream_facts, desk.caller
        if (
            not facts.native
            or (caller.authorization is not True and caller.identity.users)
            or caller.anonymous
            or caller.is_server
            or stable_api.refusal(request, facts.wire_version, facts.needs_api_version) is not None
        ):
            return False
        info = read_operation_session_info(request, caller)
        if info.malformed is not None:
            return False
        try:
            plan = decide(request, info, desk.facts(None))
        except WireError:
            return False
        if not isinstance(plan, Plan) or not plan.means_own or len(plan.upstream) > 1:
            return False
        if not plan.whole and invalid(request) is not None:
            return False
        self._note_version(facts)
        in_one_go(desk.weighing(plan))
        refusal = desk.refusal(request, info, now, plan)
        if refusal is not None:
            self._ask(partial(self._refuse_after, refusal), now)
            return True
        desk.noting.promise(plan)
        ask_along(conversation, now, self._expired_along)
        self._effect(plan, None, now)
        return True

    def _refuse_after(self, error: CommandError, reply: Reply, now: float) -> None:
        """Refuse in upstream's times."""
        self._times = _times(reply)
        self._refuse(error, now)

    def _expired_along(self) -> None:
        """As :meth:`_expired`, but the command is on its way already."""
        self._unexpected = requires_authentication(self._request.command)

    def _note_version(self, facts: UpstreamFacts) -> None:
        """What is asked from now on carries an API version, where the client's commands do."""
        if stable_api.names_version(self._request) and stable_api.is_known(facts.wire_version):
            self._conversation.versioned = True

    def _later(self, reply: Reply, now: float) -> None:
        """Upstream has too much to do: the client, too, may ask again."""
        self._hand_on(reply, 0, now)

    def _expired(self, _reply: Reply, now: float) -> None:
        """Whoever was logged in is nobody now: upstream says so itself (391, or 13), and does
        nothing for nobody. If it does after all, that is noticed."""
        error = requires_authentication(self._request.command)
        forward_doubted(self._conversation, self._request, Doubted(error, None), now)

    def _identified(self, reply: Reply, now: float) -> None:
        self._times = _times(reply)
        conversation, request = self._conversation, self._request
        if conversation.desk.caller.is_server:
            self._pass_on(now)
            return
        facts = conversation.desk.upstream_facts
        error = stable_api.refusal(request, facts.wire_version, facts.needs_api_version)
        if error is not None:
            conversation.desk.refused(request.command, error, now)
            self._refuse(error, now)
            return
        self._note_version(facts)
        self._decide(None, now)

    def _pass_on(self, now: float) -> None:
        """A server asks, which is no person: upstream gets the command as it came."""
        conversation = self._conversation
        conversation.blocked = False
        conversation.forward(self._request, now, self._passed_on)
        if not self._request.expects_reply:
            conversation.do(conversation.desk.passing_on(self._request, True, now, self._started))

    def _passed_on(self, pending: Pending, reply: Reply, now: float) -> None:
        conversation = self._conversation
        conversation.release(pending, reply.frame, reply.ok(), now)
        desk = conversation.desk
        conversation.do(desk.passing_on(self._request, reply.ok(), now, self._started))

    def _decide(self, learnt: Learnt | None, now: float) -> None:
        # In steps: a list may be long, and others wait as long as one of them takes.
        self._conversation.blocked = True
        self._conversation.work = self._deciding(learnt, now)

    def _deciding(self, learnt: Learnt | None, now: float) -> Iterator[None]:
        conversation, request = self._conversation, self._request
        desk = conversation.desk
        info = read_operation_session_info(request, desk.caller)
        decision = yield from deciding(request, info, desk.facts(learnt))
        if isinstance(decision, Refusal):
            if decision.error == FOREIGN_DIGEST:
                desk.trespassed(request, decision.error, now)
            else:
                desk.refused(request.command, decision.error, now)
            self._refuse(decision.error, now)
        elif isinstance(decision, Forward):
            self._ask_for_help(decision.body, now)
        elif isinstance(decision, Ask):
            found = Learnt()
            each = partial(self._learning, decision, found)
            self._run(decision.commands, lambda _last, now: self._decide(found, now), now, each)
        else:
            yield from desk.weighing(decision)
            refusal = desk.refusal(request, info, now, decision)
            if refusal is not None:
                self._refuse(refusal, now)
                return
            desk.noting.promise(decision)
            yield from self._carrying_out(decision, now)

    def _ask_for_help(self, body: bytes, now: float) -> None:
        conversation, request = self._conversation, self._request
        verdict = conversation.desk.admit(request, now)
        if isinstance(verdict, CommandError):
            self._refuse(verdict, now)
            return
        conversation.blocked = False
        frame = with_body(request.frame, request.message, request.body, body)
        conversation.forward(request, now, frame=frame, tracked=tracked_of(verdict))

    def _learning(
        self, ask: Ask, found: Learnt, number: int, reply: Reply, _now: float
    ) -> Steps[bool]:
        yield from learning(ask.subjects[number], reply.body_bytes(), found)
        return True

    # ------------------------------------------------------------------ the effect

    def _carrying_out(self, plan: Plan, now: float) -> Iterator[None]:
        desk, observer = self._conversation.desk, self._conversation.observer
        if desk.upstream_facts.native or not plan.kills:
            self._effect(plan, None, now)
            return
        emulated = yield from emulating(plan, desk.store, desk.upstream)
        for number, operation in enumerate(emulated.operations):
            if number % STEP == STEP - 1:
                yield
            observer.interrupt(operation)
        own: list[Errand] = []
        looked_for, absent = 0, set[bytes]()
        for number, errand in enumerate(emulated.errands):
            if number % MANY == MANY - 1:
                yield
            owner = errand.owner
            if owner == desk.caller.digest or owner in absent or looked_for == _LOOKED_FOR:
                own.append(errand)
                continue
            looked_for += 1
            if not observer.ask_as(owner, desk.upstream, errand.as_owner):
                absent.add(owner)
                own.append(errand)
            yield
        commands = (errand.as_caller for errand in own)
        self._run(commands, partial(self._effect, plan), now)

    def _effect(self, plan: Plan, _last: Reply | None, now: float) -> None:
        self._conversation.desk.noting.sends(plan.part(0), now)
        if len(plan.upstream) == 1:
            # Nearly always.
            self._conversation.blocked = True
            self._conversation.ask(plan.upstream[0], partial(self._only_one, plan), now)
            return
        self._run(plan.upstream, partial(self._carried_out, plan), now, partial(self._doing, plan))

    def _only_one(self, plan: Plan, _pending: Pending, reply: Reply, now: float) -> None:
        """The plan's only command was answered."""
        if reply.ok() and (plan.kills or len(plan.lsids) > MANY):
            self._conversation.do(self._in_steps(plan, reply, now))
            return
        if reply.ok():
            self._note_surprise()
            self._targets = self._conversation.desk.noting.done(plan, now)
        self._carried_out(plan, reply, now)

    def _in_steps(self, plan: Plan, reply: Reply, now: float) -> Iterator[None]:
        yield from self._doing(plan, 0, reply, now)
        self._carried_out(plan, reply, now)

    def _note_surprise(self) -> None:
        if self._unexpected is not None:
            self._conversation.desk.surprised(self._unexpected, self._request.command)

    def _doing(self, plan: Plan, number: int, reply: Reply, now: float) -> Steps[bool]:
        """Note what one of the plan's commands has done; whether the next one may follow."""
        if not reply.ok():
            return False
        desk, part = self._conversation.desk, plan.part(number)
        self._note_surprise()
        targets = yield from desk.noting.doing(part, now)
        if number + 1 < len(plan.upstream):
            desk.noting.sends(plan.part(number + 1), now)
        self._targets += targets
        if plan.kills:
            desk.killed(part, targets)
        return True

    def _carried_out(self, plan: Plan, last: Reply | None, now: float) -> None:
        desk = self._conversation.desk
        if last is not None and not last.ok():
            self._hand_on(last, plan.targets(desk.store), now)
            return
        desk.decided(plan.command, "done", self._targets, reason=plan.unknown)
        times = self._times if last is None else _times(last)
        reply = _fields(plan.reply) if plan.reply else b""
        document = bsonout.document(reply, _OK, *times.values())
        self._answer(document, True, now)

    def _run(
        self,
        commands: Iterable[bytes],
        then: Callable[[Reply | None, float], None],
        now: float,
        each: Callable[[int, Reply, float], Steps[bool]] = _go_on,
    ) -> None:
        """Send ``commands`` one after the other, and go on with the last reply."""
        self._conversation.blocked = True
        _Series(self._conversation, iter(commands), then, each).go_on_with(None, now)

    # ------------------------------------------------------------------ the answer

    def _hand_on(self, failed: Reply, targets: int, now: float) -> None:
        """What upstream refuses, the client gets in upstream's words."""
        code = failed.integer(b"code")
        self._conversation.desk.decided(self._request.command, "failed", targets, reason=str(code))
        self._conversation.meter.failed(code, "upstream")
        self._answer(failed.body_bytes(), False, now)

    def _refuse(self, error: CommandError, now: float) -> None:
        self._conversation.meter.failed(error.code, "proxy")
        said = said_by(error, self._conversation.desk.upstream_facts.wire_version)
        fields, times = _fields(error_document(said)), self._times
        if next(iter(times), None) == _OPERATION_TIME:
            # As mongos writes it: the times at the end, here and in a success.
            document = bsonout.document(fields, *times.values())
        else:
            # As mongod does: its successes end in $clusterTime, operationTime.
            before, after = times.get(_OPERATION_TIME, b""), times.get(_CLUSTER_TIME, b"")
            document = bsonout.document(before, fields, after)
        self._answer(document, False, now)

    def _answer(self, document: bytes, ok: bool, now: float) -> None:
        self._conversation.blocked = False
        self._conversation.desk.noting.kept()
        self._conversation.respond(self._request, document, ok, self._started, now)


def _times(reply: Reply) -> dict[bytes, bytes]:
    """The cluster's times as they stand in a reply; the proxy never makes up its own."""
    return {
        name: reply.message[element.start : element.end]
        for name, element in reply.fields.items()
        if name in (_OPERATION_TIME, _CLUSTER_TIME)
    }


def _fields(document: Mapping[str, Any]) -> bytes:
    return bson.encode(document)[4:-1]


HANDLERS: Final[Mapping[str, RequestHandler]] = dict.fromkeys(SESSION_COMMANDS, on_session_control)

"""How many sessions one user or one application may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from policies.bounds import Bounds
from policies.kill_guard import holds
from proxy.session.refusals import TOO_MANY_SESSIONS
from proxy.texts import shown

if TYPE_CHECKING:
    from proxy.conversation.rule import Context
    from proxy.errors import CommandError

#: Sessions with those that are over, where no setting says how many, at the least.
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class SessionBound:
    """Other bounds for some; what it does not say stays as it is for everybody."""

    #: Patterns of ``user@db``; none for everybody.
    users: tuple[str, ...] = ()
    #: Patterns of ``application.name``; none for all.
    applications: tuple[str, ...] = ()
    per_user: int | None = None
    per_application: int | None = None
    remembered: int | None = None
    #: They have no bound at all.
    exempt: bool = False


class Bound(NamedTuple):
    """A bound that somebody has: how many there may be, and of which setting; 0 for any number."""

    most: int
    setting: str


class Budget(NamedTuple):
    """The bounds for one user with one application. ``user_remembered`` and
    ``application_remembered`` are with sessions that are over."""

    user: Bound
    user_remembered: Bound
    application: Bound
    application_remembered: Bound


class Count(NamedTuple):
    """Sessions that have a place, and all that are known: of somebody, or what a request asks
    for."""

    live: int
    known: int


class SessionBudget:
    """Refuses new sessions over budget with 261, as a full server does; known ones go on.

    A session that was ended or killed, and of which nothing is open, gives its place back; used
    again, it counts again. As upstream may remember it all the same, those that are known have a
    bound as well. Counted is also what is about to be made. Sessions without an owner, and
    applications that give no name, have no budget of their own.
    """

    name: ClassVar[str] = "session_budget"
    judges_routine: ClassVar[bool] = False
    judges_transactions: ClassVar[bool] = False
    weighs_plans: ClassVar[bool] = True

    @dataclass(frozen=True, slots=True)
    class Settings:
        #: Sessions per ``user@db`` at a time; 0 for any number.
        per_user: int = 0
        #: Sessions per ``application.name`` at a time; 0 for any number.
        per_application: int = 0
        #: Sessions that each of them may have with those that were ended or killed and are not
        #: forgotten yet; 0 for ten times the bound, 10,000 at least.
        remembered: int = 0
        #: Other bounds for some users and applications; the first that matches decides.
        bounds: tuple[SessionBound, ...] = ()
        #: Room in the store that only operators may use, so that they can still get in.
        reserved: int = 0
        #: What makes an operator: any of these cluster actions or roles ``role@db``.
        operators: tuple[str, ...] = ("killAnySession",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._bounds = Bounds(settings.bounds)
        #: Whether anybody has a bound.
        self.counts = bool(settings.per_user or settings.per_application) or any(
            one.per_user or one.per_application for one in settings.bounds
        )
        self.idle = not (self.counts or settings.reserved)
        self.judges_privileges = bool(settings.reserved)

    def budget(self, user: str, application: str) -> Budget:
        """What a user (``user@db``) may have, and an application. Those without a name have no
        bound."""
        general, found = self.settings, self._bounds.find(user, application)
        own, path = (None, "") if found is None else (found[1], f"bounds[{found[0]}].")

        def bound(name: str, who: str) -> Bound:
            if not who or (own is not None and own.exempt):
                return Bound(0, name)
            said = None if own is None else getattr(own, name)
            return Bound(getattr(general, name), name) if said is None else Bound(said, path + name)

        def with_those_over(live: Bound, who: str) -> Bound:
            if not live.most:
                return live
            said = bound("remembered", who)
            most = said.most or max(10 * live.most, _REMEMBERED)
            return Bound(max(most, live.most), said.setting)

        of_user = bound("per_user", user)
        of_application = bound("per_application", application)
        return Budget(
            of_user,
            with_those_over(of_user, user),
            of_application,
            with_those_over(of_application, application),
        )

    def refuse(self, context: Context) -> CommandError | None:
        asked = _asked_for(context)
        if not asked.live:
            return None
        store = context.store
        if self.counts:
            user, application = context.caller.name, context.origin.application
            budget = self.budget(user, application)
            if budget.user.most:
                has = Count(store.owner_live(user), store.owner_sessions(user))
                who = f"user {shown(user)}"
                error = _over(who, has, asked, budget.user, budget.user_remembered)
                if error is not None:
                    return error
            if budget.application.most:
                live = store.application_live(application)
                has = Count(live, store.application_sessions(application))
                who = f"application {shown(application)}"
                error = _over(who, has, asked, budget.application, budget.application_remembered)
                if error is not None:
                    return error
            if (budget.user.most or budget.application.most) and _uncounted(context, asked):
                reason = "as many sessions are known as may be, so that another one does not count"
                return TOO_MANY_SESSIONS.because(reason, "max_sessions", store.max_sessions)
        settings, new = self.settings, asked.known
        if settings.reserved and new:
            known = len(store) + store.promised()
            if known + new > store.max_sessions - settings.reserved and not any(
                holds(context.caller, one) for one in settings.operators
            ):
                reason = (
                    f"{known} of {store.max_sessions} sessions are known, and the last"
                    f" {settings.reserved} are for operators"
                )
                return TOO_MANY_SESSIONS.because(reason, "reserved", settings.reserved)
        return None


def _over(
    who: str, has: Count, asked: Count, bound: Bound, remembered: Bound
) -> CommandError | None:
    """Why somebody cannot have what is asked for."""
    if has.live + asked.live > bound.most:
        new, known, over, ended = asked.live, has.live, bound, ""
    elif asked.known and has.known + asked.known > remembered.most:
        new, known, over = asked.known, has.known, remembered
        ended = ", those that were ended or killed included,"
    else:
        return None
    more = "another one" if new == 1 else f"{new} more"
    reason = f"{who} has {known} of {over.most} sessions{ended} and asks for {more}"
    return TOO_MANY_SESSIONS.because(reason, over.setting, over.most)


def _uncounted(context: Context, asked: Count) -> bool:
    """Whether what is asked for would find no room in the store, which goes on all the same."""
    store = context.store
    return context.plan is None and asked.known > 0 and len(store) >= store.max_sessions


def _asked_for(context: Context) -> Count:
    """What the request takes that was not there."""
    plan, session = context.plan, context.session
    if plan is not None:
        return Count(plan.new_places(context.store), plan.new_sessions(context.store))
    if context.info.lsid is None or (session is not None and session.place):
        return Count(0, 0)
    return Count(1, int(session is None))

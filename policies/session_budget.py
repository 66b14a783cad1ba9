"""How many sessions one user or one application may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from policies.kill_guard import holds
from proxy.session.refusals import TOO_MANY_SESSIONS
from proxy.texts import shown

if TYPE_CHECKING:
    from proxy.conversation.rule import Context
    from proxy.errors import CommandError


class SessionBudget:
    """Refuses new sessions over budget with 261, as a full server does; known ones go on.

    Counted is what the proxy knows and has not forgotten, and what is about to be made. Sessions
    without an owner, and applications that give no name, have no budget of their own.
    """

    name: ClassVar[str] = "session_budget"
    judges_routine: ClassVar[bool] = False
    judges_transactions: ClassVar[bool] = False
    weighs_plans: ClassVar[bool] = True

    @dataclass(frozen=True, slots=True)
    class Settings:
        #: Sessions per ``user@db``; 0 for any number.
        per_user: int = 0
        #: Sessions per ``application.name``; 0 for any number.
        per_application: int = 0
        #: Room in the store that only operators may use, so that they can still get in.
        reserved: int = 0
        #: What makes an operator: any of these cluster actions or roles ``role@db``.
        operators: tuple[str, ...] = ("killAnySession",)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.idle = not (settings.per_user or settings.per_application or settings.reserved)
        self.judges_privileges = bool(settings.reserved)

    def refuse(self, context: Context) -> CommandError | None:
        settings, store = self._settings, context.store
        if not (settings.per_user or settings.per_application or settings.reserved):
            return None
        new = _new_sessions(context)
        if not new:
            return None
        user, application = context.caller.name, context.origin.application
        if settings.per_user and user:
            known = store.owner_sessions(user)
            if known + new > settings.per_user:
                return _over("user", user, known, new, "per_user", settings.per_user)
        if settings.per_application and application:
            known = store.application_sessions(application)
            if known + new > settings.per_application:
                bound = settings.per_application
                return _over("application", application, known, new, "per_application", bound)
        if settings.reserved:
            known = len(store) + store.promised()
            if known + new > store.max_sessions - settings.reserved and not any(
                holds(context.caller, one) for one in settings.operators
            ):
                reason = (
                    f"{known} of {store.max_sessions} sessions are in use, and the last"
                    f" {settings.reserved} are for operators"
                )
                return TOO_MANY_SESSIONS.because(reason, "reserved", settings.reserved)
        return None


def _over(kind: str, name: str, known: int, new: int, bound: str, most: int) -> CommandError:
    more = "another one" if new == 1 else f"{new} more"
    reason = f"{kind} {shown(name)} has {known} of {most} sessions and asks for {more}"
    return TOO_MANY_SESSIONS.because(reason, bound, most)


def _new_sessions(context: Context) -> int:
    """How many sessions the request brings into being."""
    plan = context.plan
    if plan is None:
        return int(context.info.lsid is not None and context.session is None)
    return plan.new_sessions(context.store)

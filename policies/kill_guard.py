"""Kills that hit more than was probably meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from proxy.session.caller import Caller, owner_name
from proxy.session.refusals import unauthorized

if TYPE_CHECKING:
    from proxy.conversation.rule import Context
    from proxy.errors import CommandError


def holds(caller: Caller, permission: str) -> bool:
    """Whether the caller has ``permission``: an action on the cluster, or ``role@db``."""
    identity = caller.identity
    return permission in identity.cluster_actions or any(
        permission == owner_name(role, database) for role, database in identity.roles
    )


class KillGuard:
    """Asks for a permission by name before everybody's sessions are killed, or very many.

    In mode report it is a preview: the audit log says what each broad kill hits.
    """

    name: ClassVar[str] = "kill_guard"
    judges_routine: ClassVar[bool] = False
    judges_transactions: ClassVar[bool] = False
    weighs_plans: ClassVar[bool] = True

    @dataclass(frozen=True, slots=True)
    class Settings:
        #: What it takes to kill the sessions of everybody: a cluster action or ``role@db``.
        #: Empty: nothing beside what the server asks for.
        permission: str = ""
        #: Sessions that a kill may hit without the permission; 0 for any number.
        max_sessions: int = 0

    def __init__(self, settings: Settings) -> None:
        self._permission = settings.permission
        self._max = settings.max_sessions
        self.idle = not (settings.permission or settings.max_sessions)
        self.judges_privileges = bool(settings.permission)

    def refuse(self, context: Context) -> CommandError | None:
        plan = context.plan
        if plan is None or not plan.kills:
            return None
        everybody = bool(self._permission) and plan.kills_everybody
        many = 0 < self._max < plan.hits(context.store).sessions
        if not (everybody or many) or (
            self._permission and holds(context.caller, self._permission)
        ):
            return None
        hit = plan.hits(context.store)
        reason = (
            f"it would hit {hit.sessions} known sessions with {hit.operations} operations,"
            f" {hit.cursors} cursors and {hit.transactions} transactions"
        )
        bound: tuple[str, float | str] = "max_sessions", self._max
        if everybody:
            reason = f"killing everybody's sessions takes {self._permission}; {reason}"
            bound = "permission", self._permission
        error = unauthorized(f"not authorized to run {plan.command}: {reason}")
        return error.because(reason, *bound)

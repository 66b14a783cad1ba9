"""An example of a rule of one's own: applications must say who they are.

In the configuration it is named ``policies.examples.named_applications:NamedApplications``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from proxy.errors import CommandError

if TYPE_CHECKING:
    from proxy.conversation.rule import Context


class NamedApplications:
    """Refuses new sessions to connections that gave no ``application.name``."""

    name: ClassVar[str] = "named_applications"
    judges_routine: ClassVar[bool] = False
    judges_transactions: ClassVar[bool] = False
    judges_privileges: ClassVar[bool] = False
    weighs_plans: ClassVar[bool] = True

    @dataclass(frozen=True, slots=True)
    class Settings:
        #: Users ``user@db`` that need no name.
        except_users: tuple[str, ...] = ()

    def __init__(self, settings: Settings) -> None:
        self._excepted = frozenset(settings.except_users)

    def refuse(self, context: Context) -> CommandError | None:
        if context.origin.application or context.caller.name in self._excepted:
            return None
        new = context.info.lsid is not None and context.session is None
        if context.plan is not None:
            new = context.plan.new_sessions(context.store) > 0
        if not new:
            return None
        return CommandError(13, "Unauthorized", "sessions need an application name here")

"""An example of a rule of one's own: some users only read, whatever else their roles allow.

In the configuration it is named ``policies.examples.read_only:ReadOnly``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from proxy.errors import CommandError
from proxy.session.caller import owner_name

if TYPE_CHECKING:
    from proxy.conversation.rule import Context


class ReadOnly:
    """Refuses whatever may write to the users that are named."""

    name: ClassVar[str] = "read_only"
    judges: ClassVar[str] = "all"
    judges_privileges: ClassVar[bool] = False

    @dataclass(frozen=True, slots=True)
    class Settings:
        #: Users ``user@db`` that only read.
        users: tuple[str, ...] = ()

    def __init__(self, settings: Settings) -> None:
        self._users = frozenset(settings.users)
        self.idle = not self._users

    def refuse(self, context: Context) -> CommandError | None:
        if not context.writes:
            return None
        for user, database in context.caller.identity.users:
            name = owner_name(user, database)
            if name in self._users:
                text = f"{name} only reads, and {context.command or 'this'} may write"
                return CommandError(13, "Unauthorized", text)
        return None

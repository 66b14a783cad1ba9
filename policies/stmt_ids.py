"""Statement ids of retryable writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from proxy.conversation.rule import Context
    from proxy.errors import CommandError


class StmtIds:
    """Refuses ids that are negative or not strictly increasing, which the manual rules out.

    Servers take them, and doubled ones end the server process for good: whoever may write could
    take a replica set down. Turn this off only in front of a server known to refuse them. Servers
    themselves give -1, as often as they like, to what is not to be remembered.
    """

    name: ClassVar[str] = "stmt_ids"
    judges_routine: ClassVar[bool] = False
    judges_transactions: ClassVar[bool] = False
    judges_plans: ClassVar[bool] = False
    judges_privileges: ClassVar[bool] = False

    @dataclass(frozen=True, slots=True)
    class Settings:
        pass

    def __init__(self, settings: Settings) -> None:
        pass

    def refuse(self, context: Context) -> CommandError | None:
        return None if context.caller.is_server else context.info.forbidden

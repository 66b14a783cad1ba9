"""User names must be short enough to own a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from proxy.session import refusals
from proxy.session.caller import MAX_USER_NAME

if TYPE_CHECKING:
    from proxy.conversation.rule import Context
    from proxy.errors import CommandError


class UserNameLength:
    """Refuses sessions to users whose ``user@db`` has ``limit`` bytes or more.

    At the limit of 10,000, the manual's, upstream refuses by itself and is left to do so unless
    ``refuse_early`` is set or it does not check. A lower limit is always held here.
    """

    name: ClassVar[str] = "user_name_length"
    judges_privileges: ClassVar[bool] = False

    @dataclass(frozen=True, slots=True)
    class Settings:
        #: In bytes of UTF-8; at most 10,000.
        limit: int = MAX_USER_NAME
        #: Refuse here what upstream would refuse as well.
        refuse_early: bool = False

        def __post_init__(self) -> None:
            if not 0 < self.limit <= MAX_USER_NAME:
                raise ValueError(f"limit must be between 1 and {MAX_USER_NAME}")

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.limit
        self._early = settings.refuse_early
        shorter = settings.limit != MAX_USER_NAME
        self.speaks_as_server = not shorter
        self.judges_routine = self.judges_transactions = self.judges_plans = shorter

    def refuse(self, context: Context) -> CommandError | None:
        if context.info.malformed == refusals.NAME_TOO_LONG:
            early = self._early or not context.upstream_checks
            return refusals.NAME_TOO_LONG if early else None
        if self._limit == MAX_USER_NAME or context.caller.authorization is False:
            return None
        plan = context.plan
        names_session = context.info.lsid is not None or (plan is not None and plan.names_sessions)
        if not names_session:
            return None
        size = len(context.caller.name.encode("utf-8", "surrogateescape"))
        if size < self._limit:
            return None
        reason = f"the user's name has {size} bytes, and only shorter ones than {self._limit} may"
        return refusals.NAME_TOO_LONG.because(reason, "limit", self._limit)

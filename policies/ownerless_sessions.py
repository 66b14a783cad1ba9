"""Sessions that nobody owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from proxy.session.identity import NO_OWNER
from proxy.session.ids import LogicalSessionId
from proxy.session.refusals import unauthorized

if TYPE_CHECKING:
    from proxy.conversation.rule import Context
    from proxy.errors import CommandError

_MADE_BEFORE: Final = "the session was made before authorization was on, and has no owner"
_NOBODYS: Final = "the session has no owner, and authorization is on"


class OwnerlessSessions:
    """With authorization off anybody may use a session; once it is on, such sessions end.

    The server would silently take the same UUID for another session of whoever authenticated,
    and a retried write would run twice. A session that its user has used since is let through, and
    so is every session where authorization was on all the time: whoever was nobody then (before a
    login, or under the localhost exception) has left no session.
    """

    name: ClassVar[str] = "ownerless_sessions"
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
        lsid = context.info.lsid
        if lsid is None or not context.caller.authorization:
            return None
        ownerless = LogicalSessionId(lsid.id, NO_OWNER)
        if lsid.uid != NO_OWNER and (
            not context.ran_open
            or context.session is not None
            or context.store.get(ownerless) is None
        ):
            return None
        error = unauthorized(
            f"session {ownerless} has no owner and cannot be used while authorization is enabled"
        )
        # Its owner is not who asks. Clients are told the reason: it does not say who made it.
        known = context.store.get(ownerless) is not None
        return error.because(_MADE_BEFORE if known else _NOBODYS).of(ownerless)

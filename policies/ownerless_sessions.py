"""Sessions that nobody owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from proxy.session.identity import NO_OWNER
from proxy.session.ids import LogicalSessionId
from proxy.session.refusals import unauthorized

if TYPE_CHECKING:
    from proxy.conversation.rule import Context
    from proxy.errors import CommandError
    from proxy.session.ids import Origin


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
        made = context.store.get(ownerless)
        return error.because(_reason(None if made is None else made.origin)).of(ownerless)


def _reason(made_by: Origin | None) -> str:
    if made_by is None:
        return "the session has no owner, and authorization is on"
    by = f", by {made_by.application}," if made_by.application else ""
    return f"the session was made{by} before authorization was on, and has no owner"

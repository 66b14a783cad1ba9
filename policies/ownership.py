"""A session belongs to the user who made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from policies.txn_number import concerns_transactions
from proxy.session import refusals
from proxy.session.records import CursorId, Session
from proxy.session.refusals import unauthorized
from proxy.wire.reading_on import cursors_read

if TYPE_CHECKING:
    from proxy.conversation.rule import Context
    from proxy.errors import CommandError


class Ownership:
    """Refuses an lsid of somebody else, a malformed one, and cursors of others' sessions.

    Upstream refuses the first two by itself, in its version's words, so they are left to it
    unless ``refuse_early`` is set or upstream does not check.
    """

    name: ClassVar[str] = "ownership"
    judges_routine: ClassVar[bool] = False
    judges_transactions: ClassVar[bool] = False
    judges_plans: ClassVar[bool] = False
    judges_privileges: ClassVar[bool] = False
    speaks_as_server: ClassVar[bool] = True

    @dataclass(frozen=True, slots=True)
    class Settings:
        #: Refuse here what upstream would refuse as well, in the words of a server 4.2.
        refuse_early: bool = False

    def __init__(self, settings: Settings) -> None:
        self._early = settings.refuse_early

    def refuse(self, context: Context) -> CommandError | None:
        error = context.info.malformed
        if error is not None and error != refusals.NAME_TOO_LONG:
            early = self._early or not context.upstream_checks
            return error if early and not concerns_transactions(error) else None
        return _foreign_cursor(context)


def _foreign_cursor(context: Context) -> CommandError | None:
    """A getMore on a cursor that a session of another owner opened (reference 1.8)."""
    caller = context.caller
    opener = _opener(context)
    if opener is None or caller.authorization is False or caller.may("impersonate"):
        return None
    used = context.info.lsid
    return unauthorized(
        f"Cursor session id ({opener.key}) is not the same as the operation context's session"
        f" id ({used if used is not None else 'none'})"
    )


def _opener(context: Context) -> Session | None:
    """Whose cursor the request reads on, if it is not the caller's own."""
    for number in cursors_read(context.request):
        opener = context.store.cursor_session(CursorId(context.upstream, number))
        if opener is not None and opener.owner.uid != context.caller.digest:
            return opener
    return None

"""What becomes of what the rules said about a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.conversation.rule import refusal, signed
from proxy.session.idl import likely_lsid
from proxy.session.ids import LogicalSessionId

if TYPE_CHECKING:
    from proxy.conversation.recorder import Asker
    from proxy.conversation.rule import Context, Decision
    from proxy.conversation.sharing import Sessions
    from proxy.errors import CommandError
    from proxy.wire.messages import Request


def recorded(
    desk: Asker, sessions: Sessions, context: Context, decisions: list[Decision]
) -> CommandError | None:
    """Record what the rules said; what the client is told, if they refuse."""
    if not decisions:
        return None
    command = context.request.command or context.command
    lsid = context.info.lsid or somebody_elses(context.request)
    for decision in decisions:
        sessions.recorder.ruled(decision, command, context.now, desk, lsid)
    error = refusal(decisions)
    if error is not None and sessions.sign_refusals:
        error = signed(decisions[-1])
    return error


def somebody_elses(request: Request) -> LogicalSessionId | None:
    """The session that a request names with its owner, for operators: who may not use it, to whom
    no word of that owner is said, is of interest with whose it is. None where it names none so."""
    element = request.fields.get(b"lsid")
    named = None if element is None else likely_lsid(request.message, element)
    return None if named is None or named.uid is None else LogicalSessionId(named.id, named.uid)

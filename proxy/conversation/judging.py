"""What becomes of what the rules said about a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.conversation.rule import refusal, signed

if TYPE_CHECKING:
    from proxy.conversation.recorder import Asker
    from proxy.conversation.rule import Context, Decision
    from proxy.conversation.sharing import Sessions
    from proxy.errors import CommandError


def recorded(
    desk: Asker, sessions: Sessions, context: Context, decisions: list[Decision]
) -> CommandError | None:
    """Record what the rules said; what the client is told, if they refuse."""
    if not decisions:
        return None
    command = context.request.command or context.command
    for decision in decisions:
        sessions.recorder.ruled(decision, command, context.now, desk, context.info.lsid)
    error = refusal(decisions)
    if error is not None and sessions.sign_refusals:
        error = signed(decisions[-1])
    return error

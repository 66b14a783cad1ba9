"""Requests of which the proxy believes that upstream must refuse them.

They are forwarded all the same, so that the client gets upstream's own words. If upstream carries
one out instead, the proxy's idea of the caller or of the version is wrong: it asks anew who the
caller is, before it reads the next request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from proxy.conversation.question import ask_identity
from proxy.conversation.rule import unreadable
from proxy.conversation.tracking import Doubted
from proxy.session.refusals import too_long

if TYPE_CHECKING:
    from proxy.conversation.conversation import Conversation, RequestHandler
    from proxy.conversation.pending import Pending
    from proxy.errors import CommandError
    from proxy.wire.messages import Request
    from proxy.wire.replies import Reply


def forward_doubted(
    conversation: Conversation, request: Request, doubted: Doubted, now: float
) -> None:
    """Forward what upstream must refuse; no further request is read until it has."""
    if request.expects_reply:
        conversation.blocked = True
    waiting = _Waiting(conversation, doubted.error)
    conversation.forward(request, now, waiting.on_reply, tracked=doubted.tracked)


class _Waiting:
    """One such request. ``_carried_out`` says that upstream has answered it as any other."""

    def __init__(self, conversation: Conversation, error: CommandError) -> None:
        self._conversation = conversation
        self._error = error
        self._carried_out = False

    def on_reply(self, pending: Pending, reply: Reply, now: float) -> None:
        conversation = self._conversation
        last, ok = not conversation.streaming, reply.ok()
        if ok and not self._carried_out:
            self._carried_out = True
            conversation.desk.surprised(self._error, pending.command)
        conversation.release(pending, reply.frame, ok, now)
        if last:
            conversation.blocked = False
            if self._carried_out:
                ask_identity(conversation, now, lambda _reply, _now: None)


def _on_no_command(conversation: Conversation, request: Request, now: float) -> None:
    """A legacy opcode, or a message that cannot be read."""
    if request.overlong:
        conversation.refuse(request, too_long(request.problem), now)
        return
    refusal = conversation.desk.sessionless_refusal(request, now)
    if refusal is not None:
        conversation.refuse(request, refusal, now)
    elif request.problem:
        doubted = Doubted(unreadable(request.problem), None)
        forward_doubted(conversation, request, doubted, now)
    else:
        conversation.forward(request, now)


HANDLERS: Final[Mapping[str, RequestHandler]] = {"": _on_no_command}

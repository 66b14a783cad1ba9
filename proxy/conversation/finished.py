"""Requests that are over, for whoever writes down single ones of them: what is told of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.conversation.hello import HELLO_COMMANDS
from proxy.wire.fields import DOCUMENT, walk
from proxy.wire.layouts import READS_ON
from proxy.wire.namespaces import comment_of, namespace_of, traceparent_of

if TYPE_CHECKING:
    from proxy.session.ids import LogicalSessionId
    from proxy.wire.messages import Request
    from proxy.wire.replies import Reply

#: Bytes of a request that is kept until it is over. Of a longer one what may be told is read
#: beforehand.
_KEPT: Final = 16_384

#: By commands that may wait for what is new, the field that says for how long.
_PATIENCE: Final = {
    READS_ON: b"maxTimeMS",
    **dict.fromkeys(HELLO_COMMANDS, b"maxAwaitTimeMS"),
}


class Finished(NamedTuple):
    """A request that is over. Nothing of its documents is in here, nor of the reply's.

    ``comment`` is its comment where that is a text. ``session`` is its own, where that is known.
    ``seconds`` are all that it took, ``upstream_seconds`` those of them that it was upstream.
    ``ok`` is None where no answer came, as the connection had ended.
    ``code`` is that of the error, None where that is not known or there is none; ``refused`` says
    that it is the proxy's own. ``parent`` is the traceparent in its comment, "" for none.
    """

    command: str
    namespace: str
    comment: str | None
    session: LogicalSessionId | None
    seconds: float
    upstream_seconds: float
    ok: bool | None
    code: int | None
    refused: bool = False
    parent: str = ""


class Over(NamedTuple):
    """When a request came, was ``answered`` by upstream (None: not by that) and was over, and how,
    as :class:`Finished` has it."""

    session: LogicalSessionId | None
    started: float
    answered: float | None
    now: float
    ok: bool | None


class Asked:
    """A request that may have to be told of. ``waited`` is for how many seconds it could not be
    looked at; ``code`` is that of the proxy's own error."""

    __slots__ = (
        "_comment",
        "_namespace",
        "_parent",
        "_request",
        "_waits",
        "answered",
        "code",
        "waited",
    )

    def __init__(self, request: Request, waited: float, code: int | None = None) -> None:
        self.waited = waited
        #: When upstream has answered what is held since.
        self.answered = 0.0
        self.code = code
        self._request: Request | None = request
        self._namespace = ""
        self._comment: str | None = None
        self._parent = ""
        self._waits = False
        if len(request.frame) > _KEPT or len(request.message) > _KEPT:
            self._look()

    def _look(self) -> None:
        request = self._request
        if request is not None:
            self._request = None
            self._namespace = namespace_of(request)
            self._comment = comment_of(request)
            if request.layout.commented:
                self._parent = traceparent_of(request)
            # Drivers send it only where a cursor, or a hello, is to wait for what is new.
            patience = _PATIENCE.get(request.command)
            self._waits = patience is not None and patience in request.fields

    def finished(self, command: str, over: Over, reply: Reply | None) -> Finished | None:
        """What is told of it now that it is over; None where it has only waited for news.

        ``reply`` is upstream's, where it could be read.
        """
        self._look()
        if self._waits or (command == READS_ON and _brings_news(reply)):
            return None
        code = self.code
        if code is None and over.ok is False and reply is not None:
            code = reply.integer(b"code")
        return Finished(
            command,
            self._namespace,
            self._comment,
            over.session,
            over.now - over.started,
            0.0 if over.answered is None else over.answered - over.started - self.waited,
            over.ok,
            code,
            self.code is not None,
            self._parent,
        )


def _brings_news(reply: Reply | None) -> bool:
    """Whether a getMore's reply is from a cursor that waits for what is new: it has nothing and
    goes on, or is of a change stream."""
    cursor = None if reply is None else reply.fields.get(b"cursor")
    if reply is None or cursor is None or cursor.type != DOCUMENT:
        return False
    fields = walk(reply.message, cursor.value, cursor.end)
    if b"postBatchResumeToken" in fields:
        return True
    batch, number = fields.get(b"nextBatch"), fields.get(b"id")
    return (
        batch is not None
        and batch.end - batch.value == 5
        and number is not None
        and any(reply.message[number.value : number.end])
    )

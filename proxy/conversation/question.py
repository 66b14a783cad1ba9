"""Who is authenticated on this connection, as upstream says it (``connectionStatus``)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from proxy.conversation.conversation import Conversation  # noqa: TC001 - fields', see test_compiled
from proxy.conversation.overload import ATTEMPTS, is_overload, pause
from proxy.conversation.said import said_in
from proxy.session.identity import (
    QUESTION,
    Identity,
    IdentityUnknownError,
    reading_connection_status,
)
from proxy.session.stable_api import REQUIRED

if TYPE_CHECKING:
    from proxy.conversation.pending import Pending
    from proxy.session.steps import Steps
    from proxy.wire.replies import Reply

    Continuation = Callable[[Reply, float], None]

_AUTH_INFO: Final = b"authInfo"


def ask_identity(
    conversation: Conversation,
    now: float,
    then: Continuation,
    *,
    refused: Continuation | None = None,
    expired: Continuation | None = None,
) -> None:
    """Ask upstream who is authenticated on this connection, bind that, go on with ``then``.

    An answer that does not say it closes the connection. Where upstream only says "later", it is
    asked again, or its refusal handed to ``refused``. With ``expired`` somebody of whom upstream
    says nobody stays bound and that is called instead: a token that expired looks like this.
    """
    _Question(conversation, then, 0, refused, expired).put(now)


def ask_along(conversation: Conversation, now: float, expired: Callable[[], None]) -> None:
    """Ask the same in front of a command that goes upstream without waiting for the answer.

    For a command that no answer could change, where upstream has said it before. If it does not
    say it now, what it says to the command counts. ``expired`` is as above, and is told only.
    """
    handler = partial(_answered_along, conversation, expired)
    conversation.ask(QUESTION, handler, now, conversation.desk.knows)


def _answered_along(
    conversation: Conversation,
    expired: Callable[[], None],
    _pending: Pending,
    reply: Reply,
    _now: float,
) -> None:
    if is_overload(reply) or reply.integer(b"code") == REQUIRED:
        conversation.desk.told = False
    else:
        conversation.do(_reading_along(conversation, expired, reply))


def _reading_along(
    conversation: Conversation, expired: Callable[[], None], reply: Reply
) -> Iterator[None]:
    identity = yield from _reading_identity(conversation, reply)
    if identity is None:
        return
    if conversation.desk.identity.users and not identity.users:
        conversation.desk.told = False
        expired()
    else:
        _bind(conversation, identity, reply)


@dataclass(slots=True)
class _Question:
    """The question on its way to upstream and back; what :func:`ask_identity` is given.

    A class, as functions that name each other would be left behind as a cycle
    (:mod:`proxy.memory`).
    """

    conversation: Conversation
    then: Continuation
    attempt: int
    refused: Continuation | None
    expired: Continuation | None

    def put(self, now: float) -> None:
        if not self.conversation.close:
            self.conversation.blocked = True
            self.conversation.ask(QUESTION, self.answered, now)

    def answered(self, _pending: Pending, reply: Reply, now: float) -> None:
        conversation = self.conversation
        if reply.integer(b"code") == REQUIRED and not conversation.versioned:
            conversation.versioned = True
            self.put(now)
            return
        if is_overload(reply):
            if self.refused is not None:
                conversation.blocked = False
                self.refused(reply, now)
                return
            if self.attempt + 1 < ATTEMPTS:
                seconds = pause(reply, self.attempt, random.random())
                self.attempt += 1
                conversation.observer.later(seconds, self.put)
                return
        conversation.do(self._reading(reply, now))

    def _reading(self, reply: Reply, now: float) -> Iterator[None]:
        conversation = self.conversation
        identity = yield from _reading_identity(conversation, reply)
        if identity is None:
            return
        if self.expired is not None and conversation.desk.identity.users and not identity.users:
            conversation.desk.told = False
            conversation.blocked = False
            self.expired(reply, now)
            return
        _bind(conversation, identity, reply)
        conversation.blocked = False
        self.then(reply, now)


def _reading_identity(conversation: Conversation, reply: Reply) -> Steps[Identity | None]:
    """Whom upstream names; None where it does not, and then the connection ends."""
    element = reply.fields.get(_AUTH_INFO)
    told = b""
    if element is not None and reply.ok() and not reply.fields.duplicates:
        # It is long where somebody may do much, and nearly always what it was.
        told = reply.message[element.start : element.end]
        known = conversation.desk.identities.get(told)
        if known is not None:
            return known
    try:
        identity = yield from reading_connection_status(reply.body_bytes())
    except IdentityUnknownError as error:
        conversation.upstream_broke("upstream identity", str(error))
        return None
    conversation.desk.identities.learn(told, identity)
    return identity


def _bind(conversation: Conversation, identity: Identity, reply: Reply) -> None:
    desk = conversation.desk
    desk.told = True
    # Most are the very same.
    if identity is not desk.identity:
        if identity == desk.identity:
            desk.identity = identity
        else:
            desk.identified(identity)
            conversation.observer.identified(identity)
    if not desk.knows(reply.frame):
        desk.keep(said_in(reply, identity))

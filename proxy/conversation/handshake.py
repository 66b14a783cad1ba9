"""Commands that say who the client is and what it is shown: hello and authentication.

Who is authenticated is never the client's claim. Where a reply lets somebody in, it is held,
upstream is asked with ``connectionStatus`` on the same connection, and only then the reply
goes out; no further request is read meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from proxy.conversation.hello import (
    AUTHENTICATION_COMMANDS,
    HELLO_COMMANDS,
    client_metadata,
    edited_reply,
    edited_request,
    is_authentication,
    names_in_reply,
    names_x509,
    process_id,
)
from proxy.conversation.logins import claimed
from proxy.conversation.question import ask_identity
from proxy.conversation.tracking import tracked_of
from proxy.errors import CommandError
from proxy.wire.fields import BOOL, DOCUMENT, Element, text, walk

if TYPE_CHECKING:
    from proxy.conversation.conversation import Conversation, RequestHandler
    from proxy.conversation.pending import Pending
    from proxy.wire.messages import Request
    from proxy.wire.replies import Reply

#: What a server without a client certificate to look at answers to MONGODB-X509.
_NO_CLIENT_CERTIFICATE: Final = CommandError(
    18, "AuthenticationFailed", "There is no x.509 client certificate matching the user."
)
#: Where that is said here, for whoever looks why.
_NOT_MAPPED: Final = "; upstream.tls.x509 has no entry for the client's certificate"


def _on_hello(conversation: Conversation, request: Request, now: float) -> None:
    conversation.hellos += 1
    if b"maxAwaitTimeMS" in request.fields:
        conversation.hellos_wait = True
    if conversation.metadata is None:
        conversation.metadata = client_metadata(request)
        conversation.desk.introduced(conversation.metadata)
        conversation.balanced = b"loadBalanced" in request.fields
    presentation = conversation.presentation
    frame = edited_request(
        request,
        strip_compression=presentation.strip_compression,
        refuse_x509=presentation.refuse_x509,
    )
    if frame is not None and not request.has_valid_checksum():
        # To change it would make a new checksum and so mend what arrived broken.
        conversation.end("client message", "the checksum is wrong")
        return
    admitted = conversation.desk.admit(request, now)
    if isinstance(admitted, CommandError):
        conversation.refuse(request, admitted, now)
        return
    tracked = tracked_of(admitted)
    if not is_authentication(request):
        conversation.forward(request, now, partial(_on_hello_reply, conversation), frame, tracked)
        return
    conversation.blocked = True
    conversation.desk.claimed = claimed(request)
    speculated = partial(_on_speculation_reply, conversation)
    conversation.forward(request, now, speculated, frame, tracked)
    _ask_if_silent(conversation, request, now)


def _on_authentication(conversation: Conversation, request: Request, now: float) -> None:
    if conversation.presentation.refuse_x509 and names_x509(request):
        conversation.desk.claimed = claimed(request)
        conversation.desk.login_failed(request.command, f"{_NO_CLIENT_CERTIFICATE}{_NOT_MAPPED}")
        conversation.refuse(request, _NO_CLIENT_CERTIFICATE, now)
        return
    admitted = conversation.desk.admit(request, now)
    if isinstance(admitted, CommandError):
        conversation.refuse(request, admitted, now)
        return
    tracked = tracked_of(admitted)
    conversation.blocked = True
    if request.command != "saslContinue":
        conversation.desk.claimed = claimed(request)
    replied = partial(_on_authentication_reply, conversation)
    conversation.forward(request, now, replied, tracked=tracked)
    _ask_if_silent(conversation, request, now)


def _ask_if_silent(conversation: Conversation, request: Request, now: float) -> None:
    if not request.expects_reply:
        # Nobody will say whether it worked, so ask right behind it.
        ask_identity(conversation, now, lambda _reply, _now: None)


def _on_hello_reply(conversation: Conversation, pending: Pending, reply: Reply, now: float) -> None:
    shown = _shown(conversation, reply)
    if shown is not None:
        conversation.release(pending, shown, reply.ok(), now)


def _shown(conversation: Conversation, reply: Reply) -> bytes | None:
    """A hello reply as this listener's clients may see it; None where the connection closes."""
    presentation = conversation.presentation
    if not presentation.known() and reply.ok():
        conversation.close = "upstream not known yet"
        return None
    process = process_id(reply) if conversation.hellos == 1 else b""
    if process and conversation.desk.meets(process):
        # Started anew since it was asked, it may demand logins that it did not.
        conversation.observer.another_process()
    addresses = presentation.addresses()
    if addresses is not None and any(n not in addresses for n in names_in_reply(reply)):
        conversation.observer.unknown_member()
    return edited_reply(reply, addresses, presentation.own) or reply.frame


def _on_speculation_reply(
    conversation: Conversation, pending: Pending, reply: Reply, now: float
) -> None:
    shown = _shown(conversation, reply)
    if shown is None:
        return
    element = reply.fields.get(b"speculativeAuthenticate")
    succeeded = False
    if element is not None and element.type == DOCUMENT:
        done = walk(reply.message, element.value, element.end).get(b"done")
        succeeded = not _is_false(reply.message, done)
    _release_or_ask(conversation, pending, reply, shown, succeeded, now)


def _on_authentication_reply(
    conversation: Conversation, pending: Pending, reply: Reply, now: float
) -> None:
    ok = reply.ok()
    if not ok and pending.command != "logout":
        reason = (
            f"{reply.integer(b'code')}: {text(reply.message, reply.fields.get(b'errmsg')) or ''}"
        )
        conversation.desk.login_failed(pending.command, reason)
    succeeded = ok and not _is_false(reply.message, reply.fields.get(b"done"))
    _release_or_ask(conversation, pending, reply, reply.frame, succeeded, now)


def _is_false(message: bytes, element: Element | None) -> bool:
    return element is not None and element.type == BOOL and not message[element.value]


def _release_or_ask(
    conversation: Conversation,
    pending: Pending,
    reply: Reply,
    frame: bytes,
    succeeded: bool,
    now: float,
) -> None:
    """Let an authentication's reply go, but not before it is known whom it let in."""
    ok = reply.ok()
    if not succeeded:
        conversation.blocked = False
        conversation.release(pending, frame, ok, now)
    elif conversation.streaming:
        conversation.upstream_broke("upstream message", "authentication inside an exhaust stream")
    else:
        release = partial(conversation.release, pending, frame, ok)
        ask_identity(conversation, now, lambda _reply, now: release(now))


#: How requests are handled that are more to the proxy than bytes to pass on.
HANDLERS: Final[Mapping[str, RequestHandler]] = {
    **dict.fromkeys(HELLO_COMMANDS, _on_hello),
    **dict.fromkeys(AUTHENTICATION_COMMANDS, _on_authentication),
}

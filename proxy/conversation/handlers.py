"""The requests that are more to the proxy than bytes to pass on."""

from __future__ import annotations

from typing import Final

from proxy.conversation import control, doubt, handshake
from proxy.conversation.exchange import Handlers

#: By the name as sent: command names are case-exact.
HANDLERS: Final = Handlers(
    {**handshake.HANDLERS, **control.HANDLERS, **doubt.HANDLERS}, doubt.forward_doubted
)

"""The commands that are more to the proxy than bytes to pass on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.conversation import control, handshake

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.conversation.conversation import RequestHandler

#: By the name as sent: command names are case-exact.
HANDLERS: Final[Mapping[str, RequestHandler]] = {**handshake.HANDLERS, **control.HANDLERS}

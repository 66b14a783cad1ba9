"""Whom a conversation and its desk tell what happens, where nobody wants to know."""

from __future__ import annotations

from math import inf


class Quiet:
    """An observer, a meter and a recorder that keep nothing (see
    :mod:`proxy.conversation.exchange` and :mod:`proxy.conversation.recorder`)."""

    slow_seconds = tells_from = inf
    namespaces = None

    @property
    def meter(self) -> Quiet:
        """Itself."""
        return self

    def _nothing(self, *_what: object, **_more: object) -> None: ...

    def _no(self, *_what: object, **_more: object) -> bool:
        return False

    replied = replied_again = ask_as = _no
    request = failed = violation = _nothing
    identified = interrupt = later = foreign = slow = traced = _nothing
    unknown_member = another_process = _nothing
    malformed = incident = surprised = ruled = control = login_failed = look = _nothing
    killed = late = gave_up = crowded = trespassed = _nothing

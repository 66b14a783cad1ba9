"""That the other side of a connection is gone."""

from __future__ import annotations


class PeerGoneError(Exception):
    """The peer reset the connection or it broke some other way; the text says how.

    ``protocol`` is what it speaks instead of what was expected (:mod:`proxy.wire.protocols`), "" if
    that is not why.
    """

    def __init__(self, problem: str = "", protocol: str = "") -> None:
        super().__init__(problem)
        self.protocol = protocol

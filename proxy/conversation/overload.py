"""Upstream that says "later": what it means, and how long to wait before asking again.

Servers from 8.2 on refuse requests at their front door when there are too many (462 and a few other
codes, with the labels SystemOverloadedError and RetryableError). Nothing was looked at and nothing
was done then, whatever was asked. Drivers ask again after a growing time, and so does the proxy
where it asks something on its own account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.wire.fields import ARRAY, STRING, text, walk

if TYPE_CHECKING:
    from proxy.wire.replies import Reply

#: IngressRequestRateLimitExceeded: refused for the rate of requests, before anything was read.
RATE_LIMITED: Final = 462

#: What drivers double with each attempt and where they stop, in seconds (client backpressure).
_BASE: Final = 0.1
_LONGEST: Final = 10.0

#: Questions that are asked in all: the last ones wait up to 10 s each.
ATTEMPTS: Final = 10

_LABELS: Final = frozenset(("SystemOverloadedError", "RetryableError"))


def is_overload(reply: Reply) -> bool:
    """Whether upstream refused this for having too much to do, before it looked at it."""
    if reply.ok():
        return False
    if reply.integer(b"code") == RATE_LIMITED:
        return True
    labels = reply.fields.get(b"errorLabels")
    if labels is None or labels.type != ARRAY:
        return False
    listed = walk(reply.message, labels.value, labels.end).values()
    return {text(reply.message, one) for one in listed if one.type == STRING} >= _LABELS


def pause(reply: Reply, attempt: int, jitter: float) -> float:
    """Seconds to wait after the ``attempt``-th refusal (from 0); ``jitter`` is between 0 and 1.

    ``baseBackoffMS`` in the reply replaces the base.
    """
    given = reply.integer(b"baseBackoffMS")
    base = given / 1000 if given is not None and 0 < given <= 60_000 else _BASE
    return jitter * min(_LONGEST, base * float(2**attempt))

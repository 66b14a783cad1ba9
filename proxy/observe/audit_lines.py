"""What a line of the audit log says of a request, put together of parts that come again."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from proxy import logs
from proxy.observe.audit import fields
from proxy.texts import MOST_SHOWN, shown

if TYPE_CHECKING:
    from proxy.session.ids import Origin
    from proxy.wire.subjects import Subject

#: Namespaces of one request that are written down.
_NAMESPACES: Final = 10


def about(subject: Subject | None) -> dict[str, Any]:
    """What a request was about, to be written down: the first of the namespaces that it named, and
    ``""`` for those that cannot be told or are too many."""
    if subject is None:
        return {}
    names = [shown(name) for name in subject.namespaces[:_NAMESPACES]]
    if len(subject.namespaces) > _NAMESPACES:
        names.append("")
    return {"namespaces": names, "writes": subject.writes}


# Most lines say twice the same: who it was as the last line of the connection, what it was as many
# others. To put a line together of both takes an eighth of what it takes to make it anew.


@lru_cache(1000)
def _whose(connection: int, user: str, origin: Origin, upstream: str) -> str:
    return fields(
        conn=connection,
        user=user,
        client=origin.client,
        application=origin.application,
        driver=origin.driver,
        driver_version=origin.driver_version,
        upstream=upstream,
    )


def whose_line(connection: int, user: str, origin: Origin, upstream: str) -> str:
    """Who it was, as part of a line."""
    whose = _whose if len(user) <= MOST_SHOWN else _whose.__wrapped__
    return whose(connection, user, origin, upstream)


@lru_cache(200)
def redacted(text: str) -> str:
    """A text without secrets."""
    return str(logs.redact(text))


@lru_cache(1000)
def what_line(
    command: str, decision: str, reason: str, rule: str | None, targets: int | None
) -> str:
    """What was decided, as part of a line."""
    return fields(command=command, decision=decision, reason=reason, rule=rule, targets=targets)

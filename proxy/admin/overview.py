"""What operators see and do, as questions that are asked and answered in plain data.

The pages ask an :class:`Overview` and nothing else. :class:`proxy.admin.process.Process` answers
for one process. Nothing here refers to a live object, so that with several processes on the
same ports whichever gets the request can ask the others and put their answers together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from proxy.admin.history import Remembered
    from proxy.listing import Rank, Row


class Listed(NamedTuple):
    """Some rows of a listing in the order ``sort``, each with its rank.

    Rows of several processes are merged by rank; ``matched`` and ``total`` add up. ``more`` says
    that rows which rank behind these were left off. Times in ranks are of the processes' clock.
    """

    sort: str
    rows: list[Row]
    ranks: list[Rank]
    more: bool
    matched: int
    total: int


class KillingIsOffError(Exception):
    """Nobody may kill here; the text says what would have to be configured."""


class TokenNeededError(Exception):
    """Whoever asks may look and not act."""


class By(NamedTuple):
    """Who does something: the address of whoever asks, the name of their token, and whether they
    have shown one."""

    client: str
    operator: str = ""
    authorized: bool = True


class Overview(Protocol):
    """All that is known of sessions and connections. Rows are JSON-like, times in seconds."""

    #: Whether kills are carried out, and not only shown.
    executes: bool
    #: What is remembered; None where the settings ask for nothing.
    remembered: Remembered | None

    def ready(self, cluster: str | None = None) -> tuple[bool, str]:
        """Whether clients of all clusters, or of one, can be served, and if not, which and why.

        Raises:
            QueryError: there is no such cluster.
        """

    def draining(self) -> bool:
        """Whether the proxy is on its way out."""

    async def rules(self) -> list[Row]:
        """One row per rule, with its mode, its settings, how many requests it has refused and
        reported (would have refused in mode enforce), and how many transactions it has aborted."""

    async def upstream(self) -> list[Row]:
        """One row per process upstream: its set, its role, whether it answers and since when, and
        which listener leads there."""

    async def incidents(self) -> list[Row]:
        """Who used sessions as no driver does, was refused by a rule or would have been, the
        latest first."""

    async def summary(self) -> Row:
        """What the proxy is and how much of everything there is."""

    async def listed(self, kind: str, fields: Mapping[str, str]) -> Listed:
        """A page of ``sessions``, ``transactions``, ``cursors``, ``connections``, ``groups``
        or ``namespaces``.

        ``fields`` are those of the URL: filters, ``sort``, ``limit`` and ``after``.

        Raises:
            QueryError: something in them is wrong.
        """

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        """The page for Prometheus as (content type, body), in the format that ``accept`` asks
        for."""

    async def act(self, action: str, body: bytes, by: By) -> dict[str, Any]:
        """Do what the JSON in ``body`` means, or say what that would hit.

        The actions are ``kill`` (sessions), ``abort`` (a transaction), ``interrupt`` (an operation)
        and ``close`` (a connection).

        Raises:
            QueryError: something in it is wrong.
            KillingIsOffError: it is no preview, and only these are allowed.
            TokenNeededError: it is no preview, and only these are for everybody.
        """

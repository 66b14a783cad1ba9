"""The metrics page for somebody who asks over the network, and how late the loop is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from proxy.observe.families import Page
from proxy.observe.merging import plain

if TYPE_CHECKING:
    from proxy.observe.merging import Family, Merged
    from proxy.observe.telemetry import Telemetry

#: Seconds between two looks at how late the loop is.
_PROBE: Final = 0.1

#: Threads for the text of pages. Slow name look-ups may have all of those that trio lends.
_THREADS: Final = trio.CapacityLimiter(4)


async def metrics_page(telemetry: Telemetry, accept: str = "") -> tuple[str, bytes]:
    """The page as (content type, body).

    What is read is read in slices, and the text is made in a thread: clients wait for none of
    it. What is read last may be some milliseconds younger than what is read first.
    """
    page = Page()
    for _ in telemetry.collect(page):
        await trio.lowlevel.checkpoint()
    return await trio.to_thread.run_sync(page.render, accept, limiter=_THREADS)


async def own_part(telemetry: Telemetry) -> list[Family]:
    """This process's part of the page of several, as plain data."""
    page = Page()
    for _ in telemetry.collect(page):
        await trio.lowlevel.checkpoint()
    return await trio.to_thread.run_sync(lambda: plain(page.collect()))


async def whole_page(merged: Merged, accept: str = "") -> tuple[str, bytes]:
    """The page of several as (content type, body)."""
    page = Page()
    page.process = False
    merged.onto(page)
    return await trio.to_thread.run_sync(page.render, accept)


async def watch_the_loop(telemetry: Telemetry) -> None:
    """Count how late the loop comes to a task that is due, until cancelled."""
    while True:
        due = trio.current_time() + _PROBE
        await trio.sleep_until(due)
        telemetry.late(trio.current_time() - due)

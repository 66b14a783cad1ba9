"""Asks every member its hello, over connections of its own, and keeps the topology up to date.

Nothing is asked of a member but hello and the probes in :mod:`proxy.upstream.facts`, which need no
authentication: the proxy has no credentials. Polling is enough: what clients are told comes
from hello replies made for them, and one that names somebody unknown makes the watcher ask at
once (:meth:`Watcher.poke`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio
from bson.errors import BSONError

from proxy import logs
from proxy.conversation.overload import RATE_LIMITED
from proxy.errors import WireError
from proxy.net.gone import PeerGoneError
from proxy.upstream.facts import process_of

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from proxy.addresses import Address
    from proxy.settings.upstream import Upstream
    from proxy.upstream.facts import Upstreams
    from proxy.upstream.link import Link
    from proxy.upstream.topology import Topology
    from proxy.upstream.ways import Ways

#: How long the first answer waits for those of the other seeds: before each seed has told its
#: own name, a seed may be taken for two members.
SETTLE_SECONDS: Final = 1.0

#: How often one member is asked at the most, and how soon after a first failure.
_SOONEST: Final = 1.0
_FIRST_RETRY: Final = 0.5


class Watcher:
    """Watches all members of ``topology`` while :meth:`run` runs.

    ``reconcile`` opens and closes listeners for ``topology.members()``; it runs after answers
    came, never twice at a time. ``ready`` is set when it is known what upstream is and the
    listeners for that are open.
    """

    def __init__(
        self,
        topology: Topology,
        ways: Ways,
        settings: Upstream,
        reconcile: Callable[[], Awaitable[None]],
        ready: trio.Event,
        upstreams: Upstreams | None = None,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self._topology = topology
        self._ways = ways
        self._settings = settings
        self._reconcile = reconcile
        self._ready = ready
        self._upstreams = upstreams
        self._log = log or logs.logger()
        self._watched: dict[Address, trio.CancelScope] = {}
        self._problems: dict[Address, str] = {}
        #: When each began to answer, or to leave that off.
        self._since: dict[Address, float] = {}
        self._unasked: set[Address] = set()
        #: Set for whoever waits for the first answer of each.
        self._outcomes: dict[Address, trio.Event] = {}
        self._poked = trio.Event()
        self._answered = trio.Event()
        self._settled = trio.Event()
        self._changed = trio.Event()
        self._shown: tuple[object, ...] = ()
        self._nursery: trio.Nursery | None = None

    def ready(self) -> tuple[bool, str]:
        """Whether clients can be served, and if not, why."""
        waits_for_clients = not self._topology.settles and not self._watched
        answered = len(self._problems) < len(self._watched)
        if self._ready.is_set() and (answered or waits_for_clients):
            return True, ""
        return False, "; ".join(f"{a}: {text}" for a, text in self._problems.items()) or "starting"

    def up(self) -> dict[Address, bool]:
        """Whether each process that is watched answered its latest hello."""
        return {
            address: address not in self._problems and address not in self._unasked
            for address in self._watched
        }

    def standing(self, address: Address) -> tuple[bool | None, float | None, str]:
        """Whether the process there answers (None: not asked yet), since when, what is wrong."""
        if address in self._unasked or address not in self._watched:
            return None, None, ""
        problem = self._problems.get(address, "")
        return not problem, self._since.get(address), problem

    def poke(self) -> None:
        """Ask at once: a client's hello named somebody who has no listener."""
        if self._topology.grows:
            self.hurry()

    def hurry(self) -> None:
        """Ask at once: something may have changed."""
        self._poked.set()
        self._poked = trio.Event()

    def retarget(self) -> None:
        """There are other seeds than before."""
        if self._nursery is not None:
            targets = set(self._topology.targets())
            self._unasked = (self._unasked & targets) | (targets - self._watched.keys())
            self._watch_targets(self._nursery)
            self._changed.set()

    def look(self) -> None:
        """There is somebody else to ask."""
        self._changed.set()

    async def await_asked(self, address: Address) -> None:
        """Return when it is known what stands at an address that is to be asked, or that nobody
        answers there."""
        if address in self._watched and address not in self._unasked:
            return
        asked = self._outcomes.setdefault(address, trio.Event())
        with trio.move_on_after(self._settings.connect_seconds):
            await asked.wait()

    async def run(self) -> None:
        """Watch until cancelled."""
        self._unasked = set(self._topology.targets())
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._watch_targets(nursery)
            if self._topology.settles:
                await self._answered.wait()
                with trio.move_on_after(SETTLE_SECONDS):
                    await self._settled.wait()
            while True:
                self._changed = trio.Event()
                self._watch_targets(nursery)
                await self._reconcile()
                self._show()
                self._ready.set()
                await self._changed.wait()

    def _watch_targets(self, nursery: trio.Nursery) -> None:
        targets = self._topology.targets()
        for gone in self._watched.keys() - set(targets):
            self._watched.pop(gone).cancel()
            self._unasked.discard(gone)
            self._told(gone)
            self._problems.pop(gone, None)
            self._since.pop(gone, None)
        for target in targets:
            if target not in self._watched:
                self._unasked.add(target)
                self._watched[target] = trio.CancelScope()
                nursery.start_soon(self._watch, target, self._watched[target])

    def _show(self) -> None:
        topology = self._topology
        shown = (topology.kind, topology.members(), topology.primary)
        if shown != self._shown and (topology.settles or topology.kind != "unknown"):
            self._shown = shown
            self._log.info(
                "topology",
                kind=topology.kind,
                members=[str(member) for member in topology.members()],
                primary=str(topology.primary) if topology.primary else None,
            )

    async def _watch(self, address: Address, scope: trio.CancelScope) -> None:
        failures = 0
        link = self._ways.link(address)
        with scope:
            try:
                while True:
                    asked = trio.current_time()
                    poked = self._poked
                    problem = await self._ask(link)
                    failures = failures + 1 if problem else 0
                    self._note(address, problem)
                    interval = self._settings.watch_seconds
                    pause = min(interval, _SOONEST)
                    if failures:
                        interval = min(interval, _FIRST_RETRY * 2 ** min(failures - 1, 16))
                        pause = min(pause, interval)
                    with trio.move_on_after(interval):
                        await poked.wait()
                    await trio.sleep_until(asked + pause)
            finally:
                link.close()

    async def _ask(self, link: Link) -> str:
        """One hello; returns what is wrong, "" for nothing."""
        problem = ""
        try:
            with trio.fail_after(self._settings.connect_seconds):
                anew = not link.connected
                hello = await link.hello()
                if anew:
                    self._ways.heard(link.address, hello)
                if hello.get("code") == RATE_LIMITED:
                    # It is there, and has other things to do: what was known of it stays.
                    return ""
                if self._upstreams is not None and hello.get("ok") == 1:
                    versioned = link.needs_api_version
                    self._upstreams.hello(link.address, hello, needs_api_version=versioned)
                    if not link.probed:
                        answers = *await link.probe(), process_of(hello)
                        self._upstreams.probed(link.address, *answers)
                        self._upstreams.told_lifetime(link.address, await link.lifetime())
        except trio.TooSlowError:
            problem = "no answer in time"
        except (PeerGoneError, WireError, BSONError, RecursionError) as error:
            # Whom it is about is said wherever it is shown.
            problem = str(error).removeprefix(f"{link.address}: ") or type(error).__name__
        else:
            return self._topology.observe(link.address, hello, trio.current_time())
        link.close()
        self._topology.failed(link.address)
        return problem

    def _told(self, address: Address) -> None:
        if (waits := self._outcomes.pop(address, None)) is not None:
            waits.set()

    def _note(self, address: Address, problem: str) -> None:
        known = self._problems.get(address, "")
        if problem and problem != known:
            self._log.warning("member", upstream=str(address), problem=problem)
        elif known and not problem:
            self._log.info("member", upstream=str(address), problem=None)
        if bool(problem) is not bool(known) or address not in self._since:
            self._since[address] = trio.current_time()
        if problem:
            self._problems[address] = problem
        else:
            self._problems.pop(address, None)
        self._unasked.discard(address)
        self._told(address)
        if not self._unasked:
            self._settled.set()
        if self._topology.kind != "unknown":
            self._answered.set()
        self._changed.set()

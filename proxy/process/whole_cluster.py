"""A cluster as the supervisor of several workers has it: all sessions and listeners, no clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from proxy.listing.slices import in_slices
from proxy.net.crowds import Gathered
from proxy.observe.labels import Incident
from proxy.process.calm import NOBODY, Seen, let_go_in_calm
from proxy.process.cluster import Cluster
from proxy.process.draining import CALM, LONGEST_REST
from proxy.process.links import HandedListeners, Link, RemoteAsker
from proxy.process.naming import WholeNaming
from proxy.process.worker_cluster import SUMMED
from proxy.session.hub import Hub
from proxy.session.known import SharedUsers
from proxy.session.telling import acts_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.addresses import Address
    from proxy.net.crowds import Group
    from proxy.net.listeners import Listener
    from proxy.process.common import Common
    from proxy.process.reads import Origins
    from proxy.session.counts import Counts, Told
    from proxy.session.ids import Origin
    from proxy.session.known import User
    from proxy.session.records import InFlight
    from proxy.session.telling import Told as News
    from proxy.settings.config import Config


#: Seconds until a worker that could not take a listener is given it again.
_AGAIN: Final = 1.0

#: Seconds that workers may take for what they have not told yet, where an operator waits for it.
_CATCHING_UP: Final = 1.0


class Workers(Protocol):
    """The workers of a supervisor. What is said goes to all that listen."""

    @property
    def services(self) -> trio.Nursery:
        """For what goes on behind an answer."""

    def hurry(self) -> None:
        """There is news that has to be told at once."""

    def any_ready(self) -> bool:
        """Whether one can have clients."""

    def tell(self, what: str, *arguments: object, but: Link | None = None) -> None:
        """Tell all workers that listen, ``but`` one."""

    async def ask_each(self, what: str, *arguments: object) -> list[tuple[Link, Any]]:
        """What they answer, and who has answered."""

    async def ask_whose(self, connection: int, what: str, *arguments: object) -> Any:  # noqa: ANN401
        """What whoever has a connection of this number answers; None for no answer."""

    def links(self) -> Iterable[Link]:
        """All that run."""

    def counts(self, cluster: str) -> list[Told]:
        """What they have counted of a cluster's sessions, those that are gone included."""

    def named(self) -> None:
        """Other namespaces have names from now on."""

    def end_operation(self, operation: InFlight) -> None:
        """Have whoever has its connection end an operation."""

    def tell_whose(self, operation: InFlight, what: str, *arguments: object) -> None:
        """Tell whoever has its connection."""


class WholeCluster(Cluster):
    """What is known of a cluster in all processes."""

    def __init__(self, common: Common, name: str, config: Config, workers: Workers) -> None:
        self._workers = workers
        self._crowds = Gathered()
        #: When requests go on in the first worker, unless it is looked again.
        self._rest_lasts = 0.0
        super().__init__(common, name, config)

    # ------------------------------------------------------------------ what it does otherwise

    def _make_naming(self, most: int) -> WholeNaming:
        self.whole_naming = WholeNaming(self.telemetry, most, self._tell_names)
        return self.whole_naming

    def _tell_names(self, names: Sequence[str]) -> None:
        self._workers.tell("namespaces", self.name, names)
        self._workers.named()

    def _make_store(self) -> Hub:
        sessions = self.config.sessions
        self.hub = Hub(max_sessions=sessions.max_sessions, max_cursors=sessions.max_cursors)
        self.hub.hurry = self._workers.hurry
        return self.hub

    def _make_known(self) -> SharedUsers:
        self._users = SharedUsers()
        return self._users

    def _make_listeners(self) -> HandedListeners:
        made = self._handed = self._listeners_of(HandedListeners)
        made.hand = self._hand
        made.withdraw = self._withdraw
        return made

    def _owns(self, _connection: int) -> bool:
        return False

    def counts(self) -> Counts:
        return self.hub.whole_counts(self._workers.counts(self.name))

    def ready(self) -> tuple[bool, str]:
        return super().ready() if self._workers.any_ready() else (False, "no worker is ready")

    def end_operation(self, operation: InFlight) -> None:
        self._workers.end_operation(operation)

    async def catch_up(self) -> bool:
        with trio.move_on_after(_CATCHING_UP):
            # What they say first arrives before their answers.
            await self._workers.ask_each("catch up")
        return True

    async def connection(self, number: int) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._of(number, "connection", number)
        return found

    async def interrupt(self, number: int, request_id: int) -> bool:
        return bool(await self._of(number, "interrupt", number, request_id))

    async def hang_up(self, number: int) -> bool:
        return bool(await self._of(number, "hang up", number))

    async def _of(self, number: int, what: str, *arguments: object) -> Any:  # noqa: ANN401
        """What the worker that has the connection of this number answers; None where none does."""
        return await self._workers.ask_whose(number, what, self.name, *arguments)

    async def connection_rows(self) -> list[dict[str, Any]]:
        answers = await self._workers.ask_each("connection rows", self.name)
        return [row for _, rows in answers for row in rows]

    async def connections_by_upstream(self) -> Mapping[str, int]:
        found: Counter[str] = Counter()
        for _, counted in await self._workers.ask_each("connections by upstream", self.name):
            found.update(counted)
        return found

    async def askers(self) -> Mapping[str, Mapping[bytes, Sequence[RemoteAsker]]]:
        services = self._workers.services
        found: dict[str, dict[bytes, list[RemoteAsker]]] = {}
        for link, answer in await self._workers.ask_each("askers", self.name):
            for upstream, owners in answer.items():
                for owner, connections in owners.items():
                    found.setdefault(upstream, {}).setdefault(owner, []).extend(
                        RemoteAsker(services, link, number, speaks)
                        for number, speaks in connections
                    )
        return found

    # ------------------------------------------------------------------ draining

    async def let_go_in_calm(self) -> None:
        """As :func:`proxy.process.calm.let_go_in_calm`, for the connections of all workers."""
        end = trio.current_time() + self.config.limits.drain_seconds * CALM
        await let_go_in_calm(self, self.hub, end)

    async def look(self, resting: Origins) -> Seen | None:
        self._rest_lasts = trio.current_time() + LONGEST_REST
        answers = await self._workers.ask_each("look", self.name, resting)
        answered = {link for link, _ in answers}
        silent = any(link.serves and link not in answered for link in self._workers.links())
        if not answers and not silent:
            return None
        seen = [one for _, one in answers]
        greeting: dict[Origin | None, tuple[float, int]] = {}
        watching: dict[Origin | None, int] = {}
        for one in seen:
            for origin, (latest, waiting) in one.greeting.items():
                before, others = greeting.get(origin, NOBODY)
                greeting[origin] = max(before, latest), others + waiting
            for origin, waiting in one.watching.items():
                watching[origin] = watching.get(origin, 0) + waiting
        whole = not silent and trio.current_time() <= self._rest_lasts
        return Seen(watching, greeting, max((one.seconds for one in seen), default=0.0), whole)

    async def let_go(self, origins: Origins) -> None:
        await self._workers.ask_each("let go", self.name, origins, self._rest_lasts)

    # ------------------------------------------------------------------ telling

    def pass_on(self) -> None:
        """Tell everybody what operators have done, and what should be known soon."""
        while told := self.hub.news():
            said = acts_of(told)._replace(closed=told.closed)
            self._workers.tell("sessions", self.name, said)

    def pass_on_some(self) -> bool:
        """Tell a part of what need not be told at once; whether there was any."""
        told = self.hub.sometime()
        if told:
            self._workers.tell("sessions", self.name, told)
        return bool(told)

    async def introduce(self, link: Link) -> None:
        """Tell a worker all there is to know."""
        if self._srv is not None:
            link.channel.tell("seeds", self.name, self.seeds, self._found_set)
        for told in self.hub.all_news():
            link.channel.tell("sessions", self.name, told)
            await link.channel.room()
            await trio.lowlevel.checkpoint()
        self._tell_crowds_to(link, self._crowds.groups())
        link.channel.tell("namespaces", self.name, self.naming.top.names)
        for some in in_slices(self._users.everybody()):
            link.channel.tell("users", self.name, some)
            await link.channel.room()

    async def gather_incidents(self) -> None:
        """Have those of all workers where incidents are looked for."""
        own = self.telemetry.session_incidents, self.telemetry.rule_incidents
        found: list[tuple[float, int, tuple[str, ...]]] = []
        for link, (answer, accounts) in await self._workers.ask_each("incidents", self.name):
            self.telemetry.refusals.hear(link.slot, accounts)
            for number, recent in enumerate(answer):
                found += [(when, number, who) for who, when in recent]
        for when, number, who in sorted(found):
            own[number].note(Incident(*who), when)

    def add_up(self, counted: Sequence[Mapping[str, int]]) -> None:
        """What each store counts for itself, this whole one shows."""
        for name in SUMMED:
            setattr(self.hub, name, sum(one[name] for one in counted))

    def give_listeners(self, link: Link) -> None:
        """Have a worker accept on whatever is accepted on by now."""
        for listener in self._handed.accepting():
            self._give(link, listener)

    def _hand(self, listener: Listener) -> None:
        for link in self._workers.links():
            if link.ready.is_set():
                self._give(link, listener)

    def _give(self, link: Link, listener: Listener) -> None:
        where = listener.upstream, listener.address
        link.channel.tell("listener", self.name, *where, sockets=listener.sockets)

    async def give_again(self, link: Link, upstream: Address) -> None:
        """A worker had no descriptors for a member's listener: it may have them by now."""
        await trio.sleep(_AGAIN)
        for listener in self._handed.accepting():
            if listener.upstream == upstream and not link.channel.closed:
                self._give(link, listener)

    def follow(self, seeds: tuple[Address, ...], replica_set: str | None = None) -> None:
        super().follow(seeds, replica_set)
        self._workers.tell("seeds", self.name, seeds, self._found_set)

    def displaced(self, upstream: Address) -> None:
        self._workers.tell("displaced", self.name, upstream)

    def _withdraw(self, upstream: Address) -> None:
        self._workers.tell("no listener", self.name, upstream)

    # ------------------------------------------------------------------ being told

    def heard_sessions(self, link: Link, told: News) -> None:
        """A worker tells what has happened to sessions."""
        passed = self.hub.heard(told, link.slot)
        met, self.hub.met = self.hub.met, []
        for key, place, *suspicion in met:
            self._workers.tell_whose(place, "met", self.name, key, tuple(place), *suspicion)
        if passed:
            self._workers.tell("sessions", self.name, passed, but=link)
        if passed.acts:
            link.channel.tell("sessions", self.name, acts_of(passed))

    def heard_crowds(self, link: Link, told: dict[Group, int]) -> None:
        """A worker tells how many connections addresses and users have in use there."""
        self._crowds.heard(link.slot, told)
        self._tell_crowds(list(told), link)

    def lost(self, slot: int) -> int:
        """The worker in this place is gone; how many operations were lost with it."""
        self._tell_crowds(self._crowds.gone(slot))
        return self.hub.gone(slot, trio.current_time())

    def _tell_crowds(self, groups: list[Group], but: Link | None = None) -> None:
        for link in self._workers.links():
            if link.hears and link is not but:
                self._tell_crowds_to(link, groups)

    def _tell_crowds_to(self, link: Link, groups: list[Group]) -> None:
        for some in self._crowds.without(link.slot, groups):
            link.channel.tell("crowds", self.name, some)

    def look_again(self, link: Link) -> None:
        """Upstream has ended connections of a worker's."""
        self.watcher.hurry()
        self._workers.tell("look again", self.name, but=link)

    def heard_users(self, link: Link, told: list[User]) -> None:
        """A worker tells what users may do."""
        self._users.take_in(told)
        self._workers.tell("users", self.name, told, but=link)

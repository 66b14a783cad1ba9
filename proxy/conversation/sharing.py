"""What all connections to a cluster share in this process: sessions, rules, and who is told."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from proxy.conversation.recorder import Recorder  # noqa: TC001 - a field's, see test_compiled
from proxy.conversation.rule import Rules  # noqa: TC001 - as that
from proxy.conversation.said import Sayings
from proxy.session.identity import Identities
from proxy.session.known import KnownUsers
from proxy.session.store import SessionStore


def _random() -> bytes:
    return os.urandom(16)


def _no_clock() -> float:
    # Nothing here reads a clock: it is handed in.
    return 0.0


@dataclass(slots=True)
class Sessions:
    """What all connections of a process share. ``rules`` may be replaced at any time."""

    rules: Rules
    recorder: Recorder
    store: SessionStore = field(default_factory=SessionStore)
    known: KnownUsers = field(default_factory=KnownUsers)
    identities: Identities = field(default_factory=Identities)
    sayings: Sayings = field(default_factory=Sayings)
    #: Off: ordinary requests are neither judged nor tracked. Session control always is.
    enabled: bool = True
    #: Refuse here what upstream would refuse itself, in the words of a server 4.2.
    refuse_early: bool = False
    #: Say in errors that the proxy refused, where upstream would not have said the same.
    sign_refusals: bool = True
    random: Callable[[], bytes] = _random
    #: Seconds since 1970.
    wall_clock: Callable[[], float] = _no_clock
    #: What is still to be noted of kills whose connections are over; somebody has to go on with it.
    unfinished: deque[Iterator[None]] = field(default_factory=deque)

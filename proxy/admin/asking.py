"""One question to upstream as the owner of a session, on whichever connection can put it now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from proxy.session.identity import EVERYBODY, NO_OWNER

if TYPE_CHECKING:
    from proxy.admin.kill import Asker, Reach
    from proxy.wire.replies import Reply

#: Seconds that upstream may take for the answer, and connections that are asked for it.
_PATIENCE: Final = 5.0
_MOST_SILENT: Final = 2
#: How often, and how many seconds apart, a connection of the owner's is looked for.
_TRIES: Final = 20
_BETWEEN: Final = 0.05


class UnreachableError(Exception):
    """No connection can ask, or upstream does not answer; the text says which."""


async def can_ask(reach: Reach, upstream: str, owner: bytes) -> bool:
    """Whether a connection is there that could ask now."""
    return await _asker(reach, upstream, owner, []) is not None


async def ask_for(
    reach: Reach,
    upstream: str,
    owner: bytes,
    question: Callable[[bytes], bytes],
    tries: int = _TRIES,
) -> Reply:
    """What the process at ``upstream`` (an address) answers to a command (BSON) that
    ``question`` makes of the digest of whoever asks: ``owner``, or who may do it in their stead.

    Raises:
        UnreachableError: nobody can ask, or there is no answer.
    """
    silent: list[Asker] = []
    while tries and len(silent) < _MOST_SILENT:
        found = await _asker(reach, upstream, owner, silent)
        if found is None:
            tries -= 1
            await trio.sleep(_BETWEEN)
            continue
        asker, speaks = found
        answered = trio.Event()
        answers: list[Reply] = []

        def take(
            reply: Reply, _now: float, to: list[Reply] = answers, done: trio.Event = answered
        ) -> None:
            to.append(reply)
            done.set()

        asker.ask(question(speaks), take)
        with trio.move_on_after(_PATIENCE):
            await answered.wait()
        if answers:
            return answers[0]
        silent.append(asker)
    if silent:
        raise UnreachableError("no answer from upstream")
    raise UnreachableError("its owner has no idle connection, and nobody else may")


async def _asker(
    reach: Reach, upstream: str, owner: bytes, but: list[Asker]
) -> tuple[Asker, bytes] | None:
    """Who can ask now, and as whom."""
    uid = NO_OWNER if reach.facts(upstream).authorization is False else owner
    there = (await reach.askers()).get(upstream, {})
    for one in there.get(uid, ()):
        if one not in but and one.speaks_for == uid:
            return one, uid
    for one in there.get(EVERYBODY, ()):
        speaks = one.speaks_for
        if one not in but and speaks is not None:
            return one, speaks
    return None

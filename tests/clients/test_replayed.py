"""Recorded conversations through the proxy: every byte of both directions is compared."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from proxy.process.server import serve
from proxy.settings.config import Config
from proxy.wire.checksum import checksum_matches
from proxy.wire.opcodes import CHECKSUM_PRESENT, HEADER
from tests.patience import PATIENCE
from tests.replay import (
    Exchange,
    Recording,
    ReplayUpstream,
    command,
    document,
    in_pieces,
    play_all,
)

RECORDINGS = Recording.load_all()
#: Which user each recording logs in, as connectionStatus would tell it.
USERS = {"pymongo-mongos": ("root", "admin"), "go": None}


#: What the proxy decides itself: it asks upstream in its own words, and passes the answer on.
CONTROL = {
    "startSession", "refreshSessions", "endSessions", "killSessions", "killAllSessions",
    "killAllSessionsByPattern",
}  # fmt: skip


@pytest.fixture(params=RECORDINGS, ids=lambda recording: recording.name)
def recording(request):
    return request.param


@asynccontextmanager
async def between(recording: Recording, *, hello: str = "rewrite", hang_up: bool = False):
    """A replaying upstream with the proxy in front of it, and how to connect to the proxy."""
    user = USERS.get(recording.name, ("alice", "app"))
    upstream = ReplayUpstream(recording, users=[user] if user else [], hang_up=hang_up)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve)
        settings = {
            "listen": {"address": "127.0.0.1:0"},
            "upstream": {"address": f"127.0.0.1:{port}", "hello": hello},
            "admin": {"address": ""},
        }
        running = await nursery.start(serve, Config.model_validate(settings))
        proxy_port = int(running.addresses[0].rpartition(":")[2])

        async def connect():
            return await trio.open_tcp_stream("127.0.0.1", proxy_port)

        yield upstream, proxy_port, connect
        with trio.fail_after(PATIENCE):
            for exchange in upstream.exchanges.values():
                await exchange.end.wait()
        nursery.cancel_scope.cancel()


def same_request(recorded: bytes, seen: bytes) -> bool:
    """Every byte, but for session control: there the same sessions, without an lsid in a kill."""
    name = command(recorded)
    if name not in CONTROL:
        return recorded == seen
    asked, carried_out = document(recorded), document(seen)
    ids = asked.pop(name)
    if name == "startSession":
        # The id is the proxy's own; upstream learns of it as it would of any session's use.
        return carried_out.pop("refreshSessions") is not None and asked == carried_out
    if name.startswith("kill"):
        asked.pop("lsid")
    return carried_out.pop(name) == ids and asked == carried_out


def same_reply(control: set[bytes], recorded: bytes, seen: bytes) -> bool:
    """Every byte, but for session control: there the document, in the same form of message."""
    if recorded not in control:
        return recorded == seen
    told, heard = document(recorded), document(seen)
    if "id" in told:
        del told["id"], heard["id"]
    (length, _, *form), flags = HEADER.unpack_from(recorded), recorded[16:20]
    (seen_length, _, *seen_form), seen_flags = HEADER.unpack_from(seen), seen[16:20]
    if flags[0] & CHECKSUM_PRESENT and not checksum_matches(seen):
        return False
    return (told, length, form, flags) == (heard, seen_length, seen_form, seen_flags)


def check(
    upstream: ReplayUpstream, seen: dict[int, Exchange], port: int, *, rewritten: bool = True
) -> None:
    told = upstream.recording.moved(port) if rewritten else upstream.recording
    logins = decisions = 0
    for conn, steps in told.connections.items():
        assert upstream.exchanges[conn].differences(same_request) == [], f"requests of {conn}"
        replies = Exchange([reply for step in steps for reply in step.replies], seen[conn].seen)
        control = {
            reply for step in steps if command(step.request) in CONTROL for reply in step.replies
        }
        assert replies.differences(partial(same_reply, control)) == [], f"replies of {conn}"
        logins += sum(command(step.request) == "saslStart" for step in steps)
        decisions += sum(command(step.request) in CONTROL for step in steps)
    # Who the caller is was asked after each login, and again where something depends on it.
    assert logins <= len(upstream.injected) <= logins + decisions


@pytest.mark.parametrize(
    "how",
    [{}, {"pieces": in_pieces(17)}, {"pipelined": True}],
    ids=["whole", "split", "pipelined"],
)
async def test_every_byte_arrives_as_it_was_sent(recording, how):
    async with between(recording) as (upstream, port, connect):
        seen = await play_all(upstream.recording, connect, **how)
    check(upstream, seen, port)


async def test_hello_can_be_left_alone(recording):
    async with between(recording, hello="pass") as (upstream, port, connect):
        seen = await play_all(upstream.recording, connect)
    check(upstream, seen, port, rewritten=False)


async def test_an_upstream_that_hangs_up_is_passed_on_after_its_last_reply(recording):
    async with between(recording, hang_up=True) as (upstream, port, connect):
        seen = await play_all(upstream.recording, connect, await_end=True)
    check(upstream, seen, port)
    assert all(exchange.ended for exchange in seen.values())

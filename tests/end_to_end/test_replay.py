"""The replay tool agrees with its own recordings, and notices when something is off."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from tests import replay
from tests.replay import Recording, ReplayUpstream, in_pieces, play, play_all

RECORDINGS = Recording.load_all()


@pytest.fixture(params=RECORDINGS, ids=lambda recording: recording.name)
def recording(request):
    return request.param


def in_memory(upstream: ReplayUpstream, nursery: trio.Nursery):
    async def connect():
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(upstream.handle, theirs)
        return ours

    return connect


def test_every_frame_of_the_files_is_in_the_recording(recording):
    text = (replay.STREAMS / f"{recording.name}.jsonl").read_text()
    steps = [step for steps in recording.connections.values() for step in steps]
    assert len(steps) == text.count('"request", "frame"')
    assert sum(len(step.replies) for step in steps) == text.count('"reply", "frame"')


@pytest.mark.parametrize(
    "how",
    [{}, {"pieces": in_pieces(13)}, {"pipelined": True}],
    ids=["whole", "split", "pipelined"],
)
async def test_without_a_proxy_nothing_differs(recording, how, nursery):
    upstream = ReplayUpstream(recording)
    seen = await play_all(recording, in_memory(upstream, nursery), **how)
    await trio.testing.wait_all_tasks_blocked()
    for exchange in (*seen.values(), *upstream.exchanges.values()):
        assert exchange.differences() == []
    assert all(exchange.ended for exchange in upstream.exchanges.values())
    assert upstream.injected == upstream.strangers == []


async def test_an_upstream_that_hangs_up_is_seen_to(recording, nursery):
    upstream = ReplayUpstream(recording, hang_up=True)
    seen = await play_all(recording, in_memory(upstream, nursery), await_end=True)
    assert all(exchange.ended and not exchange.differences() for exchange in seen.values())


async def test_a_changed_a_missing_and_an_additional_frame_are_told(nursery):
    recording = Recording.load(replay.STREAMS / "go.jsonl")
    steps = recording.connections[1]
    changed = bytearray(steps[3].request)
    changed[-2] ^= 1
    steps = [*steps[:3], replay.Step(bytes(changed), steps[3].replies), *steps[4:6]]
    upstream = ReplayUpstream(recording)
    await play(await in_memory(upstream, nursery)(), steps)
    await trio.testing.wait_all_tasks_blocked()
    first, *missing = upstream.exchanges[1].differences()
    assert first.startswith("frame 3: recorded")
    assert len(missing) == len(recording.connections[1]) - len(steps)

    more = ReplayUpstream(Recording("short", {1: recording.connections[1][:2]}))
    extra = [*recording.connections[1][:2], replay.Step(recording.connections[1][2].request)]
    await play(await in_memory(more, nursery)(), extra)
    await trio.testing.wait_all_tasks_blocked()
    assert [d.split(":")[0] for d in more.exchanges[1].differences()] == ["too many"]


async def test_questions_that_are_not_recorded_are_answered_beside_the_recording(nursery):
    recording = Recording.load(replay.STREAMS / "pymongo-scram256.jsonl")
    upstream = ReplayUpstream(recording, users=[("alice", "app")])
    steps = list(recording.connections[2])
    asked = replay.op_msg(77, 0, {"connectionStatus": 1, "showPrivileges": True, "$db": "admin"})
    info = {
        "authenticatedUsers": [{"user": "alice", "db": "app"}],
        "authenticatedUserRoles": [],
        "authenticatedUserPrivileges": [],
    }
    told = replay.op_msg(1, 77, {"authInfo": info, "ok": 1.0})
    steps.insert(4, replay.Step(asked, [told]))
    client = await play(await in_memory(upstream, nursery)(), steps)
    await trio.testing.wait_all_tasks_blocked()
    assert client.differences() == upstream.exchanges[2].differences() == []
    assert upstream.injected == [asked]


async def test_unknown_connections_get_hello(nursery):
    recording = Recording.load(replay.STREAMS / "node.jsonl")
    upstream = ReplayUpstream(recording)
    port = await nursery.start(partial(upstream.serve, "127.0.0.1", 0))
    frames = replay.FrameStream(await trio.open_tcp_stream("127.0.0.1", port))
    async with frames.stream:
        await frames.send(replay.op_msg(9_000, 0, {"isMaster": 1, "$db": "admin"}))
        reply = await frames.receive()
    assert reply is not None
    assert replay.document(reply)["setName"] == "ra0"
    assert len(upstream.strangers) == 1
    nursery.cancel_scope.cancel()

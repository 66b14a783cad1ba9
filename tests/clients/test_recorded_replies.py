"""What a real server answered, through the proxy: every request and reply that is not session
control arrives byte for byte, however malformed its session fields are."""

from __future__ import annotations

import pytest

from tests.clients.test_replayed import CONTROL, between
from tests.replay import Exchange, Recording, Step, op_msg, play_all
from tests.transcripts import load, names

#: Refused before they reach the server, which two of them would end.
REFUSED = {"stmtIds descending", "stmtIds negative", "stmtId negative", "stmtIds duplicate"}


def conversation(name: str) -> Recording:
    """A transcript as one connection of frames; what is decided by the proxy is left out."""
    transcript = load(name)
    steps = [Step(op_msg(1, 0, {"isMaster": 1, "$db": "admin"}), [op_msg(1, 1, transcript.hello)])]
    for number, probe in enumerate(transcript.probes, start=10):
        decided = next(iter(probe.request)) in CONTROL or probe.name in REFUSED
        if decided or "$closed" in probe.reply:
            continue
        request = {**probe.request, "$db": probe.database}
        reply = op_msg(100_000 + number, number, probe.reply)
        steps.append(Step(op_msg(number, 0, request), [reply]))
    return Recording(name, {1: steps})


@pytest.mark.parametrize("name", names())
async def test_replies_of_a_real_server_arrive_as_they_are(name):
    recording = conversation(name)
    async with between(recording, hello="pass") as (upstream, _, connect):
        seen = await play_all(recording, connect)
    assert upstream.exchanges[1].differences() == []
    steps = upstream.recording.connections[1]
    replies = [reply for step in steps for reply in step.replies]
    assert Exchange(replies, seen[1].seen).differences() == []
    assert len(replies) > 200

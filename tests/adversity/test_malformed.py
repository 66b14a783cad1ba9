"""Everything that can be wrong with a message, sent through the running proxy.

A difference between an upstream reached directly and the same one behind the proxy is a defect,
and whatever one client sends, fifty others must not notice.
"""

from __future__ import annotations

from typing import Any

import bson
import pytest
import trio

from proxy.embedded import EmbeddedUpstream
from proxy.wire.compression import deflate
from proxy.wire.opcodes import HEADER, MORE_TO_COME, OP_MSG
from tests.malformed import ALL, Malformed
from tests.patience import PATIENCE
from tests.running import Client, bystanding, ping, proxied, recording
from tests.upstreams import document

#: What replies have that no two of them share.
VOLATILE = ("$clusterTime", "operationTime", "localTime", "connectionId", "topologyVersion")

#: Whether a frame is left unfinished by its declared length, so that only a deadline ends it.
UNFINISHED = [m for m in ALL if m.reading == "framing" and HEADER.unpack_from(m.frame)[0] > 0]


def unacknowledged(malformed: Malformed) -> bytes | None:
    """The same with moreToCome; None where there is no such thing."""
    frame = malformed.frame
    if malformed.reading == "framing" or HEADER.unpack_from(frame)[3] != OP_MSG or len(frame) < 20:
        return None
    return frame[:16] + bytes([frame[16] | MORE_TO_COME]) + frame[17:]


async def test_a_recording_upstream_gets_it_untouched_or_not_at_all():
    with trio.fail_after(PATIENCE):
        async with recording() as (upstream, running), bystanding(running) as others:
            for number, malformed in enumerate(ALL):
                client = await Client.connect(running)
                mark = f"before {number}"
                await client.ping(mark)
                seen = upstream.with_mark(mark)
                await client.send(malformed.frame + ping(f"behind {number}", 7))
                if malformed.reading in ("framing", "wire"):
                    assert await client.receive() is None, malformed.name
                    await seen.ended.wait()
                    assert len(seen.frames) == 1, malformed.name
                else:
                    answer = await client.receive()
                    assert answer is not None, malformed.name
                    behind = await client.receive()
                    assert behind is not None, malformed.name
                    assert document(behind)["echo"] == f"behind {number}", malformed.name
                    assert seen.frames[1] == malformed.frame, malformed.name
                await client.close()
                if number % 10 == 0:
                    await others.go_on()


async def test_what_is_unacknowledged_has_no_reply_and_disturbs_none():
    with trio.fail_after(PATIENCE):
        async with recording() as (upstream, running), bystanding(running) as others:
            for number, malformed in enumerate(ALL):
                silent = unacknowledged(malformed)
                if silent is None or malformed.reading == "wire":
                    continue
                for compressor in (None, 1, 2, 3):
                    frame = silent if compressor is None else deflate(silent, compressor)
                    client = await Client.connect(running)
                    mark = f"{number} {compressor}"
                    await client.send(frame)
                    await client.ping(mark)
                    assert upstream.with_mark(mark).frames[0] == frame, malformed.name
                    await client.close()
                if number % 10 == 0:
                    await others.go_on()


async def outcome(client: Client, frame: bytes) -> Any:
    """What becomes of a frame and of a ping behind it: replies or the end."""
    seen = []
    await client.send(frame)
    for request in (None, ping("behind", 7)):
        if request is not None:
            try:
                await client.send(request)
            except trio.BrokenResourceError:
                return [*seen, "closed"]
        reply = await client.receive()
        if reply is None:
            return [*seen, "closed"]
        value = document(reply) or bson.decode(reply[36:])
        seen.append(
            (
                HEADER.unpack_from(reply)[2:],
                {key: value[key] for key in value if key not in VOLATILE},
            )
        )
    return seen


@pytest.mark.parametrize("authorization", [False, True])
async def test_the_embedded_upstream_judges_as_if_reached_directly(authorization):
    upstream = EmbeddedUpstream(set_name=None, authorization=authorization)
    differences = []
    wrong_codes = []
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(upstream.serve)
            async with proxied(port) as running:
                for malformed in ALL:
                    if malformed in UNFINISHED and malformed.reading != "framing":
                        continue
                    results = []
                    for where in (port, running):
                        client = await Client.connect(where)
                        results.append(await outcome(client, malformed.frame))
                        await client.close()
                    direct, through = results
                    if direct != through:
                        differences.append((malformed.name, direct, through))
                    if malformed.reaction == "code" and direct[0] != "closed":
                        code = direct[0][1].get("code")
                        if code not in malformed.codes:
                            wrong_codes.append((malformed.name, code, malformed.codes))
            nursery.cancel_scope.cancel()
    assert not differences, differences
    assert not wrong_codes, wrong_codes

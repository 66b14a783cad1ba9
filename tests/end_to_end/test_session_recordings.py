"""The recorded replies, mongos' among them, from an upstream that can only repeat them.

The embedded server plays no mongos. Here upstream answers a request, or what the proxy makes of
it, with what was recorded, and the proxy's own questions with ok: what the proxy itself decides
and how it words it has to be the rest.
"""

from __future__ import annotations

from typing import Any

import bson
import pytest

from proxy.conversation.conversation import Conversation
from proxy.conversation.desk import Desk
from proxy.conversation.exchange import Presentation
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.handlers import HANDLERS
from proxy.conversation.sharing import Sessions
from proxy.session.commands import SESSION_COMMANDS
from proxy.settings.rules import RuleTables, make_rules
from proxy.wire.messages import read_request
from proxy.wire.replies import command_frame, read_reply, reply_frame
from tests.end_to_end.test_session_transcripts import DIFFERENT
from tests.talk import Watching
from tests.transcripts import Probe, load, names, normalise

#: mongos differs from alice's replica set only in what is not decided here.
EXPECTED = {**DIFFERENT, "mongos.alice": DIFFERENT["rsauth.alice"]}


class Repeating:
    """A conversation whose upstream repeats a recording."""

    def __init__(self, name: str) -> None:
        transcript = load(name)
        deployment = name.partition(".")[0]
        facts = UpstreamFacts(
            authorization=deployment in ("rsauth", "mongos"),
            has_transactions=deployment != "standalone",
        )
        watching = Watching()
        sessions = Sessions(make_rules(RuleTables()), watching)
        desk = Desk(sessions, 1, "127.0.0.1", "upstream:27017", lambda: facts)
        self.conversation = Conversation(Presentation(), watching, desk, HANDLERS)
        self._status = transcript.probes[0].reply
        self._times = [name for name in self._status if name in ("operationTime", "$clusterTime")]

    def ask(self, probe: Probe) -> dict[str, Any]:
        conversation = self.conversation
        request = command_frame(1, {**probe.request, "$db": probe.database})
        conversation.on_request(request, 0.0)
        while conversation.to_upstream:
            frame = conversation.to_upstream.pop(0)
            asked = read_request(frame)
            document = self._answer(probe, asked.command)
            conversation.on_upstream(reply_frame(asked, 9, document), 0.0)
        (answer,) = conversation.to_client
        conversation.to_client.clear()
        return bson.decode(read_reply(answer).body_bytes())

    def _answer(self, probe: Probe, command: str) -> dict[str, Any]:
        # The recorded reply's times, in the order of the deployment's successes.
        carried = {name: probe.reply[name] for name in self._times if name in probe.reply}
        if command == next(iter(probe.request)):
            return probe.reply
        if command == "connectionStatus":
            return {**{k: v for k, v in self._status.items() if k not in self._times}, **carried}
        return {"ok": 1.0, **carried}


@pytest.mark.parametrize("name", names())
def test_session_control_is_worded_as_recorded(name: str) -> None:
    repeating = Repeating(name)
    different: set[str] = set()
    compared = 0
    for probe in load(name).probes:
        actual = repeating.ask(probe)
        if next(iter(probe.request)) not in SESSION_COMMANDS:
            continue
        compared += 1
        if normalise(actual) != normalise(probe.reply) or list(actual) != list(probe.reply):
            different.add(probe.name)
    assert compared > 100
    assert different <= set(EXPECTED[name])

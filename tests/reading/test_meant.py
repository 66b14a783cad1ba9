"""What a session command does through the proxy is what it means to servers, list by list."""

from __future__ import annotations

from random import Random
from typing import Any

import bson
import pytest
from bson import Binary, Int64

from proxy.conversation.facts import UpstreamFacts
from proxy.session.identity import NO_OWNER, user_digest
from proxy.wire.replies import read_reply
from tests import build
from tests.reading import documents
from tests.reading.comparing import VERSIONS, answer_to
from tests.reading.documents import ARRAY, OBJECT, Broken
from tests.reading.meant import Caller, Differs, Meant, meant
from tests.reading.model import SESSION_CONTROL, read
from tests.reading.mutations import mutate_elements
from tests.talk import Watching, connection_status, converse

_PARTS, _EACH = 10, 500

ALICE = user_digest("alice", "app")
CALLERS = (
    Caller(NO_OWNER, authorization=False, may_all=True),
    Caller(ALICE, authorization=True, may_all=True),
    Caller(ALICE, authorization=True, may_all=False),
)
#: To everything that the proxy asks and sends.
_DONE = {"ok": 1.0, "users": [], "cursor": {"id": Int64(0), "firstBatch": []}}


def _lsid(random: Random) -> dict[str, Any]:
    uid = {"uid": Binary(random.choice((ALICE, bytes(32))))} if random.random() < 0.4 else {}
    child = {"txnUUID": Binary(bytes(16), 4)} if random.random() < 0.05 else {}
    return {"id": Binary(bytes(15) + bytes([random.randrange(3)]), 4), **uid, **child}


def _command(random: Random) -> bytes:
    name = random.choice(sorted(SESSION_CONTROL - {b"startSession"})).decode()
    listed: list[dict[str, Any]] = []
    for _ in range(random.randrange(4)):
        if name == "killAllSessions":
            listed.append({"user": random.choice(("alice", "x", "")), "db": "app"})
        elif name == "killAllSessionsByPattern":
            lsid = {"id": Binary(bytes(16), 4), "uid": Binary(ALICE)}
            listed.append(random.choice(({"uid": Binary(ALICE)}, {"lsid": lsid}, {})))
        else:
            listed.append(_lsid(random))
    argument: Any = listed
    if random.random() < 0.15:
        argument = {str(number): one for number, one in enumerate(listed)}
    command = documents.whole(bson.encode({name: argument, "$db": "admin"}))
    for _ in range(random.randrange(3)):
        first = command[0]
        try:
            inner = documents.whole(first.value)
            mutate_elements(random, inner)
        except Broken:
            break
        kind = random.choice((ARRAY, OBJECT)) if random.random() < 0.1 else first.type
        command[0] = first._replace(type=kind, value=documents.write(inner))
    return build.command(documents.write(command), 5)


def _done(frame: bytes, version: int, caller: Caller) -> Meant | None:
    """What the proxy has carried out upstream, by the model; None where it refuses."""
    facts = UpstreamFacts(
        authorization=caller.authorization, has_transactions=True, wire_version=version
    )
    conversation = converse(Watching(), facts=facts)
    conversation.on_request(frame, 0.0)
    actions = ("killAnySession", "impersonate") if caller.may_all else ()
    status = connection_status(("alice", "app"), actions=actions)
    if not caller.authorization:
        status = connection_status()
    found = []
    while conversation.to_upstream:
        sent = conversation.to_upstream.pop(0)
        command = read(sent, version).command
        if command in SESSION_CONTROL:
            one = meant(sent, version, caller)
            assert one is not None, f"upstream refuses {sent.hex()}"
            found.append(one)
        answer = status if command == b"connectionStatus" else _DONE
        conversation.on_upstream(answer_to(sent, bson.encode(answer)), 0.0)
    [told] = conversation.to_client
    if not read_reply(told).ok():
        return None
    return Meant.of(set().union(*(one.sessions for one in found)))


def _fault(frame: bytes, version: int, caller: Caller) -> str:
    try:
        wanted = meant(frame, version, caller)
    except Differs:
        return ""
    got = _done(frame, version, caller)
    if wanted is None and got is not None and not caller.may_all:
        # Here users may kill their own by every command.
        own = {one[1] if isinstance(one, tuple) else one for one in got.sessions}
        if own == {caller.own}:
            return ""
    return "" if got == wanted else f"{got} where servers mean {wanted}: {frame.hex()}"


@pytest.mark.parametrize("part", range(_PARTS))
def test_what_is_done_is_what_was_meant(part: int) -> None:
    random = Random(part)
    for _ in range(_EACH):
        frame = _command(random)
        version, caller = random.choice(VERSIONS), random.choice(CALLERS)
        assert not _fault(frame, version, caller), f"version {version}, {caller}"


@pytest.mark.parametrize("name", [b"0x0 ", b"0x_0", b"0_0", b" 0", b"0x-0"])
def test_names_that_are_no_numbers_make_no_list(name: bytes) -> None:
    entry = build.element("x", _lsid(Random(1)))
    listed = build.raw_document(entry[:1] + name + entry[2:])
    frame = build.command(
        build.raw_document(b"\4killSessions\0" + listed, build.element("$db", "admin"))
    )
    for version in VERSIONS:
        assert not _fault(frame, version, CALLERS[0])
        assert _done(frame, version, CALLERS[0]) is None

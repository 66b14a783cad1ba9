"""Requests, callers and recorded conversations for the session tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import bson
from bson import json_util

from proxy.session.caller import Caller
from proxy.session.commands import Decision, Facts, decide
from proxy.session.identity import Identity, read_connection_status, user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.info import OperationSessionInfo, read_operation_session_info
from proxy.session.known import KnownUsers
from proxy.session.records import Selection
from proxy.session.store import SessionStore
from proxy.wire.messages import Request, read_request
from proxy.wire.replies import command_frame

TRANSCRIPTS = Path(__file__).parents[1] / "data" / "transcripts"
NAMES = sorted(path.stem for path in TRANSCRIPTS.glob("*.jsonl"))

ALICE = user_digest("alice", "app")
BOB = user_digest("bob", "app")
ID = bytes.fromhex("00000000000040008000000000000002")


def uuid(number: int) -> bytes:
    return bytes.fromhex("0000000000004000800000000000") + number.to_bytes(2, "big")


def lsid(number: int = 2, uid: bytes | None = None) -> dict[str, Any]:
    document: dict[str, Any] = {"id": bson.Binary(uuid(number), 4)}
    if uid is not None:
        document["uid"] = uid
    return document


def request(document: Mapping[str, Any] | bytes, database: str = "admin") -> Request:
    if not isinstance(document, bytes):
        document = {**document, "$db": database}
    return read_request(command_frame(1, document))


def caller(
    *users: str, may: tuple[str, ...] = (), authorization: bool | None = True, **how: Any
) -> Caller:
    names = tuple((name.split("@")[0], name.split("@")[1]) for name in users)
    return Caller.of(Identity(names, (), frozenset(may)), authorization, **how)


NOBODY = caller()
ANYBODY = caller(authorization=False)
AS_ALICE = caller("alice@app")
KILLER = caller("killer@admin", may=("killAnySession",))
IMPERSONATOR = caller("imp@admin", may=("killAnySession", "impersonate"))


def info(document: Mapping[str, Any], who: Caller = AS_ALICE) -> OperationSessionInfo:
    return read_operation_session_info(request(document), who)


def deciding(
    one: Request,
    who: Caller = AS_ALICE,
    store: SessionStore | None = None,
    known: KnownUsers | None = None,
    **how: Any,
) -> Decision:
    facts = Facts(
        who,
        SessionStore() if store is None else store,
        KnownUsers() if known is None else known,
        random=lambda: bytes(range(16)),
        **how,
    )
    return decide(one, read_operation_session_info(one, who), facts)


def selected(store: SessionStore, within: Selection) -> set[LogicalSessionId]:
    """The sessions that a selection means."""
    return {
        one.key
        for one in store.page().sessions
        if within.everything or one.owner.uid in within.uids or one.key in within.keys
    }


@dataclass(frozen=True)
class Probe:
    """One recorded exchange; ``who`` asked."""

    name: str
    request: Request
    reply: dict[str, Any]
    who: Caller

    @property
    def error(self) -> tuple[int, str, str] | None:
        if self.reply["ok"] == 1:
            return None
        return self.reply["code"], self.reply["codeName"], self.reply["errmsg"]


@cache
def recorded(name: str) -> list[Probe]:
    """The exchanges of one file, but for those that ended the connection."""
    return list(_read(name))


def _read(name: str) -> Iterator[Probe]:
    with (TRANSCRIPTS / f"{name}.jsonl").open() as lines:
        records = [
            json_util.loads(line, json_options=json_util.CANONICAL_JSON_OPTIONS) for line in lines
        ]
    identity = read_connection_status(bson.encode(records[1]["reply"]))
    who = Caller.of(identity, not name.endswith(".anonymous"), not name.startswith("standalone"))
    for record in records[1:]:
        if "$closed" not in record["reply"]:
            one = request(record["request"], record["db"])
            yield Probe(record["probe"], one, record["reply"], who)

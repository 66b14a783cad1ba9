"""The recorded conversations, held through the proxy."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.embedded.support import recorded
from tests.embedded.test_transcripts import NAMES, NOT_REPRODUCED, PROBES
from tests.proxied import Proxy
from tests.transcripts import Exchange, Replay, Transcript, load


async def converse(proxy: Proxy, transcript: Transcript, *users: tuple[str, str]) -> list[Exchange]:
    client = proxy.connect()
    for user in users:
        assert client.log_in(*user)["done"]

    async def send(request: dict[str, Any]) -> dict[str, Any]:
        return client.ask(request)

    return await Replay(transcript, send).run()


async def replay(name: str) -> list[Exchange]:
    server, before = recorded(name)
    proxy = Proxy(server)
    for script, users in before:
        await converse(proxy, load(script), *users)
    transcript = load(name)
    return await converse(proxy, transcript, *transcript.users)


OK, BAD_VALUE, AS_RECORDED_BUT_NUMBERS = "ok", "2 (int)", "numbers"

#: What design decides otherwise than the server: (probe, what is answered instead, why).
NEVER_ITS_OWN_VICTIM = {"killSessions its own lsid": OK}
IDS_OF_ANY_OWNER = {
    "killAllSessionsByPattern lsid id only": OK,
    "killAllSessionsByPattern lsid and uid": OK,
}
USERS_MAY_KILL_THEIR_OWN = {
    "killAllSessions alice": OK,
    "killAllSessions alice twice": OK,
    "killAllSessions on app db": OK,
    "killAllSessions with lsid": OK,
    "killAllSessionsByPattern lsid own": OK,
    "killAllSessionsByPattern uid alice": OK,
    "killAllSessionsByPattern on app db": OK,
}
#: Judged whatever else is wrong.
STATEMENT_IDS_BY_THE_MANUAL = {
    "stmtIds descending": BAD_VALUE,
    "stmtIds negative": BAD_VALUE,
    "stmtId negative": BAD_VALUE,
}
#: The refused stmtId never used txnNumber 15, so later writes meet an older number than recorded.
THE_NUMBER_THAT_WAS_REFUSED = {
    "stmtIds ok": AS_RECORDED_BUT_NUMBERS,
    "stmtIds same again": AS_RECORDED_BUT_NUMBERS,
    "stmtIds gap": AS_RECORDED_BUT_NUMBERS,
    "stmtId one": OK,
}
_COMMON = NEVER_ITS_OWN_VICTIM | IDS_OF_ANY_OWNER
_WRITERS = STATEMENT_IDS_BY_THE_MANUAL | THE_NUMBER_THAT_WAS_REFUSED
DIFFERENT = {
    "standalone.anonymous": _COMMON | STATEMENT_IDS_BY_THE_MANUAL,
    "rs.anonymous": _COMMON | _WRITERS,
    "rsauth.alice": _COMMON | USERS_MAY_KILL_THEIR_OWN | _WRITERS,
    "rsauth.killer": _COMMON | STATEMENT_IDS_BY_THE_MANUAL,
    "rsauth.root": _COMMON | _WRITERS,
    "rsauth.two-users": STATEMENT_IDS_BY_THE_MANUAL,
    "rsauth.unauthenticated": STATEMENT_IDS_BY_THE_MANUAL,
    "4.9/standalone.anonymous": IDS_OF_ANY_OWNER | STATEMENT_IDS_BY_THE_MANUAL,
    "4.9/rs.anonymous": IDS_OF_ANY_OWNER | STATEMENT_IDS_BY_THE_MANUAL,
    "4.9/rsauth.alice": IDS_OF_ANY_OWNER | USERS_MAY_KILL_THEIR_OWN | STATEMENT_IDS_BY_THE_MANUAL,
    "4.9/rsauth.killer": IDS_OF_ANY_OWNER | STATEMENT_IDS_BY_THE_MANUAL,
    "4.9/rsauth.root": IDS_OF_ANY_OWNER | STATEMENT_IDS_BY_THE_MANUAL,
}


def outcome(exchange: Exchange) -> str:
    """How a reply that is not the recorded one answers instead."""
    recorded, actual = exchange.recorded, exchange.actual
    if actual["ok"] == "1.0 (float)":
        return OK
    if re.sub(r"\d+", "N", str(actual)) == re.sub(r"\d+", "N", str(recorded)):
        return AS_RECORDED_BUT_NUMBERS
    return str(actual["code"])


@pytest.mark.parametrize("name", NAMES)
async def test_replies_through_the_proxy_are_the_recorded_ones(name: str) -> None:
    exchanges = await replay(name)
    assert len(exchanges) == PROBES
    different = {
        exchange.probe.name: outcome(exchange)
        for exchange in exchanges
        if exchange.recorded != exchange.actual
        and (name, exchange.probe.line) not in NOT_REPRODUCED
    }
    assert different == DIFFERENT[name]

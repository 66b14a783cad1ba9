from __future__ import annotations

import pytest

from proxy.embedded.scram import MECHANISMS, Conversation, credential
from proxy.errors import CommandError
from tests.embedded.support import PASSWORD, scram_final

FIRST = "n=alice,r=nonce"


def conversation(mechanism: str, *, skip: bool = True) -> Conversation:
    stored = credential(mechanism, "alice", PASSWORD)
    return Conversation(mechanism, {"alice": stored}.get, skip)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("skip", [True, False])
def test_the_right_password(mechanism: str, skip: bool) -> None:
    exchange = conversation(mechanism, skip=skip)
    server_first = exchange.step(b"n,," + FIRST.encode()).decode()
    assert server_first.startswith("r=nonce")
    answer = exchange.step(scram_final(mechanism, "alice", FIRST, server_first))
    assert answer.startswith(b"v=")
    assert (exchange.user, exchange.proved, exchange.done) == ("alice", True, skip)
    if not skip:
        assert exchange.step(b"") == b""
        assert exchange.done


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("damage", ["proof", "nonce", "no proof", "garbage", "not base64"])
def test_a_wrong_final_message(mechanism: str, damage: str) -> None:
    exchange = conversation(mechanism)
    server_first = exchange.step(b"n,," + FIRST.encode()).decode()
    final = scram_final(mechanism, "alice", FIRST, server_first)
    broken = {
        "proof": final[:-5] + (b"AAAA=" if final[-5:] != b"AAAA=" else b"BBBB="),
        "nonce": final.replace(b"r=nonce", b"r=other"),
        "no proof": final.rpartition(b",p=")[0],
        "garbage": b"\xff\xfe",
        "not base64": final.rpartition(b",p=")[0] + b",p=***",
    }[damage]
    with pytest.raises(CommandError) as refused:
        exchange.step(broken)
    assert refused.value.code == 18
    assert not exchange.proved
    assert not exchange.done


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"n,,n=bob,r=x",
        b"n,,n=alice",
        b"n,,r=x",
        b"p=tls-unique,,n=alice,r=x",
        b"\xff",
        b"alice",
    ],
)
def test_a_wrong_first_message(payload: bytes) -> None:
    with pytest.raises(CommandError) as refused:
        conversation("SCRAM-SHA-256").step(payload)
    assert refused.value.code == 18


def test_names_are_unescaped() -> None:
    stored = credential("SCRAM-SHA-256", "a,b=c", PASSWORD)
    exchange = Conversation("SCRAM-SHA-256", {"a,b=c": stored}.get, True)
    exchange.step(b"n,,n=a=2Cb=3Dc,r=x")
    assert exchange.user == "a,b=c"


def test_a_finished_exchange_takes_no_more() -> None:
    exchange = conversation("SCRAM-SHA-256")
    server_first = exchange.step(b"n,," + FIRST.encode()).decode()
    final = scram_final("SCRAM-SHA-256", "alice", FIRST, server_first)
    exchange.step(final)
    with pytest.raises(CommandError):
        exchange.step(final)

"""The smaller actions through a real proxy, in front of each kind of upstream."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from proxy.embedded import EmbeddedUser
from proxy.process.server import Running
from proxy.terminal.client import Endpoint
from tests.admin.real import ALICE, TOKEN, with_running
from tests.patience import wait_until

Client = pymongo.MongoClient[Any]


@pytest.mark.parametrize("commands", ["native", "emulated"])
@pytest.mark.parametrize("users", [(ALICE,), ()], ids=["authorization", "no authorization"])
async def test_one_thing_ends_and_all_else_goes_on(
    users: tuple[EmbeddedUser, ...], commands: str
) -> None:
    await with_running(users, _act, users[0] if users else None, commands=commands)


def _act(running: Running, login: EmbeddedUser | None) -> None:
    assert running.admin is not None
    endpoint = Endpoint(running.admin, TOKEN)
    who: dict[str, Any] = {"username": login.name, "password": login.password} if login else {}
    uri = f"mongodb://{running.addresses[0]}/?replicaSet=embedded"
    with (
        Client(uri, appname="victim", **who) as victim,
        Client(uri, appname="bystander", **who) as other,
    ):
        other.shop.command("ping")
        _abort(endpoint, victim, other)
        _interrupt(endpoint, victim)
        _close(endpoint, victim)


def _abort(endpoint: Endpoint, victim: Any, other: Any) -> None:
    with victim.start_session() as session, other.start_session() as survivor:
        for client, used in ((victim, session), (other, survivor)):
            used.start_transaction()
            client.shop.payments.insert_one({"by": "bystander"}, session=used)
        short = str(session.session_id["id"].as_uuid())[:8]
        seen = Endpoint(endpoint.address).post("abort", {"session": short})
        assert (seen["reachable"], seen["transaction"]["txn_number"]) == (True, 1)
        done = endpoint.post("abort", {"session": short, "dry_run": False})
        assert (done["outcome"], done["problem"]) == ("aborted", "")
        assert endpoint.get("summary")["transactions"] == 1
        with pytest.raises(OperationFailure) as caught:
            victim.shop.payments.insert_one({}, session=session)
        assert caught.value.code == 251
        assert (caught.value.details or {})["codeName"] == "NoSuchTransaction"
        assert caught.value.has_error_label("TransientTransactionError")
        session.abort_transaction()
        with session.start_transaction():
            victim.shop.payments.insert_one({"by": "again"}, session=session)
        survivor.commit_transaction()
    assert {one["by"] for one in victim.shop.payments.find()} == {"bystander", "again"}


@contextmanager
def _asleep(endpoint: Endpoint, victim: Any) -> Iterator[tuple[dict[str, Any], list[Exception]]]:
    """The connection on which a command of the victim's lingers, and what comes of it."""
    errors: list[Exception] = []

    def sleep() -> None:
        try:
            victim.admin.command("sleep", millis=600_000)
        except Exception as error:
            errors.append(error)

    def rows() -> Any:
        found = endpoint.get("connections", {"application": "victim", "state": "operation"})
        return [row for row in found["connections"] if row["command"] == "sleep"]

    thread = threading.Thread(target=sleep)
    thread.start()
    wait_until(lambda: bool(rows()))
    yield rows()[0], errors
    thread.join()


def _interrupt(endpoint: Endpoint, victim: Any) -> None:
    with _asleep(endpoint, victim) as (row, errors):
        seen = endpoint.post("interrupt", {"conn": row["conn"]})["connection"]
        assert seen["operation"] == row["operation"]
        sessions = endpoint.get("sessions", {"state": "operation"})["sessions"]
        assert [one["session"] for one in sessions] == [seen["session"]]
        done = endpoint.post("interrupt", {"session": seen["session"][:8], "dry_run": False})
        assert done["outcome"] == "killOp"
    [error] = errors
    assert isinstance(error, OperationFailure)
    assert error.code == 11601
    assert row["conn"] in {one["conn"] for one in endpoint.get("connections")["connections"]}


def _close(endpoint: Endpoint, victim: Any) -> None:
    with _asleep(endpoint, victim) as (row, errors):
        done = endpoint.post("close", {"conn": row["conn"], "dry_run": False})
        assert done["outcome"] == "closed"
    [error] = errors
    assert isinstance(error, AutoReconnect)
    wait_until(
        lambda: (
            row["conn"] not in {one["conn"] for one in endpoint.get("connections")["connections"]}
        )
    )
    victim.shop.command("ping")


async def test_without_another_connection_the_client_is_told_here() -> None:
    await with_running((ALICE,), _alone)


def _alone(running: Running) -> None:
    assert running.admin is not None
    endpoint = Endpoint(running.admin, TOKEN)
    with Client(
        f"mongodb://{running.addresses[0]}/?directConnection=true",
        appname="victim",
        username=ALICE.name,
        password=ALICE.password,
    ) as victim:
        with _asleep(endpoint, victim) as (row, errors):
            wanted = {"conn": row["conn"], "operation": row["operation"], "dry_run": False}
            assert endpoint.post("interrupt", wanted)["outcome"] == "closed"
        [error] = errors
        assert isinstance(error, OperationFailure)
        assert error.code == 11601
        assert list(victim.shop.orders.find()) == []

"""Kills through a real proxy, of a real driver's sessions, in front of each kind of upstream."""

from __future__ import annotations

import json
from typing import Any

import pymongo
import pytest
from bson import Int64
from pymongo.errors import OperationFailure

from proxy.embedded import EmbeddedUser
from proxy.process.server import Running
from proxy.terminal.client import Endpoint
from tests.admin.real import ALICE, TOKEN, with_running

ADMIN = EmbeddedUser("olivia", "admin", "operations", (("clusterAdmin", "admin"),))


@pytest.mark.parametrize("commands", ["native", "emulated"])
@pytest.mark.parametrize("users", [(ALICE,), ()], ids=["authorization", "no authorization"])
async def test_what_is_killed_is_gone_and_what_is_not_goes_on(
    users: tuple[EmbeddedUser, ...], commands: str
) -> None:
    await with_running(users, _kill, *users[:1], commands=commands)


async def test_those_who_have_left_are_reached_through_who_may_kill_for_everybody() -> None:
    await with_running((ALICE, ADMIN), _kill_for_another)


def _kill_for_another(running: Running) -> None:
    assert running.admin is not None
    endpoint = Endpoint(running.admin, TOKEN)
    with _connect(running, "victim", ALICE) as victim:
        victim.shop.orders.insert_many({"_id": number} for number in range(50))
        session = victim.start_session()
        cursor = victim.shop.command("find", "orders", batchSize=5, session=session)["cursor"]["id"]
    pattern = {"patterns": [{"application": "victim"}], "dry_run": False}
    done = endpoint.post("kill", pattern)
    assert (done["killed"], done["unreachable"]) == (0, done["matched"])
    assert endpoint.get("summary")["cursors"] == 1
    with _connect(running, "administration", ADMIN) as admin:
        admin.admin.command("ping")
        done = endpoint.post("kill", pattern)
        assert (done["killed"], done["unreachable"], done["failed"]) == (done["matched"], 0, 0)
    assert endpoint.get("summary")["cursors"] == 0
    with _connect(running, "victim", ALICE) as victim:
        with pytest.raises(OperationFailure) as caught:
            victim.shop.command("getMore", Int64(cursor), collection="orders")
        assert caught.value.code == 43


def _connect(running: Running, application: str, login: EmbeddedUser | None) -> Any:
    who = {"username": login.name, "password": login.password} if login else {}
    address = running.addresses[0]
    return pymongo.MongoClient(
        f"mongodb://{address}/?replicaSet=embedded", appname=application, **who
    )


def _kill(running: Running, login: EmbeddedUser | None = None) -> None:
    assert running.admin is not None
    endpoint = Endpoint(running.admin, TOKEN)
    with (
        _connect(running, "victim", login) as victim,
        _connect(running, "bystander", login) as other,
        victim.start_session() as session,
        other.start_session() as survivor,
    ):
        victim.shop.orders.insert_many({"_id": number} for number in range(50))
        cursors = []
        for client, used in ((victim, session), (other, survivor)):
            used.start_transaction()
            client.shop.payments.insert_one({}, session=used)
            cursor = client.shop.orders.find(batch_size=5, session=used)
            next(cursor)
            cursors.append(cursor)
        pattern = {"patterns": [{"application": "victim"}]}
        preview = endpoint.post("kill", pattern)
        assert (preview["transactions"], preview["cursors"]) == (1, 1)
        assert preview["reachable"] == preview["matched"]
        done = endpoint.post("kill", pattern | {"dry_run": False})
        assert (done["killed"], done["unreachable"], done["failed"]) == (preview["matched"], 0, 0)
        with pytest.raises(OperationFailure):
            list(cursors[0])
        with pytest.raises(OperationFailure) as caught:
            victim.shop.payments.insert_one({}, session=session)
        assert caught.value.code == 251
        assert len(list(cursors[1])) == 49
        survivor.commit_transaction()
        assert other.shop.payments.count_documents({}) == 1
        summary = endpoint.get("summary")
        assert (summary["transactions"], summary["cursors"]) == (0, 0), json.dumps(summary)

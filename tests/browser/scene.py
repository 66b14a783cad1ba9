"""A proxy with everything an operator may have to find: a leak, an idle transaction, a user near
the budget, somebody with another's session, a hostile name. Run it to look around by hand:

    python -m tests.browser.scene 127.0.0.1:27018 127.0.0.1:27080
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import bson
import pymongo
import trio
from pymongo.errors import PyMongoError

from proxy import logs
from proxy.demo import serve_embedded
from proxy.embedded import EmbeddedUser
from proxy.process.server import Running
from proxy.settings.config import load
from tests.patience import PATIENCE

TOKEN = "scene-token-0123456789"
HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202egnp"
BUDGET = 40

_READ_WRITE = (("readWrite", "shop"), ("readWrite", "admin"))
USERS = (
    EmbeddedUser("alice", "admin", "wonderland", _READ_WRITE),
    EmbeddedUser("bob", "admin", "builder", _READ_WRITE),
    EmbeddedUser("mallory", "admin", "in-the-middle", _READ_WRITE),
    EmbeddedUser("olivia", "admin", "looking-glass", (("root", "admin"),)),
)

Client = pymongo.MongoClient[dict[str, Any]]


@asynccontextmanager
async def proxied(
    listen: str = "127.0.0.1:0", admin: str = "127.0.0.1:0", token: str | None = TOKEN
) -> AsyncIterator[Running]:
    """A proxy in front of an embedded upstream where the scene's users may log in."""
    logs.configure("text", "critical")
    tables = {
        "listen": {"address": listen},
        "admin": {"address": admin} | ({"token": token} if token else {}),
        "policies": {"session_budget": {"per_user": BUDGET}},
    }
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve_embedded, load(None, tables), USERS)
        nursery.cancel_scope.cancel()


def connect(address: str, user: str, application: str) -> Client:
    password = next(one.password for one in USERS if one.name == user)
    return pymongo.MongoClient(
        f"mongodb://{address}/?replicaSet=embedded",
        appname=application,
        username=user,
        password=password,
        serverSelectionTimeoutMS=PATIENCE * 1000,
    )


@contextmanager
def traffic(address: str, strange: str = HOSTILE) -> Iterator[None]:
    """Clients that do all of it, until the block ends; ``strange`` names one application."""
    with ExitStack() as stack:

        def client(user: str, application: str) -> Client:
            return stack.enter_context(connect(address, user, application))

        shop = client("alice", "shop-frontend")
        orders = shop.shop.orders
        orders.insert_many({"_id": number, "paid": number % 3 == 0} for number in range(200))

        reports = client("olivia", "monthly-reports")
        session = stack.enter_context(reports.start_session())
        session.start_transaction()
        reports.shop.payments.insert_one({"order": 1}, session=session)
        for batch in (10, 25):
            cursor = stack.enter_context(
                reports.shop.orders.find(batch_size=batch, session=session)
            )
            next(cursor)

        leaking = client("bob", "leaky-importer")
        for _ in range(BUDGET - 5):
            leaking.admin.command("startSession")

        paying = stack.enter_context(shop.start_session())
        with paying.start_transaction():
            shop.shop.payments.insert_one({"order": 2}, session=paying)
        orders.update_one({"_id": 1}, {"$set": {"paid": True}})
        browsing = stack.enter_context(orders.find(batch_size=20))
        next(browsing)

        stranger = client("mallory", strange)
        stranger.shop.orders.find_one()
        digest = hashlib.sha256(b"alice@admin").digest()
        theft = {"id": paying.session_id["id"], "uid": bson.Binary(digest, 0)}
        try:
            stranger.admin.command("killSessions", [theft])
        except PyMongoError:
            pass
        else:
            raise AssertionError("a session of somebody else's was let through")

        operator = client("olivia", "operations")
        operator.admin.command(
            {
                "configureFailPoint": "failCommand",
                "mode": {"times": 1},
                "data": {
                    "failCommands": ["count"],
                    "blockConnection": True,
                    "blockTimeMS": 600_000,
                },
            }
        )
        counting = client("alice", "stock-keeper")

        def count() -> None:
            with suppress(PyMongoError):
                counting.shop.command("count", "orders")

        slow = threading.Thread(target=count, daemon=True)
        slow.start()
        yield
        counting.close()
        slow.join(PATIENCE)


async def _main(listen: str = "127.0.0.1:0", admin: str = "127.0.0.1:0") -> None:
    async with proxied(listen, admin) as running:
        clients = traffic(running.addresses[0])
        await trio.to_thread.run_sync(clients.__enter__)
        print(f"http://{running.admin}/  token {TOKEN}", flush=True)
        await trio.sleep_forever()


@contextmanager
def scene(*addresses: str) -> Iterator[str]:
    """One in a process of its own; gives where its pages are."""
    command = [sys.executable, "-m", "tests.browser.scene", *addresses]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[0]
        finally:
            process.kill()


if __name__ == "__main__":
    trio.run(_main, *sys.argv[1:])

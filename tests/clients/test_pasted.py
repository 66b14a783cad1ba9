"""The URI that the proxy prints works as it is, in whatever it is pasted into."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
import trustme

from proxy.demo import serve_embedded
from proxy.embedded import EmbeddedUser
from proxy.settings.config import load
from tests.clients.harness import BUILD, Client

#: Each writes, prints what it read back as JSON, and ends.
IN_PYTHON = """
import json, sys, pymongo
with pymongo.MongoClient(sys.argv[1]) as client:
    client.shop.orders.replace_one({"_id": 1}, {"paid": True}, upsert=True)
    print(json.dumps(client.shop.orders.find_one()))
"""
IN_NODE = """
const { MongoClient } = require("mongodb");
(async () => {
  const client = await new MongoClient(process.argv[1]).connect();
  const orders = client.db("shop").collection("orders");
  await orders.replaceOne({ _id: 1 }, { paid: true }, { upsert: true });
  console.log(JSON.stringify(await orders.findOne()));
  await client.close();
})();
"""
IN_MONGOSH = """
const orders = db.getSiblingDB("shop").orders;
orders.replaceOne({ _id: 1 }, { paid: true }, { upsert: true });
print(JSON.stringify(orders.findOne()));
"""

MONGOSH = BUILD / "mongosh" / "node_modules" / ".bin" / "mongosh"
NODE_MODULES = BUILD / "node" / "node_modules"
PYMONGO = Client("PyMongo", (sys.executable, "-W", "error", "-c", IN_PYTHON))
NODE = Client(
    "the Node driver",
    ("node", "-e", IN_NODE),
    (NODE_MODULES / "mongodb",),
    {"NODE_PATH": str(NODE_MODULES)},
)
SHELL = Client(
    "mongosh", ("node", str(MONGOSH), "--quiet", "--norc", "--eval", IN_MONGOSH), (MONGOSH,)
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return authority, file


@pytest.fixture
def folder():
    """A folder with a short path: one of a unix socket has 107 bytes at the most."""
    with TemporaryDirectory(prefix="msp-", dir="/tmp") as path:
        yield Path(path)


@asynccontextmanager
async def embedded(users=(), **listen):
    settings = {"listen": {"address": "127.0.0.1:0", **listen}, "admin": {"address": ""}}
    config = load(None, {**settings, "embedded": {}})
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve_embedded, config, users)
        nursery.cancel_scope.cancel()


async def pasted(client: Client, uri: str, home: Path, authority: Path | None = None) -> None:
    """See that ``client`` gets along with ``uri`` where the user trusts ``authority``."""
    trusted = {"SSL_CERT_FILE": str(authority), "NODE_EXTRA_CA_CERTS": str(authority)}
    environment = {**(client.environment or {}), "HOME": str(home)}
    environment |= trusted if authority else {}
    run = partial(Client(client.name, client.command, (), environment).run, uri)
    assert await trio.to_thread.run_sync(run) == [{"_id": 1, "paid": True}]


async def all_pasted(clients: tuple[Client, ...], *more) -> None:
    for client in clients:
        client.require()
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(pasted, client, *more)


@pytest.mark.parametrize(
    ("address", "clients"),
    [
        ("127.0.0.1:0", (PYMONGO, NODE, SHELL)),
        ("[::1]:0", (PYMONGO, NODE)),
        ("localhost:0", (NODE,)),
        ("0.0.0.0:0", (PYMONGO,)),
    ],
)
async def test_in_front_of_a_set(address, clients, tmp_path):
    async with embedded(address=address) as running:
        await all_pasted(clients, running.uri, tmp_path)


async def test_a_unix_socket(folder, tmp_path):
    """Drivers undo what is escaped each in its own way."""
    path = folder / "Ä b+c,d@e:f?g#h.sock"
    async with embedded(address=str(path)) as running:
        await all_pasted((PYMONGO, NODE, SHELL), running.uri, tmp_path)


@pytest.mark.parametrize("where", ["a name", "a unix socket"])
async def test_with_tls(where, authority, folder, tmp_path):
    ca, file = authority
    certificate = folder / "proxy.pem"
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    listen = {"tls": {"certificate": str(certificate)}, "advertise": "localhost"}
    if where == "a unix socket":
        listen |= {"address": str(folder / "a.sock")}
    async with embedded(**listen) as running:
        await all_pasted((PYMONGO, NODE), running.uri, tmp_path, file)


async def test_credentials_are_added_and_nothing_else(folder, tmp_path):
    users = (EmbeddedUser("alice", "shop", "wonderland", (("readWrite", "shop"),)),)
    async with embedded(users, address=str(folder / "a.sock")) as running:
        uri = running.uri.replace("://", "://alice:wonderland@").replace("/?", "/shop?")
        await pasted(PYMONGO, uri, tmp_path)

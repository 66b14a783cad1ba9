"""Logging in through the proxy: whoever upstream says it is, and nobody's secrets in any log."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio
from bson import Binary
from pymongo.errors import OperationFailure

from proxy.embedded import EmbeddedUpstream, auth
from proxy.embedded.failures import failure
from proxy.embedded.users import EmbeddedUser
from proxy.process.server import Running
from proxy.session.identity import user_digest
from tests.build import command
from tests.embedded.support import PASSWORD, scram_final
from tests.end_to_end.tools import Driver, Log, Tap, proxy_before, pymongo_at, users_of
from tests.replay import document
from tests.running import Client, in_time

SECRET = "cor%rect-horse/battery@staple"
NAMES = ["plain", "a,b", "a=b", "a@b", "a.b", "=2C", "n=x,r=y", " ", "ünï", "a/b:c%40", '"\\']


def readers(*names: str, db: str = "app", password: str = SECRET) -> list[EmbeddedUser]:
    return [EmbeddedUser(name, db, password, (("readWrite", "app"),)) for name in names]


@asynccontextmanager
async def guarded(
    users: list[EmbeddedUser], **tables: Any
) -> AsyncIterator[tuple[EmbeddedUpstream, Running]]:
    """A proxy before a server that demands that clients log in."""
    upstream = EmbeddedUpstream(authorization=True, users=users, set_name="rs")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve, "127.0.0.1", 0)
        async with proxy_before(port, **tables) as running:
            yield upstream, running
        nursery.cancel_scope.cancel()


async def identity(driver: Driver) -> list[str]:
    status = await driver.command("connectionStatus")
    return [f"{user['user']}@{user['db']}" for user in status["authInfo"]["authenticatedUsers"]]


def shown(running: Running) -> set[str]:
    """Everybody that the proxy shows as authenticated somewhere."""
    return {row.get("user", "") for row in running.server.connections()} - {""}


# ------------------------------------------------------------------ drivers


@pytest.mark.parametrize("speculative", [True, False], ids=["speculative", "step by step"])
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", None])
@in_time
async def test_scram(mechanism, speculative, monkeypatch):
    if not speculative:

        def never(*_: Any) -> None:
            raise failure(18, "Authentication failed.")

        monkeypatch.setattr(auth, "speculative", never)
    options = {"username": "alice", "password": SECRET, "authSource": "app"}
    if mechanism:
        options["authMechanism"] = mechanism
    async with guarded(readers("alice")) as (_, running), pymongo_at(running, **options) as driver:
        await driver.run(lambda client: client.app.c.insert_one({"_id": 1}))
        assert await identity(driver) == ["alice@app"]
        assert shown(running) == {"alice@app"}
        # Monitors log nobody in.
        assert "" in await users_of(running, 2)
        [session] = running.server.sessions()
        assert session["owner"] == "alice@app"
        with pytest.raises(OperationFailure, match="not authorized") as caught:
            await driver.run(lambda client: client.other.c.insert_one({}))
        assert caught.value.code == 13


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
@in_time
async def test_names_are_upstreams_whatever_they_look_like(mechanism):
    async with guarded(readers(*NAMES)) as (_, running):
        for name in NAMES:
            options = {"username": name, "password": SECRET, "authSource": "app"}
            options["authMechanism"] = mechanism
            async with pymongo_at(running, **options, directConnection=True) as driver:
                assert await identity(driver) == [f"{name}@app"]
                assert shown(running) == {f"{name}@app"}
                await driver.command("ping")
            while shown(running):
                await trio.lowlevel.checkpoint()
        known = {session["owner"] for session in running.server.sessions()}
        assert known == {f"{name}@app" for name in NAMES}


@in_time
async def test_plain():
    async with guarded(readers(*NAMES, db="$external")) as (_, running):
        for name in NAMES:
            options = {"username": name, "password": SECRET, "authMechanism": "PLAIN"}
            async with pymongo_at(running, **options, directConnection=True) as driver:
                assert await identity(driver) == [f"{name}@$external"]
                assert shown(running) == {f"{name}@$external"}
            while shown(running):
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN"])
@pytest.mark.parametrize("wrong", ["password", "user"])
@in_time
async def test_who_is_wrong_stays_out(mechanism, wrong):
    source = "$external" if mechanism == "PLAIN" else "app"
    right = {"username": "alice", "password": SECRET} | {
        "authMechanism": mechanism,
        "authSource": source,
    }
    bad = {**right, "password": "guess"} if wrong == "password" else {**right, "username": "eve"}
    async with (
        guarded(readers("alice", db=source)) as (_, running),
        pymongo_at(running, **right) as alice,
        pymongo_at(running, **bad) as eve,
    ):
        for _ in range(2):
            assert await identity(alice) == [f"alice@{source}"]
            with pytest.raises(OperationFailure, match="Authentication failed") as caught:
                await eve.command("ping")
            assert caught.value.code == 18
        assert shown(running) == {f"alice@{source}"}


@in_time
async def test_many_connections_of_many_users_at_once():
    users = readers(*(f"user{number}" for number in range(12)))
    async with guarded(users) as (_, running), trio.open_nursery() as nursery:

        async def one(name: str) -> None:
            options = {"username": name, "password": SECRET, "authSource": "app"}
            async with (
                pymongo_at(running, **options, directConnection=True) as driver,
                trio.open_nursery() as several,
            ):
                for _ in range(3):
                    several.start_soon(check, driver, name)

        async def check(driver: Driver, name: str) -> None:
            for _ in range(3):
                assert await identity(driver) == [f"{name}@app"]

        for user in users:
            nursery.start_soon(one, user.name)


# ------------------------------------------------------------------ one connection, several users


class Raw:
    """A client that logs in by hand and asks the proxy and upstream who it is."""

    def __init__(self, client: Client, running: Running) -> None:
        self._client = client
        self._running = running
        self._number = 0
        self._name = f"127.0.0.1:{client.stream.socket.getsockname()[1]}"

    async def run(self, name: str, value: Any = 1, *, db: str = "admin", **more: Any) -> Any:
        self._number += 1
        reply = await self._client.ask(command({name: value, **more, "$db": db}, self._number))
        assert reply is not None, "closed"
        assert int.from_bytes(reply[8:12], "little") == self._number
        return document(reply)

    async def log_in(
        self, name: str, db: str, mechanism: str = "SCRAM-SHA-256", *, hello: bool = False
    ) -> dict[str, Any]:
        first = f"n={name},r=clientnonce"
        start: dict[str, Any] = {
            "saslStart": 1,
            "mechanism": mechanism,
            "payload": b"n,," + first.encode(),
            "options": {"skipEmptyExchange": True},
        }
        if hello:
            reply = await self.run("hello", speculativeAuthenticate={**start, "db": db})
            reply = reply["speculativeAuthenticate"]
        else:
            del start["saslStart"]
            reply = await self.run("saslStart", db=db, **start)
        assert reply["done"] is False
        final = scram_final(mechanism, name, first, reply["payload"].decode())
        return await self.run("saslContinue", db=db, conversationId=1, payload=final)

    async def who(self) -> list[str]:
        """Upstream's word; the proxy's own is held to it."""
        status = await self.run("connectionStatus")
        users = [f"{u['user']}@{u['db']}" for u in status["authInfo"]["authenticatedUsers"]]
        rows = self._running.server.connections()
        [row] = [row for row in rows if row["client"] == self._name]
        assert row["user"] == ",".join(users)
        return users

    async def close(self) -> None:
        await self._client.close()


@asynccontextmanager
async def raw_client(*users: EmbeddedUser, **tables: Any) -> AsyncIterator[tuple[Raw, Running]]:
    async with guarded(list(users), **tables) as (_, running):
        raw = Raw(await Client.connect(running), running)
        yield raw, running
        await raw.close()


ALICE, BOB = readers("alice", "bob", password=PASSWORD)
(ADMIN_ALICE,) = readers("alice", db="admin", password=PASSWORD)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
@pytest.mark.parametrize("hello", [True, False], ids=["in hello", "openly"])
@in_time
async def test_another_user_takes_the_place_of_the_first(mechanism, hello):
    async with raw_client(ALICE, BOB) as (raw, running):
        assert await raw.who() == []
        for name in ("alice", "bob", "bob", "alice"):
            done = await raw.log_in(name, "app", mechanism, hello=hello)
            assert done["done"] is True
            assert await raw.who() == [f"{name}@app"]
            lsid = {"id": Binary(uuid4().bytes, 4)}
            assert (await raw.run("find", "c", db="app", lsid=lsid))["ok"] == 1.0
            key = (bytes(lsid["id"]), user_digest(name, "app"))
            keys = {s.key for s in running.server.clusters[0].store.page().sessions}
            assert key in keys


@in_time
async def test_two_users_on_one_connection_and_logout():
    async with raw_client(ALICE, ADMIN_ALICE) as (raw, _):
        await raw.log_in("alice", "app")
        await raw.log_in("alice", "admin")
        assert await raw.who() == ["alice@app", "alice@admin"]
        lsid = {"id": Binary(uuid4().bytes, 4)}
        refused = await raw.run("find", "c", db="app", lsid=lsid)
        assert refused["code"] == 13
        assert (await raw.run("logout", db="nowhere"))["ok"] == 1.0
        assert await raw.who() == ["alice@app", "alice@admin"]
        assert (await raw.run("logout", db="app"))["ok"] == 1.0
        assert await raw.who() == ["alice@admin"]
        assert (await raw.run("find", "c", db="app", lsid=lsid))["ok"] == 1.0
        assert (await raw.run("logout", db="admin"))["ok"] == 1.0
        assert await raw.who() == []
        assert (await raw.run("find", "c", db="app"))["code"] == 13


@in_time
async def test_a_failed_attempt_leaves_who_was_there():
    async with raw_client(ALICE, BOB) as (raw, _):
        await raw.log_in("alice", "app")
        payload = b"n,,n=bob,r=clientnonce"
        begun = await raw.run("saslStart", db="app", mechanism="SCRAM-SHA-256", payload=payload)
        assert (begun["ok"], begun["done"]) == (1.0, False)
        assert await raw.who() == ["alice@app"]
        wrong = b"c=biws,r=clientnonce,p=" + base64.b64encode(bytes(32))
        failed = await raw.run("saslContinue", db="app", conversationId=1, payload=wrong)
        assert failed["code"] == 18
        assert await raw.who() == ["alice@app"]


@in_time
async def test_requests_sent_behind_an_authentication_are_its_users():
    async with guarded([ALICE]) as (_, running):
        client = await Client.connect(running)
        payload = b"n,,n=alice,r=clientnonce"
        start = {"mechanism": "SCRAM-SHA-256", "payload": payload, "$db": "app"}
        options = {"options": {"skipEmptyExchange": True}}
        begun = document(await client.ask(command({"saslStart": 1, **start, **options})) or b"")
        told = begun["payload"].decode()
        final = scram_final("SCRAM-SHA-256", "alice", "n=alice,r=clientnonce", told)
        proof = {"saslContinue": 1, "conversationId": 1, "payload": final, "$db": "app"}
        lsid = {"id": Binary(uuid4().bytes, 4)}
        find = {"find": "c", "lsid": lsid, "$db": "app"}
        end = {"logout": 1, "$db": "app"}
        frames = (command(proof, 2), command(find, 3), command(end, 4), command(find, 5))
        await client.send(b"".join(frames))
        replies = [document(await client.receive() or b"") for _ in range(4)]
        assert [reply["ok"] for reply in replies] == [1.0, 1.0, 1.0, 0.0]
        assert replies[3]["code"] == 13
        [session] = running.server.clusters[0].store.page().sessions
        assert session.key == (bytes(lsid["id"]), user_digest("alice", "app"))
        await client.close()


# ------------------------------------------------------------------ secrets


def secrets_in(frames: list[bytes]) -> set[str]:
    """What authentication carried, in every spelling it could be logged in."""
    found = [document(frame) for frame in frames]
    found += [one["speculativeAuthenticate"] for one in found if "speculativeAuthenticate" in one]
    spelled: set[str] = set()
    for held in [one["payload"] for one in found if one.get("payload")]:
        text = held if isinstance(held, str) else held.decode()
        payload = text.encode()
        # Names are no secrets: the first message says but one and a nonce.
        spelled |= {value for value in re.findall(r"\b[rspv]=([^,]{8,})", text)}
        spelled |= {text, repr(payload), payload.hex(), base64.b64encode(payload).decode()}
        spelled.add(json.dumps(text))
    return spelled


@pytest.mark.parametrize("log_format", ["text", "json"])
@in_time
async def test_no_log_holds_a_secret(tmp_path: Path, log_format, nursery):
    audit = tmp_path / "audit.jsonl"
    log = Log()
    users = [
        *readers("alice", "bob"),
        *readers("carol", db="$external"),
        EmbeddedUser("root", "admin", SECRET, (("root", "admin"),)),
    ]
    upstream = EmbeddedUpstream(authorization=True, users=users, set_name="rs")
    tap = Tap(await nursery.start(upstream.serve, "127.0.0.1", 0))
    port = await nursery.start(tap.serve)
    tables = {
        "audit": {"file": str(audit)},
        "upstream": {"hello": "pass"},
        "policies": {"session_budget": {"per_user": 2}},
    }
    scram = {"authSource": "app", "password": SECRET}
    logins: list[dict[str, Any]] = [
        {"username": "alice", **scram, "authMechanism": "SCRAM-SHA-1"},
        {"username": "bob", **scram, "authMechanism": "SCRAM-SHA-256"},
        {"username": "carol", "password": SECRET, "authMechanism": "PLAIN"},
        {"username": "root", "password": SECRET, "authSource": "admin"},
        {"username": "alice", **scram, "password": SECRET + "wrong"},
        {"username": "carol", "password": SECRET + "wrong", "authMechanism": "PLAIN"},
    ]
    async with proxy_before(port, log=log, log_format=log_format, **tables) as running:
        for login in logins:
            async with pymongo_at(running, **login, directConnection=True) as driver:
                if login["password"] == SECRET:
                    await identity(driver)
                    await _misbehave(driver)
                else:
                    with pytest.raises(OperationFailure, match="Authentication failed"):
                        await identity(driver)
        # Broken exchanges: whatever the proxy says of them, it does not say what was in them.
        client = await Client.connect(running)
        for value in (
            {"saslStart": 1, "mechanism": "PLAIN", "payload": f"\0carol\0{SECRET}", "$db": "admin"},
            {"saslContinue": 1, "conversationId": 9, "payload": SECRET.encode(), "$db": "admin"},
            {"authenticate": 1, "mechanism": "PLAIN", "pwd": SECRET, "$db": "admin"},
            {"createUser": "eve", "pwd": SECRET, "roles": [], "$db": "app"},
            {"killSessions": [{"id": SECRET}], "$db": "admin"},
        ):
            assert document(await client.ask(command(value)) or b"")["ok"] == 0.0
        await client.send(
            command({"saslStart": 1, "payload": SECRET, "$db": "admin"})[:-3] + b"\xff"
        )
        await client.close()
        rows = [*running.server.connections(), *running.server.sessions()]
    written = log.getvalue() + audit.read_text() + json.dumps(rows, default=str)
    assert "authenticated" in written
    assert "alice@app" in written
    assert '"command": "killSessions"' in written
    secrets = secrets_in(tap.requests + tap.replies)
    assert len(secrets) > 40
    secrets |= {SECRET, json.dumps(SECRET)[1:-1], base64.b64encode(SECRET.encode()).decode()}
    assert [secret for secret in secrets if secret in written] == []
    nursery.cancel_scope.cancel()


async def _misbehave(driver: Driver) -> None:
    """Something for the audit log and the rules to say something about."""
    for _ in range(3):
        lsid = {"id": Binary(uuid4().bytes, 4)}
        await driver.command("killSessions", value=[lsid])
        with contextlib.suppress(OperationFailure):  # more sessions than the rules allow
            await driver.command("ping", lsid=lsid)

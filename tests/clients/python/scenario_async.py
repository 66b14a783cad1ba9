"""What PyMongo's asyncio client sees of a deployment: one JSON line per step, for comparison.

usage: python scenario_async.py URI
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import bson
import pymongo
from bson import Int64, json_util
from pymongo import AsyncMongoClient
from pymongo.cursor import CursorType
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern


def emit(step: str, saw: object) -> None:
    line = {"step": step, "saw": saw}
    print(json_util.dumps(line, json_options=json_util.CANONICAL_JSON_OPTIONS), flush=True)


async def step(name: str, run: Callable[[], Awaitable[object]]) -> None:
    try:
        saw = await run()
    except (PyMongoError, bson.errors.BSONError) as error:
        saw = {
            "error": type(error).__name__,
            "code": getattr(error, "code", None),
            "details": getattr(error, "details", None) or str(error),
        }
    emit(name, saw)


class Scenario:
    def __init__(self, client: AsyncMongoClient[Any]) -> None:
        self.client = client
        self.db = client["app"]
        self.c = self.db["a"]

    async def topology(self) -> object:
        await self.client.admin.command("ping")
        servers = self.client.topology_description.server_descriptions().values()
        return [
            self.client.topology_description.topology_type_name,
            sorted([s.server_type_name, "{}:{}".format(*s.address)] for s in servers),
            sorted("{}:{}".format(*address) for s in servers for address in s.all_hosts),
        ]

    async def drop(self) -> object:
        for name in ("a", "atx", "aw0"):
            await self.db.drop_collection(name)
        return None

    async def insert_many(self) -> object:
        docs = [{"_id": n, "a": n % 5} for n in range(500)]
        return len((await self.c.insert_many(docs)).inserted_ids)

    async def batches(self) -> object:
        cursors = [self.c.find({}, batch_size=size).sort("_id") for size in (1, 7, 100)]
        return [[doc["_id"] async for doc in cursor] for cursor in cursors]

    async def exhaust(self) -> object:
        async with self.c.find({}, cursor_type=CursorType.EXHAUST, batch_size=30) as cursor:
            return [doc["_id"] async for doc in cursor.sort("_id")]

    async def many_at_once(self) -> object:
        async def find(n: int) -> bool:
            found = await self.c.find_one({"_id": n})
            return found is not None and found["_id"] == n

        return all(await asyncio.gather(*(find(n) for n in range(300))))

    async def cancelled(self) -> object:
        tasks = [asyncio.create_task(self.c.find({}).to_list()) for _ in range(40)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        return [len(found) for found in ended[1::2] if not isinstance(found, BaseException)]

    async def bulk(self) -> object:
        result = await self.c.bulk_write(
            [
                pymongo.InsertOne({"_id": 1000}),
                pymongo.UpdateMany({"a": 1}, {"$set": {"b": 1}}),
                pymongo.DeleteOne({"_id": 1000}),
            ]
        )
        return result.bulk_api_result

    async def duplicate_key(self) -> object:
        return await self.c.insert_one({"_id": 1})

    async def unknown_command(self) -> object:
        return await self.db.command("noSuchCommand")

    async def unknown_cursor(self) -> object:
        return await self.db.command("getMore", Int64(99), collection="a")

    async def unacknowledged(self) -> object:
        w0 = self.db["aw0"].with_options(write_concern=WriteConcern(w=0))
        await asyncio.gather(*(w0.insert_one({"_id": n}) for n in range(50)))
        for _ in range(500):
            if (count := await self.db["aw0"].count_documents({})) == 50:
                break
        return count

    async def transactions(self) -> object:
        tx = self.db["atx"]
        await self.db.create_collection("atx")

        async def one(n: int) -> None:
            async with self.client.start_session() as session:

                async def body(session: Any) -> None:
                    await tx.insert_one({"_id": n}, session=session)
                    await tx.update_one({"_id": n}, {"$set": {"a": n}}, session=session)

                if n % 2:
                    await session.with_transaction(body)
                else:
                    await session.start_transaction()
                    await body(session)
                    await session.abort_transaction()

        await asyncio.gather(*(one(n) for n in range(20)))
        return [doc async for doc in tx.find().sort("_id")]


async def main() -> None:
    async with AsyncMongoClient(sys.argv[1]) as client:
        scenario = Scenario(client)
        for name in (
            "topology", "drop", "insert_many", "batches", "exhaust", "many_at_once", "cancelled",
            "bulk", "duplicate_key", "unknown_command", "unknown_cursor", "unacknowledged",
            "transactions",
        ):  # fmt: skip
            await step(name, getattr(scenario, name))


asyncio.run(main())

"""Transactions whose statements go through several workers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Binary, Int64

from proxy.wire.frames import FrameBuffer
from proxy.wire.replies import read_reply
from tests.build import command
from tests.end_to_end.test_workers import TOKEN, Workers, in_use
from tests.endurance.program import upstream
from tests.patience import PATIENCE, wait_until


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Workers]:
    with upstream() as port:
        program = Workers(port, tmp_path, "workers = 2\n", admin=f'token = "{TOKEN}"\n')
        try:
            yield program
            assert program.bugs() == []
        finally:
            program.end_at_once()


class Raw:
    """A connection that sends what it is told, one command after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        metadata = {
            "application": {"name": "shop"},
            "driver": {"name": "raw", "version": "1"},
            "os": {"type": "any"},
        }
        self.run({"hello": 1, "client": metadata}, "admin")
        self.run({"ping": 1})

    def run(self, document: dict[str, Any], database: str = "shop") -> dict[str, Any]:
        self._socket.sendall(command({**document, "$db": database}, 1))
        replies = FrameBuffer()
        while True:
            data = self._socket.recv(65_536)
            assert data, "closed"
            if frames := replies.feed(data):
                return bson.decode(read_reply(frames[0]).body_bytes())

    def close(self) -> None:
        self._socket.close()


def test_transactions_whose_statements_go_through_both_are_counted_once(proxy: Workers) -> None:
    with ExitStack() as stack:
        connections: list[Raw] = []

        def spread() -> bool:
            connections.append(Raw(proxy.port))
            stack.callback(connections[-1].close)
            return len(connections) > 10 and len({conn % 2 for conn in in_use(proxy)}) == 2

        wait_until(spread)
        turns = cycle(connections)
        lsid = {"id": Binary(bytes(15) + b"\x07", 4)}
        many = 2 * len(connections) + 1
        for number in range(1, many + 1):
            of = {"lsid": lsid, "txnNumber": Int64(number), "autocommit": False}
            for statement in range(3):
                starts = {} if statement else {"startTransaction": True}
                insert = {"insert": "orders", "documents": [{"n": statement}], **of, **starts}
                assert next(turns).run(insert)["ok"] == 1
            assert next(turns).run({"commitTransaction": 1, **of}, "admin")["ok"] == 1

        def settled() -> bool:
            return proxy.series()["mongo_session_proxy_transactions_started_total"] >= many

        wait_until(settled)
        series = proxy.series()
        ended = {
            name.partition('outcome="')[2].removesuffix('"}'): count
            for name, count in series.items()
            if name.startswith("mongo_session_proxy_transactions_ended_total") and count
        }
        assert ended == {"committed": many}
        assert series["mongo_session_proxy_transactions_started_total"] == many
        assert series["mongo_session_proxy_transaction_statements_total"] == 3 * many
        wait_until(lambda: proxy.asked("summary")["transactions"] == 0)
        path = "history?event=transaction_ended&session=00000000"
        wait_until(lambda: proxy.asked(path)["counts"].get("transaction_ended", 0) >= many)
        assert proxy.asked(path)["counts"] == {"transaction_ended": many}

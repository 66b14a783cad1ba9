"""Several clusters behind several workers, handed over to a new process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.end_to_end.test_workers import TOKEN, Workers
from tests.endurance.program import ended, upstream
from tests.patience import wait_until
from tests.ports import free_port


class Clusters(Workers):
    """Two workers in front of the clusters ``shop`` and ``web``."""

    def __init__(self, shop: int, web: int, folder: Path) -> None:
        self._web = web
        self.ports = {"shop": free_port(), "web": free_port()}
        super().__init__(shop, folder)

    def configure(self, settings: str = "", listen: str = "", admin: str = "") -> None:
        behind = {"shop": self._behind, "web": self._web}
        self._config.write_text(
            f'[admin]\naddress = "127.0.0.1:{self.admin}"\ntoken = "{TOKEN}"\n'
            f'[log]\nformat = "json"\n[process]\nworkers = 2\npid_file = "{self._pid_file}"\n'
            + "".join(
                f'[[cluster]]\nname = "{name}"\n'
                f'[cluster.listen]\naddress = "127.0.0.1:{port}"\n'
                f'[cluster.upstream]\naddress = "127.0.0.1:{behind[name]}"\n'
                for name, port in self.ports.items()
            )
            + settings
        )

    def connect(self, name: str) -> pymongo.MongoClient[Any]:
        where = f"mongodb://127.0.0.1:{self.ports[name]}/?replicaSet=rs"
        return pymongo.MongoClient(where, appname=name)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Clusters]:
    with upstream() as shop, upstream() as web:
        program = Clusters(shop, web, tmp_path)
        try:
            yield program
            assert program.bugs() == []
        finally:
            program.end_at_once()


def test_workers_keep_them_apart_and_a_new_process_gets_all(proxy: Clusters) -> None:
    with proxy.connect("shop") as shop, proxy.connect("web") as web:
        cursors = {}
        for name, client in (("shop", shop), ("web", web)):
            client.app.things.insert_many([{"n": number} for number in range(10)])
            cursors[name] = client.app.things.find({}, batch_size=2)
            next(cursors[name])
        wait_until(lambda: proxy.asked("summary")["cursors"] == 2)
        done = proxy.kill({"cluster": "web", "patterns": [{"owner": "*"}], "dry_run": False})
        assert done["killed"] == done["matched"] > 0
        left = {one["cluster"]: one["cursors"] for one in proxy.asked("summary")["clusters"]}
        assert left == {"shop": 1, "web": 0}
        assert len(list(cursors["shop"])) == 9
        inserts = {
            name: value
            for name, value in proxy.series().items()
            if name.startswith("mongo_session_proxy_requests_total") and '"insert"' in name
        }
        assert inserts == {
            f'mongo_session_proxy_requests_total{{cluster="{name}",command="insert"}}': 1
            for name in proxy.ports
        }
        # One more cluster comes with the new process.
        proxy.ports["new"] = free_port()
        proxy._config.write_text(
            proxy._config.read_text() + '[[cluster]]\nname = "new"\n'
            f'[cluster.listen]\naddress = "127.0.0.1:{proxy.ports["new"]}"\n'
            f'[cluster.upstream]\naddress = "127.0.0.1:{proxy._behind}"\n'
        )
        proxy.reload()
        wait_until(lambda: proxy.lines("configuration reloaded"))
        assert proxy.lines("configuration reloaded")[0]["needs_restart"] == ["cluster new: added"]
        old = proxy.replace()
        for client in (shop, web):
            assert client.app.things.count_documents({}) == 10
        wait_until(lambda: ended(old), "the old one's end")
        with proxy.connect("new") as new:
            assert new.app.things.count_documents({}) == 10
        names = [line["cluster"] for line in proxy.lines("listening")]
        assert names == ["shop", "web", "shop", "web", "new"]

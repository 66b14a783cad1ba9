"""Several workers are one program to whoever uses, watches or signals it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import AutoReconnect, PyMongoError

from tests.endurance.program import Program, ended, upstream
from tests.patience import PATIENCE, wait_until

TOKEN = "a-token-that-nobody-guesses"
#: The first line belongs to the table in front of it, which is [process].
SETTINGS = """workers = 2
[policies.session_budget]
mode = "enforce"
per_application = 30
"""


class Workers(Program):
    """A proxy with two workers."""

    def asked(self, path: str) -> Any:
        where = f"http://127.0.0.1:{self.admin}/{path}"
        one = urllib.request.Request(where, headers={"authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(one, timeout=PATIENCE) as page:
            return json.load(page)

    def kill(self, document: dict[str, Any]) -> Any:
        return self.act("kill", document)

    def act(self, action: str, document: dict[str, Any]) -> Any:
        one = urllib.request.Request(
            f"http://127.0.0.1:{self.admin}/{action}",
            json.dumps(document).encode(),
            {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(one, timeout=PATIENCE) as page:
            return json.load(page)

    def lines(self, event: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in found if line["event"] == event]

    def client(self, application: str = "shop", **options: Any) -> pymongo.MongoClient[Any]:
        return pymongo.MongoClient(
            f"mongodb://127.0.0.1:{self.port}/?replicaSet=rs", appname=application, **options
        )


@pytest.fixture(scope="module")
def behind() -> Iterator[int]:
    with upstream() as port:
        yield port


@pytest.fixture
def proxy(behind: int, tmp_path: Path) -> Iterator[Workers]:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    settings = SETTINGS + f'[audit]\nfile = "{tmp_path}/audit"\n'
    settings += f'[history]\nfile = "{tmp_path}/history"\n'
    program = Workers(behind, tmp_path, settings, admin=f'token_file = "{token}"\n')
    try:
        yield program
        assert program.bugs() == []
    finally:
        program.end_at_once()


def spread(proxy: Workers, **options: Any) -> pymongo.MongoClient[Any]:
    """A client with connections to both workers, by what their numbers say."""
    made: list[pymongo.MongoClient[Any]] = []

    def is_spread() -> bool:
        """As many at the same time take as many connections; more sessions may not be."""
        if made:
            made.pop().close()
        made.append(proxy.client(maxPoolSize=50, **options))
        with ThreadPoolExecutor(24) as pool:
            for _ in pool.map(lambda _: made[0].admin.command("sleep", millis=50), range(24)):
                pass
        return len({conn % 2 for conn in in_use(proxy)}) == 2

    wait_until(is_spread)
    return made[0]


def in_use(proxy: Workers) -> list[int]:
    """The numbers of the client's connections that the driver does not only watch by."""
    rows = proxy.asked("connections?application=shop")["connections"]
    return [row["conn"] for row in rows if row["use"] == "requests"]


class Load:
    """Threads that do something again and again, what they have done and what went wrong."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.done = 0
        self.errors: list[BaseException] = []
        self._what = what
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(4)]

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._what()
                self.done += 1
            except PyMongoError as error:
                self.errors.append(error)

    def __enter__(self) -> Load:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()

    def goes_on(self) -> None:
        """Wait until it has done twenty more."""
        reached = self.done
        wait_until(lambda: self.done > reached + 20)


def test_a_session_used_through_both_is_one(proxy: Workers) -> None:
    with spread(proxy) as client, client.start_session() as session:
        with session.start_transaction():
            for number in range(12):
                client.shop.orders.insert_one({"n": number}, session=session)
            expected = session.session_id["id"].as_uuid()

            def seen() -> Any:
                rows = proxy.asked("transactions")["transactions"]
                return [row for row in rows if row["session"] == str(expected)]

            wait_until(lambda: len(seen()) == 1)
            assert proxy.asked("summary")["transactions"] == 1

        def settled() -> bool:
            series = proxy.series()
            ended = series['mongo_session_proxy_transactions_ended_total{outcome="committed"}']
            return ended == series["mongo_session_proxy_transactions_started_total"] == 1

        wait_until(settled)
        wait_until(lambda: proxy.asked("summary")["transactions"] == 0)
        rows = proxy.asked("sessions?application=shop")["sessions"]
        assert len({row["session"] for row in rows}) == len(rows)


def test_a_budget_is_of_both_together(proxy: Workers) -> None:
    with spread(proxy) as client:
        wait_until(lambda: len(proxy.asked("sessions?application=shop")["sessions"]) > 0)
        refused = 0
        for _ in range(60):
            with client.start_session() as session:
                session._server_session = None  # so that each is a new one to the server
            try:
                client.admin.command("startSession")
            except PyMongoError:
                refused += 1
            time.sleep(0.02)  # one after the other, slower than news travel
        known = proxy.asked("summary")["sessions"]
        assert refused >= 60 - 31
        assert known <= 31
        [counted] = [r for r in proxy.asked("rules")["rules"] if r["rule"] == "session_budget"]
        assert (counted["refused"], counted["reported"]) == (refused, 0)


def test_connections_of_one_address_are_counted_in_both(proxy: Workers) -> None:
    with spread(proxy) as client:
        path = proxy.log.with_name("config.toml")
        with path.open("a") as file:
            # More than either worker has.
            file.write(f"\n[limits]\nconnections_per_address = {len(in_use(proxy))}\n")
        proxy.reload()
        wait_until(lambda: len(proxy.lines("configuration reloaded")) == 3)  # and the supervisor
        texts: set[str] = set()

        def refused_by_both() -> bool:
            """A worker may not have heard yet what the other one has, and then it says yes."""
            with proxy.client("other") as other:
                try:
                    other.shop.command("ping")
                except PyMongoError as error:
                    texts.add(str(error).partition(", full")[0])
            return {line["worker"] for line in proxy.lines("client refused")} == {0, 1}

        wait_until(refused_by_both)
        assert all("too many connections in use: address 127." in text for text in texts)
        client.close()
        wait_until(lambda: not proxy.asked("connections?application=shop")["connections"])
        with proxy.client("other") as other:
            wait_until(lambda: answered(other))


def answered(client: pymongo.MongoClient[Any]) -> bool:
    """Whether it was, and not refused because the other worker has not heard yet."""
    try:
        return bool(client.shop.command("ping")["ok"])
    except PyMongoError:
        return False


def test_a_kill_through_one_is_known_to_the_other(proxy: Workers) -> None:
    with spread(proxy) as client:
        client.shop.orders.insert_many([{"n": number} for number in range(10)])
        cursor = client.shop.orders.aggregate(
            [{"$match": {}}], batchSize=0, session=(session := client.start_session())
        )
        wait_until(lambda: proxy.asked("summary")["cursors"] == 1)
        client.admin.command({"killSessions": [{"id": session.session_id["id"]}]})
        wait_until(lambda: proxy.asked("summary")["cursors"] == 0)
        with pytest.raises(PyMongoError):
            next(cursor)


def test_an_operator_kills_over_a_worker_s_connection(proxy: Workers) -> None:
    with spread(proxy) as client:
        client.shop.orders.insert_many([{"n": number} for number in range(10)])
        cursor = client.shop.orders.find({}, batch_size=2)
        next(cursor)
        wait_until(lambda: proxy.asked("summary")["cursors"] == 1)
        preview = proxy.kill({"patterns": [{"application": "shop"}], "dry_run": True})
        assert preview["cursors"] == 1
        result = proxy.kill({"patterns": [{"application": "shop"}], "dry_run": False})
        assert result["killed"] == result["matched"] > 0
        assert proxy.asked("summary")["cursors"] == 0
        with pytest.raises(PyMongoError):
            list(cursor)


def test_an_operator_ends_one_thing_wherever_it_is(proxy: Workers) -> None:
    with spread(proxy) as client:
        for number in range(4):
            with client.start_session() as session, session.start_transaction():
                client.shop.orders.insert_one({"n": number}, session=session)
                wait_until(lambda: proxy.asked("summary")["transactions"] == 1)
                short = str(session.session_id["id"].as_uuid())[:8]
                done = proxy.act("abort", {"session": short, "dry_run": False})
                assert done["outcome"] == "aborted"
                assert proxy.asked("summary")["transactions"] == 0
                with pytest.raises(PyMongoError) as caught:
                    client.shop.orders.insert_one({}, session=session)
                assert caught.value.has_error_label("TransientTransactionError")
                session.abort_transaction()
        ended = proxy.series()['mongo_session_proxy_transactions_ended_total{outcome="aborted"}']
        assert ended == 4
        with ThreadPoolExecutor() as pool:
            sleeps = [pool.submit(client.admin.command, "sleep", secs=600) for _ in range(6)]

            def busy() -> list[Any]:
                rows = proxy.asked("connections?state=operation")["connections"]
                return [row for row in rows if row.get("command") == "sleep"]

            wait_until(lambda: len(busy()) == 6)
            rows = busy()
            for row in rows[:3]:
                wanted = {"conn": row["conn"], "operation": row["operation"], "dry_run": False}
                assert proxy.act("interrupt", wanted)["outcome"] == "killOp"
            for row in rows[3:]:
                wanted = {"conn": row["conn"], "dry_run": False}
                assert proxy.act("close", wanted)["outcome"] == "closed"
            errors = [one.exception() for one in sleeps]
        assert sum(getattr(error, "code", None) == 11601 for error in errors) == 3
        assert sum(isinstance(error, AutoReconnect) for error in errors) == 3


def test_one_that_dies_is_replaced_and_the_others_go_on(proxy: Workers) -> None:
    with spread(proxy) as client:

        def read_and_write() -> None:
            client.shop.orders.find_one({})
            client.shop.orders.insert_one({})

        with Load(read_and_write) as load:
            for _ in range(2):
                before = proxy.workers()
                os.kill(min(before), signal.SIGKILL)
                wait_until(lambda before=before: len(proxy.workers() - before) == 1)
                wait_until(lambda: proxy.series()["mongo_session_proxy_workers"] == 2)
                load.goes_on()
        # Reads and writes are run again by the driver.
        assert load.errors == []
        assert proxy.series()["mongo_session_proxy_worker_restarts_total"] == 2
        assert [line["worker"] in (0, 1) for line in proxy.lines("worker died")] == [True, True]
        numbers = [line["conn"] for line in proxy.lines("client connected")]
        assert len(set(numbers)) == len(numbers)


def test_counters_do_not_fall_when_a_worker_dies(proxy: Workers) -> None:
    with spread(proxy):
        name = "mongo_session_proxy_client_connections_accepted_total"
        before = proxy.series()[name]
        pids = proxy.workers()
        os.kill(min(pids), signal.SIGKILL)
        wait_until(lambda: len(proxy.workers() - pids) == 1)
        wait_until(lambda: proxy.series()["mongo_session_proxy_workers"] == 2)
        assert proxy.series()[name] >= before


def test_settings_are_read_again_by_all(proxy: Workers) -> None:
    with spread(proxy) as client:
        path = proxy.log.with_name("config.toml")
        path.write_text(path.read_text().replace("per_application = 30", "per_application = 1"))
        proxy.reload()
        wait_until(lambda: len(proxy.lines("configuration reloaded")) == 3)  # and the supervisor
        for _ in range(10):
            with pytest.raises(PyMongoError, match="session"):
                client.admin.command("startSession")


def test_what_is_wrong_is_said_once_and_ends_it(behind: int, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="it ended"):
        Workers(behind, tmp_path, 'workers = 2\n[[policies.custom]]\nrule = "no:thing"\n')
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_the_program_is_replaced_with_all_its_workers(proxy: Workers) -> None:
    with spread(proxy) as client:
        with Load(lambda: client.shop.command({"find": "orders", "limit": 1})) as load:
            before = proxy.workers()
            old = proxy.replace()
            wait_until(lambda: ended(old), "the old one's end")
            load.goes_on()
        assert load.errors == []
        assert len(proxy.workers()) == 2
        assert not proxy.workers() & before
        numbers = [line["conn"] for line in proxy.lines("client connected")]
        assert len(set(numbers)) == len(numbers)


def test_it_drains_as_one(proxy: Workers) -> None:
    with spread(proxy, serverSelectionTimeoutMS=500):
        pids = proxy.workers()
        proxy.stop()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        assert len(proxy.lines("listening")) == 1
        assert [line.get("worker") for line in proxy.lines("stopped")][-1] is None


def test_no_worker_outlives_the_supervisor(proxy: Workers) -> None:
    with spread(proxy, serverSelectionTimeoutMS=500):
        pids = proxy.workers()
        proxy.process.kill()
        proxy.process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_the_history_is_of_both_and_of_the_process_before(proxy: Workers, tmp_path: Path) -> None:
    with spread(proxy) as client, client.start_session() as session:
        with session.start_transaction():
            client.shop.orders.insert_one({"n": 1}, session=session)
        name = session.session_id["id"].as_uuid()

        def events(*names: str) -> list[dict[str, Any]]:
            page = proxy.asked(f"history?since=10m&session={name}&event={','.join(names)}")
            return page["events"]

        wait_until(lambda: events("transaction_ended"))
        [over] = events("transaction_ended")
        assert (over["outcome"], over["application"]) == ("committed", "shop")
        wait_until(lambda: len(events("session_started")) == 1)
        proxy.kill({"sessions": [str(name)], "dry_run": False})
        wait_until(lambda: len(events("session_killed")) == 1)
    os.kill(next(iter(proxy.workers())), signal.SIGKILL)
    died = "history?since=10m&event=worker_died"
    wait_until(lambda: proxy.asked(died)["matched"] == 1)
    wait_until(lambda: len(proxy.workers()) == 2)
    before = proxy.pid
    os.kill(before, signal.SIGUSR2)
    wait_until(lambda: proxy.pid != before and ended(before))
    assert len(events("session_started")) == 1
    found = proxy.asked("history?since=10m&event=proxy_*")["events"]
    assert [one["event"] for one in found].count("proxy_started") == 2

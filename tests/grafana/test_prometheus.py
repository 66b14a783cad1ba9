"""A real Prometheus in front of a real proxy: rules, alerts and every query of every panel.

Debian's package ``prometheus`` has both programs.
"""

from __future__ import annotations

import json
import queue
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pymongo
import pytest
import trio
from bson import Binary
from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError

from grafana import build
from proxy import logs
from proxy.demo import serve_embedded
from proxy.embedded import EmbeddedUser
from proxy.process.server import Running
from proxy.session.identity import user_digest
from proxy.settings.config import load
from tests.grafana.test_dashboards import BOARDS, FOLDER, panels
from tests.needs import need
from tests.patience import PATIENCE, wait_until
from tests.ports import free_port
from tests.running import recording

SCRAPES = 8
BUDGET = 60

USERS = (
    EmbeddedUser("alice", "admin", "pw", (("readWrite", "shop"),)),
    EmbeddedUser("bob", "admin", "pw", (("readWrite", "shop"),)),
    EmbeddedUser("olivia", "admin", "pw", (("root", "admin"),)),
)

#: Columns that a row may lack: there is one cluster, and not all that is refused is about a bound.
MAY_LACK = {"Value", "cluster", "bound", "limit"}

ALERTS = (FOLDER / "alerts.yml").read_text().count("- alert: ")

#: Queries without data here, and why. Everything else has to have some.
EMPTY = {
    ("alert", "SessionsFullSoon"): "sessions do not come near a million in seconds",
    ("alert", "ApplicationLeaksSessions"): "a thousand sessions more take longer than this test",
    ("alert", "TransactionIdle"): "nobody waits half a minute here",
    ("alert", "ProxySlow"): "it is not",
    ("alert", "ProtocolViolations"): "everybody keeps to the protocol",
    ("alert", "WorkersDieAgainAndAgain"): "there is one process here, which lives",
    ("alert", "AuditLinesLost"): "the disk is not full",
    ("alert", "UpstreamDown"): "upstream is up",
    ("alert", "WrongProtocol"): "everybody speaks as MongoDB does",
    ("alert", "ClientConnectionsNearlyUsed"): "there are far fewer connections than allowed",
    ("alert", "CertificateExpiresSoon"): "there is no TLS",
    ("alert", "CertificateExpiresNow"): "there is no TLS",
    ("panel", "Certificates"): "there is no TLS",
    ("alert", "ConfigurationNotReloaded"): "the configuration is not read again",
    ("alert", "ProxyDown"): "the proxy is up",
    ("panel", "Carried out where a refusal was expected"): "upstream refuses as it should",
}


def run(*command: str) -> str:
    done = subprocess.run(
        command, cwd=FOLDER, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_and_configuration_are_well_formed() -> None:
    promtool = need("promtool")
    assert f"SUCCESS: {ALERTS} rules found" in run(promtool, "check", "rules", "alerts.yml")
    assert "is valid prometheus config" in run(promtool, "check", "config", "prometheus.yml")


def test_alerts_fire_when_they_should() -> None:
    assert "SUCCESS" in run(need("promtool"), "test", "rules", "alerts.test.yml")


async def test_names_and_texts_are_by_the_conventions() -> None:
    async with recording() as (_, running):
        page = running.server.telemetry.page()[1]
    promtool = need("promtool")
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            [promtool, "check", "metrics"],
            stdin=page,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_every_alert_is_tried() -> None:
    rules = (FOLDER / "alerts.yml").read_text()
    tried = (FOLDER / "alerts.test.yml").read_text()
    names = [line.split()[-1] for line in rules.splitlines() if "- alert:" in line]
    assert len(names) == ALERTS
    for name in names:
        assert f"alertname: {name}\n        exp_alerts:" in tried, name


# ------------------------------------------------------------------ the real thing


class Proxy:
    """The proxy with its embedded upstream, in a thread of its own."""

    def __init__(self, audit: Path) -> None:
        self._config = load(
            None,
            {
                "listen": {"address": "127.0.0.1:0"},
                "admin": {"address": "127.0.0.1:0"},
                "audit": {"file": str(audit)},
                "policies": {"session_budget": {"per_user": BUDGET, "per_application": 9_999}},
                "log": {"level": "error"},
            },
        )
        self._told: queue.Queue[Any] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="proxy")

    def _run(self) -> None:
        logs.configure("text", "critical")
        try:
            trio.run(self._main)
        except BaseException as error:
            self._told.put(error)

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            running: Running = await nursery.start(partial(serve_embedded, self._config, USERS))
            stop = trio.Event()
            self._token = trio.lowlevel.current_trio_token()
            self._stop = stop
            self._told.put(running)
            await stop.wait()
            nursery.cancel_scope.cancel()

    def __enter__(self) -> Running:
        self._thread.start()
        told = self._told.get(timeout=PATIENCE)
        if isinstance(told, BaseException):
            raise told
        assert isinstance(told, Running)
        return told

    def __exit__(self, *_: object) -> None:
        self._token.run_sync_soon(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


class Prometheus:
    """A Prometheus that scrapes one address four times a second."""

    def __init__(self, folder: Path, target: str) -> None:
        self._port = free_port()
        shutil.copy(FOLDER / "alerts.yml", folder / "alerts.yml")
        (folder / "prometheus.yml").write_text(
            (FOLDER / "prometheus.yml")
            .read_text()
            .replace("127.0.0.1:27080", target)
            .replace("_interval: 10s", "_interval: 250ms")
        )
        self._command = [
            need("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=error",
        ]
        self._log = (folder / "prometheus.log").open("w+")
        self._at: dict[str, str] = {}

    def __enter__(self) -> Prometheus:
        self._process = subprocess.Popen(
            self._command, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._log.close()

    def get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self._port}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """The labels and values of an instant query; a Grafana variable stands for anything."""
        expr = (
            expr.replace("$instance", ".*")
            .replace("$cluster", ".*")
            .replace("$__rate_interval", "30s")
            .replace("[$__range:1m] offset -1m", "[5m:1s] offset -1s")
            .replace("$__range", "5m")
            .replace("$job", ".*")
        )
        return [
            (one["metric"], float(one["value"][1]))
            for one in self.get("/api/v1/query", query=expr, **self._at)["result"]
        ]

    def hold(self) -> bool:
        """From now on look at how it is now, if a scrape has succeeded just now: on a busy machine
        one may not, after which nothing is known for a moment."""
        self._at = {"time": f"{time.time():.3f}"}
        if self.query("mongo_session_proxy_build_info"):
            return True
        self._at = {}
        return False

    def scrapes(self) -> int:
        with suppress(OSError):  # it has not begun to listen
            found = self.query("count_over_time(mongo_session_proxy_build_info[10m])")
            return int(found[0][1]) if found else 0
        return 0


@contextmanager
def using(session: ClientSession, lsid: Mapping[str, Any]) -> Iterator[None]:
    """A session of PyMongo's that goes by another one's lsid."""
    kept = session._server_session
    own = kept.session_id
    kept.session_id = lsid
    yield
    kept.session_id = own


class Traffic:
    """Clients of three users: a shop, an application that leaks sessions, an operator."""

    def __init__(self, running: Running, stack: ExitStack) -> None:
        self._address = running.addresses[0]
        self._stack = stack
        self.alice = self._connect("alice", "shop")
        self.elsewhere = self._connect("alice", "backup")
        self.bob = self._connect("bob", "leaky")
        self.olivia = self._connect("olivia", "operations")
        orders = self.alice.shop.orders
        orders.insert_many([{"_id": number} for number in range(50)])
        self._cursor = stack.enter_context(orders.find(batch_size=2))
        next(self._cursor)
        waiting = stack.enter_context(self.alice.start_session())
        waiting.start_transaction()
        orders.update_one({"_id": 9}, {"$set": {"paid": True}}, session=waiting)
        self._rounds = 0
        #: Whether bob has as many sessions as he may.
        self.refused = False

    def _connect(self, user: str, application: str) -> pymongo.MongoClient[dict[str, Any]]:
        return self._stack.enter_context(self._client(user, application))

    def _client(
        self, user: str, application: str, password: str = "pw"
    ) -> pymongo.MongoClient[dict[str, Any]]:
        return pymongo.MongoClient(
            f"mongodb://{self._address}/?replicaSet=embedded",
            appname=application,
            username=user,
            password=password,
            serverSelectionTimeoutMS=PATIENCE * 1000,
        )

    def _incidents(self) -> None:
        """One session in two processes, and one with another user's digest."""
        with self.alice.start_session() as one, self.elsewhere.start_session() as two:
            self.alice.admin.command("ping", session=one)
            self.elsewhere.admin.command("ping", session=two)
            with using(two, one.session_id):
                for _ in range(3):
                    self.elsewhere.admin.command("ping", session=two)
            with (
                using(one, {**one.session_id, "uid": _BOBS}),
                pytest.raises(PyMongoError, match="Unauthorized"),
            ):
                self.alice.shop.orders.find_one(session=one)

    def _refusals(self) -> None:
        with suppress(PyMongoError):
            self.alice.shop.orders.insert_one({"_id": 1})
        with suppress(PyMongoError):
            self.alice.shop.command("makeCoffee")
        host, _, port = self._address.rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE) as raw:
            raw.sendall(b"\x10\0\0\0\1\0\0\0\0\0\0\0\xff\xff\0\0")
            assert raw.recv(100) == b""

    def go_on(self) -> None:
        """Some more of everything, and more sessions than bob may have in the end."""
        self._rounds += 1
        orders = self.alice.shop.orders
        orders.update_one({"_id": 3}, {"$inc": {"n": 1}})
        with self.alice.start_session() as session:
            session.start_transaction()
            orders.update_one({"_id": self._rounds % 9}, {"$inc": {"n": 1}}, session=session)
            if self._rounds % 2:
                session.commit_transaction()
            else:
                session.abort_transaction()
        if self._rounds <= 2:
            self._incidents()
            self._refusals()
            self._connect("alice", "shop").admin.command("ping")
        if self._rounds % 4 == 1:  # it takes its time
            with suppress(PyMongoError), self._client("alice", "cron", "wrong") as nobody:
                nobody.admin.command("ping")
        for _ in range(5):
            try:
                self.bob.admin.command("startSession")
            except PyMongoError:
                self.refused = True
        with suppress(PyMongoError):
            self.alice.admin.command("killSessions", [{"id": _SESSION, "uid": _BOBS}])
        with self.olivia.start_session() as session:
            self.olivia.admin.command("ping", session=session)
            lsid = {**session.session_id, "uid": user_digest("olivia", "admin")}
            self.olivia.admin.command("killSessions", [lsid])


_SESSION = Binary(bytes(16), 4)
_BOBS = user_digest("bob", "admin")


#: Fires, or not, with what else the machine does; alerts.test.yml tries both.
EITHER = ("EventLoopLags", "ManyErrors", "ManyRefusals")


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has watched the traffic for a while."""
    need("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    with ExitStack() as stack:
        running = stack.enter_context(Proxy(folder / "audit.log"))
        assert running.admin is not None
        target = running.admin.removeprefix("http://").rstrip("/")
        traffic = Traffic(running, stack)
        prometheus = stack.enter_context(Prometheus(folder, target))

        full: list[int] = []

        def watched() -> bool:
            scrapes = prometheus.scrapes()
            if scrapes:  # what a series grows by before the first one, nobody sees
                traffic.go_on()
            if traffic.refused:  # nor does it see that he is refused until it has looked twice
                full.append(scrapes)
            return scrapes >= SCRAPES and bool(full) and scrapes >= full[0] + 3

        wait_until(watched, f"{SCRAPES} scrapes, see {folder / 'prometheus.log'}:")
        wait_until(prometheus.hold, "a scrape")
        yield prometheus


@pytest.mark.parametrize(
    ("board", "title"), [(name, panel["title"]) for name in BOARDS for panel in panels(name)]
)
def test_panels_have_data(scraped: Prometheus, board: str, title: str) -> None:
    [panel] = [one for one in panels(board) if one["title"] == title]
    for target in panel["targets"]:
        found = scraped.query(target["expr"])
        numbers = [value for _, value in found if value == value]
        if ("panel", title) in EMPTY:
            assert not numbers, f"has data after all: {target['expr']}"
        else:
            assert numbers, target["expr"]
        named = (
            set(panel["transformations"][0]["options"]["include"]["names"]) - MAY_LACK
            if (panel["type"] == "table")
            else set()
        )
        for labels, _ in found:
            assert named <= set(labels), labels


def test_alerts_can_be_evaluated(scraped: Prometheus) -> None:
    rules = [rule for group in scraped.get("/api/v1/rules")["groups"] for rule in group["rules"]]
    assert len(rules) == ALERTS
    for rule in rules:
        assert rule["health"] in ("ok", "unknown"), rule.get("lastError")
        found = scraped.query(rule["query"])
        if rule["name"] in EITHER:
            continue
        assert bool(found) != (("alert", rule["name"]) in EMPTY), rule["name"]


def top_of(scraped: Prometheus, board: str, title: str, **labels: str) -> dict[str, str]:
    """The labels of the largest value in a table, of those with these labels."""
    [panel] = [one for one in panels(board) if one["title"] == title]
    found = scraped.query(panel["targets"][0]["expr"])
    matching = [one for one in found if labels.items() <= one[0].items()]
    return max(matching, key=lambda one: one[1])[0]


def test_whoever_is_behind_it_is_named(scraped: Prometheus) -> None:
    leaky = top_of(scraped, "sessions", "Growing applications")
    assert leaky["application"] == "leaky"
    group = top_of(scraped, "sessions", "Growing groups")
    assert (group["owner"], group["application"]) == ("bob@admin", "leaky")
    assert group["driver"].startswith("PyMongo")
    near = top_of(scraped, "sessions", "Owners near their budget")
    assert near["owner"] == "bob@admin"
    waiting = top_of(scraped, "transactions", "Idle transactions")
    assert (waiting["owner"], waiting["application"]) == ("alice@admin", "shop")
    assert waiting["driver"].startswith("PyMongo")
    incidents = [
        labels
        for labels, _ in scraped.query("mongo_session_proxy_incident_last_timestamp_seconds")
        if labels["kind"] == "foreign_uid"
    ]
    assert {(one["user"], one["application"]) for one in incidents} == {("alice@admin", "shop")}
    assert all(one["driver"].startswith("PyMongo") for one in incidents)
    locked_out = top_of(scraped, "rules", "Logins that failed, by user", application="cron")
    assert locked_out["user"] == "alice@admin"
    refused = top_of(scraped, "rules", "Latest incidents of rules", rule="session_budget")
    assert refused["user"] == "bob@admin"


def test_every_board_is_tried() -> None:
    assert sorted(build.BOARDS) == BOARDS

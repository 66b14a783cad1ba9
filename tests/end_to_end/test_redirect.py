"""Clients whose connections the kernel redirects: in networks of the tests' own, through the rules
that are shipped."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo import ReadPreference
from pymongo.errors import OperationFailure, PyMongoError

from tests.end_to_end.namespaces import ROOT, Namespace, link
from tests.patience import PATIENCE, wait_until

SCRIPT = str(ROOT / "deploy" / "redirect" / "redirect.sh")
MEMBERS = ("10.77.0.2:27017", "10.77.0.3:27017", "10.77.0.4:27017")
MARK = 0x6D70
TOKEN = "a-token-for-tests-only"


class Proxy:
    """``serve`` in a namespace, and its JSON log."""

    def __init__(self, place: Namespace, folder: Path, **listen: Any) -> None:
        self.place = place
        file = folder / f"{place.name}.toml"
        upstream = listen.pop("upstream", {})
        workers = listen.pop("workers", 1)
        tables = {
            "listen": {"address": "0.0.0.0:27018", **listen},
            "upstream": {"socket_mark": MARK, **upstream},
            "admin": {"token": TOKEN},
            "process": {"workers": workers},
            "log": {"format": "json"},
        }
        file.write_text(
            "".join(
                f"[{table}]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in some)
                for table, some in ((table, some.items()) for table, some in tables.items())
            )
        )
        self.process = place.start("mongo_session_proxy", "serve", "--config", str(file))
        self.first = self.line("listening")

    def line(self, event: str) -> dict[str, Any]:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            line: dict[str, Any] = json.loads(text)
            if line["event"] == event:
                return line
        raise AssertionError("the proxy has ended")

    def page(self, path: str) -> str:
        def get() -> str:
            asked = urllib.request.Request(
                f"http://127.0.0.1:27080{path}", headers={"Authorization": f"Bearer {TOKEN}"}
            )
            with urllib.request.urlopen(asked, timeout=PATIENCE) as found:
                return str(found.read().decode())

        return self.place.call(get)

    def rows(self, what: str) -> list[dict[str, Any]]:
        found = json.loads(self.page(f"/{what}"))
        return list(found[what])


def servers(place: Namespace, *members: str) -> subprocess.Popen[str]:
    process = place.start("tests.end_to_end.redirected_set", *members)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        assert process.stderr is not None
        raise AssertionError(process.stderr.read())
    return process


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    assert process.stdout.readline()


def connect(*seeds: str, user: str = "alice:wonderland", **options: Any) -> Any:
    options = {"heartbeatFrequencyMS": 500, "serverSelectionTimeoutMS": PATIENCE * 1000} | options
    return pymongo.MongoClient(f"mongodb://{user}@{','.join(seeds)}/", **options)


def refusal(*seeds: str) -> str:
    """What a driver says that cannot go there."""
    with connect(*seeds, serverSelectionTimeoutMS=1500, directConnection=True) as client:
        with pytest.raises(PyMongoError) as raised:
            client.app.command("ping")
        return str(raised.value)


@pytest.fixture
def networks() -> Iterator[list[Namespace]]:
    made: list[Namespace] = []
    yield made
    for one in made:
        one.end()


def new(networks: list[Namespace], *names: str) -> list[Namespace]:
    made = []
    for name in names:
        made.append(Namespace(name))
        networks.append(made[-1])
    return made


@pytest.fixture
def beside(networks: list[Namespace]) -> tuple[Namespace, Namespace]:
    """Where an application and its proxy are, and where the servers are."""
    app, db = new(networks, "app", "db")
    link(app, db, "10.77.0", (1, 2, 3, 4))
    return app, db


def test_a_sidecar_before_a_replica_set(
    beside: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    app, db = beside
    cluster = servers(db, *MEMBERS)
    proxy = Proxy(app, tmp_path, mode="redirect", workers=2)
    assert proxy.first["connect"] == ""
    assert proxy.first["seeds"] == []
    # Nothing is known, and nothing is wrong.
    assert proxy.page("/readyz") == "ok\n"
    app.run(SCRIPT, "sidecar", "--mark", hex(MARK))

    def converse() -> None:
        with connect(MEMBERS[1], replicaSet="embedded") as client:
            hello = client.admin.command("hello")
            assert (hello["hosts"], hello["me"]) == (list(MEMBERS), MEMBERS[0])
            wait_until(lambda: len(client.nodes) == 3)
            assert {f"{host}:{port}" for host, port in client.nodes} == set(MEMBERS)
            for number, member in enumerate(MEMBERS):
                if number:
                    tell(cluster, f"elect {number}")
                wait_until(lambda: client.primary == (member[:-6], 27017))  # noqa: B023
                client.app.things.insert_many({"at": member} for _ in range(9))
            kill_across_members(client)

    def kill_across_members(client: Any) -> None:
        with client.start_session() as session:
            cursors = [
                client.app.get_collection("things", read_preference=preference).find(
                    batch_size=2, session=session
                )
                for preference in (ReadPreference.PRIMARY, ReadPreference.SECONDARY)
            ]
            members = [next(cursor)["at"] for cursor in cursors]
            assert members[0] == MEMBERS[2]
            assert members[1] in MEMBERS[:2]
            assert [cursor.address for cursor in cursors] == [
                (member[:-6], 27017) for member in members
            ]
            session_id = str(session.session_id["id"].as_uuid())
            wait_until(
                lambda: any(
                    (row["session"], row["cursors"]) == (session_id, 2)
                    for row in proxy.rows("sessions")
                )
            )
            kill(app, tmp_path, session_id)
            for cursor in cursors:
                with pytest.raises(OperationFailure) as raised:
                    list(cursor)
                assert raised.value.code == 43

    app.call(converse)
    where = {row["upstream"] for row in proxy.rows("connections")}
    assert where <= set(MEMBERS)
    assert "none of the proxy's destinations (listen.destinations)" in app.call(
        refusal, "127.0.0.5:27017"
    )
    assert "takes connections that are redirected to it" in app.call(refusal, "127.0.0.1:27018")
    app.run(SCRIPT, "undo")
    app.run(SCRIPT, "undo")


def kill(place: Namespace, folder: Path, session: str) -> None:
    (folder / "token").write_text(TOKEN)
    process = place.start(
        "mongo_session_proxy", "kill", session, "--yes", "--token-file", str(folder / "token")
    )
    out, err = process.communicate()
    assert process.returncode == 0, out + err


@pytest.mark.parametrize("mode", ["redirect", "tproxy"])
def test_a_gateway(networks: list[Namespace], tmp_path: Path, mode: str) -> None:
    """Clients and servers on two networks, the proxy on the machine between: also by IPv6."""
    app, gateway, db = new(networks, "app", "gateway", "db")
    link(gateway, app, "10.77.1")
    link(gateway, db, "10.77.0", (1, 2, 3, 4))
    app.ip("route", "add", "default", "via", "10.77.1.1")
    app.ip("-6", "route", "add", "default", "via", "fd77:1::1")
    gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    members = [*MEMBERS[:2], "[fd77::4]:27017"]
    servers(db, *members)
    proxy = Proxy(gateway, tmp_path, mode=mode, address="*:27018")
    gateway.run(SCRIPT, "gateway" if mode == "redirect" else "tproxy")

    def converse() -> None:
        for member in members:
            with connect(member, directConnection=True) as client:
                hello = client.admin.command("hello")
                assert (hello["hosts"], hello["me"]) == (members, member)
                client.app.command("ping")
                own = "fd77:1::2" if "fd77" in member else "10.77.1.2"
                rows = proxy.rows("connections")
                assert {row["upstream"] for row in rows} >= {member}
                assert own in {row["client"].rpartition(":")[0].strip("[]") for row in rows}

    app.call(converse)
    for own in ("10.77.1.1:27018", "[fd77:1::1]:27018"):
        assert "takes connections that are redirected" in app.call(refusal, own)


def test_rules_that_redirect_the_proxy_itself(
    beside: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    """Its own connections come back, as nobody is left out by the mark that the rules know."""
    app, db = beside
    servers(db, MEMBERS[0])
    proxy = Proxy(app, tmp_path, mode="redirect")
    app.run(SCRIPT, "sidecar", "--mark", hex(MARK + 1))
    assert "this proxy is its own upstream" in app.call(refusal, MEMBERS[0])
    assert len(proxy.rows("connections")) < 10
    # As soon as the rules are right, so is the way.
    app.run(SCRIPT, "sidecar", "--mark", hex(MARK))

    def works() -> None:
        with connect(MEMBERS[0], directConnection=True) as client:
            client.app.command("ping")

    app.call(works)


def test_seeds_are_watched_before_clients_come(
    beside: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    app, db = beside
    upstream = {"address": MEMBERS[0]}
    proxy = Proxy(app, tmp_path, mode="redirect", upstream=upstream | {"socket_mark": MARK})
    wait_until(lambda: "Connection refused" in unready(proxy))
    servers(db, MEMBERS[0])
    wait_until(lambda: not unready(proxy))


def unready(proxy: Proxy) -> str:
    try:
        proxy.page("/readyz")
    except urllib.error.HTTPError as error:
        return error.read().decode()
    return ""


def test_the_script_needs_to_know_what_to_leave_alone(networks: list[Namespace]) -> None:
    (place,) = new(networks, "x")
    for words in (["sidecar"], ["gateway", "--to"], ["other"], []):
        done = place.attempt(SCRIPT, *words)
        assert done.returncode == 2, words
        assert done.stderr
    assert place.run(SCRIPT, "show") == "nothing is redirected\n"
    place.run(SCRIPT, "undo")
    for _ in range(2):
        place.run(SCRIPT, "tproxy", "--from", "eth*")
    shown = place.run(SCRIPT, "show")
    assert 'iifname "eth*" tcp dport 27017-27019' in shown
    assert place.ip("rule").count("27018") == 1
    place.run(SCRIPT, "sidecar", "--uid", "999")
    assert "skuid 999" in place.run(SCRIPT, "show")
    assert "27018" not in place.ip("rule")
    place.run(SCRIPT, "undo")
    assert place.run(SCRIPT, "show") == "nothing is redirected\n"

"""A new process of the program that takes over from the old one, and one that cannot."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.endurance.program import Program, ended, upstream
from tests.patience import PATIENCE, wait_until


@pytest.fixture(scope="module")
def behind() -> Iterator[int]:
    with upstream() as port:
        yield port


@pytest.fixture
def program(behind: int, tmp_path: Path) -> Iterator[Program]:
    with Program(behind, tmp_path) as made:
        yield made


def lines(program: Program, event: str) -> list[dict[str, Any]]:
    text = program.log.read_text()
    found = (json.loads(line) for line in text.splitlines() if line.startswith("{"))
    return [line for line in found if line["event"] == event]


def connections(program: Program) -> list[dict[str, Any]]:
    """What the admin endpoint of whoever answers there lists."""
    url = f"http://127.0.0.1:{program.admin}/connections"
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as page:
        found: list[dict[str, Any]] = json.load(page)["connections"]
        return found


def children(pid: int) -> list[int]:
    """Processes that a process started and that still run."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(word) for one in threads for word in (one / "children").read_text().split()]


def ping(port: int) -> None:
    with pymongo.MongoClient("127.0.0.1", port, directConnection=True) as client:
        client.admin.command("ping")


def test_another_process_takes_the_clients(program: Program) -> None:
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
        "127.0.0.1", program.port, replicaSet="rs", appname="before"
    )
    client.shop.orders.insert_many([{"n": n} for n in range(100)])
    before = program.replace()
    ping(program.port)
    assert client.shop.orders.count_documents({}) == 100
    [over] = lines(program, "handed over")
    assert over["pid"] == program.pid != before
    # Its numbers go on where the old one's ended: each is one connection's in the one log.
    numbers = [line["conn"] for line in lines(program, "client connected")]
    assert len(set(numbers)) == len(numbers)
    assert {row["conn"] for row in connections(program)} <= set(numbers)
    wait_until(lambda: ended(before))
    assert client.shop.orders.count_documents({}) == 100
    client.close()
    again = program.replace()
    assert again == over["pid"]
    ping(program.port)


def test_a_client_that_waits_is_served_by_either(program: Program) -> None:
    """Nobody is refused while processes come and go: every connect is answered."""
    dialled = 0
    os.kill(before := program.pid, signal.SIGUSR2)
    while program.pid == before or dialled < 50:
        with socket.create_connection(("127.0.0.1", program.port), PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert b"MongoDB" in client.recv(1000)
        dialled += 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("[limits]\nconnections = 0\n", "limits.connections"),
        ("nonsense", "config.toml"),
        ("[policies.extra]\nrule = 'no.such:Rule'\n", "policies"),
        ('[audit]\nfile = "/no/such/folder/file"\n', "no such folder"),
    ],
)
def test_settings_that_are_wrong_change_nothing(
    program: Program, settings: str, reason: str
) -> None:
    before = program.pid
    program.configure(settings)
    os.kill(before, signal.SIGUSR2)
    wait_until(lambda: lines(program, "not handed over"))
    [line] = lines(program, "not handed over")
    assert reason in line["reason"]
    assert program.pid == before
    ping(program.port)
    program.configure("")
    assert program.replace() == before
    ping(program.port)


def test_a_place_that_somebody_else_has_changes_nothing(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        program.configure("", listen=address)
        before = program.pid
        os.kill(before, signal.SIGUSR2)
        wait_until(lambda: lines(program, "not handed over"))
        assert lines(program, "not handed over")[0]["reason"].startswith(address)
    ping(program.port)


def test_listening_elsewhere_from_then_on(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    before, old = program.pid, program.port
    program.configure("", listen=f"127.0.0.1:{port}")
    program.replace()
    wait_until(lambda: ended(before))
    ping(port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old), PATIENCE)


def test_a_unix_socket_goes_over(behind: int, tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    with Program(behind, tmp_path, listen=str(path)) as program:
        for _ in range(2):
            before = program.replace()
            wait_until(lambda before=before: ended(before))
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert b"MongoDB" in client.recv(1000)
    assert not path.exists(), "whoever has it last takes it along"


def test_a_second_wish_meanwhile_is_noted_and_no_more(program: Program) -> None:
    before = program.pid
    os.kill(before, signal.SIGUSR2)
    wait_until(lambda: lines(program, "handing over"))
    os.kill(before, signal.SIGUSR2)
    wait_until(lambda: program.pid != before)
    reasons = [line["reason"] for line in lines(program, "not handed over")]
    assert reasons == ["a new process is being started already"]


def test_ending_meanwhile_ends_both(program: Program) -> None:
    before = program.pid
    os.kill(before, signal.SIGUSR2)
    wait_until(lambda: lines(program, "handing over"))
    wait_until(lambda: children(before))
    [child] = children(before)
    os.kill(before, signal.SIGTERM)
    assert program.process.wait(PATIENCE) == 0
    wait_until(lambda: ended(child))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", program.port), PATIENCE)


def test_the_service_manager_follows(behind: int, tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(PATIENCE)

        def told() -> dict[str, str]:
            return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())

        environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3600000000", "WATCHDOG_PID": "1"}
        with Program(behind, tmp_path, environ=environ) as program:
            assert told() == {"READY": "1", "MAINPID": str(program.pid)}
            before = program.replace()
            assert told()["RELOADING"] == "1"
            assert told() == {"READY": "1", "MAINPID": str(program.pid)}
            assert told() == {"READY": "1", "MAINPID": str(program.pid)}
            assert told() == {"WATCHDOG": "1"}, "the new one has a watchdog of its own"
            wait_until(lambda: ended(before))
            program.stop()
            assert told()["STOPPING"] == "1"


def test_reload_replaces_a_program_whose_files_are_others(behind: int, tmp_path: Path) -> None:
    script = tmp_path / "mongo-session-proxy"

    def install() -> None:
        new = tmp_path / "new"
        new.write_text(
            f"#!{sys.executable}\n"
            "import sys\nfrom mongo_session_proxy import main\nsys.exit(main())\n"
        )
        new.chmod(0o755)
        new.replace(script)

    install()
    with Program(behind, tmp_path, command=[str(script)]) as program:
        before = program.pid
        program.reload()
        wait_until(lambda: lines(program, "configuration reloaded"))
        assert program.pid == before
        install()
        program.reload()
        wait_until(lambda: program.pid != before)
        [line] = lines(program, "handing over")
        assert line["command"][0] == str(script)
        ping(program.port)

"""systemd listens and the proxy serves. A stand-in does what systemd does: see sd_listen_fds(3)."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endurance.load import Load
from tests.endurance.program import Program, ended, upstream
from tests.endurance.restarts import PATIENT
from tests.endurance.storm import Storm
from tests.patience import PATIENCE, wait_until

#: Puts the descriptors that it is told of where systemd does, and becomes the program.
MANAGER = """
import fcntl, os, sys
high = [fcntl.fcntl(int(word), fcntl.F_DUPFD, 100) for word in sys.argv[1].split(",")]
for place, descriptor in enumerate(high):
    os.dup2(descriptor, 3 + place)
    os.close(descriptor)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(high))}
os.environ["LISTEN_FDNAMES"] = ":".join(["mongo-session-proxy.socket"] * len(high))
os.execv(sys.executable, [sys.executable, "-m", "proxy", *sys.argv[2:]])
"""


@pytest.fixture(scope="module")
def behind() -> Iterator[int]:
    with upstream() as port:
        yield port


def tcp() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=100)


def activated(behind: int, folder: Path, *sockets: socket.socket, **how: object) -> Program:
    """A program that systemd starts with these sockets; the first two are its usual ones."""
    descriptors = [sock.fileno() for sock in sockets]
    command = [sys.executable, "-c", MANAGER, ",".join(map(str, descriptors))]
    if "ports" not in how:
        how["ports"] = (sockets[0].getsockname()[1], sockets[1].getsockname()[1])
    return Program(behind, folder, command=command, pass_fds=descriptors, **how)


def waiting(sock: socket.socket) -> socket.socket:
    """A client that has asked, whether or not anybody answers yet."""
    client = socket.socket(sock.family)
    client.settimeout(PATIENCE)
    client.connect(sock.getsockname())
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client


def is_answered(client: socket.socket) -> None:
    with client:
        assert client.recv(1000).startswith(b"HTTP/1.")


def test_who_came_before_the_program_is_served_by_it(behind: int, tmp_path: Path) -> None:
    with tcp() as clients, tcp() as admin:
        for _ in range(2):
            early = [waiting(clients), waiting(admin)]
            with activated(behind, tmp_path, clients, admin):
                for client in (*early, waiting(clients), waiting(admin)):
                    is_answered(client)
        # It is gone, and systemd listens.
        waiting(clients).close()


def test_a_successor_gets_them_too(behind: int, tmp_path: Path) -> None:
    with tcp() as clients, tcp() as admin, activated(behind, tmp_path, clients, admin) as program:
        for _ in range(2):
            before = program.replace()
            wait_until(lambda before=before: ended(before))
            is_answered(waiting(clients))
            is_answered(waiting(admin))


def test_workers_replaced_under_load_serve_on_them_without_an_error(
    behind: int, tmp_path: Path
) -> None:
    settings = f"workers = 2\n{PATIENT}"
    with (
        tcp() as clients,
        tcp() as admin,
        activated(behind, tmp_path, clients, admin, settings=settings) as program,
    ):
        with Storm(program.port) as storm, Load(program.port) as load:
            load.wait(50)
            before = program.replace()
            load.wait(50)
        wait_until(lambda: ended(before))
        assert (load.errors, load.cut, storm.wrong, program.bugs()) == ([], 0, [], [])
        is_answered(waiting(clients))
        is_answered(waiting(admin))
        program.stop()
        # Whoever comes now waits for the next one.
        waiting(clients).close()


def test_a_path_is_systemds(behind: int, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as clients, tcp() as admin:
        clients.bind(str(path))
        clients.listen()
        ports = (0, admin.getsockname()[1])
        how = {"listen": str(path), "ports": ports}
        with activated(behind, tmp_path, clients, admin, **how) as program:
            before = program.replace()
            wait_until(lambda: ended(before))
            is_answered(waiting(clients))
        assert path.exists()


def test_one_that_no_setting_asks_for_is_said(behind: int, tmp_path: Path) -> None:
    with tcp() as clients, tcp() as admin, tcp() as other:
        with activated(behind, tmp_path, clients, admin, other) as program:
            said = "sockets that no setting asks for"
            wait_until(lambda: said in program.log.read_text())
        lines = map(json.loads, program.log.read_text().splitlines())
        [line] = [line for line in lines if line["event"] == said]
        assert line["addresses"] == [f"127.0.0.1:{other.getsockname()[1]}"]


def test_a_descriptor_that_is_no_listener_is_a_wrong_setting(behind: int, tmp_path: Path) -> None:
    with socket.socket() as idle, tcp() as admin:
        idle.bind(("127.0.0.1", 0))
        with pytest.raises(AssertionError, match="it ended"):
            activated(behind, tmp_path, idle, admin)
    assert "not a listening stream socket" in (tmp_path / "log").read_text()


def test_nothing_of_it_is_left_in_the_environment(behind: int, tmp_path: Path) -> None:
    with tcp() as clients, tcp() as admin, activated(behind, tmp_path, clients, admin) as program:
        program.replace()
        environ = Path(f"/proc/{program.pid}/environ").read_bytes().split(b"\0")
        assert not [one for one in environ if one.startswith(b"LISTEN_")]
        assert os.getpid() != program.pid

"""A change of a file is seen however it comes about, and only a change."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
import trio
from structlog.testing import capture_logs

from proxy.process import watching
from proxy.process.watching import Watch, folders_of
from proxy.settings.config import Config, load
from tests.patience import PATIENCE

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "STEP", 20)
    # Whatever is seen is told by the kernel.
    monkeypatch.setattr(watching, "ANYWAY", 10 * PATIENCE)


class Server:
    """Counts how often it is told to reload."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.log = structlog.get_logger()
        self.leaves = False
        self._told, self._seen = trio.open_memory_channel[None](100)

    def draining(self) -> bool:
        return self.leaves

    def reload(self) -> None:
        self._told.send_nowait(None)

    async def reloaded(self) -> None:
        """It was, once more."""
        with trio.fail_after(PATIENCE):
            await self._seen.receive()

    def not_again(self) -> None:
        with pytest.raises(trio.WouldBlock):
            self._seen.receive_nowait()


@asynccontextmanager
async def watched(*files: Path, config: Config | None = None) -> AsyncIterator[Server]:
    def sources() -> Iterable[Path]:
        return files

    server = Server(config or Config())
    watch = Watch(server, sources)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            await nursery.start(watch.run)
        yield server
        nursery.cancel_scope.cancel()


def replace(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


async def test_a_file_that_is_written_moved_taken_away_and_brought_back(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text("1")
    async with watched(path) as server:
        path.write_text("2")
        await server.reloaded()
        for text in ("3", "4"):
            replace(path, text)
            await server.reloaded()
        path.unlink()
        await server.reloaded()
        path.write_text("4")
        await server.reloaded()
        server.not_again()


async def test_what_holds_the_same_has_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text("1")
    with capture_logs() as logs:
        async with watched(path) as server:
            path.touch()
            replace(path, "1")
            (tmp_path / "another").write_text("2")
            path.chmod(0o600)
            replace(path, "2")
            await server.reloaded()
            server.not_again()
    changed = [line["files"] for line in logs if line["event"] == "files changed"]
    assert changed == [[str(path)]]


async def test_a_folder_as_kubernetes_keeps_it(tmp_path: Path) -> None:
    def make(name: str, text: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "proxy.toml").write_text(text)
        (tmp_path / "..data_tmp").symlink_to(name)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")

    make("..1", "one")
    path = tmp_path / "proxy.toml"
    path.symlink_to("..data/proxy.toml")
    async with watched(path) as server:
        make("..2", "two")
        await server.reloaded()
        make("..3", "two")
        # Of the folder that it is in by now.
        (tmp_path / "..3" / "proxy.toml").write_text("three")
        await server.reloaded()
        make("..4", "four")
        await server.reloaded()


async def test_links_through_other_folders(tmp_path: Path) -> None:
    for name in ("archive", "live", "own"):
        (tmp_path / name).mkdir()
    (tmp_path / "archive" / "1.pem").write_text("one")
    (tmp_path / "archive" / "2.pem").write_text("two")
    live, own = tmp_path / "live" / "chain.pem", tmp_path / "own" / "proxy.pem"
    live.symlink_to("../archive/1.pem")
    own.symlink_to(live)
    assert folders_of([own]) >= {str(tmp_path / name) for name in ("archive", "live", "own")}
    async with watched(own) as server:
        live.with_name("new").symlink_to("../archive/2.pem")
        os.replace(live.with_name("new"), live)
        await server.reloaded()
        (tmp_path / "archive" / "2.pem").write_text("three")
        await server.reloaded()


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert str(tmp_path) in folders_of([tmp_path / "a" / "c"])
    assert folders_of([tmp_path / "nowhere" / "c"]) == set()


async def test_files_that_the_settings_name(tmp_path: Path) -> None:
    for name in ("admin.token", "proxy.pem", "audit.jsonl", "upstream.pem"):
        (tmp_path / name).write_text(TOKEN)
    (tmp_path / "proxy.toml").write_text(
        'listen.tls.certificate = "proxy.pem"\nadmin.token_file = "admin.token"\n'
        f'audit.file = "audit.jsonl"\n[upstream]\naddress = "mongodb://db/?tlsCAFile={tmp_path}'
        '/upstream.pem"\n'
    )
    config = load(tmp_path / "proxy.toml")
    with capture_logs() as logs:
        async with watched(config=config) as server:
            (tmp_path / "audit.jsonl").write_text("a line")
            for name in ("proxy.pem", "admin.token", "upstream.pem"):
                replace(tmp_path / name, name)
                await server.reloaded()
            # Another one is named now.
            server.config = Config()
            replace(tmp_path / "proxy.pem", "once more")
            async with watched(tmp_path / "proxy.pem") as other:
                replace(tmp_path / "proxy.pem", "and again")
                await other.reloaded()
    changed = [line["files"] for line in logs if line["event"] == "files changed"]
    assert [Path(path).name for [path] in changed[:3]] == [
        "proxy.pem",
        "admin.token",
        "upstream.pem",
    ]


async def test_a_file_that_appears_in_a_folder_of_secrets(tmp_path: Path) -> None:
    async with watched(tmp_path) as server:
        (tmp_path / "MSP_ADMIN__TOKEN").write_text(TOKEN)
        await server.reloaded()


async def test_what_changes_before_it_runs_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text("1")
    server = Server(Config())
    watch = Watch(server, lambda: [path])
    path.write_text("2")
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        await server.reloaded()
        nursery.cancel_scope.cancel()


async def test_a_proxy_that_drains_does_not_reload(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text("1")
    async with watched(path) as server:
        server.leaves = True
        path.write_text("2")
        async with watched(path) as other:
            path.write_text("3")
            await other.reloaded()
        server.leaves = False
        path.write_text("4")
        await server.reloaded()


async def test_where_the_kernel_tells_nothing_it_looks_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def __init__(self, *_arguments: object) -> None:
            raise OSError("no more watches")

    monkeypatch.setattr(watching, "RustNotify", Refusing)
    monkeypatch.setattr(watching, "ANYWAY", 0.01)
    path = tmp_path / "proxy.toml"
    path.write_text("1")
    with capture_logs() as logs:
        async with watched(path) as server:
            replace(path, "2")
            await server.reloaded()
    [line] = [line for line in logs if line["log_level"] == "warning"]
    assert line["problem"] == "no more watches"

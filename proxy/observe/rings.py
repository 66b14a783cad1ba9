"""Blocks of rows as long as there is room: the oldest give way. In memory, or in files."""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from proxy.observe.blocks import HEAD_SIZE, Head, head_of, packed

if TYPE_CHECKING:
    from pathlib import Path

#: What a block in memory takes beside its bytes.
_OVERHEAD: Final = 250

#: A ring in files is made of so many.
_SEGMENTS: Final = 8

#: Rows wait in memory until there are so many, or they are so old (milliseconds).
_ROWS: Final = 500
_OLD: Final = 60_000

#: How often is written until it is looked what has to go.
_SELDOM: Final = 20


class Ring(Protocol):
    """Rows, each of which begins with its time in milliseconds since 1970."""

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Some more, which are about as old as each other."""

    def write(self, before: int) -> None:
        """Carry out what may take long, and forget what is older than ``before``. In a thread.

        Raises:
            OSError: the disk refuses; what was to be written is lost.
        """

    def blocks(self, since: int, until: int) -> Iterator[bytes]:
        """Those that may hold rows of this time, about the oldest first. In a thread."""

    def first(self) -> int:
        """When the oldest row is from; 0 where there is none."""

    def waiting(self) -> list[Sequence[Any]]:
        """Rows that are in no block yet."""


class MemoryRing:
    """In ``size`` bytes of memory at the most."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._blocks: deque[tuple[Head, bytes]] = deque()
        self._used = 0
        self._waiting: list[Sequence[Any]] = []
        #: What is too old is forgotten in a thread.
        self._lock = threading.Lock()

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        waiting = self._waiting
        waiting += rows
        if len(waiting) >= _ROWS or waiting[-1][0] - waiting[0][0] > _OLD:
            self._waiting = []
            block = packed(waiting)
            head = head_of(block)
            assert head is not None
            with self._lock:
                self._blocks.append((head, block))
                self._used += len(block) + _OVERHEAD
                while self._used > self._size and len(self._blocks) > 1:
                    self._forget()

    def write(self, before: int) -> None:
        with self._lock:
            while self._blocks and self._blocks[0][0].last < before:
                self._forget()

    def blocks(self, since: int, until: int) -> Iterator[bytes]:
        for head, block in list(self._blocks):
            if head.last >= since and head.first <= until:
                yield block

    def first(self) -> int:
        with self._lock:
            if self._blocks:
                return self._blocks[0][0].first
        return int(self._waiting[0][0]) if self._waiting else 0

    def waiting(self) -> list[Sequence[Any]]:
        return list(self._waiting)

    def _forget(self) -> None:
        _, block = self._blocks.popleft()
        self._used -= len(block) + _OVERHEAD


class FileRing:
    """In files of ``size`` bytes together whose names begin with ``prefix``.

    Each process writes files of its own: a successor goes on with the next one, and both read all.
    """

    def __init__(self, prefix: Path, size: int) -> None:
        self._prefix = prefix
        self._size = size
        self._name = re.compile(re.escape(prefix.name) + r"\.(\d{6,12})\.gz")
        self._own: Path | None = None
        self._written = 0
        self._writes = 0
        self._waiting: list[Sequence[Any]] = []
        #: By file: the blocks in it that are known, and where the next one begins.
        self._known: dict[Path, tuple[list[tuple[int, Head]], int]] = {}

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        self._waiting += rows

    def write(self, before: int) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _ROWS):
            block = packed(waiting[start : start + _ROWS])
            full = self._written + len(block) > self._size // _SEGMENTS
            own = self._own if self._own is not None and self._own.exists() and not full else None
            self._append(own or self._begin(), block)
            self._written += len(block)
        self._writes += 1
        if self._writes % _SELDOM == 1:
            self._trim(before)

    def _append(self, path: Path, block: bytes) -> None:
        try:
            with path.open("ab") as file:
                file.write(block)
        except OSError as error:
            # Behind half a block, which a full disk has left, no other would be found.
            try:
                os.truncate(path, self._written)
            except OSError:
                self._own = None
            raise OSError(error.errno, error.strerror, str(path)) from error

    def blocks(self, since: int, until: int) -> Iterator[bytes]:
        for path in self._files():
            with suppress(FileNotFoundError), path.open("rb") as file:
                for at, head in self._heads(path, file.fileno()):
                    if head.last >= since and head.first <= until:
                        yield os.pread(file.fileno(), head.size, at)

    def first(self) -> int:
        for path in self._files():
            with suppress(FileNotFoundError), path.open("rb") as file:
                head = head_of(file.read(HEAD_SIZE))
                if head is not None:
                    return head.first
        return int(self._waiting[0][0]) if self._waiting else 0

    def waiting(self) -> list[Sequence[Any]]:
        return list(self._waiting)

    def _heads(self, path: Path, descriptor: int) -> list[tuple[int, Head]]:
        """The blocks in a file, which may have grown."""
        known, at = self._known.get(path, ([], 0))
        # A new list where there is more: others may read at the same time.
        more: list[tuple[int, Head]] = []
        length = os.fstat(descriptor).st_size
        if length < at:
            # Another one of the name: somebody has taken away the first.
            known, at = [], 0
        while at + HEAD_SIZE <= length:
            head = head_of(os.pread(descriptor, HEAD_SIZE, at))
            if head is None or at + head.size > length:
                # Torn, or being written.
                break
            more.append((at, head))
            at += head.size
        heads = known + more if more else known
        self._known[path] = heads, at
        return heads

    def _files(self) -> list[Path]:
        """From the oldest to the latest."""
        found = [
            (int(matched[1]), path)
            for path in self._prefix.parent.iterdir()
            if (matched := self._name.fullmatch(path.name))
        ]
        return [path for _, path in sorted(found)]

    def _begin(self) -> Path:
        """Go on in a file that is nobody else's."""
        files = self._files()
        latest = self._name.fullmatch(files[-1].name) if files else None
        number = int(latest[1]) if latest else 0
        while True:
            number += 1
            path = self._prefix.with_name(f"{self._prefix.name}.{number:06}.gz")
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                self._own, self._written = path, 0
                return path

    def _trim(self, before: int) -> None:
        sizes: list[tuple[Path, int, float]] = []
        for path in self._files():
            with suppress(FileNotFoundError):
                found = path.stat()
                sizes.append((path, found.st_size, found.st_mtime))
        used = sum(size for _, size, _ in sizes)
        for path, size, changed in sizes:
            if path == self._own or (used <= self._size and changed * 1000 >= before):
                break
            path.unlink(missing_ok=True)
            used -= size
        # Others trim them too.
        for gone in self._known.keys() - set(self._files()):
            self._known.pop(gone, None)

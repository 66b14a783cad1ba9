"""What the processes of one proxy say to each other, over a pair of unix sockets.

One side starts the other, so that they trust each other and speak in pickles. Either may ask,
which waits for the answer, or tell, which never waits; open sockets can go along. What is said
first arrives first.
"""

from __future__ import annotations

import array
import inspect
import os
import pickle
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import trio

from proxy import logs

#: A message's length in bytes and the number of sockets that come with it.
_HEAD: Final = struct.Struct("<II")
#: What the kernel takes at a time is 253.
MOST_SOCKETS: Final = 200
_READ: Final = 262_144

#: Bytes behind which whoever has much to tell waits.
_MUCH: Final = 4_000_000

#: Bytes that may wait for the other side to read them. One that is so far behind is lost.
_MOST_WAITING: Final = 256_000_000

#: What is to be done about it.
RENEWED: Final = (
    "the program's files were replaced since it started, and new workers are of another version:"
    " hand over to the new program (SIGUSR2)"
)

Handler = Callable[..., Any]

#: Of which kind it is, the question's number, what is said, and what about.
_Message = tuple[str, int, Any, Any]


class ChannelClosedError(Exception):
    """The other side is gone, or cannot follow."""


class AnswerError(Exception):
    """The other side failed at what it was asked; the text says how."""


class Channel:
    """One end. Sockets that go along arrive as a list, as the last argument.

    Where this process is out of descriptors they do not: then the handler is not called, and the
    other side's for ``"lost"`` is, with what was said and its arguments.

    ``renewed`` says that the program's files were replaced between the starts of the two: what one
    says the other may not understand. That is no fault of either, and logged once.
    """

    def __init__(self, sock: socket.socket, *, renewed: bool = False) -> None:
        sock.setblocking(False)
        self._sock = sock
        self.renewed = renewed
        self._misunderstood = False
        self._out: deque[tuple[memoryview, list[int]]] = deque()
        self._waiting = 0
        self._filled = trio.Event()
        self._sent = trio.Event()
        self._asked: dict[int, tuple[trio.Event, list[Any]]] = {}
        self._number = 0
        self._closed = False
        self._lost = logs.Seldom(logs.logger(), "failed between processes", error=True)
        #: Set when nothing more will be heard.
        self.ended = trio.Event()

    @classmethod
    def pair(cls, *, renewed: bool = False) -> tuple[Channel, socket.socket]:
        """An end for this process and the socket for another one's."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(ours, renewed=renewed), theirs

    @property
    def closed(self) -> bool:
        """Whether nothing more can be said."""
        return self._closed

    async def room(self) -> None:
        """Wait until the other side has taken most of what it was told."""
        while self._waiting > _MUCH and not self._closed:
            self._sent = trio.Event()
            await self._sent.wait()

    def tell(self, what: str, *arguments: object, sockets: Sequence[socket.socket] = ()) -> None:
        """Have the other side's handler called; nobody learns what came of it."""
        self._say(("tell", 0, what, arguments), sockets)

    async def ask(self, what: str, *arguments: object) -> Any:  # noqa: ANN401 - the handler's
        """Have the other side's handler called, and return what it returns.

        Raises:
            AnswerError: the handler raised.
            ChannelClosedError: no answer will come.
        """
        if self._closed:
            raise ChannelClosedError
        self._number += 1
        number = self._number
        arrived, answer = trio.Event(), list[Any]()
        self._asked[number] = arrived, answer
        try:
            self._say(("ask", number, what, arguments), ())
            await arrived.wait()
        finally:
            del self._asked[number]
        if not answer:
            raise ChannelClosedError
        if answer[0] == "error":
            raise AnswerError(answer[1])
        return answer[1]

    async def run(self, handlers: Mapping[str, Handler]) -> None:
        """Serve what the other side says until it is gone; coroutines run beside each other."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read(handlers, nursery)
                nursery.cancel_scope.cancel()
        finally:
            self.close()

    def close(self) -> None:
        """Say and hear nothing more."""
        if self._closed:
            return
        self._closed = True
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
        for _, files in self._out:
            _close(files)
        self._out.clear()
        self._waiting = 0
        self._filled.set()
        self._sent.set()
        self.ended.set()
        for arrived, _ in self._asked.values():
            arrived.set()

    # ------------------------------------------------------------------ out

    def _say(self, message: tuple[Any, ...], sockets: Sequence[socket.socket]) -> None:
        if self._closed:
            return
        files: list[int] = []
        try:
            # Duplicates: the caller may close its own before they are sent.
            for sock in sockets:
                files.append(os.dup(sock.fileno()))  # noqa: PERF401 - none may be lost
        except OSError as error:
            # Without them the other side would do half of what it is to do, and nobody would know.
            logs.logger().error("failed between processes", what=message[2], problem=str(error))
            _close(files)
            self.close()
            return
        body = pickle.dumps(message, protocol=5)
        if len(files) > MOST_SOCKETS or self._waiting + len(body) > _MOST_WAITING:
            _close(files)
            self.close()
            return
        frame = _HEAD.pack(len(body), len(files)) + body
        self._waiting += len(frame)
        self._out.append((memoryview(frame), files))
        self._filled.set()

    async def _write(self) -> None:
        while not self._closed:
            while self._out:
                frame, files = self._out[0]
                try:
                    sent = await self._send_some(frame, files)
                except (OSError, trio.ClosedResourceError):
                    self.close()
                    return
                _close(files)
                self._waiting -= sent
                self._sent.set()
                if sent == len(frame):
                    self._out.popleft()
                else:
                    self._out[0] = frame[sent:], []
            self._filled = trio.Event()
            await self._filled.wait()

    async def _send_some(self, frame: memoryview, files: list[int]) -> int:
        while True:
            try:
                return _send(self._sock, frame, files)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._sock)

    # ------------------------------------------------------------------ in

    async def _read(self, handlers: Mapping[str, Handler], nursery: trio.Nursery) -> None:
        # What the kernel gives at a time has the descriptors of one message at the most.
        data, came = bytearray(), deque[list[int]]()
        try:
            while True:
                try:
                    some, files = _receive(self._sock)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self._sock)
                    continue
                if files is not None:
                    came.append(files)
                if not some:
                    return
                data += some
                while len(data) >= _HEAD.size:
                    length, count = _HEAD.unpack_from(data)
                    if len(data) < _HEAD.size + length:
                        break
                    body = bytes(data[_HEAD.size : _HEAD.size + length])
                    del data[: _HEAD.size + length]
                    files = came.popleft() if count else []
                    message = self._message(body)
                    if message is None:
                        _close(files)
                        if self.renewed:
                            continue  # the rest may be understood, and clients are served
                        return
                    if len(files) < count:
                        _close(files)
                        self._without(message)
                        continue
                    sockets = [socket.socket(fileno=fd) for fd in files]
                    self._heard(message, sockets, handlers, nursery)
                    # News come in many messages; clients have their turn in between.
                    await trio.lowlevel.checkpoint()
        except (OSError, trio.ClosedResourceError):
            return
        finally:
            for files in came:
                _close(files)

    def _without(self, message: _Message) -> None:
        """Sockets that should have come with it did not."""
        _, _, what, arguments = message
        problem = "no descriptors for the sockets that came with it"
        self._lost.warn(trio.current_time(), what=what, problem=problem)
        self.tell("lost", what, arguments)

    def _heard(
        self,
        message: _Message,
        sockets: list[socket.socket],
        handlers: Mapping[str, Handler],
        nursery: trio.Nursery,
    ) -> None:
        kind, number, what, arguments = message
        if kind in ("answer", "error"):
            if number in self._asked:
                arrived, answer = self._asked[number]
                answer += (kind, what)
                arrived.set()
            return
        if sockets:
            arguments = (*arguments, sockets)
        try:
            made = handlers[what](*arguments)
        except Exception as error:
            self._failed(number, what, error)
            return
        if inspect.isawaitable(made):
            nursery.start_soon(self._finish, number, what, made)
        elif number:
            self._say(("answer", number, made, ()), ())

    async def _finish(self, number: int, what: str, made: Awaitable[Any]) -> None:
        try:
            answer = await made
        except Exception as error:
            self._failed(number, what, error)
        else:
            if number:
                self._say(("answer", number, answer, ()), ())

    def _failed(self, number: int, what: str, error: Exception) -> None:
        self._report(what, error)
        if number:
            self._say(("error", number, f"{type(error).__name__}: {error}", ()), ())

    def _message(self, body: bytes) -> _Message | None:
        """What was said; None where it cannot be read here, as the other side may be of another
        version."""
        try:
            kind, number, what, arguments = pickle.loads(body)
        except Exception as error:
            self._report("", error)
            return None
        return kind, number, what, arguments

    def _report(self, what: str, error: Exception) -> None:
        if not self.renewed:
            logs.logger().error("failed between processes", what=what, exc_info=error)
        elif not self._misunderstood:
            self._misunderstood = True
            problem = f"{type(error).__name__}: {error}"
            logs.logger().error("not understood", what=what, problem=problem, help=RENEWED)


def _send(sock: socket.socket, frame: memoryview, files: list[int]) -> int:
    if not files:
        return sock.send(frame)
    rights = array.array("i", files)
    return sock.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def _receive(sock: socket.socket) -> tuple[bytes, list[int] | None]:
    """Some bytes, none at the end, and the descriptors that came with them, None for none.

    Those that there was no room for in this process are missing.
    """
    files = array.array("i")
    room = socket.CMSG_SPACE(MOST_SOCKETS * files.itemsize)
    data, ancillary, flags, _ = sock.recvmsg(_READ, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(content[: len(content) - len(content) % files.itemsize])
    # Cut off where the process can have no more: the kernel closes the rest.
    return data, list(files) if ancillary or flags & socket.MSG_CTRUNC else None


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)
    files.clear()

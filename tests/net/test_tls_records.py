"""Records between two buffers, over a socket that brings and takes what the test says."""

from __future__ import annotations

import itertools
import ssl
from collections import deque
from collections.abc import Iterable, Iterator

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from proxy.net.tls_records import ENDED, Records, reason

AUTHORITY = trustme.CA()


def contexts(version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    AUTHORITY.issue_cert("localhost").configure_cert(server)
    AUTHORITY.configure_trust(client)
    client.minimum_version = client.maximum_version = version
    return server, client


VERSIONS = {v: contexts(v) for v in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)}


class Line:
    """Stands for the socket: ``there`` is what has come, ``out`` what was sent."""

    def __init__(self) -> None:
        self.there: deque[bytes] = deque()
        self.ended = False
        self.out = bytearray()
        #: How much each call to send takes; 0 where it would have to wait.
        self.room: Iterator[int] = itertools.repeat(1 << 30)

    def recv(self, size: int) -> bytes:
        if not self.there:
            if self.ended:
                return b""
            raise BlockingIOError
        data = self.there.popleft()
        if len(data) > size:
            self.there.appendleft(data[size:])
        return data[:size]

    def send(self, data: bytes | memoryview) -> int:
        room = min(next(self.room), len(data))
        if not room:
            raise BlockingIOError
        self.out += data[:room]
        return room

    def sendmsg(self, parts: Iterable[bytes | memoryview]) -> int:
        return self.send(b"".join(parts))


class Pair:
    """:class:`Records` at one end, OpenSSL as it comes at the other, after their handshake."""

    def __init__(
        self,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        *,
        server_side: bool = True,
    ) -> None:
        server, client = VERSIONS[version]
        self.line = Line()
        self.records = Records(
            self.line,  # type: ignore[arg-type]
            server if server_side else client,
            server_side=server_side,
            server_name="" if server_side else "localhost",
        )
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.peer = (client if server_side else server).wrap_bio(
            self.incoming,
            self.outgoing,
            not server_side,
            "localhost" if server_side else None,
        )
        done = peer_done = False
        while not (done and peer_done):
            done = done or self.records.shake()
            if self.records.urgent:
                assert self.records.flush()
            self._to_peer()
            if not peer_done:
                try:
                    self.peer.do_handshake()
                    peer_done = True
                except ssl.SSLWantReadError:
                    pass
            if said := self.outgoing.read():
                self.records.feed(said)
        # What TLS 1.3 has to say behind it is none of the tests'.
        if server_side:
            self.records.flush()
        self.heard()
        with pytest.raises(BlockingIOError):
            self.records.take()

    def _to_peer(self) -> None:
        self.incoming.write(bytes(self.line.out))
        self.line.out.clear()

    def says(self, *messages: bytes) -> bytes:
        """The records in which the peer says these."""
        for message in messages:
            view = memoryview(message)
            while view:
                view = view[self.peer.write(view) :]
        return self.outgoing.read()

    def heard(self) -> bytes:
        """What the peer got until now."""
        self._to_peer()
        got = b""
        try:
            while part := self.peer.read(65_536):
                got += part
        except ssl.SSLWantReadError:
            pass
        return got


def pieces(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    for size in itertools.cycle(sizes):
        if not data:
            return
        yield data[:size]
        data = data[size:]


def everything(pair: Pair, size: int) -> bytes:
    """All that can be received now, and nothing may be left in OpenSSL when the line is empty."""
    got = []
    while pair.line.there:
        try:
            got.append(pair.records.recv(size))
        except BlockingIOError:
            continue
        assert pair.records._incoming.pending == 0
        assert pair.records._object.pending() == 0
    return b"".join(got)


#: Around what records and pieces hold, and anything else.
SIZES = st.one_of(
    st.integers(1, 400),
    st.sampled_from([5, 16_383, 16_384, 16_385, 16_406, 65_535, 65_536, 65_537]),
    st.integers(1, 200_000),
)
EITHER = pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])


@EITHER
@given(
    messages=st.lists(SIZES, min_size=1, max_size=6),
    cuts=st.lists(SIZES, min_size=1, max_size=4),
    size=SIZES,
    server_side=st.booleans(),
)
def test_however_the_stream_is_cut_the_same_arrives(version, messages, cuts, size, server_side):
    pair = Pair(version, server_side=server_side)
    said = [bytes([number]) * length for number, length in enumerate(messages, 1)]
    pair.line.there += pieces(pair.says(*said), [max(cut, 50) for cut in cuts])
    assert everything(pair, size) == b"".join(said)
    assert pair.records.over is None


@EITHER
@given(
    messages=st.lists(SIZES.flatmap(lambda n: st.sampled_from([n, n * 5])), max_size=4),
    room=st.lists(st.one_of(st.just(0), SIZES), min_size=1, max_size=5).filter(any),
)
def test_however_much_the_socket_takes_the_same_is_sent(version, messages, room):
    pair = Pair(version)
    pair.line.room = itertools.cycle(room)
    got = b""
    said = [bytes([number]) * length for number, length in enumerate(messages, 1)]
    for message in said:
        rest = memoryview(message)
        while rest:
            try:
                sent = pair.records.send(rest)
            except BlockingIOError:
                continue
            assert sent <= len(rest)
            rest = rest[sent:]
            got += pair.heard()
            # What may have to be waited for is told before it counts as sent.
            assert rest or pair.records.unsent == 0
    assert got == b"".join(said)


def test_a_message_that_was_given_up_leaves_the_stream_whole():
    pair = Pair()
    pair.line.room = iter([100, 0, *[1 << 30] * 9])
    assert pair.records.send(b"a" * 1000) == 0
    pair.records.forget()
    assert pair.records.send(b"b" * 10) == 0
    assert pair.records.send(b"b" * 10) == 10
    assert pair.heard() == b"a" * 1000 + b"b" * 10


@EITHER
def test_what_came_before_the_end_arrives_before_it(version):
    pair = Pair(version)
    last = pair.says(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        pair.peer.unwrap()
    pair.line.there.append(last + pair.outgoing.read())
    assert pair.records.recv(1000) == b"last words"
    assert pair.records.over == ENDED
    assert pair.records.has_more
    for _ in range(2):
        assert pair.records.take() == b""


@pytest.mark.parametrize("cut", [0, 1, 5, 20, -1])
def test_a_stream_that_ends_anywhere_has_ended(cut):
    pair = Pair()
    pair.line.there += [pair.says(b"whole"), pair.says(b"x" * 100)[: cut or None]]
    pair.line.ended = True
    assert pair.records.recv(1000) == b"whole"
    if cut:
        with pytest.raises(BlockingIOError):
            pair.records.recv(1000)
    else:
        assert pair.records.recv(1000) == b"x" * 100
    assert pair.records.recv(1000) == b""
    assert pair.records.over == ENDED
    # A peer that has only closed its own half can still be answered.
    assert pair.records.send(b"all the same") == 12
    assert pair.heard() == b"all the same"


@EITHER
def test_what_is_no_record_is_told_both_sides(version):
    pair = Pair(version)
    forged = bytearray(pair.says(b"x" * 100))
    forged[-1] ^= 1
    pair.line.there.append(pair.says(b"good"[:0]) + bytes(forged))
    with pytest.raises(ConnectionError, match=r"(?i)bad record mac") as told:
        pair.records.recv(1000)
    assert "_ssl.c" not in str(told.value)
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        pair.heard()
    for _ in range(2):
        with pytest.raises(ConnectionError):
            pair.records.take()


def test_what_came_before_something_wrong_arrives_before_it():
    pair = Pair()
    pair.line.there.append(pair.says(b"good") + b"\x17\x03\x03\x00\x20" + bytes(32))
    assert pair.records.recv(1000) == b"good"
    with pytest.raises(ConnectionError):
        pair.records.take()


@EITHER
def test_an_alert_is_told_in_its_words(version):
    pair = Pair(version, server_side=False)
    # The peer finds fault with what it got, and says so.
    pair.records.send(b"x" * 100)
    pair.line.out[-1] ^= 1
    with pytest.raises(ssl.SSLError):
        pair.heard()
    pair.line.there.append(pair.outgoing.read())
    with pytest.raises(ConnectionError, match="alert bad record mac"):
        pair.records.recv(1000)


@EITHER
def test_goodbye_is_said_once_and_behind_everything(version):
    pair = Pair(version)
    pair.line.room = iter([10, 1 << 30, 1 << 30, 1 << 30])
    pair.records.send(b"x" * 100)
    pair.records.say_goodbye()
    pair.records.say_goodbye()
    pair._to_peer()
    assert pair.peer.read(1000) == b"x" * 100
    assert pair.peer.read(1000) == b""


def test_tickets_wait_for_the_first_answer():
    server, client = VERSIONS[ssl.TLSVersion.TLSv1_3]
    line = Line()
    records = Records(line, server, server_side=True)  # type: ignore[arg-type]
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        peer.do_handshake()
    records.feed(outgoing.read())
    assert not records.shake()
    assert records.urgent
    records.flush()
    incoming.write(bytes(line.out))
    line.out.clear()
    peer.do_handshake()
    records.feed(outgoing.read())
    assert records.shake()
    assert not records.urgent
    assert not line.out
    assert records.send(b"the answer") == 10
    incoming.write(bytes(line.out))
    assert peer.read(100) == b"the answer"
    assert peer.session is not None
    assert peer.session.has_ticket


def test_a_peer_that_asks_and_asks_and_reads_nothing_is_given_up():
    pair = Pair()
    pair.line.room = itertools.repeat(0)
    for _ in range(4):
        # As if TLS had answered: Python's ssl cannot ask for new keys.
        pair.records._outgoing.write(bytes(20_000))
        pair.line.there.append(pair.says(b"x"))
        assert pair.records.recv(100) == b"x"
    with pytest.raises(ConnectionError, match="reads none"):
        pair.records.take()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(), "OSError"),
        (ConnectionResetError(104, "reset"), "[Errno 104] reset"),
        (ssl.SSLError(1, "[SSL: X] x (_ssl.c:1006)"), "[SSL: X] x"),
    ],
)
def test_words(error, words):
    assert reason(error).endswith(words)
    assert "_ssl.c" not in reason(error)

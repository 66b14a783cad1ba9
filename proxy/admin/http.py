"""The admin endpoint: HTTP from bytes to requests and back, and who may ask.

h11 on trio rather than an ASGI framework and server: they take 100 ms more to import, a
fifth of the time in which the proxy promises to be up, and all there is are a few pages.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qs

import h11
import trio

from proxy import logs
from proxy.addresses import Address, parse_address
from proxy.admin.messages import (
    JSON,
    MOST_BODY,
    TEXT,
    UNAUTHORIZED,
    WRONG_TOKEN,
    Answer,
    TooLongError,
    body_of,
    next_request,
    send,
    text,
)
from proxy.net.inherited import NOTHING, Inherited
from proxy.net.listeners import Listener, open_listener

#: A request has to be whole, and its answer sent, within this many seconds.
_PATIENCE: Final = 10.0
#: What an answer may take to make: a kill waits for upstream.
_WORK: Final = 30.0
#: Connections that wait in the kernel.
_BACKLOG: Final = 1024
_MOST_CONNECTIONS: Final = 64
#: Beside them, for vital pages alone while all the others wait for their answers.
_RESERVED: Final = 16
#: Fields of a query; further ones are a mistake.
_MOST_FIELDS: Final = 50

_READS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: the query's fields (the first of each name), some headers and the body.

    ``client`` is the address that it came from; ``trusted`` that it may see everything;
    ``token`` is "right", "wrong" or "none", and ``operator`` the name which that has, if any.
    """

    query: Mapping[str, str] = field(default_factory=dict)
    accept: str = ""
    body: bytes = b""
    client: str = ""
    trusted: bool = True
    token: str = "right"
    operator: str = ""

    @property
    def authorized(self) -> bool:
        """Whether a token was shown that is known."""
        return self.token == "right"


#: What callers may show, each behind the name of the operator whose it is ("": nobody's).
Operators = Sequence[tuple[str, str]]
#: What callers have to show, or what tells that for each request; None for no token.
Token = str | Callable[[], Operators] | None


@dataclass(frozen=True, slots=True)
class Page:
    """One path. ``method`` is GET (then HEAD does too) or POST, which takes JSON.

    An ``open`` page needs no token anywhere; it may look at :attr:`Asked.trusted`. One that
    ``previews`` needs none on loopback and looks at :attr:`Asked.authorized` before it does
    anything. A ``vital`` one is shown however many connections there are.
    """

    make: Callable[[Asked], Awaitable[Answer]]
    method: str = "GET"
    open: bool = False
    previews: bool = False
    vital: bool = False


async def listen(address: str, inherited: Inherited = NOTHING) -> Listener:
    """Open ``address`` (host:port), or take the sockets that are ``inherited`` for it.

    Raises:
        OSError: nothing can listen there; ``filename`` is the address.
    """
    return await open_listener(
        inherited.admin(parse_address(address)), Address(), _BACKLOG, inherited
    )


async def serve(
    where: str | Listener,
    table: Mapping[str, Page],
    token: Token = None,
    refused: Callable[[], None] = lambda: None,
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on an address (host:port) or an open listener until cancelled, and close that.

    ``started`` gets the actual address. On loopback ``token`` is asked of whoever changes
    something; elsewhere, of everybody. ``refused`` is called for each that is wrong.

    Raises:
        OSError: nothing can listen there; ``filename`` is the address.
    """
    listener = await listen(where) if isinstance(where, str) else where
    host, port = listener.sockets[0].getsockname()[:2]
    site = Site(table, local_only=ip_address(host).is_loopback, token=token, refused=refused)
    listeners = [
        trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in listener.sockets
    ]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, site.handle, listeners)
        task_status.started(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


class Site:
    """Serves connections; nothing that goes wrong on one of them leaves :meth:`handle`."""

    def __init__(
        self,
        table: Mapping[str, Page],
        *,
        local_only: bool,
        token: Token = None,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._table = table
        self._local_only = local_only
        known: Operators = [("", token)] if isinstance(token, str) else ()
        self._operators = token if callable(token) else lambda: known
        self._open = 0
        #: Connections whose clients are awaited, to ask or to read their answer, longest first: who
        #: it is, and how to end it.
        self._waiting: dict[trio.SocketStream, tuple[str, trio.CancelScope]] = {}
        self._log = logs.logger()
        self._refused = refused
        self._warning = logs.Seldom(self._log, "admin token refused")

    async def handle(self, stream: trio.SocketStream) -> None:
        """Answer requests on ``stream`` until either side has enough, then close it."""
        self._open += 1
        try:
            # Whoever makes room is still there for a moment.
            room = self._open <= _MOST_CONNECTIONS or self._make_room()
            if room or self._open <= _MOST_CONNECTIONS + _RESERVED:
                await self._converse(stream, crowded=not room)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.LocalProtocolError):
            pass
        except Exception:
            self._log.exception("admin request failed")
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    def _make_room(self) -> bool:
        """End the connection that waits for the longest, of whoever has the most that wait."""
        peers = Counter(peer for peer, _ in self._waiting.values())
        if not peers:
            return False
        most = max(peers.values())
        victim = next(one for one, (peer, _) in self._waiting.items() if peers[peer] == most)
        self._waiting.pop(victim)[1].cancel()
        return True

    async def _converse(self, stream: trio.SocketStream, *, crowded: bool) -> None:
        connection = h11.Connection(h11.SERVER)
        alive = True
        while alive:
            work: Callable[[], Awaitable[Answer]] | None = None
            path = ""
            head = False
            with trio.move_on_after(_PATIENCE) as reading:
                self._waiting[stream] = _peer(stream), reading
                try:
                    request = await next_request(stream, connection)
                    if request is None:
                        return
                    head = request.method == b"HEAD"
                    verdict = self._admit(request, _peer(stream), crowded)
                    if isinstance(verdict, Answer):
                        await self._refuse(stream, connection, verdict, head=head)
                        return
                    page, asked = verdict
                    body = await body_of(stream, connection)
                    path = request.target.partition(b"?")[0].decode("latin-1")
                    work = partial(page.make, _with_body(asked, body))
                except h11.RemoteProtocolError as error:
                    answer = text(error.error_status_hint, "cannot be read as HTTP")
                    await send(stream, connection, answer, close=True)
                    return
                except TooLongError:
                    answer = text(413, f"a body may have {MOST_BODY} bytes")
                    await send(stream, connection, answer, close=True)
                    return
                finally:
                    self._waiting.pop(stream, None)
            if work is None or reading.cancelled_caught:
                return
            answer = await self._make(work, path)
            alive = False
            with trio.move_on_after(_PATIENCE) as sending:
                # Nor does it keep others out who does not read.
                self._waiting[stream] = _peer(stream), sending
                try:
                    await send(stream, connection, answer, head=head)
                    alive = connection.our_state is h11.DONE
                finally:
                    self._waiting.pop(stream, None)
            alive = alive and not crowded
            if alive:
                connection.start_next_cycle()

    async def _refuse(
        self, stream: trio.SocketStream, connection: h11.Connection, answer: Answer, *, head: bool
    ) -> None:
        # A body is not read for somebody who is refused, so the connection has to end.
        await send(stream, connection, answer, close=True, head=head)

    async def _make(self, work: Callable[[], Awaitable[Answer]], path: str) -> Answer:
        answer = text(503, "took too long; ask for less, or again later")
        with trio.move_on_after(_WORK):
            try:
                answer = await work()
            except Exception:
                self._log.exception("admin page failed", path=path)
                answer = text(500, "failed; the log says why")
        return answer

    def _admit(
        self, request: h11.Request, client: str, crowded: bool
    ) -> Answer | tuple[Page, Asked]:
        """The page that is asked for, or why it is not shown."""
        headers = {name: value.decode("latin-1") for name, value in request.headers}
        if b"transfer-encoding" in headers and b"content-length" in headers:
            # Somebody in between may have gone by the other one (RFC 9112, 6.1).
            return text(400, "a body has one length")
        if self._local_only and not _names_this_machine(headers.get(b"host", "")):
            return text(421, "ask for localhost or an address")
        path, _, query_string = request.target.decode("latin-1").partition("?")
        page = self._table.get(path)
        if page is None:
            return text(404, "no such page; /help lists them")
        if crowded and not page.vital:
            return text(503, "too many connections; ask again later")
        method = request.method.decode("latin-1")
        allowed = _READS if page.method == "GET" else (page.method,)
        if method not in allowed:
            answer = text(405, " or ".join(allowed))
            return Answer(405, TEXT, answer.body, (("allow", ", ".join(allowed)),))
        authorization = headers.get(b"authorization", "")
        operator = self._operator(authorization, client)
        authorized = operator is not None
        token = "right" if authorized else "wrong" if authorization else "none"
        trusted = authorized or self._local_only
        if page.method == "POST":
            # Whoever shows a wrong token is told so, also where none is needed.
            previews = page.previews and not authorization
            trusted = self._may_post(authorized, previews=previews)
        if not (page.open or trusted):
            return WRONG_TOKEN if authorization else UNAUTHORIZED
        if page.method == "POST" and _media_type(headers) != JSON:
            # What a form on somebody else's web page cannot send.
            return text(415, f"the content type has to be {JSON}")
        try:
            fields = parse_qs(query_string, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError:
            return text(400, f"a query may have {_MOST_FIELDS} fields")
        query = {name: values[0] for name, values in fields.items()}
        accept = headers.get(b"accept", "")
        return page, Asked(query, accept, b"", client, trusted, token, operator or "")

    def _operator(self, authorization: str, client: str) -> str | None:
        """Whose token an Authorization header shows; None where it shows none that is known."""
        scheme, _, given = authorization.partition(" ")
        operators = self._operators()
        if not operators or scheme.lower() != "bearer":
            return None
        shown = given.strip().encode("latin-1")
        # All are compared, so that the time tells nothing.
        found = [name for name, token in operators if hmac.compare_digest(shown, token.encode())]
        if found:
            return found[0]
        self._refused()
        self._warning.warn(trio.current_time(), client=client)
        return None

    def _may_post(self, authorized: bool, *, previews: bool) -> bool:
        # Without a token there are only previews, and the page itself refuses the rest.
        return authorized or (self._local_only and (previews or not self._operators()))


def _media_type(headers: Mapping[bytes, str]) -> str:
    return headers.get(b"content-type", "").partition(";")[0].strip().lower()


def _with_body(asked: Asked, body: bytes) -> Asked:
    return replace(asked, body=body)


def _peer(stream: trio.SocketStream) -> str:
    try:
        return str(stream.socket.getpeername()[0])
    except (OSError, AttributeError):
        return ""


def _names_this_machine(host: str) -> bool:
    """Whether a Host header is an address or localhost.

    A web page elsewhere can give its own name a loopback address and have the operator's
    browser read what is here (DNS rebinding); its requests still carry that name.
    """
    name = host.rpartition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    if name.lower() in ("", "localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True

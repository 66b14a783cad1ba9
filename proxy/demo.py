"""A short conversation with PyMongo through a proxy, and what the proxy saw of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import pymongo
import trio
from pymongo.errors import PyMongoError

from proxy import logs
from proxy.embedded import EmbeddedUpstream, EmbeddedUser
from proxy.process.starting import serve
from proxy.settings.config import Config, load
from proxy.settings.process import Embedded

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

    from proxy.process.server import Running, Server
    from proxy.process.source import Source

Document = dict[str, Any]
Client = pymongo.MongoClient[Document]

_LOCAL: Final = "127.0.0.1"
_DEADLINE: Final = 30.0
_USERS: Final = (
    EmbeddedUser("alice", "admin", "wonderland", (("readWrite", "shop"),)),
    EmbeddedUser("olivia", "admin", "looking-glass", (("root", "admin"),)),
)

_PREFIX: Final = "mongo_session_proxy_"

#: Columns worth a terminal's width, of those a listing has.
_COLUMNS: Final = (
    "conn", "session", "owner", "user", "application", "driver", "driver_version",
    "transaction", "txn_number", "cursors", "ended", "requests", "command",
)  # fmt: skip
#: Of sessions where all has to stand on one screen of 80 columns, with room for two more.
_FEW: Final = ("session", "owner", "application", "what")

#: What of the metrics is told in words, where their value is not 0.
_COUNTED: Final = (
    ('requests_total{command="', "requests"),
    ("transactions_started_total", "transactions"),
    ('transactions_ended_total{outcome="committed"}', "committed"),
    ("retryable_writes_total", "retryable writes"),
    ('sessions_ended_total{reason="killed"}', "sessions killed"),
    ("errors_total{", "errors"),
)


async def serve_embedded(
    config: Config,
    users: tuple[EmbeddedUser, ...] = (),
    source: Source | None = None,
    *,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """As :func:`proxy.process.server.serve`, in front of an embedded upstream of its own.

    With ``users`` the upstream demands that clients log in. What ``source`` gives at a reload
    stands in front of the same embedded upstream.
    """
    embedded = config.embedded or Embedded()
    upstream = EmbeddedUpstream(
        authorization=bool(users),
        users=users,
        set_name=embedded.set_name,
        version=embedded.version,
    )
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve, _LOCAL, 0)

        def before(config: Config) -> Config:
            behind = config.upstream.model_copy(update={"address": f"{_LOCAL}:{port}"})
            return config.model_copy(update={"upstream": behind})

        again = None if source is None else source.changed_by(before)
        await serve(before(config), again, task_status=task_status)
        nursery.cancel_scope.cancel()


def main(say: Callable[[str], None] = print, *, everything: bool = False) -> int:
    """Hold the conversation and print it and what the proxy saw; 0 if all went as it should.

    It fits on one screen unless ``everything`` is shown.
    """
    logs.configure("text", "error")
    return trio.run(_main, say, _show_all if everything else _show)


async def _main(
    say: Callable[[str], None], show: Callable[[Server, Callable[[str], None]], None]
) -> int:
    config = load(None, {"listen": {"address": f"{_LOCAL}:0"}, "admin": {"address": ""}})
    async with trio.open_nursery() as nursery:
        running: Running = await nursery.start(serve_embedded, config, _USERS)
        say(f"A conversation through the proxy on {running.addresses[0]}\n")
        token = trio.lowlevel.current_trio_token()

        def look() -> None:
            trio.from_thread.run_sync(show, running.server, say, trio_token=token)

        with trio.fail_after(_DEADLINE):
            failed = await trio.to_thread.run_sync(
                _converse, running.addresses[0], say, look, abandon_on_cancel=True
            )
        nursery.cancel_scope.cancel()
    return 1 if failed else 0


# ---------------------------------------------------------------------- the conversation


def _converse(address: str, say: Callable[[str], None], look: Callable[[], None]) -> int:
    """Take every step, let the proxy be looked at, and return how many steps failed."""
    uri = f"mongodb://{address}/?replicaSet=embedded"
    failed = 0
    with (
        _connect(uri, "shop-frontend", _USERS[0]) as alice,
        _connect(uri, "operations", _USERS[1]) as olivia,
    ):
        for client, title, step in (
            (alice, "alice logs in", _who),
            (alice, "insert 120 orders", _insert),
            (alice, "find them, 50 at a time", _find),
            (alice, "a retryable write", _update),
            (alice, "a transaction, committed", _commit),
            (alice, "a transaction, aborted", _abort),
            (alice, "a session, started, refreshed and ended", _session),
            (alice, "the same _id twice", _duplicate),
            (alice, "a command nobody knows", _unknown),
            (olivia, "olivia kills a session of alice's", lambda client: _kill(client, alice)),
        ):
            try:
                outcome = step(client)
            except PyMongoError as error:
                failed += 1
                outcome = f"FAILED: {error}"
            say(f"  {title:<40}{outcome}")
        _leave_open(alice, look)
    return failed


def _leave_open(client: Client, look: Callable[[], None]) -> None:
    """Let the proxy be looked at while a transaction and a cursor in it are open."""
    with client.start_session() as session, session.start_transaction():
        client.shop.payments.insert_one({"order": 6}, session=session)
        with client.shop.orders.find(batch_size=10, session=session) as cursor:
            next(cursor)
            look()


def _connect(uri: str, application: str, user: EmbeddedUser) -> Client:
    return pymongo.MongoClient(
        uri,
        appname=application,
        username=user.name,
        password=user.password,
        serverSelectionTimeoutMS=int(_DEADLINE * 1000),
    )


def _who(client: Client) -> str:
    info = client.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"]
    return ", ".join(f"{user['user']}@{user['db']}" for user in info)


def _insert(client: Client) -> str:
    result = client.shop.orders.insert_many({"_id": n, "paid": n % 3 == 0} for n in range(120))
    return f"{len(result.inserted_ids)} inserted"


def _find(client: Client) -> str:
    with client.shop.orders.find(batch_size=50) as cursor:
        return f"{len(list(cursor))} read: find, getMore, getMore"


def _update(client: Client) -> str:
    result = client.shop.orders.update_one({"_id": 1}, {"$set": {"paid": True}})
    return f"{result.modified_count} modified; it has lsid and txnNumber"


def _commit(client: Client) -> str:
    def pay(session: ClientSession) -> None:
        client.shop.orders.update_one({"_id": 4}, {"$set": {"paid": True}}, session=session)
        client.shop.payments.insert_one({"order": 4}, session=session)

    with client.start_session() as session:
        session.with_transaction(pay)
    return f"payments: {client.shop.payments.count_documents({})}"


def _abort(client: Client) -> str:
    with client.start_session() as session:
        session.start_transaction()
        client.shop.payments.insert_one({"order": 5}, session=session)
        session.abort_transaction()
    return f"payments: still {client.shop.payments.count_documents({})}"


def _session(client: Client) -> str:
    lsid = {"id": client.admin.command("startSession")["id"]["id"]}
    client.admin.command("refreshSessions", [lsid])
    client.admin.command("endSessions", [lsid])
    return str(lsid["id"].as_uuid())


def _duplicate(client: Client) -> str:
    return _refusal(lambda: client.shop.orders.insert_one({"_id": 1}))


def _unknown(client: Client) -> str:
    return _refusal(lambda: client.admin.command("makeCoffee"))


def _kill(operator: Client, victim: Client) -> str:
    with victim.start_session() as session:
        cursor = victim.shop.orders.find(batch_size=10, session=session)
        next(cursor)
        operator.admin.command("killAllSessions", [{"user": "alice", "db": "admin"}])
        return "her cursor: " + _refusal(lambda: list(cursor))


def _refusal(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except PyMongoError as error:
        code = getattr(error, "code", None)
        details = getattr(error, "details", None) or {}
        if code is None:
            raise
        return f"refused: {code} {details.get('codeName', '')}".rstrip()
    return "accepted"


# ---------------------------------------------------------------------- what the proxy saw


def _show(server: Server, say: Callable[[str], None]) -> None:
    """On one screen: whose sessions there are and what they have open."""
    rows = [{**row, "what": _what(row)} for row in server.sessions()]
    say("\nwhile alice has a transaction open, the proxy knows these sessions:\n")
    for line in _table(rows, _FEW):
        say(f"  {line}")
    metrics = _metrics(server)
    counted = [f"{number:g} {words}" for name, words in _COUNTED if (number := _sum(metrics, name))]
    say(f"\nand has counted {', '.join(counted[:3])},\n{', '.join(counted[3:])}.")
    say("More of it: demo --all. To look around: make run, or serve --embedded.")


def _what(row: Mapping[str, Any]) -> str:
    """What a session has open, in a few letters."""
    if row.get("ended"):
        return str(row["ended"])
    named = {"txn": row.get("transaction"), "cursor": row.get("cursors")}
    return ", ".join(name for name, there in named.items() if there)


def _sum(metrics: Iterable[str], name: str) -> float:
    return sum(float(line.split()[-1]) for line in metrics if line.startswith(f"{_PREFIX}{name}"))


def _show_all(server: Server, say: Callable[[str], None]) -> None:
    for title, rows in (("Connections", server.connections()), ("Sessions", server.sessions())):
        if table := _table(list(rows)):
            say(f"\n{title} as the proxy saw them\n")
            for line in table:
                say(f"  {line}")
    say("\nMetrics, those that are not 0\n")
    for line in _metrics(server):
        if not line.endswith(" 0.0"):
            say(f"  {line}")


def _metrics(server: Server) -> list[str]:
    _, page = server.telemetry.page()
    lines = page.decode().splitlines()
    return [line for line in lines if line.startswith(_PREFIX) and "_bucket{" not in line]


def _table(rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...] = _COLUMNS) -> list[str]:
    """Rows as aligned lines under a heading; columns that are empty everywhere are left out."""
    rows = list(rows)
    names = [name for name in columns if any(row.get(name) not in (None, "") for row in rows)]
    if not names:
        return []
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _cell(value: object) -> str:
    return "" if value is None else str(value)

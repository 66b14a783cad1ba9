"""What a rule sees of something that was written down: less than of a request.

What is not known must not be guessed: looking at it raises, and the rule counts as one that could
not judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from proxy.replaying.events import SESSION_STARTED, TRANSACTION_STARTED
from proxy.session.commands import SESSION_COMMANDS
from proxy.session.info import OperationSessionInfo
from proxy.wire.subjects import LOOKED_INTO, READING, named

if TYPE_CHECKING:
    from proxy.replaying.events import Event
    from proxy.session.ids import LogicalSessionId, Origin
    from proxy.session.records import Session
    from proxy.session.store import SessionStore

#: Stands for a command that is not known, to the rules that come with the proxy: they only ask
#: whether it ends a transaction, of which there would be another event.
_STATEMENT: Final = "statement"


class UnknownError(Exception):
    """A rule looked at what is not written down; the text says at what."""


def _unknown(what: str) -> NoReturn:
    raise UnknownError(what)


class Glimpse:
    """As :class:`proxy.conversation.rule.Context`.

    ``lives`` says that ``store`` has all sessions that there were; ``own`` that a rule of one's own
    looks.
    """

    def __init__(self, event: Event, store: SessionStore, *, lives: bool, own: bool) -> None:
        self._event = event
        self.store: Any = store if lives else _Unlisted()
        self.info: Any = _Info(event)
        self.request = _Asked(event, own)
        self.caller = _Asker(event)
        self.plan = _Plan(event) if event.command in SESSION_COMMANDS else None
        self.session: Session | None = None if event.session is None else store.get(event.session)
        self.now = self.wall_now = event.time
        self.origin: Origin = event.origin
        self.upstream = event.upstream
        self.upstream_checks = True
        self.ran_open = False

    @property
    def command(self) -> str:
        return named(self._event.command) or _unknown("the command")

    @property
    def namespaces(self) -> tuple[str, ...]:
        known = self._event.namespaces
        return _unknown("the namespaces") if known is None else known

    @property
    def writes(self) -> bool:
        if self._event.writes is not None:
            return self._event.writes
        command = self.command
        return _unknown("whether it writes") if command in LOOKED_INTO else command not in READING

    @property
    def subject(self) -> Any:  # noqa: ANN401 - never
        _unknown("the namespaces")


#: Of what the proxy's own rules look at, that nobody has to know by its name.
_IN_WORDS: Final = {
    "new_places": "how many sessions it would begin",
    "new_sessions": "how many sessions it would begin",
    "stmt_ids": "the statement ids",
    "txn_number": "the txnNumber",
}


class _Partial:
    """Raises for whatever it does not have."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - never
        if name.startswith("__"):
            raise AttributeError(name)
        _unknown(_IN_WORDS.get(name, name))


class _Unlisted:
    """A store of which nobody knows what is in it."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - never
        _unknown("which sessions there were")

    def __len__(self) -> int:
        _unknown("which sessions there were")


class _Asked(_Partial):
    """A request."""

    def __init__(self, event: Event, own: bool) -> None:
        self._command = event.command or ("" if own else _STATEMENT)
        self.problem = ""

    @property
    def command(self) -> str:
        return self._command or _unknown("the command")


class _Info(_Partial):
    """What it says of sessions: of a transaction that began everything, else whose session."""

    def __init__(self, event: Event) -> None:
        self.lsid: LogicalSessionId | None = event.session
        self.malformed = self.ambiguous = self.forbidden = None
        self.child = b""
        self.autocommit: bool | None
        if event.kind == TRANSACTION_STARTED:
            self.txn_number = event.number
            self.autocommit, self.start_transaction = False, True
            self.starts_or_continues = False
        elif event.kind == SESSION_STARTED or event.command in SESSION_COMMANDS:
            # What began in it has an event of its own.
            self.txn_number = self.autocommit = None
            self.start_transaction = False


class _Identity(_Partial):
    def __init__(self, user: str) -> None:
        self.name = user
        pairs = (one.rpartition("@")[::2] for one in user.split(",")) if user else ()
        self.users = tuple(pairs)


class _Asker(_Partial):
    """Who asks: by name, without what the user may do."""

    def __init__(self, event: Event) -> None:
        self.name = event.user
        self.identity = _Identity(event.user)
        self.is_server = False

    def may(self, _action: str) -> bool:
        _unknown("what the user may do")


class _Hit(_Partial):
    def __init__(self, sessions: int) -> None:
        self.sessions = sessions
        # As part of a text.
        self.operations = self.cursors = self.transactions = "?"


class _Plan(_Partial):
    """What a session command would do."""

    def __init__(self, event: Event) -> None:
        self._targets = event.targets
        self.command = event.command
        self.kills = event.command.startswith("kill")

    def hits(self, _store: object) -> Any:  # noqa: ANN401 - as far as it is known
        return (
            _unknown("how many sessions it hits") if self._targets is None else _Hit(self._targets)
        )

    def new_sessions(self, _store: object) -> int:
        if self.command == "refreshSessions":
            _unknown("how many sessions it makes")
        return int(self.command == "startSession")


def first_statement(event: Event) -> OperationSessionInfo:
    """What the first statement of a transaction says of it."""
    return OperationSessionInfo(event.session, event.number, False, True)

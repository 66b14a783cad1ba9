"""The errors that cross module boundaries."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from proxy.texts import MOST_TOLD, shortened


class WireError(Exception):
    """Bytes that cannot be framed or read as a MongoDB message.

    Raised by :mod:`proxy.wire` only. Whoever catches it decides between forwarding the
    bytes untouched, so that upstream judges them, and closing the connection.
    """


class UnjudgeableError(WireError):
    """A message that servers would read, and that could carry more than can be seen here.

    Nothing that depends on it can be decided, so it must not be forwarded either.
    """


class TooManyFieldsError(UnjudgeableError):
    """A document with more fields than anybody needs."""


@dataclass(unsafe_hash=True)  # not frozen: what carries exceptions on sets their traceback
class CommandError(Exception):
    """A refusal in the server's own form: ``{ok: 0, errmsg, code, codeName}``.

    ``labels`` becomes the reply's ``errorLabels`` array when it is not empty. ``errmsg`` is cut
    where it is too long: clients choose what stands in it.

    For operators, ``reason`` says why in words where ``errmsg`` does not, and ``bound`` which
    setting was reached and its value. ``session`` (id, uid) is the one that it is about, where
    that is another one than the request's own. ``added`` goes to the client behind ``errmsg``, in
    whatever words upstream's version has that.
    """

    code: int
    code_name: str
    errmsg: str
    labels: tuple[str, ...] = ()
    reason: str = field(default="", compare=False)
    bound: tuple[str, float | str] | None = field(default=None, compare=False)
    added: str = field(default="", compare=False)
    session: tuple[bytes, bytes] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        self.errmsg = shortened(self.errmsg, MOST_TOLD)

    def __str__(self) -> str:
        return f"{self.code} {self.code_name}: {self.errmsg}"

    def again(self) -> CommandError:
        """A copy to raise. One object raised twice keeps the frames of both times, and so the
        requests in them, for as long as it lives itself."""
        return replace(self)

    def because(self, reason: str, *bound: float | str) -> CommandError:
        """A copy with a reason, and the bound's name and value if one was reached."""
        return replace(self, reason=reason, bound=(str(bound[0]), bound[1]) if bound else None)

    def of(self, session: tuple[bytes, bytes]) -> CommandError:
        """A copy that says which session (id, uid) it is about."""
        return replace(self, session=session)


class LookUpError(Exception):
    """DNS has no seeds, or none that may be believed."""


class NotDialledError(Exception):
    """Upstream is not to be dialled for a client, which is told so with ``error``."""

    def __init__(self, error: CommandError) -> None:
        super().__init__(str(error))
        self.error = error


class ConfigError(Exception):
    """Settings that cannot be used. ``problems`` lists every one, each with its path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems

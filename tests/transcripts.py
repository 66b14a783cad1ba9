"""The recorded conversations with a real server, and comparing a live one with them.

``tests/data/transcripts`` holds one conversation per file: what was asked and what a MongoDB
4.2.0-rc2 answered, and in ``4.9`` what a development server of that version did. :class:`Replay`
asks the same again, of anything that answers commands, and yields both replies with everything
volatile made equal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bson import Binary, Int64, ObjectId, json_util
from bson.json_util import JSONOptions

DIRECTORY = Path(__file__).parent / "data" / "transcripts"
#: A file of another kind: connections instead of one conversation.
STABLE_API = "stable-api"
_OPTIONS = JSONOptions(tz_aware=False)

#: Ids of sessions that the recorded client made; all others are random ones of startSession.
_OWN_SESSION = bytes.fromhex("00000000000040008000000000000000")[:15]

#: Differ from one run or one deployment to the next, wherever they stand.
VOLATILE = frozenset(
    (
        "operationTime",
        "$clusterTime",
        "opTime",
        "lastWrite",
        "lastUse",
        "localTime",
        "connectionId",
        "hosts",
        "me",
        "primary",
        "setName",
        "uuid",
    )
)


@dataclass(frozen=True)
class Probe:
    """One request with the recorded reply. ``line`` is its number in the file."""

    line: int
    name: str
    database: str
    request: dict[str, Any]
    reply: dict[str, Any]


@dataclass(frozen=True)
class Transcript:
    """One file: who asked, what ``isMaster`` said before authentication, and the probes."""

    name: str
    principal: str
    users: tuple[tuple[str, str], ...]
    hello: dict[str, Any]
    probes: tuple[Probe, ...]


def names(version: str = "") -> list[str]:
    """The transcripts' file names without ``.jsonl``, of 4.2 or of ``version`` (``4.9``).

    The latter have the version before them: ``4.9/rs.anonymous``.
    """
    folder = DIRECTORY / version
    return sorted(
        path.relative_to(DIRECTORY).with_suffix("").as_posix()
        for path in folder.glob("*.jsonl")
        if path.stem != STABLE_API
    )


def load(name: str) -> Transcript:
    """Read one transcript."""
    with (DIRECTORY / f"{name}.jsonl").open() as lines:
        documents = [json_util.loads(line, json_options=_OPTIONS) for line in lines]
    head, *rest = documents
    probes = tuple(
        Probe(number, entry["probe"], entry["db"], entry["request"], entry["reply"])
        for number, entry in enumerate(rest, start=2)
    )
    users = tuple((user["user"], user["db"]) for user in head["auth"])
    return Transcript(name, head["principal"], users, head["hello"], probes)


def normalise(reply: Mapping[str, Any], cursors: Mapping[int, str] | None = None) -> Any:
    """``reply`` with everything volatile replaced by its field's name.

    ``cursors`` names the cursor ids seen so far, as they stand in documents and in texts.
    Listed sessions are sorted, and those with random ids left out.
    """
    return _normalised(dict(reply), cursors or {})


def _normalised(value: Any, cursors: Mapping[int, str]) -> Any:
    if isinstance(value, dict):
        return {
            name: f"<{name}>" if name in VOLATILE else _batch(name, item, cursors)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_normalised(item, cursors) for item in value]
    if isinstance(value, Int64):
        return cursors.get(value, f"{value} (long)")
    if isinstance(value, bool | int | float):
        # Python holds 1, 1.0 and True for equal, BSON does not.
        return f"{value} ({type(value).__name__})"
    if isinstance(value, str):
        for number, name in cursors.items():
            value = value.replace(str(number), name)
        return value
    if isinstance(value, ObjectId):
        return "<ObjectId>"
    if isinstance(value, Binary) and value.subtype == 4 and bytes(value[:15]) != _OWN_SESSION:
        return "<random UUID>"
    return value


def _batch(name: str, value: Any, cursors: Mapping[int, str]) -> Any:
    found = _normalised(value, cursors)
    if name == "authenticatedUserPrivileges":
        return sorted(found, key=lambda privilege: str(privilege["resource"]))
    if name == "firstBatch":
        if any(isinstance(item.get("_id"), dict) for item in found):
            found = [item for item in found if item["_id"]["id"] != "<random UUID>"]
        # Hash tables and storage engines keep sessions and collections in orders of their own.
        return sorted(found, key=str)
    return found


@dataclass(frozen=True)
class Exchange:
    """A probe with the recorded and the actual reply, both normalised."""

    probe: Probe
    recorded: Any
    actual: Any


Send = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Replay:
    """Asks a transcript's requests in order, actual cursor ids in place of the recorded ones."""

    def __init__(self, transcript: Transcript, send: Send) -> None:
        self._transcript = transcript
        self._send = send
        self._recorded: dict[int, str] = {}
        self._actual: dict[int, str] = {}
        self._ids: dict[int, Int64] = {}

    async def run(self) -> list[Exchange]:
        """Every probe of the transcript with both replies."""
        return [await self._exchange(probe) for probe in self._transcript.probes]

    async def _exchange(self, probe: Probe) -> Exchange:
        request = {**probe.request, "$db": probe.database}
        if "getMore" in request:
            request["getMore"] = self._ids.get(request["getMore"], request["getMore"])
        actual = await self._send(request)
        self._learn(probe.reply, actual)
        return Exchange(
            probe, normalise(probe.reply, self._recorded), normalise(actual, self._actual)
        )

    def _learn(self, recorded: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
        old = recorded.get("cursor", {}).get("id", 0)
        new = actual.get("cursor", {}).get("id", 0)
        if old and new and old not in self._ids:
            name = f"<cursor {len(self._ids)}>"
            self._ids[old] = Int64(new)
            self._recorded[old] = name
            self._actual[new] = name

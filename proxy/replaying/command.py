"""The command ``replay``: what rules would have refused of what was written down."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, create_model

from proxy.errors import ConfigError
from proxy.replaying.events import read
from proxy.replaying.judging import Judging, Outlook, Refused
from proxy.settings.reading import located, of_file
from proxy.settings.reading import read as settings_of
from proxy.settings.rules import RuleTables, make_rules
from proxy.texts import shown

if TYPE_CHECKING:
    import argparse

    from proxy.replaying.events import Written

_TABLES: Final[type[BaseModel]] = create_model("Tables", policies=(RuleTables, RuleTables()))

_COLUMNS: Final = ("time", "rule", "user", "application", "client", "what")

#: Users with their applications that are named at the most.
_MOST_NAMED: Final = 10


def run(options: argparse.Namespace) -> int:
    """Print what the rules say; the exit status.

    Raises:
        ConfigError: the rules or the file are wrong.
        OSError: the file cannot be read.
    """
    judging = Judging(_rules(options.rules, options.cluster))
    written = read(map(_read, options.files), options.cluster)
    outlook = judging.judge(written)
    if options.json:
        print(json.dumps(_document(outlook, written), ensure_ascii=False))
        return 0
    zone = UTC if options.utc else None
    for line in _table([_row(one, zone) for one in outlook.refused[: max(0, options.limit)]]):
        print(line)
    print("\n".join(_summary(outlook, written, [rule.name for rule, _ in judging.rules])))
    more = len(outlook.refused) - max(0, options.limit)
    if more > 0:
        print(f"… and {more:,} more: --limit {len(outlook.refused)}", file=sys.stderr)
    return 0


def _read(name: str) -> tuple[str, bytes]:
    return ("stdin", sys.stdin.buffer.read()) if name == "-" else (name, Path(name).read_bytes())


def _rules(path: str, cluster: str | None) -> Any:  # noqa: ANN401 - Rules
    layer = of_file(Path(path))
    if layer.problems:
        raise ConfigError(list(layer.problems))
    clusters: Any = layer.data.get("cluster")
    tables, place = layer.data, ""
    # Rules that are no cluster's are asked about the events of whichever is meant.
    several, plain = isinstance(clusters, list), "policies" in layer.data
    if (several and not plain) or (cluster is not None and (several or not plain)):
        named = [
            (one, f"cluster[{number}].")
            for number, one in enumerate(clusters if several else ())
            if isinstance(one, dict) and (cluster is None or one.get("name") == cluster)
        ]
        if len(named) != 1:
            raise ConfigError([f"{path}: --cluster: should be the name of one [[cluster]] there"])
        [(tables, place)] = named
    policies = {"policies": tables["policies"]} if "policies" in tables else {}
    try:
        where = {} if place else layer.where
        own = type(layer)("file", policies, where)
        made = settings_of(_TABLES, [own], Path(path).parent).settings
        return make_rules(made.policies)  # type: ignore[attr-defined]
    except ConfigError as error:
        raise ConfigError([located([layer], place + text) for text in error.problems]) from error


def _row(one: Refused, zone: tzinfo | None) -> dict[str, str]:
    event, error = one.event, one.error
    moment = datetime.fromtimestamp(event.time, UTC).astimezone(zone)
    what = event.command or event.kind.replace("_", " ")
    before = f", as {event.rule or 'the proxy'} did" if event.decision == "refused" else ""
    return {
        "time": f"{moment:%Y-%m-%d %H:%M:%S}",
        "rule": one.rule,
        "user": event.user or "-",
        "application": event.origin.application or "-",
        "client": event.origin.client or "-",
        "what": f"{what}{before}: {error.reason or error.errmsg}",
    }


def _table(rows: list[dict[str, str]]) -> Iterator[str]:
    if not rows:
        return
    cells = [[name.upper() for name in _COLUMNS]]
    cells += [[shown(row[name]) for name in _COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        parts = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(parts).rstrip()


def _summary(outlook: Outlook, written: Written, asked: list[str]) -> Iterator[str]:
    by_rule = Counter(one.rule for one in outlook.refused)
    refused = _listed(by_rule) if by_rule else "none"
    yield f"{len(outlook.refused):,} of {_events(outlook.judged)} would be refused: {refused}"
    if outlook.judged:
        kinds = ", ".join(
            f"{count:,} {kind}" for kind, count in outlook.kinds.most_common() if count
        )
        yield f"  events: {kinds}; of other requests nothing is written down"
    if len(written.clusters) > 1:
        names = ", ".join(sorted(written.clusters))
        yield f"  of several clusters, judged as if they were one: {names}; --cluster takes one's"
    if outlook.refused:
        yield f"  whose: {_listed(_whose(outlook.refused))}"
    yield f"  asked: {', '.join(asked) or 'no rule, as none is set that could refuse any of it'}"
    for (rule, what), count in outlook.unknown.most_common():
        yield f"  {rule} could not judge {count:,}: it looks at {what}, which is not written down"
    for rule, failure in outlook.failed.items():
        yield f"  {rule} failed: {type(failure).__name__}: {failure}"
    if outlook.after:
        where = "in sessions and transactions that would not be there"
        yield f"  {outlook.after:,} came later {where}"
    if written.left_out:
        yield f"  left out, as no rule is asked about them: {_listed(written.left_out)}"


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"


def _whose(refused: Sequence[Refused]) -> dict[str, int]:
    """Who would be refused how often: those to whom it happens most, and the others together."""
    names = ((one.event.user, one.event.origin.application) for one in refused)
    found = Counter(
        shown(f"{user or 'nobody'} · {application or 'no application name'}")
        for user, application in names
    ).most_common()
    others = sum(count for _, count in found[_MOST_NAMED:])
    return {**dict(found[:_MOST_NAMED]), **({"of others": others} if others else {})}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in Counter(counts).most_common())


def _document(outlook: Outlook, written: Written) -> dict[str, Any]:
    return {
        "judged": outlook.judged,
        "refused": [
            {
                "time": datetime.fromtimestamp(one.event.time, UTC).isoformat(),
                "rule": one.rule,
                "user": one.event.user,
                **one.event.origin._asdict(),
                "event": one.event.kind,
                "command": one.event.command or None,
                "session": None if one.event.session is None else str(one.event.session),
                "code": one.error.code,
                "error": one.error.errmsg,
                "reason": one.error.reason or one.error.errmsg,
                "was": one.event.decision or None,
            }
            for one in outlook.refused
        ],
        "unknown": [
            {"rule": rule, "looks_at": what, "count": count}
            for (rule, what), count in outlook.unknown.items()
        ],
        "failed": {rule: str(failure) for rule, failure in outlook.failed.items()},
        "after": outlook.after,
        "left_out": dict(written.left_out),
    }

"""Writes the dashboards to ``dashboards/``, and the alerts once more as Kubernetes takes them.

With ``--check`` it says which of them are out of date.

python -m grafana.build
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from grafana.boards import overview, rules, sessions, transactions, upstream
from grafana.panels import made

BOARDS: Final = {
    "overview": overview.BOARD,
    "sessions": sessions.BOARD,
    "transactions": transactions.BOARD,
    "rules": rules.BOARD,
    "upstream": upstream.BOARD,
}


_HERE: Final = Path(__file__).parent

#: What goes before the groups of ``alerts.yml`` for the operator of Prometheus.
_RULE: Final = """\
# Made of grafana/alerts.yml by python -m grafana.build.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: mongo-session-proxy
spec:
"""


def files() -> dict[Path, str]:
    """What every file has to hold."""
    boards = {
        _HERE / "dashboards" / f"{name}.json": json.dumps(made(board), indent=2, ensure_ascii=False)
        + "\n"
        for name, board in BOARDS.items()
    }
    rule = _HERE.parent / "deploy" / "kubernetes" / "monitoring" / "prometheusrule.yaml"
    return boards | {rule: _RULE + _below((_HERE / "alerts.yml").read_text(encoding="utf-8"))}


def _below(text: str) -> str:
    """YAML, without the comments at its top, two spaces further in."""
    lines = text[text.index("groups:") :].splitlines()
    return "".join(f"  {line}".rstrip() + "\n" for line in lines)


def main(arguments: list[str]) -> int:
    stale = [
        (path, text)
        for path, text in files().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        print(path.name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Compiles the modules that every message passes through, with mypyc, into the wheel.

Nothing here is loaded unless HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 asks for it: else the wheel is the
sources and no more. With it they are there too, and beside them what was made of them. It needs a
C compiler and Python's headers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: What is compiled. What others may derive from (``proxy/conversation/rule.py``), what is seldom
#: used, and what ``tests/test_compiled.py`` finds fault with stays Python.
COMPILED: Final = (
    "proxy/conversation/control.py",
    "proxy/conversation/conversation.py",
    "proxy/conversation/desk.py",
    "proxy/conversation/doubt.py",
    "proxy/conversation/envelope.py",
    "proxy/conversation/exchange.py",
    "proxy/conversation/incidents.py",
    "proxy/conversation/lookout.py",
    "proxy/conversation/noting.py",
    "proxy/conversation/passing.py",
    "proxy/conversation/pending.py",
    "proxy/conversation/question.py",
    "proxy/conversation/replies.py",
    "proxy/conversation/said.py",
    "proxy/conversation/sharing.py",
    "proxy/conversation/tracking.py",
    "proxy/counting.py",
    "proxy/net/intake.py",
    "proxy/net/outlet.py",
    "proxy/net/readiness.py",
    "proxy/net/relay.py",
    "proxy/net/tls_records.py",
    "proxy/net/tls_transport.py",
    "proxy/net/transport.py",
    "proxy/observe/audit.py",
    "proxy/observe/namespaces.py",
    "proxy/observe/recording.py",
    "proxy/observe/requests.py",
    "proxy/observe/telemetry.py",
    "proxy/session/arguments.py",
    "proxy/session/beside.py",
    "proxy/session/caller.py",
    "proxy/session/children.py",
    "proxy/session/commands.py",
    "proxy/session/counts.py",
    "proxy/session/cursors.py",
    "proxy/session/dialect.py",
    "proxy/session/expiring.py",
    "proxy/session/hearing.py",
    "proxy/session/hub.py",
    "proxy/session/idl.py",
    "proxy/session/index.py",
    "proxy/session/info.py",
    "proxy/session/known.py",
    "proxy/session/passed_on.py",
    "proxy/session/places.py",
    "proxy/session/plainlists.py",
    "proxy/session/plans.py",
    "proxy/session/progress.py",
    "proxy/session/promises.py",
    "proxy/session/ranges.py",
    "proxy/session/records.py",
    "proxy/session/replica.py",
    "proxy/session/selected.py",
    "proxy/session/sharded.py",
    "proxy/session/stable_api.py",
    "proxy/session/statements.py",
    "proxy/session/steps.py",
    "proxy/session/store.py",
    "proxy/session/suspicion.py",
    "proxy/session/telling.py",
    "proxy/session/tracker.py",
    "proxy/session/transactions.py",
    "proxy/wire/*.py",
)

#: Run in a folder of its own: setuptools would read a pyproject.toml that it found.
_PROGRAM: Final = """
import sys
from mypyc.build import mypycify
from setuptools import setup

out, config, *paths = sys.argv[1:]
setup(
    name="mongo-session-proxy",
    packages=[],
    ext_modules=mypycify([f"--config-file={config}", *paths], group_name="proxy"),
    script_args=["build_ext", f"--build-lib={out}"],
)
"""


def compiled_modules(root: Path) -> list[Path]:
    """The files that :data:`COMPILED` means."""
    return [path for pattern in COMPILED for path in sorted(root.glob(pattern))]


class CompiledHook(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "standard":
            raise RuntimeError("an editable installation cannot be compiled")
        self._folder = Path(mkdtemp())
        root, out = Path(self.root), self._folder / "out"
        paths = map(str, compiled_modules(root))
        try:
            subprocess.run(
                [sys.executable, "-c", _PROGRAM, str(out), str(root / "pyproject.toml"), *paths],
                cwd=self._folder,
                env={**os.environ, "MYPYPATH": str(root)},
                check=True,
            )
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        for made in out.rglob("*.so"):
            build_data["force_include"][str(made)] = str(made.relative_to(out))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self._folder)

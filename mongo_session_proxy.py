"""What ``mongo-session-proxy`` and ``python -m mongo_session_proxy`` start.

The program is in the packages ``proxy`` and ``policies``. Others have packages of these names too,
and Python takes the first that it finds: so it is looked, before anything of them runs, whose they
are. The name of this module is nobody else's.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_NAME: Final = "mongo-session-proxy"
_HERE: Final = Path(__file__).resolve().parent
_REMEDY: Final = (
    "install mongo-session-proxy into an environment of its own, and start it where neither the "
    "current directory nor PYTHONPATH has packages of that name"
)

#: Looked at in this order: finding the last one runs the first one.
_OURS: Final = ("proxy", "policies", "proxy.cli")


def main() -> int:
    """Run the command line and return the exit status; 2 where it is not ours that would run."""
    problem = next(filter(None, map(_problem, _OURS)), "")
    if not problem:
        try:
            from proxy.cli import main as run

            return run()
        except Exception as error:
            changed = _changed()
            if not changed:
                raise
            problem = f"{changed} is not as it was installed ({error!r}); {_REMEDY}"
    print(f"{_NAME}: {problem}", file=sys.stderr)
    return 2


def _problem(name: str) -> str:
    """What is wrong with the module that an import of ``name`` would give; "" for nothing."""
    expected = _HERE.joinpath(*name.split("."))
    found = find_spec(name)
    if found is None or found.origin is None or found.loader is None:
        return f"the package {name} is missing in {_HERE}; {_REMEDY}"
    origin = Path(found.origin)
    if origin.resolve().with_suffix("") not in (expected, expected / "__init__"):
        return f"{name} is found in {origin}, which is not the one in {_HERE}; {_REMEDY}"
    if not _says_our_name(found.loader, name):
        return f"{origin} was overwritten by another distribution; {_REMEDY}"
    return ""


def _says_our_name(loader: object, name: str) -> bool:
    """Whether the source of a module has our name in it, as each of those that are looked at has.

    Nothing of it is run. Where there is no source to look at, so be it.
    """
    get_source = getattr(loader, "get_source", lambda _: None)
    try:
        source = get_source(name)
    except (ImportError, SyntaxError, ValueError):
        return False
    return source is None or _NAME in source


def _changed() -> str:
    """The first file of ``proxy`` or ``policies`` that is gone or of another size than the one
    that was installed; "" where all are as they were, and in a checkout."""
    from importlib import metadata

    try:
        files = metadata.files(_NAME)
    except metadata.PackageNotFoundError:
        return ""
    for file in files or ():
        path = Path(str(file.locate()))
        # What Python wrote itself has no size there.
        installed = file.size is not None and file.parts[0] in ("proxy", "policies")
        if installed and _HERE in path.resolve().parents:
            if path.exists() and path.stat().st_size == file.size:
                continue
            return str(path)
    return ""


if __name__ == "__main__":
    sys.exit(main())

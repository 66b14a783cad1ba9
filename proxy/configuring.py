"""Settings on the command line: the flags that stand for them, and the commands that show them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.errors import ConfigError
from proxy.texts import printable

if TYPE_CHECKING:
    from proxy.settings.config import Config
    from proxy.settings.reading import Read

#: Flags of ``serve`` that stand for one setting: flag → (path, value's name, help).
SETTINGS: Final = {
    "--listen": (
        "listen.address",
        "ADDRESS",
        "where clients connect: HOST:PORT, [IPV6]:PORT or the path of a unix socket "
        "(127.0.0.1:27018). A replica set's members get the ports from there on",
    ),
    "--advertise": (
        "listen.advertise",
        "HOST",
        "the host name by which clients reach the proxy, given to them in hello replies",
    ),
    "--upstream": (
        "upstream.address",
        "ADDRESS",
        "what stands behind: HOST:PORT, a mongodb:// or mongodb+srv:// URI with the seeds of a "
        "replica set, or the path of a unix socket (127.0.0.1:27017)",
    ),
    "--hello": (
        "upstream.hello",
        "MODE",
        "rewrite (default): a replica set's members are named by the proxy's addresses; "
        "pass: hello is left alone, for members configured under their proxies' addresses",
    ),
    "--compression": (
        "upstream.compression",
        "MODE",
        "pass (default): client and upstream agree on a compressor; strip: on none",
    ),
    "--admin": (
        "admin.address",
        "ADDRESS",
        "HOST:PORT of the web page, metrics, health and listings (127.0.0.1:27080); '' turns it "
        "off",
    ),
    "--admin-token-file": (
        "admin.token_file",
        "FILE",
        "holds the token that is needed to kill sessions and, elsewhere than on loopback, to look",
    ),
    "--workers": (
        "process.workers",
        "NUMBER",
        "processes that serve clients (1), or auto for one for each processor",
    ),
    "--embedded-version": (
        "embedded.version",
        "VERSION",
        "the server version that the embedded upstream plays, which this asks for: 4.2, 4.4 "
        "(default), 4.9, 5.0, 6.0, 7.0, 8.0 or 8.2",
    ),
    "--log-format": ("log.format", "FORMAT", "text (default) or json, on stderr"),
    "--log-level": ("log.level", "LEVEL", "debug, info (default), warning or error"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``, and the flags that stand for a setting."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="read settings from a TOML file; without it, from the one that the environment's "
        "MSP_CONFIG names",
    )
    for flag, (path, value, text) in SETTINGS.items():
        parser.add_argument(flag, dest=path, metavar=value, help=text)
    parser.add_argument(
        "--watch",
        action="store_true",
        help="reload, as at SIGHUP, when the file of the settings changes, or one that they name: "
        "certificates, keys, the token",
    )
    parser.add_argument(
        "--embedded",
        action="store_true",
        help="stand in front of an embedded upstream that keeps nothing, for demonstrations and "
        "tests",
    )


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands with ``add(name, help=…, description=…, …)``."""
    check = add(
        "check-config",
        help="say what is wrong with a configuration file",
        description="Read a configuration file, the environment, and the certificates and rules "
        "that they name, and report everything wrong with them at once. What is allowed and "
        "probably not meant is a warning.",
        epilog="Exit status: 0 nothing is wrong, 1 there are warnings and --strict is given, 2 "
        "something is wrong.",
    )
    # Said as for serve or alone; its default would be put in the place of what --config says.
    check.add_argument(
        "config", metavar="FILE", nargs="?", default=argparse.SUPPRESS, help="the same as --config"
    )
    check.add_argument("--strict", action="store_true", help="fail for a warning, too")
    add_flags(check)
    show = add(
        "show-config",
        help="show every setting that is in force, and where it is from",
        description="Show what serve would run with, given the same flags: every setting with its "
        "value, and whether that is from a flag, the environment, a line of the file, or the "
        "default. Secrets are not shown.",
    )
    add_flags(show)
    show.add_argument("--json", action="store_true", help="print JSON")

    add(
        "schema",
        help="print the JSON schema of the configuration file, for editors",
        description="Print the JSON schema of the configuration file. Editors that know TOML "
        "complete and check the file by it where its first line is #:schema config.schema.json.",
    )


def read(options: argparse.Namespace, problems: list[str]) -> Read[Config]:
    """The configuration that flags, environment and file give, and where it is from.

    Raises:
        ConfigError: with ``problems`` and everything else that is wrong.
    """
    from proxy.settings import config, reading

    flags: dict[str, tuple[tuple[str | int, ...], str]] = {}
    if getattr(options, "embedded", False):
        flags["--embedded"] = (("embedded",), "{}")
    if getattr(options, "watch", False):
        flags["--watch"] = (("process", "watch"), "true")
    for flag, (path, _, _) in SETTINGS.items():
        value = getattr(options, path, None)
        if value is not None:
            flags[flag] = (tuple(path.split(".")), value)
    file = _file(options)
    try:
        found = config.gather(file, reading.of_flags(config.Config, flags), os.environ)
    except ConfigError as error:
        problems = problems + error.problems + _rule_problems(file)
    if problems:
        raise ConfigError(problems)
    return found


def _rule_problems(file: str | None) -> list[str]:
    """What is wrong with the rules that a file names which has other problems."""
    from proxy.settings.reading import located, of_file
    from proxy.settings.rules import problems_of

    if file is None:
        return []
    layer = of_file(Path(file))
    return [located([layer], problem) for problem in problems_of(layer.data)]


def _file(options: argparse.Namespace) -> str | None:
    from proxy.settings.environment import CONFIG

    return options.config or os.environ.get(CONFIG) or None


def files(options: argparse.Namespace) -> Iterator[Path]:
    """The files that :func:`read` reads settings from."""
    from proxy.settings.config import Config
    from proxy.settings.environment import files_of

    if file := _file(options):
        yield Path(file)
    yield from files_of(Config, os.environ)


def settings(options: argparse.Namespace, problems: list[str]) -> Config:
    """As :func:`read`, without where they are from."""
    return read(options, problems).settings


def _check_what_it_names(found: Read[Config]) -> None:
    """Load the certificates and rules that ``serve`` would.

    Raises:
        ConfigError: with everything that is wrong with them.
    """
    from proxy.net import loops, tls
    from proxy.settings.rules import make_rules

    problems: list[str] = []
    for one in found.settings.each():
        config = one.config
        problems += map(one.said, loops.problems(config))
        loads: tuple[Callable[[], object], ...] = (
            partial(tls.listener_tls, config),
            partial(tls.upstream_tls, config),
            partial(make_rules, config.policies),
        )
        for load in loads:
            try:
                load()
            except ConfigError as error:
                problems += (found.located(one.path + problem) for problem in error.problems)
    problems = list(map(found.settings.by_name, problems))
    if problems:
        raise ConfigError(problems)


def _check(options: argparse.Namespace, problems: list[str]) -> int:
    from proxy.process import cautions

    found = read(options, problems)
    _check_what_it_names(found)
    warnings = cautions.found(found)
    for warning in warnings:
        text = found.settings.by_name(found.located(warning))
        print(f"mongo-session-proxy: warning: {printable(text)}", file=sys.stderr)
    what = f"{len(warnings)} warning{'s' * (len(warnings) > 1)}" if warnings else "fine"
    print(f"{printable(_file(options) or 'the environment')}: {what}")
    return 1 if warnings and options.strict else 0


def _show(options: argparse.Namespace, problems: list[str]) -> int:
    from proxy.settings.showing import rows

    shown = rows(read(options, problems))
    if options.json:
        print(json.dumps([row._asdict() for row in shown], indent=2, ensure_ascii=False))
        return 0
    cells = [(row.setting, row.text(), row.said()) for row in shown]
    widths = [max(len(row[column]) for row in cells) for column in (0, 1)]
    for setting, value, said in cells:
        print(f"{setting:<{widths[0]}}  {value:<{min(widths[1], 40)}}  {said}")
    return 0


def _schema(_options: argparse.Namespace, problems: list[str]) -> int:
    from proxy import files

    if problems:
        raise ConfigError(problems)
    print(files.schema(), end="")
    return 0


#: The commands of this module, by their names.
COMMANDS: Final[dict[str, Callable[[argparse.Namespace, list[str]], int]]] = {
    "check-config": _check,
    "show-config": _show,
    "schema": _schema,
}

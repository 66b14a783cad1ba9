"""The command line.

argparse, because it is there already and costs 7 ms to import; what a command needs beyond
that is imported when it runs, so that the proxy accepts connections soon after its start.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, NoReturn

from proxy import configuring
from proxy.build import VERSION
from proxy.errors import ConfigError
from proxy.replaying import arguments as replaying
from proxy.terminal import arguments as terminal
from proxy.terminal import usage
from proxy.texts import printable

if TYPE_CHECKING:
    from types import ModuleType

    from proxy.process.beginnings import Beginnings
    from proxy.process.source import Source
    from proxy.settings.config import Config
    from proxy.settings.reading import Read

_NAME: Final = "mongo-session-proxy"

#: Exit statuses: 2 for what the user has to change, 1 for what the machine refused.
_OK, _FAILED, _WRONG, _INTERRUPTED = 0, 1, 2, 130

#: What may be wrong with whatever takes what is printed.
_OF_STDOUT: Final = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_DESCRIPTION: Final = """\
A transparent proxy between MongoDB drivers and mongod or mongos that sees and governs
server sessions. Everything a driver can do it can do through the proxy; operators see
who has which sessions, transactions and cursors."""

_EXAMPLES: Final = """\
examples:
  mongo-session-proxy serve --listen 127.0.0.1:27018 --upstream 127.0.0.1:27017
  mongo-session-proxy serve --upstream 'mongodb://db1:27017,db2:27017/?replicaSet=rs0'
  mongo-session-proxy serve --config /etc/mongo-session-proxy.toml
  mongo-session-proxy show-config --config FILE   # what is in force, and from where
  mongo-session-proxy serve --embedded      # no MongoDB at hand: try it with a built-in one
  mongo-session-proxy files .               # settings with their defaults, dashboards, units
  mongo-session-proxy demo                  # a short conversation, and what the proxy saw
  mongo-session-proxy top                   # who has what in the proxy that runs here
  mongo-session-proxy kill --application 'shop*' --min-idle 600 --dry-run

Exit status: 0 done, 1 the machine refused (a port in use), 2 a wrong argument or setting."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    try:
        status = _run_command(arguments)
        # Python would do it at exit, and say what goes wrong then in its own words.
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in _OF_STDOUT:
            raise
        # Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            # Whoever read along (head, less) has seen enough.
            return _OK
        return _complain([f"stdout: {_refusal(error)}"], _FAILED)
    return status


def _run_command(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    # Unknown flags are kept, to be reported together with what else is wrong.
    options, unknown = parser.parse_known_args(arguments)
    flags = [
        flag for one in _chosen(parser, options.command)._actions for flag in one.option_strings
    ]
    problems = usage.no_such(unknown, flags)
    try:
        if options.command is None:
            return _complain([*problems, f"say what to do; {_NAME} --help lists the commands"])
        if options.command == "demo":
            return _complain(problems) if problems else _demo(_demonstration(), options.all)
        if options.command == "files":
            return _complain(problems) if problems else _write_files(options)
        if options.command == "replay":
            return _complain(problems) if problems else _replay(options)
        if options.command in terminal.COMMANDS:
            return _complain(problems) if problems else _look(options)
        if options.command == "serve":
            return _serve(options, problems)
        return configuring.COMMANDS[options.command](options, problems)
    except ConfigError as error:
        return _complain(error.problems)
    except KeyboardInterrupt:
        return _INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(_complain([usage.said(message)]))


def _parser() -> argparse.ArgumentParser:
    def add(to: Any, name: str, **more: Any) -> argparse.ArgumentParser:  # noqa: ANN401
        made: argparse.ArgumentParser = to.add_parser(name, allow_abbrev=False, **more)
        return made

    parser = _Parser(
        prog=_NAME,
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{_NAME} {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = add(
        commands,
        "serve",
        help="run the proxy until SIGTERM or Ctrl-C, then drain",
        description="Run the proxy until SIGTERM or Ctrl-C. It then stops accepting, lets work "
        "in flight finish, and ends; a second signal ends it at once. SIGHUP reads rules, limits "
        "and certificates again. SIGUSR2 starts the program anew and hands over to it without a "
        "pause.",
        epilog="Flags override the environment (MSP_LISTEN__ADDRESS is listen.address), and that "
        "overrides the file. Defaults are in parentheses; config.example.toml documents every "
        "setting, TLS, limits and explicit members included.",
    )
    configuring.add_flags(serve)
    configuring.add_commands(partial(add, commands))
    demo = add(
        commands,
        "demo",
        help="hold a short conversation through the proxy and show what it saw",
        description="Start a proxy in front of an embedded upstream, hold a short conversation "
        "through it with PyMongo, print what the proxy saw, and end.",
    )
    demo.add_argument("--all", action="store_true", help="show connections and all metrics, too")
    files = add(
        commands,
        "files",
        help="write out the example of all settings, the units for systemd, dashboards and alerts",
        description="Write config.example.toml, deploy/mongo-session-proxy.service and .socket, "
        "and Grafana's and Prometheus' files below a folder, and list what was written. If any of "
        "them is there and differs, none is written.",
    )
    files.add_argument("folder", metavar="DIR", help="made if it is not there")
    files.add_argument("--force", action="store_true", help="replace what is there and differs")
    terminal.add_commands(partial(add, commands))
    replaying.add_command(partial(add, commands))
    return parser


def _chosen(parser: argparse.ArgumentParser, command: str | None) -> argparse.ArgumentParser:
    """The parser of a command; without one, of all."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and command is not None:
            chosen: argparse.ArgumentParser = action.choices[command]
            return chosen
    return parser


def _write_files(options: argparse.Namespace) -> int:
    from proxy import files

    if not options.folder:
        return _complain(["DIR: should not be empty"])
    try:
        written = files.write(Path(options.folder), force=options.force)
    except OSError as error:
        return _complain([_refusal(error)], _FAILED)
    print("\n".join(map(str, written)) if written else "all files are there as they should be")
    return _OK


def _replay(options: argparse.Namespace) -> int:
    from proxy.replaying import command

    try:
        return command.run(options)
    except OSError as error:
        return _complain([_refusal(error)], _FAILED)


def _look(options: argparse.Namespace) -> int:
    from proxy.terminal.commands import run

    return run(options)


def _serve(options: argparse.Namespace, problems: list[str]) -> int:
    from proxy.process import beginnings
    from proxy.process.source import Source

    before = beginnings.find()
    try:
        found = configuring.read(options, problems)
        source = Source(
            partial(configuring.settings, options, []), partial(configuring.files, options)
        )
        return _run(found, source, before)
    except ConfigError as error:
        if before.predecessor is not None:
            before.predecessor.failed(error.problems)
        raise


def _run(found: Read[Config], source: Source, before: Beginnings) -> int:
    import trio

    from proxy import logs, memory
    from proxy.process import cautions
    from proxy.process.starting import clock, serve

    config = found.settings
    logs.configure(config.log.format, config.log.level)
    cautions.log(config, logs.logger())
    status = _OK
    wrong: list[str] = []
    refused: list[str] = []
    try:
        if config.embedded is None:
            from proxy.process.program import command

            memory.settle()
            trio.run(serve, config, source, before, command(), clock=clock(config))
        else:
            demonstration = _demonstration()
            trio.run(_try_out, config, demonstration, source, clock=clock(config))
    except* KeyboardInterrupt:
        status = _INTERRUPTED
    except* ConfigError as group:
        wrong = [found.located(text) for error in _leaves(group) for text in error.problems]
    except* OSError as group:
        refused = [_refusal(error) for error in _leaves(group)]
    if wrong:
        raise ConfigError(wrong)
    if refused:
        if before.predecessor is not None:
            before.predecessor.failed(refused)
        status = _complain(refused, _FAILED)
    return status


async def _try_out(config: Config, demonstration: ModuleType, source: Source) -> None:
    import trio

    async with trio.open_nursery() as nursery:
        running = await nursery.start(demonstration.serve_embedded, config, (), source)
        lines = ["A proxy in front of an embedded upstream, which keeps nothing. Ctrl-C ends it."]
        lines.append(f"  connect with   {running.uri}")
        if running.admin:
            lines += [
                f"  sessions       http://{running.admin}/",
                f"  metrics        http://{running.admin}/metrics",
                f"  terminal       {_called()} top --admin {running.admin}",
            ]
        # Where the audit log has stdout, nobody reads anything else there.
        print("\n".join(lines), flush=True, file=sys.stderr if config.audit.to_stdout else None)


def _called() -> str:
    """What to type for this program in another terminal, whatever the folder there."""
    script = Path(sys.executable).parent / _NAME
    if not script.exists():
        sources = Path(__file__).parents[1]
        module = f"{quote(sys.executable)} -m mongo_session_proxy"
        at_home = (sources / "pyproject.toml").exists()
        return f"cd {quote(str(sources))} && {module}" if at_home else module
    found = shutil.which(_NAME)
    # An environment that is active here is not so there.
    if sys.prefix == sys.base_prefix and found is not None and Path(found).samefile(script):
        return _NAME
    return quote(str(script))


def _demo(demonstration: ModuleType, everything: bool) -> int:
    broken: list[OSError] = []
    status = _OK
    try:
        status = demonstration.main(everything=everything)
    except* OSError as group:
        broken = _leaves(group)
    if broken:
        raise broken[0]
    return status


def _demonstration() -> ModuleType:
    """:mod:`proxy.demo`, which needs what production does not install."""
    try:
        from proxy import demo
    except ModuleNotFoundError as error:
        if error.name != "mongomock":
            raise
        install = "pip install 'mongomock>=4.3,<5', or in the sources pip install '.[embedded]'"
        raise ConfigError([f"the embedded upstream is not installed: {install}"]) from error
    return demo


def _leaves(group: BaseExceptionGroup[Any]) -> list[Any]:
    found: list[Any] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


def _refusal(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _complain(problems: Sequence[str], status: int = _WRONG) -> int:
    for problem in problems:
        print(f"{_NAME}: {printable(problem)}", file=sys.stderr)
    return status

"""The entry point of `fedchain-node`.

Only the command group that is asked for is imported, so that `--help` is quick; torch is never imported here at all,
since training and scoring run in worker processes.
"""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn

import typer

from cli.output import Interrupted

PROGRAM: Final = "fedchain-node"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A command, `function` of `module`, or with `group` several under one name; `help` is for the list of commands."""

    module: str
    help: str
    function: str = ""
    group: bool = False


COMMANDS: Final = {
    "testnet": _Entry("cli.testnet", "Run a whole network of peers on this machine and watch it learn.", "run_network"),
    "keys": _Entry("cli.keys", "Make and show a member's keys and card.", group=True),
    "genesis": _Entry("cli.genesis", "Build and check a consortium's genesis document.", group=True),
    "init": _Entry("cli.init", "Make a peer's home ready to start.", "init"),
    "start": _Entry("cli.start", "Run the peer of a home until Ctrl-C or SIGTERM.", "start"),
    "status": _Entry("cli.status", "Ask a running peer how it is.", "status"),
    "chain": _Entry("cli.chain", "Read and audit the chain of a home, offline.", group=True),
    "model": _Entry("cli.model", "List, export and verify global models.", group=True),
}
_HELP = """Federated learning on a consortium blockchain.

Example: fedchain-node testnet --peers 8 --committee 4 --home testnet"""


def build_app(wanted: str | None = None) -> typer.Typer:
    """The application with the command `wanted` loaded (None: every one); the others are there by name and help."""
    app = typer.Typer(
        name=PROGRAM, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=_HELP
    )
    app.callback()(_options)
    for name, entry in COMMANDS.items():
        if wanted in (None, name):
            _load(app, name, entry)
        else:
            app.command(name, help=entry.help)(_not_loaded)
    return app


def _load(app: typer.Typer, name: str, entry: _Entry) -> None:
    module = importlib.import_module(entry.module)
    if entry.group:
        app.add_typer(module.app, name=name, help=entry.help, no_args_is_help=True)
    else:
        app.command(name)(getattr(module, entry.function))


def _not_loaded() -> None:
    raise AssertionError("this command was not loaded")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("fedchain")
        except PackageNotFoundError:  # run from a checkout that nobody installed
            found = "0+source"
        typer.echo(f"{PROGRAM} {found}")
        raise typer.Exit


def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Global options stand before the command."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit code (docs/exit-codes.md). Errors become one line on stderr."""
    words = [word for word in arguments if not word.startswith("-")]
    app = build_app(words[0] if words else "")
    try:
        app(args=list(arguments), prog_name=PROGRAM)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except (Exception, Interrupted) as error:
        if "--debug" in arguments[: arguments.index(words[0]) if words else None]:
            raise
        from cli.errors import report

        return report(error)
    return 0


def main() -> NoReturn:
    """What the script `fedchain-node` runs."""
    signal.signal(signal.SIGINT, _interrupt)
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `fedchain-node chain blocks | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


if __name__ == "__main__":
    main()

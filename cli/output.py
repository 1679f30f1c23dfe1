"""What people see: lines and tables through rich, or JSON for scripts."""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PLAIN_WIDTH: Final = 200  # characters of a line where no terminal says how wide it is


class Interrupted(BaseException):
    """Ctrl-C: ends the command through whatever it was doing."""


def make_console(*, stderr: bool = False) -> Console:
    """A console for data from files and peers: nothing in it is taken for markup."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, markup=False, emoji=False, highlight=False, width=width, soft_wrap=True)


def say(text: str = "") -> None:
    """One line on stdout."""
    make_console().print(text)


def warn(text: str) -> None:
    """One line on stderr that begins with `warning:`."""
    make_console(stderr=True).print(f"warning: {text}", style="yellow")


def print_json(value: object) -> None:
    """The value as JSON on stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def make_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> Table:
    """A table; a column whose name begins with `>` stands to the right."""
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    return table


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """`make_table`, on stdout."""
    make_console().print(make_table(columns, rows, title))


def program() -> str:
    """How this program is called from here: by its name where that is on PATH, by its file otherwise."""
    if shutil.which("fedchain-node"):
        return "fedchain-node"
    called = Path(sys.argv[0])
    return str(called) if called.name == "fedchain-node" else f"{sys.executable} -m cli.main"


def short(value: bytes) -> str:
    """The first 8 hexadecimal digits of a key or hash, as the logs show it."""
    return value.hex()[:8]

"""What a watcher of a testnet sees: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.output import make_console, make_table
from cli.testnet_watch import Listener, PeerStatus, RoundLine

COLUMNS: Final = (
    (">round", 5),
    (">heights", 11),
    (">height", 6),
    ("committee", 48),
    (">offered", 7),
    (">accepted", 8),
    (">rejected", 8),
    (">accuracy", 8),
    (">seconds", 7),
)
REFRESH_S: Final = 0.25
ROWS_SHOWN_MAX: Final = 30
GAP: Final = 3  # characters between two columns
ROWS_AROUND: Final = 6  # lines of the live part that are no round: two blank ones, head, rule, "now", cursor
_WARNINGS_MAX: Final = 5


def round_cells(line: RoundLine, round_length: int) -> tuple[str, ...]:
    """A round's cells, in the order of `COLUMNS`: its heights, then that of its model block (H2)."""
    accuracy = "" if line.accuracy is None else f"{line.accuracy:.4f}"
    return (
        str(line.round),
        f"{line.height - round_length + 1}-{line.height - 1}",
        str(line.height),
        ", ".join(line.committee),
        str(line.offered),
        str(line.accepted),
        str(line.rejected),
        accuracy,
        f"{line.seconds:.1f}",
    )


def rounds_table(lines: Mapping[int, RoundLine], round_length: int, width: int) -> Table:
    """All rounds, oldest first; what is wider than `width` characters gets short names and one column of heights."""
    rows = [round_cells(lines[number], round_length) for number in sorted(lines)]
    columns = [name for name, _ in COLUMNS]
    widest = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    if sum(widest) + GAP * len(columns) <= width:
        return make_table(columns, rows)
    rows = [(row[0], row[2], short_names(row[3].split(", ")), *row[4:]) for row in rows]
    table = make_table([columns[0], *columns[2:]], rows)
    table.collapse_padding = True
    return table


def short_names(names: Sequence[str]) -> str:
    """`hospital-1, hospital-3` as `1, 3`: without the word that all names begin with."""
    shared = names[0][: names[0].rfind("-") + 1] if names else ""
    if not all(name.startswith(shared) for name in names):
        shared = ""
    return ", ".join(name.removeprefix(shared) for name in names)


class PlainDisplay(Listener):
    """One line for each final round, once its accuracy is known, in order."""

    def __init__(self, round_length: int, names: Mapping[str, str]) -> None:
        self._round_length = round_length
        self._waiting: dict[int, RoundLine] = {}
        self._next = 0
        self._console = make_console()

    def __enter__(self) -> "PlainDisplay":
        """Print the head of the table."""
        self._print(tuple(name.removeprefix(">") for name, _ in COLUMNS))
        return self

    def __exit__(self, *_: object) -> None:
        """Print what has no accuracy."""
        for number in sorted(self._waiting):
            self._print(round_cells(self._waiting[number], self._round_length))

    def on_round(self, line: RoundLine) -> None:
        """Print it when its turn has come."""
        self._waiting[line.round] = line
        while (found := self._waiting.get(self._next)) is not None and found.evaluated:
            self._print(round_cells(self._waiting.pop(self._next), self._round_length))
            self._next += 1

    def on_warning(self, text: str) -> None:
        """A line among the others."""
        self._console.print(f"warning: {text}")

    def _print(self, cells: tuple[str, ...]) -> None:
        padded = [
            cell.rjust(width) if name.startswith(">") else cell.ljust(width)
            for cell, (name, width) in zip(cells, COLUMNS, strict=True)
        ]
        self._console.print("  ".join(padded).rstrip())


class LiveDisplay(Listener):
    """A table that grows, and below it what the network is doing now."""

    def __init__(self, round_length: int, names: Mapping[str, str], console: Console | None = None) -> None:
        self._round_length = round_length
        self._names = names
        self._lines: dict[int, RoundLine] = {}
        self._status: PeerStatus = {}
        self._warnings: list[str] = []
        self._shown_s = 0.0
        # drawn by hand: a thread of its own would have to be stopped before anything is forked
        self._live = Live(console=console or make_console(), auto_refresh=False, transient=True)

    def __enter__(self) -> "LiveDisplay":
        """Start."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the live part; the final table follows."""
        self._live.stop()

    def on_status(self, status: PeerStatus) -> None:
        """Keep it for the line below the table."""
        self._status = status
        self._refresh()

    def on_round(self, line: RoundLine) -> None:
        """Add or complete a row."""
        self._lines[line.round] = line
        self._refresh(now=True)

    def on_warning(self, text: str) -> None:
        """Show the last few."""
        self._warnings = [*self._warnings, text][-_WARNINGS_MAX:]
        self._refresh(now=True)

    def _refresh(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._shown_s >= REFRESH_S:
            self._shown_s = time.monotonic()
            self._live.update(self._render(), refresh=True)

    def _render(self) -> Group:
        width, height = self._live.console.size
        room = max(1, min(ROWS_SHOWN_MAX, height - ROWS_AROUND - len(self._warnings)))
        shown = {number: self._lines[number] for number in sorted(self._lines)[-room:]}
        warnings = [Text(f"warning: {text}", style="yellow") for text in self._warnings]
        return Group(rounds_table(shown, self._round_length, width), Text(self._now(), style="dim"), *warnings)

    def _now(self) -> str:
        status = self._status
        if not status:
            return "starting the peers ..."
        keys = status.get("committee")
        names = [self._names.get(key, key[:8]) for key in keys] if isinstance(keys, list) else ["?"]
        line = f"now: round {status.get('round')}, #{status.get('height')}, {status.get('phase')}; committee "
        full = line + ", ".join(names)
        return full if len(full) <= self._live.console.width else line + short_names(names)


Display = PlainDisplay | LiveDisplay


def make_display(round_length: int, names: Mapping[str, str]) -> Display:
    """Live on a terminal, plain lines in a file or pipe."""
    console = make_console()
    chosen: Callable[[int, Mapping[str, str]], Display] = LiveDisplay if console.is_terminal else PlainDisplay
    return chosen(round_length, names)

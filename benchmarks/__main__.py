"""`python -m benchmarks [NAME ...]`: run the benchmarks, print a table, write the JSON file."""

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.figures import Section, describe_report
from benchmarks.machine import describe_machine
from benchmarks.options import Options
from benchmarks.processes import CommandFailed
from benchmarks.table import print_report

NAMES: Final = ("digits", "floor", "agreement", "loop", "sync")
DATA_DEFAULT: Final = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts the files
WIDTH_MIN: Final = 120


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small runs, to see that everything works")
    parser.add_argument("--repeat", type=int, default=3, help="how often the floor is compared (default 3)")
    parser.add_argument("--data", type=Path, default=DATA_DEFAULT, help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    parser.add_argument("--work", type=Path, help="keep the homes in this folder (default: a temporary one)")
    found = parser.parse_args(arguments)
    if unknown := [name for name in found.names if name not in NAMES]:
        parser.error(f"unknown benchmark {unknown[0]!r}: choose from {', '.join(NAMES)}")
    if found.repeat < 1:
        parser.error("--repeat must be at least 1")
    return found


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; 1 where a benchmark could not be run. A missed target is a figure, not an error."""
    given, console = parse(arguments), Console()
    console = console if console.is_terminal else Console(width=WIDTH_MIN)
    machine, failed = describe_machine(), False
    sections: list[Section] = []
    with ExitStack() as stack:
        work = given.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedchain-bench-")))
        work.mkdir(parents=True, exist_ok=True)
        options = Options(work.absolute(), given.data.absolute(), given.repeat, given.quick)
        for name in given.names or NAMES:
            started_s = time.monotonic()
            console.print(f"{name} ...", highlight=False)
            try:
                sections.append(importlib.import_module(f"benchmarks.{name}").run(options))
            except CommandFailed as error:
                failed = True
                sections.append(Section(name, name, notes=(f"FAILED: {error}",)))
            console.print(f"{name}: {time.monotonic() - started_s:.0f} s", highlight=False)
    print_report(sections, machine, console)
    if given.json is not None:
        text = json.dumps(describe_report(sections, machine, given.quick), indent=2) + "\n"
        given.json.write_text(text, encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

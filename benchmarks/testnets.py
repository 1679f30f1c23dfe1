"""Running `fedchain-node testnet` as a user does, and what its summary says."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Finished, run_command

TABLE_LINE = "Final model:"


def node_command() -> str:
    """The `fedchain-node` of this environment."""
    return str(Path(sys.executable).with_name("fedchain-node"))


@dataclass(frozen=True, slots=True)
class TestnetRun:
    """A finished testnet: `table_s` from the command to the table at the end."""

    __test__ = False
    home: Path
    finished: Finished
    table_s: float
    summary: Mapping[str, object]

    @property
    def totals(self) -> Mapping[str, float]:
        found = self.summary["totals"]
        assert isinstance(found, dict)
        return found

    @property
    def peers(self) -> Sequence[Mapping[str, float]]:
        found = self.summary["peers"]
        assert isinstance(found, list)
        return found

    def describe(self) -> dict[str, object]:
        """What is kept of it in the JSON file."""
        return {
            "table_s": self.table_s,
            "wall_s": self.finished.wall_s,
            "cpu_s": self.finished.cpu_s,
            "memory_mb": self.finished.memory_mb,
            "totals": dict(self.totals),
        }


def run_testnet(home: Path, options: Sequence[str], limit_s: float) -> TestnetRun:
    """Run a testnet in `home`, which is emptied before; raises `CommandFailed`."""
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    summary = home.with_suffix(".json")
    command = [node_command(), "testnet", *options, "--home", str(home), "--json", str(summary)]
    finished = run_command(command, limit_s)
    found = json.loads(summary.read_text(encoding="utf-8"))
    return TestnetRun(home, finished, finished.seconds_to(TABLE_LINE), found)

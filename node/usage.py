"""CPU seconds and resident memory of this process and of its workers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import psutil

_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process cost: user and system seconds since its start; resident megabytes (10^6 bytes) now.

    Resident pages that a forked worker shares with its fork server count in each of them.
    """

    cpu_s: float
    rss_mb: float

    def __add__(self, other: "Usage") -> "Usage":
        """Add two processes."""
        return Usage(self.cpu_s + other.cpu_s, self.rss_mb + other.rss_mb)


NO_USAGE: Final = Usage(0.0, 0.0)


def read_usage(pid: int | None = None) -> Usage | None:
    """Return the usage of process `pid` (None: this one), or None where it's gone or not ours to look at."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
    except psutil.Error:
        return None
    return Usage(times.user + times.system, memory.rss / _MB)


def sum_usage(pids: Iterable[int]) -> Usage:
    """Return the sum over the processes that are still there."""
    return sum((usage for pid in pids if (usage := read_usage(pid)) is not None), NO_USAGE)


def count_threads() -> int:
    """Return how many threads the operating system counts in this process."""
    return int(psutil.Process().num_threads())

"""Running a command under a time limit and measuring it from outside: wall, CPU, memory, and when it printed what."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import psutil

MB: Final = 1_000_000
POLL_S: Final = 0.01
SAMPLE_S: Final = 1.0
STOP_LIMIT_S: Final = 20.0
LINES_SHOWN: Final = 30


class CommandFailed(Exception):
    """A command that did not end well; the message shows the end of its output."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended with code 0. CPU seconds count the command and all descendants; `memory_mb` is the
    greatest sum of their proportional set sizes that was seen, so that pages shared by forks count once."""

    wall_s: float
    cpu_s: float
    memory_mb: float
    lines: tuple[tuple[float, str], ...]

    def seconds_to(self, text: str) -> float:
        """When a line with `text` was printed first, in seconds since the start; raises `CommandFailed`."""
        for at_s, line in self.lines:
            if text in line:
                return at_s
        raise CommandFailed(f"the command never printed {text!r}")


def run_command(command: Sequence[str], limit_s: float, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end; raises `CommandFailed` for a code other than 0 or after `limit_s`. Nothing is left."""
    process = Running(command, environment)
    try:
        return process.finish(limit_s)
    finally:
        process.stop()


class Running:
    """A command that runs; `stop` may always be called."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self._started_s = time.monotonic()
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._lines: list[tuple[float, str]] = []
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        self._cpu_s = self._memory_mb = 0.0

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._lines.append((time.monotonic() - self._started_s, line.rstrip()))

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        if self._process.returncode is None:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self._cpu_s = usage.ru_utime + usage.ru_stime
        return self._process.returncode

    def finish(self, limit_s: float) -> Finished:
        """Wait for its end; raises `CommandFailed`."""
        sampled_s = 0.0
        while (code := self.poll()) is None:
            now_s = time.monotonic()
            if now_s - self._started_s > limit_s:
                self.stop()
                raise CommandFailed(f"{self._shown()}: not done after {limit_s:.0f} s\n{self.output()}")
            if now_s - sampled_s >= SAMPLE_S:
                self._memory_mb = max(self._memory_mb, tree_memory_mb(self.pid))
                sampled_s = now_s
            time.sleep(POLL_S)
        wall_s = time.monotonic() - self._started_s
        self._reader.join(STOP_LIMIT_S)
        if code != 0:
            raise CommandFailed(f"{self._shown()}: exit code {code}\n{self.output()}")
        return Finished(wall_s, self._cpu_s, self._memory_mb, tuple(self._lines))

    def output(self) -> str:
        """The end of what it printed."""
        return "\n".join(line for _, line in self._lines[-LINES_SHOWN:])

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM), without waiting."""
        if self.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """SIGTERM, and after a while SIGKILL to its session; returns when it has ended."""
        if self.poll() is not None:
            return
        self.terminate()
        if not self._ended_within(STOP_LIMIT_S):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._ended_within(STOP_LIMIT_S)
        self._reader.join(STOP_LIMIT_S)

    def _ended_within(self, limit_s: float) -> bool:
        deadline_s = time.monotonic() + limit_s
        while self.poll() is None:
            if time.monotonic() > deadline_s:
                return False
            time.sleep(POLL_S)
        return True

    def _shown(self) -> str:
        return " ".join(Path(part).name if part.startswith("/") else part for part in self.command[:6])


def tree_memory_mb(pid: int) -> float:
    """The proportional set sizes of a process and its descendants, summed (RSS where the system knows none)."""
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0.0
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
    return total / MB

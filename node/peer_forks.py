"""Starting many peers fast on one machine: fork a process that has the node's modules in memory already.

A fork costs a millisecond or two where a new interpreter spends a good part of a CPU-second on imports. It is sound
only from a process with one thread and no running event loop, which `fork_call` insists on.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from node.lifeline import die_with_parent, reset_signals

_POLL_S_MAX: Final = 0.05
_EXIT_CRASHED: Final = 1
_LOG_MODE: Final = 0o600


class ForkedProcess:
    """A child made by `fork_call`, with the ways of `subprocess.Popen`. Not thread-safe."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, minus the signal that killed it, or None while it runs."""
        if self._returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == self.pid:
                self._returncode = os.waitstatus_to_exitcode(status)
        return self._returncode

    def wait(self, timeout_s: float | None = None) -> int:
        """Block until it ended and return as `poll` does; raises TimeoutError."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = 0.001
        while (returncode := self.poll()) is None:
            if deadline_s is not None and time.monotonic() >= deadline_s:
                raise TimeoutError(f"process {self.pid} still runs after {timeout_s} s")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_S_MAX)
        return returncode

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM)."""
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, where it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it and all of its process group at once (SIGKILL)."""
        if self.poll() is None:
            # until the child has called setsid() there is no such group
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            os.kill(self.pid, signal.SIGKILL)


def fork_call(function: Callable[..., int | None], *args: object, log_path: Path) -> ForkedProcess:
    """Run `function(*args)` in a child process; its return value (None: 0) is the exit code.

    The child leads a session of its own, so a terminal's Ctrl-C doesn't reach it; it reads nothing, appends its
    output to `log_path` (mode 0600), and gets SIGKILL when this process ends, however that happens (Linux).
    `SystemExit` counts as usual; another exception leaves its traceback in the log and exit code 1.

    Raises RuntimeError where a fork would be unsound, OSError where the log cannot be opened or no process made.
    """
    _check_forkable()
    sys.stdout.flush()
    sys.stderr.flush()
    log_fd = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _LOG_MODE)
    try:
        gc.freeze()  # the collector then leaves the shared pages alone
        parent_pid = os.getpid()
        with warnings.catch_warnings():
            # Python 3.12 counts the threads of BLAS, too, which stops and restarts them around a fork
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _be_child(function, args, log_fd, parent_pid)
    finally:
        os.close(log_fd)
    return ForkedProcess(pid)


def _check_forkable() -> None:
    if threading.active_count() != 1:
        names = ", ".join(sorted(thread.name for thread in threading.enumerate()))
        raise RuntimeError(f"cannot fork a process with several threads ({names}): start the peers first")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("cannot fork inside a running event loop: start the peers first")


def _be_child(function: Callable[..., int | None], args: tuple[object, ...], log_fd: int, parent_pid: int) -> NoReturn:
    """Never returns into the parent's code, nor runs its exit handlers."""
    code = _EXIT_CRASHED
    try:
        os.setsid()
        reset_signals()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _redirect(log_fd)
        die_with_parent(parent_pid)
        code = _call(function, args)
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _redirect(log_fd: int) -> None:
    null_fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_fd, 0)
    os.close(null_fd)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    # the parent's objects may be replaced (a test's capture, a live display): these write to the log whatever they do
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115


def _call(function: Callable[..., int | None], args: tuple[object, ...]) -> int:
    try:
        return function(*args) or 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return _EXIT_CRASHED
    except BaseException:
        traceback.print_exc()
        return _EXIT_CRASHED

"""Children end when what they hang on is gone."""

import os
import select
import signal
import socket
import threading
from collections.abc import Callable

import pytest

from node.lifeline import RESET_SIGNALS, die_with_parent, exit_when_gone, reset_signals

pytestmark = pytest.mark.integration


def run_in_fork(function: Callable[[], None]) -> int:
    """Return the exit code of a child that runs `function`, or 99 where that returns."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_of_another_parent_than_it_thinks_ends_at_once() -> None:
    assert run_in_fork(lambda: die_with_parent(1 << 22)) == 1
    parent_pid = os.getpid()
    assert run_in_fork(lambda: die_with_parent(parent_pid)) == 99


@pytest.mark.parametrize("which", [0, 1])
def test_the_end_of_any_watched_descriptor_ends_a_busy_process(which: int) -> None:
    def hang_and_cut() -> None:
        ours, theirs = socket.socketpair()
        read_fd, write_fd = os.pipe()
        exit_when_gone([theirs.fileno(), read_fd])
        ours.close() if which == 0 else os.close(write_fd)
        threading.Event().wait(20)

    assert run_in_fork(hang_and_cut) == 0


def test_data_on_a_watched_socket_ends_nothing() -> None:
    def send_and_receive() -> None:
        ours, theirs = socket.socketpair()
        watcher = exit_when_gone([theirs.fileno()])
        ours.sendall(b"job")
        select.select([theirs], [], [])
        watcher.join(0.05)
        assert theirs.recv(3) == b"job"
        os._exit(42)

    assert run_in_fork(send_and_receive) == 42


def test_a_forked_child_starts_with_signals_as_new() -> None:
    def check() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        reset_signals()
        defaults = all(signal.getsignal(number) is signal.SIG_DFL for number in RESET_SIGNALS)
        os._exit(0 if defaults and not signal.pthread_sigmask(signal.SIG_BLOCK, set()) else 1)

    assert run_in_fork(check) == 0

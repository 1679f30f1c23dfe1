"""Children that never outlive what started them, whatever kills it."""

import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
# a peer that closes its end of a socket shows as one of these; the last is Linux's word for "will send no more"
_GONE: Final = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
RESET_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP)


def die_with_parent(parent_pid: int, death_signal: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to send `death_signal` to this process when the thread that made it ends (prctl(2), Linux).

    Exits at once if that parent is gone already. Elsewhere than on Linux, only that check is made.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        os._exit(1)


def reset_signals() -> None:
    """Undo the signal handlers and the wake-up descriptor that a forked child inherited."""
    signal.set_wakeup_fd(-1)
    for number in RESET_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def exit_when_gone(descriptors: Sequence[int]) -> threading.Thread:
    """Watch sockets or pipe ends from a thread; end this process at once when another's end of one is closed."""
    watcher = threading.Thread(target=_watch, args=(tuple(descriptors),), name="lifeline", daemon=True)
    watcher.start()
    return watcher


def _watch(descriptors: tuple[int, ...]) -> None:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, _GONE)
    while not any(events & (_GONE | select.POLLNVAL) for _, events in poll.poll()):
        pass
    os._exit(0)

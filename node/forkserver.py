"""A process that has the task's framework in memory and warmed up, and forks a worker for each connection.

    python -m node.forkserver --socket PATH --task NAME --settings JSON [--nice N] [--workers-max N]

Importing torch costs a CPU-second and its first training step another; a fork costs milliseconds. When the server
listens it prints one line of JSON, {"ready": true, ...} or {"ready": false, "reason": ...}, and nothing more. It
ends on SIGTERM, when its standard input ends, or with its parent, and its workers with it.
"""

import os

# OpenMP and the BLAS libraries read these when they are loaded. A child forked from a process in which they have
# started threads waits for ever for threads that it doesn't have; one thread a worker is what n peers want anyway.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"

import argparse  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import selectors  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from contextlib import suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from types import FrameType  # noqa: E402
from typing import Final, NoReturn  # noqa: E402

from fl.jobs import warm_up  # noqa: E402
from fl.task import TaskError, load_task  # noqa: E402
from node.lifeline import die_with_parent, reset_signals  # noqa: E402
from node.usage import count_threads, read_usage  # noqa: E402
from node.worker_child import WorkerOptions, serve_peer  # noqa: E402
from node.worker_wire import NICE_DEFAULT, WORKERS_MAX_DEFAULT, FrameError, decode_settings, send_frame  # noqa: E402

_PATH_BYTES_MAX: Final = 107  # sun_path of unix(7), less its final zero
_EXIT_FAILED: Final = 1
_EXIT_CRASHED: Final = 70


class ForkServer:
    """The loop of the server: one thread, no state but the set of its workers' pids."""

    def __init__(self, listener: socket.socket, task: str, nice: int, workers_max: int) -> None:
        self._listener = listener
        self._workers_max = workers_max
        self._workers: set[int] = set()
        self._stopped = False
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        # nothing is ever written to this pipe: workers see its end when this process is gone
        lifeline_read, self._lifeline_write = os.pipe()
        self._options = WorkerOptions(task, nice, lifeline_read)

    def serve(self, control_fd: int) -> None:
        """Fork a worker for each connection until SIGTERM comes or `control_fd` ends."""
        self._install_signals()
        for source in (self._listener, self._wake_read, control_fd):
            self._selector.register(source, selectors.EVENT_READ)
        while not self._stopped:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wake_read:
                    self._wake_read.recv(4096)
                    self._reap()
                elif not os.read(control_fd, 4096):
                    self._stopped = True
        for pid in self._workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _install_signals(self) -> None:
        self._wake_write.setblocking(False)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                self._workers.discard(pid)

    def _accept(self) -> None:
        with suppress(OSError):  # the peer may be gone again, or the table of processes or of files full
            connection, _ = self._listener.accept()
            with connection:
                self._start_worker(connection)

    def _start_worker(self, connection: socket.socket) -> None:
        self._reap()
        if len(self._workers) >= self._workers_max:
            send_frame(connection, "error", "start", f"the fork server has {self._workers_max} workers, its limit")
            return
        server_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            send_frame(connection, "error", "start", f"the fork server cannot fork: {error}")
            return
        if pid == 0:
            self._be_worker(connection, server_pid)
        self._workers.add(pid)

    def _be_worker(self, connection: socket.socket, server_pid: int) -> NoReturn:
        """Never returns into the server's loop, whatever happens."""
        status = _EXIT_CRASHED
        try:
            reset_signals()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            die_with_parent(server_pid)
            self._selector.close()
            for inherited in (self._listener, self._wake_read, self._wake_write):
                inherited.close()
            os.close(self._lifeline_write)
            serve_peer(connection, self._options)
            status = 0
        except (FrameError, ConnectionError) as error:
            print(f"worker {os.getpid()}: {error}", file=sys.stderr)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            with suppress(OSError):
                sys.stderr.flush()
            os._exit(status)


def preload(task_name: str, settings: dict[str, object]) -> None:
    """Load the task with its data, take a first training step, and freeze what is in memory for the forks."""
    warm_up(load_task(task_name, settings))
    if (threads := count_threads()) != 1:
        print(f"fork server: task {task_name} left {threads} threads running; workers may hang", file=sys.stderr)
    gc.collect()
    gc.freeze()


def listen(path: Path) -> socket.socket:
    """Return a listening Unix socket of mode 0600; a socket file that nobody listens on is replaced.

    Raises OSError where the path is in use, too long or not writable.
    """
    if (size_bytes := len(os.fsencode(path))) > _PATH_BYTES_MAX:
        raise OSError(f"socket path {path} has {size_bytes} bytes, at most {_PATH_BYTES_MAX} work: name a shorter one")
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        if path.is_socket():
            _remove_stale(path)
        listener.bind(str(path))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _remove_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(f"another fork server listens on {path}: end it, or name another path")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m node.forkserver", description="Fork warm workers for peers.")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to listen on")
    parser.add_argument("--task", required=True, help="digits, fashion-mnist or package.module:Class")
    parser.add_argument("--settings", default="{}", help="the task's settings as a JSON object")
    parser.add_argument("--nice", type=int, default=NICE_DEFAULT, help="added to the nice value of the workers")
    parser.add_argument("--workers-max", type=int, default=WORKERS_MAX_DEFAULT, help="workers at the same time")
    return parser.parse_args(arguments)


def _say(line: dict[str, object]) -> None:
    """Print the one line on stdout; from now on what a task prints goes to stderr, where nobody parses it."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    os.dup2(2, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Load, listen, say so, serve; return the exit code."""
    started_s = time.monotonic()
    die_with_parent(os.getppid(), signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the peers, which then end this process
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        preload(options.task, decode_settings(options.settings))
        listener = listen(options.socket)
    except (TaskError, FrameError, OSError) as error:
        _say({"ready": False, "reason": str(error)})
        return _EXIT_FAILED
    usage = read_usage()
    seconds = round(time.monotonic() - started_s, 3)
    _say({"ready": True, "pid": os.getpid(), "seconds": seconds, "rss_mb": usage and round(usage.rss_mb, 1)})
    try:
        ForkServer(listener, options.task, options.nice, options.workers_max).serve(sys.stdin.fileno())
    finally:
        options.socket.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Starting and ending a fork server (`node.forkserver`) as a child process."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.worker_wire import NICE_DEFAULT, WORKERS_MAX_DEFAULT, FrameError, encode_settings

STOP_LIMIT_S: Final = 2.0
_SOCKET_NAME: Final = "work.sock"
_PATH_BYTES_MAX: Final = 100  # unix(7) allows 107, other systems 103
_LINE_BYTES_MAX: Final = 64 << 10


class ForkServerError(Exception):
    """A fork server that did not come up; the message says why."""


def choose_socket_path(folder: Path) -> Path:
    """Return where a fork server for the home `folder` listens: in it, or in a short private folder of its own.

    Unix sockets have short paths only. Raises OSError where the short folder belongs to somebody else.
    """
    inside = folder.absolute() / _SOCKET_NAME
    if len(os.fsencode(inside)) <= _PATH_BYTES_MAX:
        return inside
    digest = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"fedchain-{os.getuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    status = short.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise OSError(f"{short} is not a private folder of this user: remove it, or set TMPDIR to another place")
    return short / _SOCKET_NAME


@dataclass(frozen=True, slots=True)
class ReadyFork:
    """What a fork server says of itself once it listens."""

    pid: int
    seconds: float  # from its start to now
    rss_mb: float


class ForkServerProcess:
    """A fork server started by this process and ended with it, even by SIGKILL.

    Must be made in a thread that lives as long as the server shall (see prctl(2), PR_SET_PDEATHSIG).
    """

    def __init__(
        self,
        socket_path: Path,
        task: str,
        settings: Mapping[str, object],
        *,
        nice: int = NICE_DEFAULT,
        workers_max: int = WORKERS_MAX_DEFAULT,
    ) -> None:
        """Start it; raises `ForkServerError` for settings that are not JSON or where no process can start."""
        self.socket_path = socket_path
        command = [sys.executable, "-m", "node.forkserver", "--socket", str(socket_path), "--task", task]
        command += ["--nice", str(nice), "--workers-max", str(workers_max)]
        try:
            command += ["--settings", encode_settings(settings)]
            # a session of its own: Ctrl-C in a terminal is for the peers, which then end it
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except (FrameError, OSError) as error:
            raise ForkServerError(f"the fork server for task {task!r} cannot start: {error}") from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Return whether it is still there; reaps it where it isn't."""
        return self._process.poll() is None

    def wait_ready(self) -> ReadyFork:
        """Block until it listens; raises `ForkServerError` where it says that it can't, or ends."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline(_LINE_BYTES_MAX)
        match _parse(line):
            case {"ready": True, "pid": int(pid), "seconds": int() | float() as seconds, "rss_mb": rss_mb}:
                return ReadyFork(pid, float(seconds), float(rss_mb) if isinstance(rss_mb, int | float) else 0.0)
            case {"ready": False, "reason": str(reason)}:
                raise ForkServerError(reason)
        self.stop()
        raise ForkServerError(f"the fork server ended with status {self._process.returncode} before it was ready")

    def stop(self) -> None:
        """End it and its workers; blocks up to `STOP_LIMIT_S`."""
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self.socket_path.unlink(missing_ok=True)


def _parse(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None

"""What the integration tests share: the launcher of peers, a fork server, the command line, and bounded waits."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

import psutil

from node.forkserver_process import ForkServerProcess, choose_socket_path
from tests.guards.helpers_guards import ROOT

TASK = "digits"
SETTINGS = {"shard": 0, "shards": 8, "partition": "iid", "seed": 0}  # of the warm-up; each worker gets its peer's own
WORKERS_MAX = 128
POLL_S = 0.02
COMMAND = (sys.executable, "-m", "cli.main")
T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | None], limit_s: float, explain: Callable[[], str] = str) -> T:
    """Look again and again until there is something; fails after `limit_s`, saying what was waited for."""
    deadline_s = time.monotonic() + limit_s
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline_s, f"no {what} within {limit_s} s. {explain()}"
        time.sleep(POLL_S)


def run_command(*words: object, limit_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """`fedchain-node WORDS...` as a process of its own, to its end."""
    command = [*COMMAND, *(str(word) for word in words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)


def start_command(log: Path, *words: object) -> subprocess.Popen[bytes]:
    """`fedchain-node WORDS...` in the background, in a process group of its own; its output goes to `log`."""
    command = [*COMMAND, *(str(word) for word in words)]
    with log.open("ab") as output:
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)


def children_of(pid: int) -> list[int]:
    """The processes that `pid` started and that still run, zombies left out, with all of their children."""
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(pid).children(recursive=True)
        return [child.pid for child in found if is_running(child.pid)]
    return []


def processes_of(folder: Path) -> list[int]:
    """The running processes whose command line names this folder: a testnet's own, all that it forked, its workers."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            named = any(str(folder) in word for word in process.cmdline())
            if named and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def is_running(pid: int) -> bool:
    """Whether there is such a process, and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Machine:
    """The launcher and one fork server for every network of a test session."""

    def __init__(self, folder: Path) -> None:
        self.socket = choose_socket_path(folder)
        self._server = ForkServerProcess(self.socket, TASK, SETTINGS, workers_max=WORKERS_MAX)
        self._launcher = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.launcher"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._server.wait_ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        for pipe in (self._launcher.stdin, self._launcher.stdout):
            assert pipe is not None
            pipe.close()
        self._launcher.wait(10)

    def start(self, home: Path) -> int:
        """Start the peer of a home; its process id."""
        pid = self._ask(do="start", home=str(home), socket=str(self.socket), log=str(home / "peer.log"))
        assert pid is not None
        return pid

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a peer that still runs."""
        self._ask(do="signal", pid=pid, number=number)

    def poll(self, pid: int) -> int | None:
        """A peer's exit code (minus the signal that killed it), None while it runs."""
        return self._ask(do="poll", pid=pid)

    def _ask(self, **command: object) -> int | None:
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.write(json.dumps(command) + "\n")
        self._launcher.stdin.flush()
        line = self._launcher.stdout.readline()
        assert line, f"the launcher ended on {command}"
        answer = json.loads(line)
        assert answer is None or isinstance(answer, int)
        return answer


def tail(path: Path, lines: int = 15) -> str:
    """The end of a log."""
    found: Sequence[str] = path.read_text(errors="replace").splitlines() if path.exists() else ["no log"]
    return "\n".join(found[-lines:])

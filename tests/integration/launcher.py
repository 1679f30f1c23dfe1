"""A process that starts peers by forking, on behalf of a test.

    python -m tests.integration.launcher

A test process has threads and open databases, from which no fork is sound; this one has the node's modules in memory
and nothing else. It reads one JSON command a line and answers each with one line. Its peers end with it.
"""

import json
import signal
import sys
from pathlib import Path
from typing import TextIO

import node.peer
from node.lifeline import die_with_parent
from node.peer_forks import ForkedProcess, fork_call

NO_TIMEOUT_S = 0.0


def run_peer(home: str, socket: str) -> int:
    """The peer of a home, as `fedchain-node start` runs it."""
    return node.peer.run_peer(Path(home), Path(socket))


class Launcher:
    """Answers commands: `start` (home, socket, log) -> pid, `signal` (pid, number), `poll` (pid) -> exit code."""

    def __init__(self) -> None:
        self._children: dict[int, ForkedProcess] = {}

    def answer(self, command: dict[str, str | int]) -> int | None:
        """Carry out one command."""
        match command:
            case {"do": "start", "home": str(home), "socket": str(socket), "log": str(log)}:
                child = fork_call(run_peer, home, socket, log_path=Path(log))
                self._children[child.pid] = child
                return child.pid
            case {"do": "signal", "pid": int(pid), "number": int(number)}:
                self._children[pid].send_signal(
                    signal.Signals(number)
                )  # only while it is not reaped: its pid is its own
                return None
            case {"do": "poll", "pid": int(pid)}:
                return self._children[pid].poll()
        raise ValueError(f"no command of the launcher: {command}")

    def serve(self, commands: TextIO, answers: TextIO) -> None:
        """Until the commands end."""
        for line in commands:
            answers.write(json.dumps(self.answer(json.loads(line))) + "\n")
            answers.flush()


if __name__ == "__main__":
    import os

    die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Launcher().serve(sys.stdin, sys.stdout)

"""The peers of a testnet as processes: forked from this one, which has the node's modules in memory and no torch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.testnet_homes import PeerHome
from node.peer_forks import ForkedProcess, fork_call

STOP_LIMIT_S: Final = 10.0
LOG_NAME: Final = "peer.log"


@dataclass(frozen=True, slots=True)
class RunningPeer:
    """A peer and its process."""

    peer: PeerHome
    process: ForkedProcess

    @property
    def log_path(self) -> Path:
        """Where it logs."""
        return self.peer.home.path / LOG_NAME


def preload() -> None:
    """Import what every peer needs, once."""
    import node.peer  # noqa: F401


def start_peers(peers: Sequence[PeerHome], socket_path: Path) -> list[RunningPeer]:
    """Fork one process for each peer; on an error none is left."""
    running: list[RunningPeer] = []
    try:
        for peer in peers:
            log_path = peer.home.path / LOG_NAME
            process = fork_call(_run, peer.home.path, socket_path, log_path=log_path)
            running.append(RunningPeer(peer, process))
    except BaseException:
        stop_peers(running)
        raise
    return running


def _run(home: Path, socket_path: Path) -> int:
    from node.peer import run_peer

    # the socket is not in config.toml: the home must start without the testnet, too
    return run_peer(home, socket_path)


def stop_peers(running: Sequence[RunningPeer], limit_s: float = STOP_LIMIT_S) -> list[str]:
    """SIGTERM to all, wait, SIGKILL to whoever still runs; returns the names of those that had to be killed."""
    for item in running:
        item.process.terminate()
    deadline_s = time.monotonic() + limit_s
    killed = []
    for item in running:
        try:
            item.process.wait(max(0.0, deadline_s - time.monotonic()))
        except TimeoutError:
            item.process.kill()
            item.process.wait()
            killed.append(item.peer.name)
    return killed

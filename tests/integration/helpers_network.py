"""A network of real peers: homes made by the command line's own functions, processes that a test may kill, and what
their APIs say."""

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from cli.testnet_homes import Net, PeerHome, choose_places, make_members, make_net
from cli.testnet_plan import Plan
from ledger.genesis import load_genesis
from node.config import load_config
from node.home import Home
from tests.integration.helpers_processes import Machine, tail, wait_for

ANSWER_LIMIT_S = 2.0
STOP_LIMIT_S = 20.0
MOVE_LIMIT_S = 60.0

Status = dict[str, Any]
# No proxy of the environment stands between a test and its own machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask_status(peer: PeerHome) -> Status | None:
    """A peer's /v1/status, or None while it does not answer."""
    try:
        with _OPENER.open(f"{peer.api}/v1/status", timeout=ANSWER_LIMIT_S) as answer:
            found: Status = json.load(answer)
            return found
    except (OSError, ValueError, urllib.error.URLError):
        return None


class Network:
    """Homes on disk and whichever of their peers run. Peers are told by their index, 0 to n-1."""

    def __init__(self, machine: Machine, net: Net) -> None:
        self.machine = machine
        self.net = net
        self.params = net.genesis.params
        self._pids: dict[int, int] = {}

    @classmethod
    def make(cls, machine: Machine, plan: Plan) -> Self:
        """New homes, made as `fedchain-node testnet` makes them."""
        plan.check()
        plan.home.mkdir(parents=True, exist_ok=True)
        places = choose_places(plan)
        return cls(machine, make_net(plan, places, make_members(plan, places), machine.socket))

    @classmethod
    def adopt(cls, machine: Machine, folder: Path) -> Self:
        """The homes that a `testnet` command has left in `folder`."""
        genesis = load_genesis(folder / "genesis.json")
        homes = {member.name: Home(folder / member.name) for member in genesis.members}
        apis = {name: f"http://{load_config(home.config).api.listen}" for name, home in homes.items()}
        peers = [PeerHome(m.name, homes[m.name], m.member_key, apis[m.name]) for m in genesis.members]
        return cls(machine, Net(folder, genesis, tuple(peers)))

    @property
    def all(self) -> range:
        """Every peer's index."""
        return range(len(self.net.peers))

    @property
    def running(self) -> list[int]:
        """The peers that were started and neither killed nor stopped."""
        return sorted(self._pids)

    def home(self, index: int) -> Path:
        return self.net.peers[index].home.path

    def index_of(self, member: str) -> int:
        """The peer of a member key in hexadecimal."""
        return next(at for at, peer in enumerate(self.net.peers) if peer.member_key.hex() == member)

    # ------------------------------------------------------------------------------------------- start, kill, stop

    def start(self, indexes: Iterable[int] | None = None) -> None:
        """Start peers, all of them by default; does not wait."""
        for index in self.all if indexes is None else indexes:
            assert index not in self._pids, f"peer {index} runs already"
            self._pids[index] = self.machine.start(self.home(index))

    def kill(self, *indexes: int) -> None:
        """SIGKILL to all, then wait for their ends."""
        pids = [self._pids.pop(index) for index in indexes]
        for pid in pids:
            self.machine.signal(pid, signal.SIGKILL)
        for pid in pids:
            wait_for("end of a killed peer", lambda pid=pid: self.machine.poll(pid), STOP_LIMIT_S)  # type: ignore[misc]

    def stop(self, indexes: Iterable[int] | None = None, number: int = signal.SIGTERM) -> list[int]:
        """Ask peers to stop; their exit codes."""
        chosen = self.running if indexes is None else list(indexes)
        pids = [self._pids.pop(index) for index in chosen]
        for pid in pids:
            self.machine.signal(pid, number)
        return [self._end_of(pid) for pid in pids]

    def wait_end(self, index: int) -> int:
        """The exit code of a peer that ends by itself."""
        return self._end_of(self._pids.pop(index))

    def pid(self, index: int) -> int:
        """The process of a running peer."""
        return self._pids[index]

    def _end_of(self, pid: int) -> int:
        code = wait_for("exit of a peer", lambda: _boxed(self.machine.poll(pid)), STOP_LIMIT_S)
        return code[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill(*self.running)

    # -------------------------------------------------------------------------------------------------- looking in

    def status(self, index: int) -> Status | None:
        """A look at one peer; a peer that ended by itself fails the test."""
        if index in self._pids and (code := self.machine.poll(self._pids[index])) is not None:
            raise AssertionError(f"peer {index} ended with {code}:\n{self.log(index)}")
        return ask_status(self.net.peers[index])

    def await_status(self, index: int) -> Status:
        """The status of a peer as soon as it answers."""
        return wait_for(f"answer of peer {index}", lambda: self.status(index), MOVE_LIMIT_S, lambda: self.log(index))

    def heights(self, indexes: Sequence[int] | None = None) -> list[int]:
        """The height of each peer; -1 for one that does not answer."""
        found = [self.status(index) for index in (self.running if indexes is None else indexes)]
        return [-1 if status is None else int(status["height"]) for status in found]

    def wait_height(self, height: int, indexes: Sequence[int] | None = None, limit_s: float = MOVE_LIMIT_S) -> None:
        """Until every one of the peers stands at `height` or above."""
        wait_for(
            f"height {height}",
            lambda: min(self.heights(indexes)) >= height,
            limit_s,
            lambda: f"heights {self.heights(indexes)}; {self.log(self.running[0])}",
        )

    def log(self, index: int) -> str:
        """The end of a peer's log."""
        return f"log of peer {index}:\n{tail(self.home(index) / 'peer.log')}"


def _boxed(code: int | None) -> tuple[int] | None:
    """So that an exit code of 0 counts as an answer."""
    return None if code is None else (code,)

"""Watching a testnet from outside: its peers' status over HTTP, and the accuracy of each final model."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import aiohttp

from cli.testnet_homes import Net, PeerHome
from cli.testnet_peers import RunningPeer
from fl.jobs import EvaluateJob, EvaluateResult
from ledger.blobs import BlobStore
from node.errors import ExitCode, NodeError
from node.workers import WorkerPool, WorkError

POLL_S: Final = 0.1
ANSWER_LIMIT_S: Final = 2.0
MODEL_LIMIT_S: Final = 30.0
AGREE_LIMIT_S: Final = 30.0
START_LIMIT_S: Final = 60.0

PeerStatus = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RoundLine:
    """One final round; `accuracy` comes a moment later than the rest, if the task has one: then it is `evaluated`."""

    round: int
    height: int
    model: str
    committee: tuple[str, ...]
    offered: int
    accepted: int
    rejected: int
    empty: int
    seconds: float
    accuracy: float | None = None
    evaluated: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished testnet: its rounds, and the last status of each peer, in order."""

    rounds: tuple[RoundLine, ...]
    statuses: tuple[PeerStatus, ...]


class Listener:
    """Who shows what happens; each method is called from the event loop and returns at once."""

    def on_status(self, status: PeerStatus) -> None:
        """A look at one peer."""

    def on_round(self, line: RoundLine) -> None:
        """A round is final, or its accuracy is known now."""

    def on_warning(self, text: str) -> None:
        """Something is wrong, and the network goes on."""


class Watch:
    """Follows a running testnet to its last round."""

    def __init__(
        self, net: Net, running: Sequence[RunningPeer], workers: WorkerPool, listener: Listener, stall_limit_s: float
    ) -> None:
        self._net = net
        self._running = list(running)
        self._workers = workers
        self._listener = listener
        self._stall_limit_s = stall_limit_s
        self._names = net.names()
        self._lines: list[RoundLine] = []
        self._ended: set[str] = set()

    async def run(self) -> Outcome:
        """Return when all rounds are final and all living peers agree; raises `NodeError`."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_LIMIT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            evaluations: list[asyncio.Task[None]] = []
            await self._follow(session, lambda line: evaluations.append(group.create_task(self._evaluate(line))))
            statuses = await self._agree(session)
            await asyncio.gather(*evaluations)
        return Outcome(tuple(self._lines), tuple(statuses))

    async def _follow(self, session: aiohttp.ClientSession, on_line: Callable[[RoundLine], None]) -> None:
        loop = asyncio.get_running_loop()
        moved_s, height = loop.time() + START_LIMIT_S, -1
        while len(self._lines) < self._net.genesis.params.rounds_max:
            status = await self._look(session)
            if status is not None:
                self._listener.on_status(status)
                if (seen := _int(status, "height")) > height:
                    height, moved_s = seen, loop.time()
                for line in self._new_lines(status):
                    self._lines.append(line)
                    self._listener.on_round(line)
                    on_line(line)
            if loop.time() - moved_s > self._stall_limit_s:
                raise self._stalled(height)
            await asyncio.sleep(POLL_S)

    async def _look(self, session: aiohttp.ClientSession) -> PeerStatus | None:
        """The status of the first peer that answers."""
        for item in self._alive():
            if (status := await fetch_status(session, item.peer)) is not None:
                return status
        return None

    def _alive(self) -> list[RunningPeer]:
        alive = []
        for item in self._running:
            code = item.process.poll()
            if code is None:
                alive.append(item)
            elif item.peer.name not in self._ended:
                self._ended.add(item.peer.name)
                self._listener.on_warning(f"{item.peer.name} ended with exit code {code}; see {item.log_path}")
        if not alive:
            raise NodeError(ExitCode.NETWORK, f"every peer has ended; the last log is {self._running[-1].log_path}")
        return alive

    def _new_lines(self, status: PeerStatus) -> list[RoundLine]:
        rounds = status.get("last_rounds")
        found = [parse_line(item, self._names) for item in rounds] if isinstance(rounds, list) else []
        lines = sorted((line for line in found if line.round >= len(self._lines)), key=lambda line: line.round)
        # a round that is missing here was final so long ago that the peer shows it no more
        return [line for at, line in enumerate(lines, len(self._lines)) if line.round == at]

    def _stalled(self, height: int) -> NodeError:
        logs = self._net.folder / "*" / "peer.log"
        return NodeError(
            ExitCode.NETWORK,
            f"no new block for {self._stall_limit_s:.0f} s after #{height}; {len(self._alive())} of "
            f"{len(self._running)} peers run. Look for warnings in {logs}",
        )

    async def _evaluate(self, line: RoundLine) -> None:
        try:
            path = await self._find_model(bytes.fromhex(line.model))
            result = await self._workers.run(EvaluateJob(str(path), report=True))
            accuracy = result.metrics.get("accuracy") if isinstance(result, EvaluateResult) else None
        except (WorkError, TimeoutError, ValueError) as error:
            self._listener.on_warning(f"round {line.round}: accuracy unknown: {error}")
            accuracy = None
        done = replace(line, accuracy=accuracy, evaluated=True)
        self._lines[line.round] = done
        self._listener.on_round(done)

    async def _find_model(self, blob: bytes) -> Path:
        """Where some peer has the model: the block may be final a moment before the file is there (A3)."""
        paths = [BlobStore(peer.home.blobs).path(blob) for peer in self._net.peers]
        async with asyncio.timeout(MODEL_LIMIT_S):
            while True:
                if found := next((path for path in paths if path.is_file()), None):
                    return found
                await asyncio.sleep(POLL_S)

    async def _agree(self, session: aiohttp.ClientSession) -> list[PeerStatus]:
        """Wait until every living peer stands at the last block and has its model; their last status."""
        last = self._net.genesis.params.round_length * self._net.genesis.params.rounds_max
        try:
            async with asyncio.timeout(AGREE_LIMIT_S):
                return await asyncio.gather(*(self._wait_for(session, item, last) for item in self._alive()))
        except TimeoutError as error:
            message = f"not every peer reached #{last} within {AGREE_LIMIT_S:.0f} s of the first. See their peer.log"
            raise NodeError(ExitCode.NETWORK, message) from error

    async def _wait_for(self, session: aiohttp.ClientSession, item: RunningPeer, height: int) -> PeerStatus:
        while True:
            status = await fetch_status(session, item.peer)
            if status is not None and _int(status, "height") >= height:
                model = BlobStore(item.peer.home.blobs).path(bytes.fromhex(str(status.get("model"))))
                if model.is_file():
                    return status
            await asyncio.sleep(POLL_S)


async def fetch_status(session: aiohttp.ClientSession, peer: PeerHome) -> PeerStatus | None:
    """A peer's `/v1/status`, or None while it does not answer."""
    try:
        async with session.get(f"{peer.api}/v1/status") as answer:
            found = await answer.json() if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _int(status: Mapping[str, object], name: str) -> int:
    value = status.get(name)
    return value if isinstance(value, int) else 0


def parse_line(item: object, names: Mapping[str, str]) -> RoundLine:
    """A round of the status' `last_rounds`; members become names."""
    entry: Mapping[str, object] = item if isinstance(item, dict) else {}
    committee, seconds = entry.get("committee"), entry.get("seconds")
    return RoundLine(
        round=_int(entry, "round"),
        height=_int(entry, "height"),
        model=str(entry.get("model", "")),
        committee=tuple(names.get(key, key) for key in committee) if isinstance(committee, list) else (),
        offered=_int(entry, "offered"),
        accepted=_int(entry, "accepted"),
        rejected=_int(entry, "rejected"),
        empty=_int(entry, "empty"),
        seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
    )

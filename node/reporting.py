"""The peer's status, put together for the API and the command line."""

from collections.abc import Sequence
from typing import Protocol

from consensus.drafting import open_slots
from ledger.genesis import Genesis
from ledger.state import State, is_finished
from node.api import Status
from node.shell import Shell
from node.stall import StallMeter
from node.transport import PeerStats
from node.usage import NO_USAGE, read_usage
from node.worker_queue import WorkerQueue


class Counted(Protocol):
    """What is asked of a transport."""

    def connected(self) -> Sequence[bytes]: ...

    def stats(self, member: bytes) -> PeerStats: ...


class Reporter:
    """Answers `status` from what the running parts know."""

    def __init__(
        self, genesis: Genesis, shell: Shell, transport: Counted, workers: WorkerQueue, stall: StallMeter
    ) -> None:
        self._shell, self._transport = shell, transport
        self._workers, self._stall = workers, stall
        self._root_at, self._root_value = b"", b""
        self._names = {member.member_key: member.name for member in genesis.members}

    def status(self) -> Status:
        """How the peer is now."""
        core, transport = self._shell.core, self._transport
        state, me = core.state, core.me
        stats = [transport.stats(member) for member in self._names if member != me]
        mine = read_usage() or NO_USAGE
        return Status(
            member=me.hex(),
            name=self._names[me],
            chain=state.chain.hex(),
            height=state.height,
            tip=state.last_hash.hex(),
            state_root=self._root(state).hex(),
            round=state.round.round,
            phase=self._phase(),
            committee=[member.hex() for member in state.round.committee],
            trainers=[member.hex() for member in state.round.trainers],
            role=self._role(),
            peers_connected=len(transport.connected()),
            peers_known=len(stats),
            model=state.round.model.blob.hex(),
            syncing=self._shell.follower.is_active or not core.is_ready,
            behind_blocks=core.behind,
            sent_bytes=sum(item.sent_bytes for item in stats),
            received_bytes=sum(item.received_bytes for item in stats),
            cpu_s=mine.cpu_s + self._workers.usage().cpu_s,
            rss_mb=mine.rss_mb,
            loop_stall_max_ms=self._stall.max_ms,
            loop_own_max_ms=self._stall.snapshot().own_max_ms,
            faults=self._faults(sum(item.faults for item in stats)),
            last_rounds=list(self._shell.history.rounds),
        )

    def _root(self, state: State) -> bytes:
        """The state root, computed once for each block."""
        if self._root_at != state.last_hash:
            self._root_at, self._root_value = state.last_hash, state.root()
        return self._root_value

    def _faults(self, total: int) -> dict[str, int]:
        """By the rule that was broken; what the transport found by itself, such as a torn frame, is `connection`."""
        found = self._shell.history.faults
        rest = total - found.total()
        return {**found, "connection": rest} if rest > 0 else dict(found)

    def _phase(self) -> str:
        core = self._shell.core
        if is_finished(core.params, core.state):
            return "finished"
        if open_slots(core.params, core.state) == 0:
            return "model"
        return "deciding" if core.work.pool.offers else "training"

    def _role(self) -> str:
        round, me = self._shell.core.state.round, self._shell.core.me
        if me in round.committee:
            return "committee"
        return "trainer" if me in round.trainers else "idle"

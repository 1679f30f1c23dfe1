"""The running peer around the pure core: one task takes events from a bounded queue, steps the core, performs the
effects in order. What must be on disk is written and synced before anything is sent (A5)."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from consensus.core import Core
from consensus.drafting import open_slots
from consensus.events import (
    Aggregate,
    Commit,
    Effect,
    Evaluate,
    Event,
    Fault,
    Fired,
    Halt,
    PeerDown,
    PeerUp,
    Persist,
    Received,
    RoundEnded,
    RoundTimer,
    Send,
    SetTimer,
    Started,
    SyncFrom,
    Timer,
    Train,
)
from consensus.signer import WalEntry
from ledger.chain import Chain
from ledger.store import StoreError
from node import wire
from node.errors import ExitCode, NodeError, disk_error
from node.following import Follower
from node.history import History
from node.inbox import Frame, Inbox
from node.logs import get_log
from node.serving import Librarian
from node.signer_log import SignerLog
from node.transport import BlobHead, Transport
from node.workroom import Workroom

STEP_BUDGET_S = 0.004
STEP_EVENTS_MAX = 256
ROUNDS_SIGNED_KEPT = 2

log = get_log(__name__)


class Shell:
    """Owns the core. `run` ends when `stop` was called, or with the `NodeError` that ended the peer."""

    def __init__(
        self,
        core: Core,
        chain: Chain,
        signer_log: SignerLog,
        transport: Transport,
        librarian: Librarian,
        inbox: Inbox | None = None,
    ) -> None:
        self.core, self.chain, self.transport = core, chain, transport
        self.history = History(chain)
        self._signer_log, self._librarian = signer_log, librarian
        self._inbox = Inbox() if inbox is None else inbox
        self._wake = asyncio.Event()
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._stopping = False
        self._error: NodeError | None = None
        self.workroom: Workroom
        self.follower: Follower
        self.post(Started())  # the first event, also where a peer connects before `run`
        self._guard()

    # ------------------------------------------------------------------------------------------------- the one loop

    def post(self, event: Event) -> None:
        """Hand an event to the core; from the event loop only."""
        self._inbox.put(event)
        self._wake.set()

    def fail(self, error: NodeError) -> None:
        """End the peer with this error."""
        self._error = self._error or error
        self.stop()

    def stop(self) -> None:
        """End the peer after the step that is under way."""
        self._stopping = True
        self._wake.set()

    async def run(self, owed: list[Aggregate]) -> None:
        """Take events until `stop`; `owed` are models that a restart found underived (A3)."""
        for order in owed:
            self.workroom.aggregate(order)
        try:
            while not self._stopping:
                await self._wake.wait()
                self._wake.clear()
                while self._inbox and not self._stopping:
                    await self._perform(list(self._step()))
                    await asyncio.sleep(0)  # let the sockets have their turn between two full steps
        except NodeError as error:
            self._error = self._error or error
        finally:
            for handle in self._timers.values():
                handle.cancel()
            self._disk.shutdown()
        if self._error is not None:
            raise self._error

    def _step(self) -> Iterator[Effect]:
        """Feed waiting events to the core, for at most `STEP_BUDGET_S`, so that their effects share one fsync."""
        begun = time.monotonic()
        for _ in range(STEP_EVENTS_MAX):
            if not self._inbox or time.monotonic() - begun > STEP_BUDGET_S:
                return
            item = self._inbox.pop()
            event = self._decode(item) if isinstance(item, Frame) else item
            if event is not None:
                yield from self.core.step(event, time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)

    def _decode(self, frame: Frame) -> Received | None:
        """What a frame says; one that cannot be decoded, or may not come now, costs its sender (A8)."""
        member = frame.member
        try:
            message = wire.decode(frame.data)
        except wire.WireError as error:
            self.history.faulted("frame")
            self.transport.fault(member, f"bad frame: {error}")
            return None
        if isinstance(message, wire.Hello | wire.Goodbye):
            self.transport.fault(member, f"a {type(message).__name__} in the middle of a connection")
            return None
        return Received(member, message)

    async def _perform(self, effects: list[Effect]) -> None:
        records = [WalEntry(effect.record).encode() for effect in effects if isinstance(effect, Persist)]  # type: ignore[arg-type]
        commits = [effect for effect in effects if isinstance(effect, Commit)]
        if records or commits:
            await asyncio.get_running_loop().run_in_executor(self._disk, self._write, records, commits)
        for commit in commits:
            self.history.note(commit)
        if commits and self._signer_log.needs_rewrite:
            kept = self.core.signer.compact(self.core.state.round.round - ROUNDS_SIGNED_KEPT)
            snapshot = [WalEntry(record).encode() for record in kept]
            await asyncio.get_running_loop().run_in_executor(self._disk, self._signer_log.rewrite, snapshot)
        self._guard()
        for effect in effects:
            self._do(effect)
        self.follower.moved()

    def _write(self, records: list[bytes], commits: list[Commit]) -> None:
        """Signer's log first, then the chain; each synced (A5)."""
        if records:
            self._signer_log.append(records)
        for commit in commits:
            try:
                self.chain.commit(commit.batch, commit.state)
            except OSError as error:
                raise disk_error(error, f"writing block #{commit.state.height}") from error
            except StoreError as error:
                advice = "Stop the peer and run `fedchain-node chain verify`"
                raise NodeError(ExitCode.DATA_DAMAGED, f"{error}. {advice}") from error

    def _guard(self) -> None:
        """B4 follows the open round."""
        core = self.core
        state = core.state
        open_now = open_slots(core.params, state) > 0 and not state.round.closed
        updates: set[bytes] = set()
        if open_now:
            # those on chain too: after a restart or a sync they are not in the pool
            updates.update(update.update.blob for update in state.updates)
            updates.update(offer.update.blob for offer in core.work.pool.offers.values())
        self._librarian.guard(frozenset(updates), frozenset(state.round.committee))

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send(message, None):
                self.transport.broadcast(wire.encode(message))
            case Send(message, to):
                self.transport.send(to or b"", wire.encode(message))
            case SetTimer(timer, after_ms):
                self._set_timer(timer, after_ms)
            case Train():
                self.workroom.train(effect)
            case Evaluate():
                self.workroom.evaluate(effect)
            case Aggregate():
                self.workroom.aggregate(effect)
            case RoundEnded(round):
                self._cancel_timers(round)
                self.workroom.end_round(round)
            case SyncFrom(member, height):
                self.follower.follow(member, height)
            case Fault(member, reason):
                self.history.faulted(reason)
                self.transport.fault(member, reason)
                self.follower.blame(member)
            case Halt(reason):
                advice = "Keep this home as it is, run `fedchain-node chain verify`, and ask the other members"
                self.fail(NodeError(ExitCode.FAULTY_MACHINE, f"{reason}. {advice}"))
            case Persist() | Commit():
                pass  # done before everything else

    def _set_timer(self, timer: Timer, after_ms: int) -> None:
        old = self._timers.pop(timer, None)
        if old is not None:
            old.cancel()
        self._timers[timer] = asyncio.get_running_loop().call_later(after_ms / 1000, self._fire, timer)

    def _cancel_timers(self, round: int) -> None:
        """Those of a round that has ended: a deadline may be days away."""
        for timer in [item for item in self._timers if isinstance(item, RoundTimer) and item.round <= round]:
            self._timers.pop(timer).cancel()

    def _fire(self, timer: Timer) -> None:
        self._timers.pop(timer, None)
        self.post(Fired(timer))

    # ------------------------------------------------------------------------------------- the transport's handler

    def on_up(self, member: bytes) -> None:
        """A member is connected."""
        self.post(PeerUp(member))

    def on_down(self, member: bytes) -> None:
        """It no longer is."""
        self.post(PeerDown(member))

    def on_frame(self, member: bytes, frame: bytes) -> None:
        """Queue a frame; what has no room is dropped, and gossip brings it again (A4)."""
        if self._inbox.put_frame(member, frame):
            self._wake.set()

    def serve_head(self, member: bytes, blob: bytes) -> BlobHead | None:
        """B4, in a worker thread."""
        return self._librarian.serve_head(member, blob)

    def serve_chunk(self, member: bytes, blob: bytes, index: int) -> bytes | None:
        """B4, in a worker thread."""
        return self._librarian.serve_chunk(member, blob, index)

    def serve_batches(self, member: bytes, height: int, bytes_max: int) -> list[bytes]:
        """Y1, in a worker thread."""
        return self._librarian.serve_batches(height, bytes_max)

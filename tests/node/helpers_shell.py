"""Shared by the tests of the running peer: a shell around a scripted core that notes what is done in which order, and
whole peers of real cores in one process."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from consensus.core import Core
from consensus.events import Effect, Event, Held
from consensus.signer import Identity, Signer, SignerState, WalEntry
from fl.jobs import Job, Result, run_job
from fl.tensors import encode_tensors
from ledger.blobs import BlobStore, blob_ref
from ledger.chain import Chain
from ledger.genesis import Genesis
from ledger.heights import model_height
from ledger.keys import public_bytes
from ledger.state import State
from ledger.store import MemoryStore, Store
from ledger.types import Block, Body, Certificate, FinalBatch
from node.exchange import BlobExchange
from node.following import Follower
from node.inbox import Inbox
from node.memory import MemoryNetwork, MemoryTransport
from node.rounds import get_obligations, read_model
from node.serving import Librarian
from node.shell import Shell
from node.signer_log import SignerLog, create
from node.workers import InlineWorkers
from node.workroom import Training, Workroom
from tests.ledger.helpers_ledger import ChainBuilder, beacon_of, make_document, member_key
from tests.node.helpers_tasks import LinearTask

WAIT_S = 20.0
LINKS = 16
MARK = Held((blob_ref(b"mark"),))


def key_of(index: int) -> bytes:
    """The public member key of organisation `index`."""
    return public_bytes(member_key(index))


def open_log(path: Path, index: int, kind: type[SignerLog] = SignerLog) -> tuple[SignerLog, Signer]:
    """The signer's log of a member, made where there is none, and the signer bound by it (A5)."""
    if not path.exists():
        create(path, [WalEntry(Identity(key_of(index))).encode()])
    log, data = kind.open(path)
    records = [WalEntry.decode(item).record for item in data]
    return log, Signer(member_key(index), SignerState.replay(records))


# ---------------------------------------------------------------------------------------------- one scripted shell


class NotedLog(SignerLog):
    """A signer's log that notes each call, and fails with `error` where one is set."""

    notes: list[str]
    error: Exception | None = None
    grown = False

    @property
    def needs_rewrite(self) -> bool:
        return self.grown

    def append(self, records: Sequence[bytes]) -> None:
        if self.error is not None:
            raise self.error
        super().append(records)
        self.notes.append(f"log {len(records)}")

    def rewrite(self, records: Sequence[bytes]) -> None:
        super().rewrite(records)
        self.notes.append("rewrite")


class NotedStore(MemoryStore):
    """A chain store that notes each batch, and fails with `error` where one is set."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self.notes = notes
        self.error: Exception | None = None

    def append(self, blocks: tuple[Block, ...], certificate: Certificate | None, state: State) -> None:
        if self.error is not None:
            raise self.error
        super().append(blocks, certificate, state)
        if certificate is not None:
            self.notes.append(f"store #{state.height}")


class NotedTransport(MemoryTransport):
    """A transport that notes what leaves and whose faults were which."""

    def __init__(self, network: MemoryNetwork, me: bytes, notes: list[str]) -> None:
        super().__init__(network, me)
        self.notes = notes
        self.blamed: list[tuple[bytes, str]] = []

    def send(self, member: bytes, frame: bytes) -> bool:
        self.notes.append("send")
        return super().send(member, frame)

    def broadcast(self, frame: bytes) -> None:
        self.notes.append("broadcast")
        super().broadcast(frame)

    def fault(self, member: bytes, reason: str) -> None:
        self.blamed.append((member, reason))
        super().fault(member, reason)


class ScriptedCore(Core):
    """A real core whose steps are the test's: `script` answers each event."""

    script: Callable[[Event], Sequence[Effect]]
    seen: list[Event]
    marks = 0

    def step(self, event: Event, now_ms: int, wall_ms: int) -> list[Effect]:
        if event == MARK:
            self.marks += 1
            return []
        self.seen.append(event)
        return list(self.script(event))


class NotedFollower(Follower):
    """Tells when the effects of a step have been performed."""

    performed: asyncio.Event

    def moved(self) -> None:
        super().moved()
        self.performed.set()


class Bench:
    """One shell on a bench: member 0 of `builder`'s consortium, with a scripted core and notes of what it does."""

    def __init__(
        self,
        folder: Path,
        script: Callable[[Event], Sequence[Effect]],
        inbox: Inbox | None = None,
        chain: Iterable[FinalBatch] = (),
    ) -> None:
        """`chain` are final batches that its disk holds already."""
        self.notes: list[str] = []
        self.builder = ChainBuilder()
        self.network = MemoryNetwork()
        self.me = key_of(0)
        log, signer = open_log(folder / "signer.state", 0, NotedLog)
        assert isinstance(log, NotedLog)
        self.log = log
        log.notes = self.notes
        self.store = NotedStore(self.notes)
        self.chain = Chain(self.builder.genesis, self.store)
        for batch in chain:
            self.chain.import_batch(batch)
        self.blobs = BlobStore(folder / "blobs")
        self.core = ScriptedCore(self.builder.params, self.chain.state, signer, beacon_of(0, LINKS))
        self.core.script, self.core.seen = script, []
        self.transport = NotedTransport(self.network, self.me, self.notes)
        self.librarian = Librarian(self.chain, self.blobs)
        self.shell = Shell(self.core, self.chain, log, self.transport, self.librarian, inbox)
        self.workers = InlineWorkers(lambda job: run_job(LinearTask(), job))
        self.exchange = BlobExchange(self.transport, self.blobs, folder / "partial")
        (folder / "work").mkdir()
        self.shell.workroom = make_workroom(self.shell, self.workers, self.exchange, self.blobs, folder / "work")
        follower = NotedFollower(self.transport, self.shell.post, lambda: self.core.state.height, lambda: 0)
        follower.performed = asyncio.Event()
        self.shell.follower = self.follower = follower
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run the shell in a task; return when its first step is done."""
        await self.transport.start(self.shell)
        self.task = asyncio.create_task(self.shell.run([]))
        await self.settle()

    async def settle(self) -> None:
        """Return when every event so far was stepped and its effects were performed."""
        wanted = self.core.marks + 1
        self.shell.post(MARK)
        async with asyncio.timeout(WAIT_S):
            while self.core.marks < wanted and not (self.task and self.task.done()):
                self.follower.performed.clear()
                waiting = asyncio.create_task(self.follower.performed.wait())
                await asyncio.wait([waiting, *([self.task] if self.task else [])], return_when="FIRST_COMPLETED")
                waiting.cancel()

    async def stop(self) -> None:
        """Stop the shell; raises the error that ended it."""
        self.shell.stop()
        try:
            if self.task is not None:
                await self.task
        finally:
            await self.close()

    async def close(self) -> None:
        """Close everything, also after a failure."""
        await self.follower.stop()
        await self.shell.workroom.stop()
        await self.exchange.stop()
        await self.workers.close()
        await self.transport.stop()
        self.log.close()

    def batch(self, *bodies: Body) -> tuple[FinalBatch, State]:
        """A final batch on the tip, not yet committed, and the state after it."""
        blocks, state = self.builder.blocks(*bodies)
        return FinalBatch(blocks, self.builder.certificate(blocks)), state


def make_workroom(
    shell: Shell, workers: InlineWorkers, exchange: BlobExchange, blobs: BlobStore, folder: Path
) -> Workroom:
    """The workroom of a shell, without an attack."""
    core = shell.core
    training = Training("f32", None)
    connected = shell.transport.connected
    return Workroom(core.params, training, workers, exchange, blobs, folder, core.me, connected, shell.post, shell.fail)


# ------------------------------------------------------------------------------------------------ whole real peers


def make_consortium(n: int = 4, **rules: object) -> Genesis:
    """Genesis of `n` members that learn the linear task; quick timers."""
    given: dict[str, object] = {"rounds_max": 3, "grace_ms": 100, "batch_wait_ms": 100, "test_set": "local"}
    given |= {"timeout_propose_ms": 500, "timeout_vote_ms": 200, "update_norm_max": 10_000_000}
    return make_document(n, encode_tensors(LinearTask().model()), **(given | rules))


@dataclass
class MemoryPeer:
    """A whole peer, as `node.peer.serve` puts it together, on the in-memory twins. `store`, `folder` and the signer's
    log are its disk: a new `MemoryPeer` on them is the restarted one."""

    genesis: Genesis
    index: int
    network: MemoryNetwork
    folder: Path
    store: Store = field(default_factory=MemoryStore)
    train: Callable[[Job], Result] | None = None

    def __post_init__(self) -> None:
        (self.folder / "work").mkdir(parents=True, exist_ok=True)
        self.me = key_of(self.index)
        self.log, signer = open_log(self.folder / "signer.state", self.index)
        self.chain = Chain(self.genesis, self.store)
        self.blobs = BlobStore(self.folder / "blobs")
        self.blobs.put_bytes(encode_tensors(LinearTask().model()))
        self.owed = get_obligations(self.chain, self.blobs)
        k = self.genesis.params.round_length
        targets = {order.round: read_model(self.chain, model_height(k, order.round)).model for order in self.owed}
        held = [update.update for update in self.chain.state.updates if self.blobs.holds(update.update)]
        links = beacon_of(self.index, self.genesis.params.beacon_links)
        self.core = Core(
            self.genesis.params, self.chain.state, signer, links, held=held, obliged=targets, gossip_ms=100
        )
        self.transport = self.network.transport(self.me)
        self.shell = Shell(self.core, self.chain, self.log, self.transport, Librarian(self.chain, self.blobs))
        task = LinearTask(shard=self.index)
        self.workers = InlineWorkers(self.train or (lambda job: run_job(task, job)))
        self.exchange = BlobExchange(self.transport, self.blobs, self.folder / "partial")
        self.shell.workroom = make_workroom(self.shell, self.workers, self.exchange, self.blobs, self.folder / "work")
        self.shell.follower = Follower(
            self.transport, self.shell.post, lambda: self.core.state.height, lambda: self.shell.workroom.owed
        )
        self.task: asyncio.Task[None] | None = None

    @property
    def height(self) -> int:
        """Of the last block on disk; the core is ahead while one is written."""
        return self.chain.state.height

    async def start(self) -> None:
        """Connect and run."""
        await self.transport.start(self.shell)
        self.task = asyncio.create_task(self.shell.run(self.owed), name=f"peer-{self.index}")

    async def stop(self) -> None:
        """Stop cleanly; raises the error that ended the peer."""
        self.shell.stop()
        try:
            if self.task is not None:
                await self.task
        finally:
            await self.shell.follower.stop()
            await self.shell.workroom.stop()
            await self.exchange.stop()
            await self.transport.stop()
            await self.workers.close()
            self.log.close()

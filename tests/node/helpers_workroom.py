"""Shared by the tests of the workroom: one with its surroundings, updates made by hand."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from consensus.events import (
    Aggregate,
    Aggregated,
    AggregateInput,
    Event,
)
from fl.aggregation import aggregate
from fl.codecs import decode_delta, encode_delta
from fl.jobs import Job, Result, run_job
from fl.tensors import Tensors, encode_tensors
from ledger.blobs import BlobStore, blob_ref, make_seal
from ledger.types import BlobRef, Offer
from node.errors import NodeError
from node.exchange import BlobExchange
from node.limits import Limits
from node.memory import MemoryNetwork
from node.workers import InlineWorkers
from node.workroom import Training, Workroom
from tests.ledger.helpers_ledger import ChainBuilder
from tests.node.helpers_net import Recorder
from tests.node.helpers_shell import key_of
from tests.node.helpers_tasks import LinearTask

ME, HOLDER = key_of(0), key_of(1)
WAIT_S = 20.0
ROUND = 0
MODEL = LinearTask().model()
LIMITS = Limits(fetch_passes_max=1)


def work(job: Job) -> Result:
    return run_job(LinearTask(), job)


async def no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


class Room:
    """A workroom with its surroundings: `theirs` is what the other member serves, `events` what the core is told."""

    def __init__(self, folder: Path, function: Callable[[Job], Result] = work, blobs: BlobStore | None = None) -> None:
        self.events: list[Event] = []
        self.errors: list[NodeError] = []
        self.waits: list[float] = []
        self.aggregated = threading.Event()
        self.model_count = 0
        self._changed = asyncio.Event()
        self.work = folder / "work"
        self.work.mkdir()
        self.mine = blobs or BlobStore(folder / "mine")
        self.theirs = BlobStore(folder / "theirs")
        network = MemoryNetwork(LIMITS)
        self.transport, self.other = network.transport(ME), network.transport(HOLDER)
        self.holder = Recorder(self.theirs)
        self.workers = InlineWorkers(function)
        self.exchange = BlobExchange(self.transport, self.mine, folder / "partial", LIMITS, no_pause)
        self.room = Workroom(
            ChainBuilder().params,
            Training("f32", None),
            self.workers,
            self.exchange,
            self.mine,
            self.work,
            ME,
            self.transport.connected,
            self._post,
            self._fail,
            self._pause,
        )
        self.model = self.mine.put_bytes(encode_tensors(MODEL)) if blobs is None else blob_ref(encode_tensors(MODEL))

    def _post(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Aggregated):
            self.aggregated.set()
        self._changed.set()

    def _fail(self, error: NodeError) -> None:
        self.errors.append(error)
        self._changed.set()

    async def _pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._changed.set()
        await asyncio.sleep(0)

    def offer(self, data: bytes, trainer: bytes = HOLDER, **changes: Any) -> Offer:
        """An offer of `data`, which the other member serves."""
        self.theirs.put_bytes(data)
        return make_offer(data, trainer, **changes)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when `holds()`, which an event, an error, a pause or the end of a task makes true."""
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def idle(self) -> None:
        """Return when no work is under way."""
        async with asyncio.timeout(WAIT_S):
            while self.room.owed:
                tasks = [task for task in asyncio.all_tasks() if task.get_name().endswith(("-0", "-1"))]
                await asyncio.gather(*tasks, return_exceptions=True)
                await asyncio.sleep(0)

    def told(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def opened(
    folder: Path, function: Callable[[Job], Result] = work, blobs: BlobStore | None = None
) -> AsyncIterator[Room]:
    room = Room(folder, function, blobs)
    await room.transport.start(Recorder())
    await room.other.start(room.holder)
    try:
        yield room
    finally:
        await room.room.stop()
        await room.exchange.stop()
        await room.workers.close()
        await room.other.stop()
        await room.transport.stop()
        assert not list(room.work.glob("*.part")), "scratch was left behind"


def make_update(scale: float = 1.0) -> bytes:
    delta = {"w": np.array([0.2, -0.4, 0.1], np.float32) * np.float32(scale)}
    return encode_delta("f32", delta, None)[0]


def make_offer(data: bytes, trainer: bytes = HOLDER, **changes: Any) -> Offer:
    """An offer of `data` with the trainer's seal; `changes` replace fields."""
    fields: dict[str, Any] = {"update": blob_ref(data), "seal": make_seal(trainer, data), "codec": "f32"}
    return ChainBuilder().offer(trainer, **(fields | changes))


def make_order(room: Room, *updates: bytes, round: int = ROUND, model: BlobRef | None = None) -> Aggregate:
    refs = [room.theirs.put_bytes(data) for data in updates]
    inputs = tuple(AggregateInput(at + 1, HOLDER, ref, "f32", 10 * (at + 1)) for at, ref in enumerate(refs))
    return Aggregate(round, model or room.model, inputs, (), (HOLDER,))


def by_hand(*updates: bytes, base: Tensors = MODEL) -> bytes:
    """R7, without any worker."""
    weighted = [(10 * (at + 1), decode_delta("f32", data, base)) for at, data in enumerate(updates)]
    return encode_tensors(aggregate("fedavg", base, weighted))

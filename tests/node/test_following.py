"""Following the others (Y1): one sync at a time, of what continues the chain, for as long as something moves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from consensus.events import Event, Synced, SyncEnded
from ledger.blobs import BlobStore
from ledger.codec import pack
from node.following import OWED_MAX, Follower
from node.limits import Limits
from node.memory import MemoryNetwork, MemoryTransport
from node.serving import Librarian
from tests.ledger.helpers_ledger import ChainBuilder, play
from tests.node.helpers_net import Recorder
from tests.node.helpers_shell import key_of

ME, SERVER, OTHER = key_of(0), key_of(1), key_of(2)
WAIT_S = 20.0
LIMITS = Limits(batches_bytes_max=8192)


class Server(Recorder):
    """Serves what `answer` says; notes the heights that it was asked for."""

    def __init__(self, answer: Callable[[int, int], list[bytes]]) -> None:
        super().__init__()
        self.answer = answer
        self.heights: list[int] = []

    def serve_batches(self, member: bytes, height: int, bytes_max: int) -> list[bytes]:
        self.heights.append(height)
        return self.answer(height, bytes_max)


@dataclass
class Desk:
    """A follower, with a core that only counts: `takes` says whether a batch moves the tip."""

    transport: MemoryTransport
    takes: Callable[[Synced], bool]
    patience_s: float = WAIT_S
    turn_s: float = WAIT_S
    events: list[Event] = field(default_factory=list)
    height: int = 0
    owed: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        height, owed = (lambda: self.height), (lambda: self.owed)
        self.follower = Follower(self.transport, self._post, height, owed, self.patience_s, self.turn_s)

    def _post(self, event: Event) -> None:
        self.events.append(event)
        asyncio.get_running_loop().call_soon(self._step, event)

    def _step(self, event: Event) -> None:
        """As the shell does: the core takes the event, then the follower is told."""
        if isinstance(event, Synced) and self.takes(event):
            self.height = event.batch.blocks[-1].height
        self.follower.moved()
        if isinstance(event, SyncEnded):
            self.ended.set()

    async def end(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.ended.wait()

    async def asked(self, server: Server) -> None:
        """Until the server was asked and its answer was handed to the core."""
        async with asyncio.timeout(WAIT_S):
            while not (server.heights and self.events):  # noqa: ASYNC110 - a thread decodes in between
                await asyncio.sleep(0)

    @property
    def synced(self) -> list[int]:
        return [event.batch.blocks[0].height for event in self.events if isinstance(event, Synced)]


@asynccontextmanager
async def opened(
    answer: Callable[[int, int], list[bytes]],
    takes: Callable[[Synced], bool] = lambda _: True,
    patience_s: float = WAIT_S,
    turn_s: float = WAIT_S,
) -> AsyncIterator[tuple[Desk, Server, MemoryTransport]]:
    network = MemoryNetwork(LIMITS)
    mine, theirs = network.transport(ME), network.transport(SERVER)
    server = Server(answer)
    await mine.start(Recorder())
    await theirs.start(server)
    desk = Desk(mine, takes, patience_s, turn_s)
    try:
        yield desk, server, mine
    finally:
        await desk.follower.stop()
        await theirs.stop()
        await mine.stop()


@pytest.fixture
def builder() -> ChainBuilder:
    """Three final rounds: batches at #1, #4, #5, #8, #9 and #12."""
    return play(ChainBuilder(), 3)


@pytest.fixture
def honest(builder: ChainBuilder, tmp_path: Path) -> Callable[[int, int], list[bytes]]:
    return Librarian(builder.chain, BlobStore(tmp_path)).serve_batches


async def test_everything_above_the_tip_is_fetched_in_order_answer_by_answer(
    honest: Callable[[int, int], list[bytes]],
) -> None:
    async with opened(honest) as (desk, server, _):
        desk.follower.follow(SERVER, 1)
        await desk.end()
        assert desk.synced == [1, 4, 5, 8, 9, 12]
        assert desk.events[-1] == SyncEnded(SERVER)
        assert server.heights[0] == 1
        assert server.heights[-1] == 13  # where there is nothing more
        assert len(server.heights) > 2  # Y1: in bounded answers


async def test_a_members_turn_ends_though_it_has_more(honest: Callable[[int, int], list[bytes]]) -> None:
    """Y1: a liar that serves true batches one by one, each at the last moment, is not followed for ever."""
    async with opened(lambda height, size: honest(height, 1), turn_s=0.0) as (desk, server, _):
        desk.follower.follow(SERVER, 1)
        await desk.end()
        assert desk.synced == [1]
        assert desk.events[-1] == SyncEnded(SERVER)
        assert server.heights == [1]


async def test_one_sync_runs_at_a_time(honest: Callable[[int, int], list[bytes]]) -> None:
    async with opened(honest) as (desk, server, _):
        desk.follower.follow(SERVER, 1)
        desk.follower.follow(SERVER, 5)
        desk.follower.follow(OTHER, 9)
        assert desk.follower.is_active
        await desk.end()
        assert desk.synced == [1, 4, 5, 8, 9, 12]
        assert desk.events.count(SyncEnded(SERVER)) == 1
        assert 5 not in server.heights[:1]


async def test_after_one_sync_another_may_begin(honest: Callable[[int, int], list[bytes]]) -> None:
    async with opened(honest) as (desk, _, _):
        desk.follower.follow(SERVER, 1)
        await desk.end()
        await asyncio.sleep(0)
        assert not desk.follower.is_active
        desk.ended.clear()
        desk.follower.follow(SERVER, 13)
        await desk.end()
        assert desk.events.count(SyncEnded(SERVER)) == 2


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"no batch", pack([]), pack([[], []])], ids=["empty", "bytes", "text", "array", "no-blocks"]
)
async def test_garbage_costs_its_sender_and_ends_the_sync(data: bytes) -> None:
    async with opened(lambda *_: [data]) as (desk, _, mine):
        desk.follower.follow(SERVER, 1)
        await desk.end()
        assert desk.events == [SyncEnded(SERVER)]
        assert mine.stats(SERVER).faults == 1


async def test_a_truncated_batch_costs_its_sender(builder: ChainBuilder) -> None:
    whole = next(builder.chain.batches()).encode()
    async with opened(lambda *_: [whole[:-1]]) as (desk, _, mine):
        desk.follower.follow(SERVER, 1)
        await desk.end()
        assert desk.synced == []
        assert mine.stats(SERVER).faults == 1


@pytest.mark.parametrize("served", [[5], [4], [12], [1, 5], [1, 1], [1, 4, 8]])
async def test_a_batch_that_does_not_continue_the_chain_costs_its_sender(
    builder: ChainBuilder, served: list[int]
) -> None:
    """The core would silently ignore it, and the sync would wait for ever: nobody could catch up any more."""
    by_height = {batch.blocks[0].height: batch.encode() for batch in builder.chain.batches()}
    async with opened(lambda *_: [by_height[height] for height in served]) as (desk, _, mine):
        desk.follower.follow(SERVER, 1)
        await desk.end()
        assert desk.synced == []
        assert mine.stats(SERVER).faults == 1


async def test_the_height_that_counts_is_that_of_the_blocks_and_not_what_the_certificate_says(
    builder: ChainBuilder,
) -> None:
    first, second, *_ = builder.chain.batches()
    lie = replace(first, certificate=replace(first.certificate, last_height=500))
    async with opened(lambda height, _: [lie.encode()] if height == 1 else []) as (desk, server, _):
        desk.follower.follow(SERVER, 1)
        await desk.end()
        assert server.heights == [1, second.blocks[0].height]


async def test_a_member_that_is_to_blame_is_not_followed_any_more(
    honest: Callable[[int, int], list[bytes]],
) -> None:
    async with opened(honest, takes=lambda _: False) as (desk, server, _):
        desk.follower.follow(SERVER, 1)
        await desk.asked(server)
        desk.follower.blame(OTHER)
        assert desk.follower.is_active
        desk.follower.blame(SERVER)
        await desk.end()
        assert desk.events[-1] == SyncEnded(SERVER)
        assert len(server.heights) == 1


async def test_a_sync_in_which_nothing_moves_is_given_up(honest: Callable[[int, int], list[bytes]]) -> None:
    async with opened(honest, takes=lambda _: False, patience_s=0.02) as (desk, server, _):
        desk.follower.follow(SERVER, 1)
        await desk.end()
        assert server.heights == [1]
        assert desk.height == 0


async def test_a_core_that_is_busy_with_other_things_is_no_progress(honest: Callable[[int, int], list[bytes]]) -> None:
    """Its gossip timer alone makes it take an event a second."""
    async with opened(honest, takes=lambda _: False, patience_s=0.05) as (desk, _, _):
        desk.follower.follow(SERVER, 1)
        loop = asyncio.get_running_loop()

        def tick() -> None:
            desk.follower.moved()
            if not desk.ended.is_set():
                loop.call_later(0.005, tick)

        tick()
        await desk.end()
        assert desk.height == 0


async def test_no_more_is_fetched_while_too_many_models_are_owed(honest: Callable[[int, int], list[bytes]]) -> None:
    async with opened(honest) as (desk, server, _):
        desk.owed = OWED_MAX + 1
        desk.follower.follow(SERVER, 1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert server.heights == []
        assert desk.follower.is_active
        desk.owed = OWED_MAX
        desk.follower.moved()
        await desk.end()
        assert desk.height == 12


async def test_models_that_stay_owed_end_the_sync_before_more_are_owed(
    honest: Callable[[int, int], list[bytes]],
) -> None:
    async with opened(honest, patience_s=0.02) as (desk, server, _):
        desk.owed = OWED_MAX + 1
        desk.follower.follow(SERVER, 1)
        await desk.end()
        assert server.heights == []


async def test_a_server_that_is_gone_ends_the_sync(honest: Callable[[int, int], list[bytes]]) -> None:
    async with opened(honest) as (desk, server, _):
        desk.follower.follow(OTHER, 1)
        await desk.end()
        assert desk.events == [SyncEnded(OTHER)]
        assert server.heights == []


async def test_a_stop_ends_the_sync_and_may_come_twice(honest: Callable[[int, int], list[bytes]]) -> None:
    async with opened(honest, takes=lambda _: False) as (desk, server, _):
        await desk.follower.stop()
        desk.follower.follow(SERVER, 1)
        await desk.asked(server)
        await desk.follower.stop()
        await desk.follower.stop()
        assert not desk.follower.is_active

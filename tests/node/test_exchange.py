"""Blobs arrive whole and verified (B1, B3), whoever breaks off, lies or dies on the way (A8)."""

import asyncio
import errno
from pathlib import Path

import pytest

from ledger.blobs import CHUNK_BYTES, BlobStore, blob_ref
from ledger.types import BlobRef
from node.errors import ExitCode, NodeError
from node.exchange import BlobExchange, ExchangeError, SizeMismatch, read_head
from node.limits import Limits
from node.memory import MemoryNetwork, MemoryTransport
from node.transport import BlobHead
from tests.node.helpers_net import QUICK, Recorder, make_members, make_transport, running

ME, ONE, TWO, THREE = (bytes([number]) * 32 for number in range(4))
DATA = b"".join(bytes([number]) * CHUNK_BYTES for number in range(3)) + b"the tail"


class World:
    """One asker and three holders on a memory network; each holder has a store of its own."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.network = MemoryNetwork(limits)
        self.folder = folder
        self.limits = limits or Limits()
        self.store = BlobStore(folder / "mine")
        self.transport: MemoryTransport = self.network.transport(ME)
        self.holders = {key: Recorder(BlobStore(folder / f"holder{key[0]}")) for key in (ONE, TWO, THREE)}
        self.pauses: list[float] = []
        self.exchange = self.new_exchange()

    def new_exchange(self) -> BlobExchange:
        return BlobExchange(self.transport, self.store, self.folder / "partial", self.limits, self.pause)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def start(self) -> "World":
        await self.transport.start(Recorder())
        for key, holder in self.holders.items():
            await self.network.transport(key).start(holder)
        return self

    def give(self, data: bytes, *keys: bytes) -> BlobRef:
        for key in keys:
            BlobStore(self.folder / f"holder{key[0]}").put_bytes(data)
        return blob_ref(data)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).start()


@pytest.mark.parametrize("data", [b"", b"small", DATA[:CHUNK_BYTES], DATA[: CHUNK_BYTES + 1], DATA])
async def test_a_blob_of_any_size_arrives_whole(world: World, data: bytes) -> None:
    ref = world.give(data, ONE)
    path = await world.exchange.fetch(ref, [ONE])
    assert path.read_bytes() == data
    assert world.store.has(ref.blob)
    assert list((world.folder / "partial").glob("*")) == []


async def test_a_blob_that_is_here_is_not_asked_for(world: World) -> None:
    ref = world.store.put_bytes(b"mine")
    assert await world.exchange.fetch(ref, []) == world.store.path(ref.blob)


async def test_a_blob_that_is_here_under_another_size_is_the_references_lie(world: World) -> None:
    """R7: who has the blob already must judge the reference as everybody else does, or the voters never agree."""
    ref = world.store.put_bytes(b"mine")
    with pytest.raises(SizeMismatch, match="has 4 bytes, its reference says 5"):
        await world.exchange.fetch(BlobRef(ref.blob, 5), [ONE])
    assert world.store.has(ref.blob)


async def test_a_blob_that_was_cut_short_on_disk_is_fetched_again(world: World) -> None:
    ref = world.give(b"theirs", ONE)
    world.store.put_bytes(b"theirs")
    world.store.path(ref.blob).write_bytes(b"thei")
    path = await world.exchange.fetch(ref, [ONE])
    assert path.read_bytes() == b"theirs"


async def test_one_request_a_chunk_and_no_more(world: World) -> None:
    ref = world.give(DATA, ONE)
    await world.exchange.fetch(ref, [ONE])
    assert world.holders[ONE].asked == [("head", 0), ("chunk", 1), ("chunk", 2), ("chunk", 3)]


async def test_concurrent_requests_share_one_transfer(world: World) -> None:
    ref = world.give(DATA, ONE)
    paths = await asyncio.gather(*(world.exchange.fetch(ref, [ONE]) for _ in range(5)))
    assert set(paths) == {world.store.path(ref.blob)}
    assert len(world.holders[ONE].asked) == 4
    assert world.exchange.active == 0


async def test_a_transfer_resumes_at_another_holder_when_the_first_breaks_off(world: World) -> None:
    ref = world.give(DATA, ONE, TWO)
    world.holders[ONE].fails_from = 2
    await world.exchange.fetch(ref, [ONE, TWO])
    assert world.holders[ONE].asked == [("head", 0), ("chunk", 1), ("chunk", 2)]
    assert world.holders[TWO].asked == [("chunk", 2), ("chunk", 3)]


async def test_a_transfer_resumes_after_a_restart(world: World) -> None:
    ref = world.give(DATA, ONE)
    world.holders[ONE].fails_from = 2
    with pytest.raises(ExchangeError, match="no holder serves it"):
        await world.exchange.fetch(ref, [ONE])
    world.holders[ONE].fails_from = 9
    world.holders[ONE].asked.clear()
    await world.new_exchange().fetch(ref, [ONE])
    assert world.holders[ONE].asked == [("chunk", 2), ("chunk", 3)]


@pytest.mark.parametrize("damage", ["part", "digests"])
async def test_what_a_crash_tore_is_fetched_again(world: World, damage: str) -> None:
    ref = world.give(DATA, ONE)
    world.holders[ONE].fails_from = 2
    with pytest.raises(ExchangeError):
        await world.exchange.fetch(ref, [ONE])
    (file,) = (world.folder / "partial").glob(f"*.{damage}")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    world.holders[ONE].fails_from = 9
    path = await world.new_exchange().fetch(ref, [ONE])
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("data", [b"small", DATA])
async def test_wrong_bytes_are_a_fault_of_the_holder_and_another_one_is_asked(world: World, data: bytes) -> None:
    ref = world.give(data, ONE, TWO)
    world.holders[ONE].damage = lambda chunk: chunk[:-1] + b"!"
    path = await world.exchange.fetch(ref, [ONE, TWO])
    assert path.read_bytes() == data
    assert world.transport.stats(ONE).faults == 1
    assert world.transport.stats(TWO).faults == 0


async def test_a_digest_list_of_another_blob_is_a_fault(world: World) -> None:
    ref = world.give(DATA, ONE)
    other = world.give(b"another", ONE)
    world.holders[ONE].serve_head = (  # type: ignore[method-assign]
        lambda member, blob: read_head(BlobStore(world.folder / "holder1"), other.blob)
    )
    with pytest.raises(ExchangeError, match="digest list"):
        await world.exchange.fetch(ref, [ONE])
    assert world.transport.stats(ONE).faults == 1
    assert world.pauses == []


@pytest.mark.parametrize("lie", [-1, 1, CHUNK_BYTES, -CHUNK_BYTES, -2 * CHUNK_BYTES])
async def test_a_reference_that_lies_about_the_size_costs_no_holder(world: World, lie: int) -> None:
    ref = world.give(DATA, ONE)
    with pytest.raises(ExchangeError, match=r"the blob has|bytes has"):
        await world.exchange.fetch(BlobRef(ref.blob, ref.size + lie), [ONE])
    assert world.transport.stats(ONE).faults == 0
    assert list((world.folder / "partial").glob("*")) == []


async def test_a_lie_about_the_size_does_not_hinder_the_true_reference(world: World) -> None:
    ref = world.give(DATA, ONE)
    lie = BlobRef(ref.blob, ref.size - 1)
    results = await asyncio.gather(
        world.exchange.fetch(lie, [ONE]), world.exchange.fetch(ref, [ONE]), return_exceptions=True
    )
    assert isinstance(results[0], ExchangeError)
    assert results[1] == world.store.path(ref.blob)


async def test_holders_are_asked_again_with_growing_pauses_and_not_for_ever(tmp_path: Path) -> None:
    limits = Limits(fetch_passes_max=4, backoff_min_s=1.0, backoff_max_s=3.0)
    world = await World(tmp_path, limits).start()
    ref = world.give(DATA)
    with pytest.raises(ExchangeError, match="not here"):
        await world.exchange.fetch(ref, [ONE, TWO])
    assert world.pauses == [1.0, 2.0, 3.0, 3.0]


async def test_a_blob_that_is_refused_at_first_arrives_once_it_may(world: World) -> None:
    ref = world.give(DATA, ONE)
    world.holders[ONE].refused = True  # B4

    async def open_the_round(seconds: float) -> None:
        world.holders[ONE].refused = False

    exchange = BlobExchange(world.transport, world.store, world.folder / "partial", pause=open_the_round)
    await exchange.fetch(ref, [ONE])
    assert world.transport.stats(ONE).faults == 0


async def test_a_connected_holder_is_asked_first(world: World) -> None:
    ref = world.give(DATA, ONE, TWO)
    world.network.cut(ME, ONE)
    await world.exchange.fetch(ref, [ONE, TWO])
    assert len(world.holders[TWO].asked) == 4


async def test_a_cancelled_transfer_ends_and_a_later_one_goes_on(world: World) -> None:
    ref = world.give(DATA, ONE)
    holder = world.holders[ONE]
    task = asyncio.create_task(world.exchange.fetch(ref, [ONE]))
    await holder.until(lambda: ("chunk", 1) in holder.asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    path = await world.exchange.fetch(ref, [ONE])
    assert path.read_bytes() == DATA
    assert holder.asked.count(("head", 0)) == 1


async def test_one_waiter_that_leaves_does_not_end_the_transfer_of_the_others(world: World) -> None:
    ref = world.give(DATA, ONE)
    leaving = asyncio.create_task(world.exchange.fetch(ref, [ONE]))
    staying = asyncio.create_task(world.exchange.fetch(ref, [ONE]))
    await world.holders[ONE].until(lambda: bool(world.holders[ONE].asked))
    leaving.cancel()
    assert await staying == world.store.path(ref.blob)
    assert leaving.cancelled()


async def test_stop_ends_all_transfers(world: World) -> None:
    ref = world.give(DATA)
    pausing = asyncio.Event()

    async def pause(seconds: float) -> None:
        pausing.set()
        await asyncio.Event().wait()

    exchange = BlobExchange(world.transport, world.store, world.folder / "partial", pause=pause)
    task = asyncio.create_task(exchange.fetch(ref, [ONE]))
    await pausing.wait()
    await exchange.stop()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert exchange.active == 0


async def test_old_unfinished_transfers_make_room(tmp_path: Path) -> None:
    limits = Limits(partial_bytes_max=2 * CHUNK_BYTES + 1024, fetch_passes_max=1)
    world = await World(tmp_path, limits).start()
    partial = tmp_path / "partial"
    partial.mkdir()
    (partial / "old.part").write_bytes(bytes(CHUNK_BYTES + 2048))
    ref = world.give(DATA[: CHUNK_BYTES + 1], ONE)
    await world.exchange.fetch(ref, [ONE])
    assert not (partial / "old.part").exists()
    with pytest.raises(ExchangeError, match="partial_bytes_max"):
        await world.exchange.fetch(world.give(DATA, ONE), [ONE])


class Dying(Recorder):
    """A holder that dies, with its port, when asked for chunk 2."""

    def __init__(self, store: BlobStore) -> None:
        super().__init__(store)
        self.dead = asyncio.Event()

    def serve_chunk(self, member: bytes, blob: bytes, index: int) -> bytes | None:
        if index == 2:
            self._loop.call_soon_threadsafe(self.dead.set)
            raise RuntimeError("the machine is gone")
        return super().serve_chunk(member, blob, index)


async def test_over_tls_a_transfer_survives_the_death_of_its_first_holder(tmp_path: Path) -> None:
    members = make_members(tmp_path, 3)
    me, one, two = members
    stores = [BlobStore(tmp_path / f"store{number}") for number in range(3)]
    ref = stores[1].put_bytes(DATA)
    stores[2].put_bytes(DATA)
    dying, living = Dying(stores[1]), Recorder(stores[2])
    first, second = make_transport(one, members, {}), make_transport(two, members, {})
    await first.start(dying)
    async with running(second, living):
        mine = make_transport(me, members, {one.key: first.port, two.key: second.port})
        async with running(mine, Recorder()):
            exchange = BlobExchange(mine, stores[0], tmp_path / "partial", QUICK)
            fetching = asyncio.create_task(exchange.fetch(ref, [one.key, two.key]))
            await dying.dead.wait()
            await first.stop()
            assert (await fetching).read_bytes() == DATA
            assert living.asked == [("chunk", 2), ("chunk", 3)]


def test_the_head_of_a_blob_that_is_not_here_is_none(tmp_path: Path) -> None:
    assert read_head(BlobStore(tmp_path), bytes(32)) is None
    ref = BlobStore(tmp_path).put_bytes(b"x")
    assert read_head(BlobStore(tmp_path), ref.blob) == BlobHead(BlobStore(tmp_path).chunk_digests(ref.blob), b"x")


class FullStore(BlobStore):
    """A store on a full disk."""

    def put_bytes(self, data: bytes) -> BlobRef:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_is_this_machines_error_and_no_holders_fault(world: World) -> None:
    ref = world.give(b"small", ONE)
    exchange = BlobExchange(world.transport, FullStore(world.folder / "full"), world.folder / "partial")
    with pytest.raises(NodeError, match="disk is full") as error:
        await exchange.fetch(ref, [ONE])
    assert error.value.exit_code is ExitCode.DISK_FULL
    assert world.transport.stats(ONE).faults == 0

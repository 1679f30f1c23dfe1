"""The in-memory twin keeps the transport's promises: order, links, refusals (B4), bans (A8)."""

from pathlib import Path

import pytest

from ledger.blobs import BlobStore
from node.limits import Limits
from node.memory import MemoryNetwork, MemoryTransport
from node.transport import FetchError, FetchKind, Transport
from tests.node.helpers_net import Recorder

ONE, TWO, THREE = (bytes([number]) * 32 for number in range(3))


async def started(network: MemoryNetwork, *keys: bytes) -> list[tuple[MemoryTransport, Recorder]]:
    """A started transport and its handler for each key."""
    made = [(network.transport(key), Recorder()) for key in keys]
    for transport, recorder in made:
        await transport.start(recorder)
    return made


async def test_every_pair_is_linked_once_as_soon_as_both_have_started() -> None:
    made = await started(MemoryNetwork(), ONE, TWO, THREE)
    assert [recorder.log for _, recorder in made] == [
        [("up", TWO), ("up", THREE)],
        [("up", ONE), ("up", THREE)],
        [("up", ONE), ("up", TWO)],
    ]


class InOrder(Recorder):
    """A handler that notes frames in the order of their arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: list[tuple[bytes, bytes]] = []

    def on_frame(self, member: bytes, frame: bytes) -> None:
        self.arrived.append((member, frame))
        super().on_frame(member, frame)


async def test_frames_arrive_later_and_in_the_order_of_sending() -> None:
    network = MemoryNetwork()
    (one, _), (two, _) = await started(network, ONE, TWO)
    third = InOrder()
    await network.transport(THREE).start(third)
    assert one.send(THREE, b"1")
    assert two.send(THREE, b"2")
    one.broadcast(b"3")
    assert third.arrived == []
    await third.until(lambda: len(third.arrived) == 3)
    assert third.arrived == [(ONE, b"1"), (TWO, b"2"), (ONE, b"3")]


async def test_a_cut_link_loses_what_is_under_way_and_heals() -> None:
    network = MemoryNetwork()
    (one, first), (_, second) = await started(network, ONE, TWO)
    one.send(TWO, b"lost")
    network.cut(ONE, TWO)
    assert not one.send(TWO, b"not sent")
    with pytest.raises(FetchError) as error:
        await one.fetch_batches(TWO, 0)
    assert error.value.kind is FetchKind.UNREACHABLE
    network.heal(ONE, TWO)
    assert one.send(TWO, b"arrives")
    await second.until(lambda: bool(second.frames))
    assert second.frames == {ONE: [b"arrives"]}
    assert first.log == [("up", TWO), ("down", TWO), ("up", TWO)]


async def test_a_stopped_member_is_gone_and_may_come_back() -> None:
    network = MemoryNetwork()
    (one, first), (two, _) = await started(network, ONE, TWO)
    await two.stop()
    assert one.connected() == []
    await started(network, TWO)
    assert first.log == [("up", TWO), ("down", TWO), ("up", TWO)]


async def test_repeated_faults_ban() -> None:
    network = MemoryNetwork(Limits(faults_max=2))
    (one, _), (two, heard) = await started(network, ONE, TWO)
    one.fault(TWO, "bad bytes")
    assert one.connected() == [TWO]
    one.fault(TWO, "bad bytes")
    assert one.connected() == two.connected() == []
    assert heard.log[-1] == ("down", ONE)
    with pytest.raises(FetchError, match="banned"):
        await two.fetch_batches(ONE, 0)
    network.heal(ONE, TWO)
    assert one.connected() == []
    assert (one.stats(TWO).faults, one.stats(TWO).bans) == (2, 1)


async def test_a_frame_too_long_is_a_fault_of_its_sender() -> None:
    network = MemoryNetwork(Limits(frame_bytes_max=1024))
    (one, _), (two, heard) = await started(network, ONE, TWO)
    one.send(TWO, bytes(1025))
    one.send(TWO, b"fine")
    await heard.until(lambda: bool(heard.frames))
    assert heard.frames == {ONE: [b"fine"]}
    assert two.stats(ONE).faults == 1


async def test_blobs_and_batches_are_served_by_the_other_handler(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    ref = store.put_bytes(b"blob")
    network = MemoryNetwork()
    one, serving = network.transport(ONE), Recorder(store)
    asker: Transport = network.transport(TWO)
    await one.start(serving)
    await asker.start(Recorder())
    serving.batches = [b"batch"]
    assert (await asker.fetch_head(ONE, ref.blob, 1)).first == b"blob"
    assert await asker.fetch_chunk(ONE, ref.blob, 0) == b"blob"
    assert await asker.fetch_batches(ONE, 1) == [b"batch"]
    with pytest.raises(FetchError) as missing:
        await asker.fetch_chunk(ONE, bytes(32), 0)
    serving.refused = True
    with pytest.raises(FetchError) as refused:
        await asker.fetch_head(ONE, ref.blob, 1)
    assert (missing.value.kind, refused.value.kind) == (FetchKind.MISSING, FetchKind.REFUSED)

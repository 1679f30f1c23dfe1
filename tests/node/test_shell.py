"""The one loop around the core: what must be on disk is there before anything leaves (A5); faults of peers cost the
peers, own ones end the peer with a number (A8)."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgpack
import pytest

from consensus.events import (
    Commit,
    Effect,
    Event,
    Fault,
    Fired,
    GossipTimer,
    Halt,
    Have,
    Held,
    PeerDown,
    PeerUp,
    Persist,
    Received,
    RoundEnded,
    RoundTimer,
    Send,
    SetTimer,
    Started,
)
from consensus.signer import SignedOffer, SignedPresent, SignerState, WalEntry
from ledger.blobs import blob_ref
from ledger.store import StoreDamaged
from node import wire
from node.errors import ExitCode, NodeError, disk_error
from node.inbox import Inbox
from node.signer_log import SignerLog
from node.transport import FetchError
from tests.ledger.helpers_ledger import ChainBuilder, play
from tests.node.helpers_shell import Bench, key_of

Script = Callable[[Event], Sequence[Effect]]
PEER = key_of(1)
NUDGE = Held((blob_ref(b"nudge"),))
HAVE = wire.encode(Have(0, 0, ()))


class Ear:
    """The other side of a bench's link: hears frames, serves nothing."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.downs = 0

    def on_up(self, member: bytes) -> None:
        pass

    def on_down(self, member: bytes) -> None:
        self.downs += 1

    def on_frame(self, member: bytes, frame: bytes) -> None:
        self.frames.append(frame)

    def serve_head(self, member: bytes, blob: bytes) -> None:
        return None

    def serve_chunk(self, member: bytes, blob: bytes, index: int) -> None:
        return None

    def serve_batches(self, member: bytes, height: int, bytes_max: int) -> list[bytes]:
        return []


def silent(event: Event) -> Sequence[Effect]:
    return []


def on_nudge(*effects: Effect) -> Script:
    return lambda event: effects if event == NUDGE else ()


@asynccontextmanager
async def running(
    folder: Path, script: Script = silent, inbox: Inbox | None = None, change: Callable[[Bench], None] = lambda _: None
) -> AsyncIterator[Bench]:
    """A bench whose shell runs; an error that ended it is raised at the end."""
    bench = Bench(folder, script, inbox)
    change(bench)
    await bench.start()
    try:
        yield bench
    finally:
        await bench.stop()


async def run_into(bench: Bench) -> NodeError:
    """Nudge a shell that cannot go on; the error that ended it."""
    await bench.start()
    bench.shell.post(NUDGE)
    assert bench.task is not None
    await asyncio.wait([bench.task])
    with pytest.raises(NodeError) as error:
        await bench.stop()
    return error.value


def offer_of(builder: ChainBuilder) -> tuple[Persist, Send]:
    """An offer of the open round: its record and its message."""
    offer = builder.offer(builder.trainers[0])
    return Persist(SignedOffer(offer)), Send(offer)


# ------------------------------------------------------------------------------------------------- write, then speak


async def test_nothing_leaves_before_log_and_chain_are_on_disk(tmp_path: Path) -> None:
    builder = ChainBuilder()
    persist, send = offer_of(builder)
    effects: list[Effect] = []
    async with running(tmp_path, lambda event: effects if event == NUDGE else []) as bench:
        commit = Commit(*bench.batch(builder.update_body(builder.offer(builder.trainers[0]))))
        effects += [send, persist, Send(send.message, PEER), commit]  # whatever their order (A5)
        bench.shell.post(NUDGE)
        await bench.settle()
        assert bench.notes == ["log 1", "store #1", "broadcast", "send"]
        assert bench.chain.state.height == 1


async def test_what_was_persisted_is_read_back_after_a_crash(tmp_path: Path) -> None:
    persist, send = offer_of(ChainBuilder())
    async with running(tmp_path, on_nudge(persist, send)) as bench:
        bench.shell.post(NUDGE)
        await bench.settle()
    log, data = SignerLog.open(tmp_path / "signer.state")
    log.close()
    assert WalEntry.decode(data[-1]).record == persist.record


async def test_several_events_share_one_write(tmp_path: Path) -> None:
    persist, send = offer_of(ChainBuilder())
    async with running(tmp_path, on_nudge(persist, send)) as bench:
        for _ in range(5):
            bench.shell.post(NUDGE)
        await bench.settle()
        assert bench.notes == ["log 5", *["broadcast"] * 5]


async def test_effects_without_anything_to_keep_cost_no_write(tmp_path: Path) -> None:
    _, send = offer_of(ChainBuilder())
    async with running(tmp_path, on_nudge(send)) as bench:
        bench.shell.post(NUDGE)
        await bench.settle()
        assert bench.notes == ["broadcast"]


@pytest.mark.parametrize(("number", "exit_code"), [(errno.ENOSPC, ExitCode.DISK_FULL), (errno.EIO, 11)])
async def test_a_failed_write_of_the_signers_log_ends_the_peer_and_nothing_is_sent(
    tmp_path: Path, number: int, exit_code: int
) -> None:
    bench = Bench(tmp_path, on_nudge(*offer_of(ChainBuilder())))
    bench.log.error = disk_error(OSError(number, "it failed"), "writing signer.state")
    error = await run_into(bench)
    assert error.exit_code == exit_code
    assert "writing signer.state" in str(error)
    assert bench.notes == []


@pytest.mark.parametrize(
    ("failure", "exit_code", "told"),
    [
        (OSError(errno.ENOSPC, "No space left"), ExitCode.DISK_FULL, "block #1: the disk is full"),
        (OSError(errno.EIO, "Input/output error"), ExitCode.FAULTY_MACHINE, "block #1: Input/output error"),
        (StoreDamaged("LevelDB cannot read"), ExitCode.DATA_DAMAGED, "chain verify"),
    ],
)
async def test_a_failed_write_of_the_chain_ends_the_peer_and_nothing_is_sent(
    tmp_path: Path, failure: Exception, exit_code: ExitCode, told: str
) -> None:
    effects: list[Effect] = []
    bench = Bench(tmp_path, lambda event: effects if event == NUDGE else [])
    builder = bench.builder
    commit = Commit(*bench.batch(builder.update_body(builder.offer(builder.trainers[0]))))
    effects += [commit, offer_of(builder)[1]]
    bench.store.error = failure
    error = await run_into(bench)
    assert error.exit_code is exit_code
    assert told in str(error)
    assert bench.notes == []
    assert bench.chain.state.height == 0


async def test_a_compacted_log_keeps_the_promises_of_the_open_rounds(tmp_path: Path) -> None:
    effects: list[Effect] = []
    bench = Bench(tmp_path, lambda event: effects if event == NUDGE else [])
    bench.builder = play(ChainBuilder(store=bench.store), 3)
    signer, state = bench.core.signer, bench.builder.state
    bench.core.state = state
    bench.chain.state = state
    for round in range(4):
        _, record = signer.present(state.chain, round)
        assert record is not None
        bench.log.append([WalEntry(record).encode()])
    bench.log.grown = True
    blocks_and_state = bench.batch(bench.builder.close_body_of_all())
    effects.append(Commit(*blocks_and_state))
    await bench.start()
    bench.shell.post(NUDGE)
    await bench.settle()
    await bench.stop()
    assert bench.notes[-2:] == [f"store #{state.height + 1}", "rewrite"]
    log, data = SignerLog.open(tmp_path / "signer.state")
    log.close()
    kept = SignerState.replay([WalEntry.decode(item).record for item in data])
    assert sorted(kept.presents) == [1, 2, 3]  # round 3 is open, two more are kept
    assert kept.floor.round == 1  # A5: round 0 is forgotten, and nothing is ever signed for it again
    assert signer.present(state.chain, 0) == (None, None)
    assert signer.present(state.chain, 2) == (kept.presents[2], None)


async def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    effects: list[Effect] = []
    async with running(tmp_path, lambda event: effects if event == NUDGE else []) as bench:
        _, record = bench.core.signer.present(bench.chain.state.chain, 0)
        assert isinstance(record, SignedPresent)
        commit = Commit(*bench.batch(bench.builder.close_body_of_all()))
        effects += [Persist(record), commit]
        bench.shell.post(NUDGE)
        await bench.settle()
        assert "rewrite" not in bench.notes


# ---------------------------------------------------------------------------------------------------- peers' frames


async def linked(bench: Bench) -> Ear:
    """Member 1, connected to the bench."""
    ear = Ear()
    await bench.network.transport(PEER).start(ear)
    await bench.settle()
    return ear


async def test_the_core_hears_of_members_and_their_messages(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        await linked(bench)
        bench.shell.on_frame(PEER, HAVE)
        bench.network.cut(bench.me, PEER)
        await bench.settle()
        assert bench.core.seen == [Started(), PeerUp(PEER), Received(PEER, Have(0, 0, ())), PeerDown(PEER)]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"no frame at all",
        HAVE[:-1],
        HAVE + b"\x00",
        msgpack.packb([2, 7, 0, 0, []]),
        msgpack.packb([1, 99, 0, 0, []]),
        msgpack.packb([1, 7, -1, 0, []]),
        msgpack.packb([1, 7, "0", 0, []]),
        b"\x95\x01\x07\xcc\x00\x00\x90",
        b"\xdd\xff\xff\xff\xff\x01",
        wire.encode(wire.Hello(b"c" * 32, PEER, 0)),
        wire.goodbye("go away"),
    ],
    ids=[
        "empty",
        "not-msgpack",
        "text",
        "truncated",
        "longer",
        "version",
        "tag",
        "negative",
        "type",
        "not-canonical",
        "length-lie",
        "hello",
        "goodbye",
    ],
)
async def test_a_bad_frame_costs_its_sender_and_never_reaches_the_core(tmp_path: Path, frame: bytes) -> None:
    async with running(tmp_path) as bench:
        await linked(bench)
        bench.shell.on_frame(PEER, frame)
        await bench.settle()
        assert [member for member, _ in bench.transport.blamed] == [PEER]
        assert not any(isinstance(event, Received) for event in bench.core.seen)


async def test_a_peer_of_many_faults_is_banned_and_this_one_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        ear = await linked(bench)
        for _ in range(bench.network.limits.faults_max):
            bench.shell.on_frame(PEER, b"rubbish")
        await bench.settle()
        assert ear.downs == 1
        assert bench.core.seen[-1] == PeerDown(PEER)
        assert bench.shell.history.faults["frame"] == bench.network.limits.faults_max


async def test_a_fault_that_the_core_finds_costs_its_sender(tmp_path: Path) -> None:
    async with running(tmp_path, on_nudge(Fault(PEER, "score: bad signature"))) as bench:
        await linked(bench)
        bench.shell.post(NUDGE)
        await bench.settle()
        assert bench.transport.blamed == [(PEER, "score: bad signature")]
        assert bench.shell.history.faults == {"bad signature": 1}


async def test_a_flood_is_dropped_and_own_events_are_not(tmp_path: Path) -> None:
    inbox = Inbox(frames_max=3)
    async with running(tmp_path, inbox=inbox) as bench:
        await linked(bench)
        for _ in range(10):
            bench.shell.on_frame(PEER, HAVE)
            bench.shell.post(NUDGE)
        await bench.settle()
        assert sum(isinstance(event, Received) for event in bench.core.seen) == 3
        assert bench.core.seen.count(NUDGE) == 10
        assert inbox.dropped == 7


async def test_a_message_to_one_member_goes_to_that_one(tmp_path: Path) -> None:
    async with running(tmp_path, on_nudge(Send(Have(5, 0, ()), PEER))) as bench:
        ear = await linked(bench)
        bench.shell.post(NUDGE)
        await bench.settle()
        assert ear.frames == [wire.encode(Have(5, 0, ()))]


# ----------------------------------------------------------------------------------------------------------- timers


async def test_a_timer_fires_once_and_one_set_anew_replaces_it(tmp_path: Path) -> None:
    fired = asyncio.Event()

    def script(event: Event) -> Sequence[Effect]:
        if isinstance(event, Fired):
            fired.set()
        return [SetTimer(GossipTimer(), 0), SetTimer(GossipTimer(), 1)] if event == NUDGE else []

    async with running(tmp_path, script) as bench:
        bench.shell.post(NUDGE)
        await fired.wait()
        await bench.settle()
        assert bench.core.seen.count(Fired(GossipTimer())) == 1


async def test_the_timers_of_an_ended_round_never_fire(tmp_path: Path) -> None:
    fired = asyncio.Event()
    timers = [SetTimer(RoundTimer(0, "deadline"), 0), SetTimer(RoundTimer(1, "deadline"), 1)]

    def script(event: Event) -> Sequence[Effect]:
        if isinstance(event, Fired):
            fired.set()
        return [*timers, RoundEnded(0)] if event == NUDGE else []

    async with running(tmp_path, script) as bench:
        bench.shell.post(NUDGE)
        await fired.wait()
        await bench.settle()
        assert [event for event in bench.core.seen if isinstance(event, Fired)] == [Fired(RoundTimer(1, "deadline"))]


async def test_a_stopped_shell_leaves_no_timer_behind(tmp_path: Path) -> None:
    async with running(tmp_path, on_nudge(SetTimer(GossipTimer(), 0))) as bench:
        bench.shell.post(NUDGE)
        await bench.settle()
    before = list(bench.core.seen)
    for _ in range(5):
        await asyncio.sleep(0)
    assert bench.core.seen == before


# -------------------------------------------------------------------------------------------------------- endings


async def test_a_halt_ends_the_peer_as_a_faulty_machine_with_advice(tmp_path: Path) -> None:
    error = await run_into(Bench(tmp_path, on_nudge(Halt("the final model differs (A3)"))))
    assert error.exit_code is ExitCode.FAULTY_MACHINE
    assert "the final model differs (A3)" in str(error)
    assert "chain verify" in str(error)


async def test_the_first_error_is_the_one_that_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path, silent)
    bench.shell.fail(NodeError(ExitCode.DISK_FULL, "first"))
    bench.shell.fail(NodeError(ExitCode.FAULTY_MACHINE, "second"))
    with pytest.raises(NodeError, match="first"):
        await bench.shell.run([])
    await bench.close()


async def test_a_stop_before_the_start_ends_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, silent)
    bench.shell.stop()
    await bench.shell.run([])
    assert bench.core.seen == []
    await bench.close()


async def test_the_first_event_is_the_start(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        assert bench.core.seen == [Started()]


async def test_the_start_comes_first_also_where_a_peer_connects_earlier(tmp_path: Path) -> None:
    """The core has not taken up its own votes before it (A5)."""
    bench = Bench(tmp_path, silent)
    await bench.network.transport(PEER).start(Ear())
    await bench.start()
    await bench.stop()
    assert bench.core.seen == [Started(), PeerUp(PEER)]


# --------------------------------------------------------------------------------------------------------------- B4


async def asks(bench: Bench, member: bytes, blob: bytes) -> str:
    """What a member that asks the bench for a blob gets: 'served', or the kind of the refusal."""
    asker = bench.network.transport(member)
    await asker.start(Ear())
    try:
        await asker.fetch_head(bench.me, blob, 1)
        return "served"
    except FetchError as error:
        return error.kind
    finally:
        await asker.stop()


async def test_an_update_is_served_to_the_committee_alone_until_its_slots_are_final(tmp_path: Path) -> None:
    effects: list[Effect] = []
    async with running(tmp_path, lambda event: effects if event == NUDGE else []) as bench:
        builder, state = bench.builder, bench.builder.state
        committee, trainer = builder.committee[0], builder.trainers[0]
        offer = builder.offer(trainer)
        bench.blobs.put_bytes(f"update 0 {builder.indices[trainer]}".encode())
        assert await asks(bench, committee, offer.update.blob) == "missing"
        bench.core.work.pool.add(state, offer, 0)
        await bench.settle()
        outsider = next(member for member in builder.indices if member not in (committee, bench.me))
        assert await asks(bench, committee, offer.update.blob) == "served"
        assert await asks(bench, outsider, offer.update.blob) == "refused"
        batch, after = bench.batch(*builder.fill_slots())
        bench.core.state = after
        effects.append(Commit(batch, after))
        bench.shell.post(NUDGE)
        await bench.settle()
        assert await asks(bench, outsider, offer.update.blob) == "served"


async def test_an_accepted_update_stays_guarded_after_a_restart_in_the_open_round(tmp_path: Path) -> None:
    """B4: the pool is empty then, but the chain already names the blob."""
    builder = ChainBuilder()
    trainer = builder.trainers[0]
    batch = builder.append(builder.update_body(builder.offer(trainer)))
    bench = Bench(tmp_path, silent, chain=[batch])
    ref = bench.blobs.put_bytes(f"update 0 {builder.indices[trainer]}".encode())
    await bench.transport.start(bench.shell)  # not yet running, but serving
    try:
        outsider = next(member for member in builder.indices if member not in (*builder.committee, bench.me))
        assert await asks(bench, outsider, ref.blob) == "refused"
        if builder.committee[0] != bench.me:
            assert await asks(bench, builder.committee[0], ref.blob) == "served"
    finally:
        await bench.close()

"""Whole peers in one process: real cores, signers, logs, blobs and jobs; network, workers and chain store in memory.
Everything that the rooms promise each other, without sockets and without torch."""

import errno
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.events import Have, Message
from fl.codes import InvalidCode
from fl.jobs import AggregateJob, Job, Result, TrainJob, run_job
from fl.tensors import decode_tensors, encode_tensors
from ledger.blobs import blob_ref
from ledger.chain import Chain
from ledger.genesis import Genesis
from ledger.heights import model_height
from ledger.state import State
from ledger.store import MemoryStore
from ledger.types import Block, Body, Certificate, EmptyBody, Offer, Score, UpdateBody, Vote
from node import wire
from node.errors import ExitCode, NodeError
from node.limits import Limits
from node.memory import MemoryNetwork, MemoryTransport
from node.rounds import read_model
from node.transport import BlobHead
from node.workers import WorkError
from tests.ledger.helpers_ledger import beacon_of, member_key
from tests.node.helpers_shell import LINKS, MemoryPeer, key_of, make_consortium
from tests.node.helpers_tasks import LinearTask
from tests.node.helpers_workers import until

ROUNDS = 3
QUICK = Limits(fetch_passes_max=2, backoff_min_s=0.01, backoff_max_s=0.02)


class FullStore(MemoryStore):
    """A chain store with room for #0 and #1."""

    def append(self, blocks: tuple[Block, ...], certificate: Certificate | None, state: State) -> None:
        if state.height > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(blocks, certificate, state)


@asynccontextmanager
async def running(genesis: Genesis, folder: Path, indices: Iterable[int] = range(4)) -> AsyncIterator[list[MemoryPeer]]:
    """Peers of a consortium, connected; an error that ended one is raised at the end."""
    network = MemoryNetwork(QUICK)
    peers = [MemoryPeer(genesis, index, network, folder / f"peer-{index}") for index in indices]
    for peer in peers:
        await peer.start()
    try:
        yield peers
    finally:
        for peer in peers:
            await peer.stop()


def end_of(genesis: Genesis) -> int:
    return model_height(genesis.params.round_length, genesis.params.rounds_max - 1)


async def learn(peers: list[MemoryPeer]) -> None:
    """Until every peer has the last model on disk."""
    await until(lambda: all(peer.height == end_of(peer.genesis) and peer.core.is_ready for peer in peers))
    await until(lambda: all(peer.shell.workroom.owed == 0 for peer in peers))


def check_equal(peers: list[MemoryPeer]) -> None:
    """Same tip, same state root, same bytes of every model, and nobody is to blame for anything."""
    assert len({peer.core.state.last_hash for peer in peers}) == 1
    assert len({peer.core.state.root() for peer in peers}) == 1
    for round in range(ROUNDS):
        height = model_height(peers[0].genesis.params.round_length, round)
        refs = {read_model(peer.chain, height).model for peer in peers}
        assert len({peer.blobs.read(refs.copy().pop().blob) for peer in peers}) == 1
    for peer in peers:
        assert peer.shell.history.faults == {}


def score_of(peer: MemoryPeer, round: int) -> float:
    """How good the model that the open round `round` started from is."""
    height = peer.genesis.params.round_length * round
    data = peer.blobs.read(read_model(peer.chain, height).model.blob)
    return LinearTask(shard=99).evaluate(decode_tensors(data)).score


async def test_a_small_network_learns_and_all_models_are_byte_equal(tmp_path: Path) -> None:
    async with running(make_consortium(), tmp_path) as peers:
        await learn(peers)
        check_equal(peers)
        scores = [score_of(peers[0], round) for round in range(ROUNDS + 1)]
        assert scores == sorted(scores)
        assert scores[-1] > scores[0] + 0.5
        rounds = peers[0].shell.history.rounds
        await until(lambda: len(rounds) == ROUNDS)
        assert [line["accepted"] for line in rounds] == [3, 3, 3]


async def test_a_larger_committee_agrees_on_the_same_bytes_too(tmp_path: Path) -> None:
    async with running(make_consortium(7, committee_size=3, round_length=5), tmp_path, range(7)) as peers:
        await learn(peers)
        check_equal(peers)


async def test_a_stopped_peer_comes_back_from_its_disk_and_takes_part_again(tmp_path: Path) -> None:
    genesis = make_consortium(rounds_max=ROUNDS, round_deadline_ms=1_000)
    async with running(genesis, tmp_path) as peers:
        await until(lambda: peers[0].height >= genesis.params.round_length)
        gone = peers[0]
        await gone.stop()
        peers[0] = MemoryPeer(genesis, 0, gone.network, gone.folder, gone.store)
        await peers[0].start()
        await learn(peers)
        check_equal(peers)


async def test_a_peer_without_data_syncs_and_derives_every_model(tmp_path: Path) -> None:
    """Y1: a genesis member that comes late."""
    genesis = make_consortium(round_deadline_ms=500)
    async with running(genesis, tmp_path, range(3)) as peers:
        await until(lambda: all(peer.height == end_of(genesis) and peer.core.is_ready for peer in peers))
        late = MemoryPeer(genesis, 3, peers[0].network, tmp_path / "peer-3")
        await late.start()
        peers.append(late)
        await learn(peers)
        check_equal(peers)


async def test_what_a_crash_left_underived_is_derived_after_the_restart(tmp_path: Path) -> None:
    """A3: the chain is ahead of the models; the updates are fetched again."""
    genesis = make_consortium()
    async with running(genesis, tmp_path) as peers:
        await learn(peers)
        gone = peers.pop()
        await gone.stop()
        again = MemoryPeer(genesis, 3, gone.network, tmp_path / "another-disk", gone.store)
        assert [order.round for order in again.owed] == [0, 1, 2]
        await again.start()
        peers.append(again)
        await learn(peers)
        check_equal(peers)


async def test_a_restarted_peer_whose_aggregate_differs_halts(tmp_path: Path) -> None:
    """A3: "a faulty machine, or more than a third of the voters lied"."""
    genesis = make_consortium()
    async with running(genesis, tmp_path) as peers:
        await learn(peers)
        gone = peers.pop()
        await gone.stop()

        def broken(job: Job) -> Result:
            result = run_job(LinearTask(), job)
            if isinstance(job, AggregateJob):
                output = Path(job.output_path)
                model = decode_tensors(output.read_bytes())
                output.write_bytes(encode_tensors({name: array + 1 for name, array in model.items()}))
            return result

        again = MemoryPeer(genesis, 3, gone.network, tmp_path / "another-disk", gone.store, broken)
        await again.start()
        assert again.task is not None
        await until(again.task.done)
        with pytest.raises(NodeError, match="A3") as error:
            await again.stop()
        assert error.value.exit_code is ExitCode.FAULTY_MACHINE


async def test_a_round_goes_on_without_a_trainer_whose_task_fails(tmp_path: Path) -> None:
    """R6: the close lists it with `none`."""
    genesis = make_consortium(rounds_max=1, round_deadline_ms=500)
    network = MemoryNetwork(QUICK)

    def failing(job: Job) -> Result:
        if isinstance(job, TrainJob):
            raise WorkError("task", "a bug of the task")
        return run_job(LinearTask(), job)

    peers = [MemoryPeer(genesis, index, network, tmp_path / f"peer-{index}") for index in range(4)]
    trainer = peers[0].core.state.round.trainers[0]
    place = next(index for index, peer in enumerate(peers) if peer.me == trainer)
    peers[place].log.close()
    peers[place] = MemoryPeer(genesis, place, network, tmp_path / f"peer-{place}", train=failing)
    for peer in peers:
        await peer.start()
    try:
        await learn(peers)
        assert len({peer.core.state.last_hash for peer in peers}) == 1
        blocks = [peers[0].chain.store.block(height) for height in range(1, 4)]
        accepted = {block.body.offer.trainer for block in blocks if block and isinstance(block.body, UpdateBody)}
        assert len(accepted) == 2
        assert trainer not in accepted
        rounds = peers[0].shell.history.rounds
        await until(lambda: len(rounds) == 1)
        assert rounds[0]["empty"] == 1
    finally:
        for peer in peers:
            await peer.stop()


async def test_a_disk_that_fills_up_ends_one_peer_and_no_other(tmp_path: Path) -> None:
    genesis = make_consortium(rounds_max=1, round_deadline_ms=500)
    network = MemoryNetwork(QUICK)
    full = MemoryPeer(genesis, 0, network, tmp_path / "peer-0", FullStore())
    others = [MemoryPeer(genesis, index, network, tmp_path / f"peer-{index}") for index in range(1, 4)]
    for peer in (full, *others):
        await peer.start()
    try:
        assert full.task is not None
        await until(full.task.done)
        with pytest.raises(NodeError) as error:
            await full.stop()
        assert error.value.exit_code is ExitCode.DISK_FULL
        await until(lambda: all(peer.height == end_of(genesis) for peer in others))
    finally:
        for peer in others:
            await peer.stop()


class Hostile:
    """A member that is up to no good: claims the highest tip and serves rubbish."""

    def on_up(self, member: bytes) -> None:
        pass

    def on_down(self, member: bytes) -> None:
        pass

    def on_frame(self, member: bytes, frame: bytes) -> None:
        pass

    def serve_head(self, member: bytes, blob: bytes) -> BlobHead | None:
        return BlobHead(b"no digests", b"no chunk")

    def serve_chunk(self, member: bytes, blob: bytes, index: int) -> bytes | None:
        return b"no chunk"

    def serve_batches(self, member: bytes, height: int, bytes_max: int) -> list[bytes]:
        return [b"no batch"]


def bad_messages(state: State, samples_max: int) -> list[Message]:
    """Messages that no correct member sends in round 0, and that decode."""
    trainer, scorer = state.round.trainers[0], state.round.committee[0]
    keys = {key_of(index): member_key(index) for index in range(4)}
    indices = {key_of(index): index for index in range(4)}
    reveal = beacon_of(indices[trainer], LINKS)[LINKS - 1]
    base, update = state.round.model.blob, blob_ref(b"an update")
    good = Offer(state.chain, 0, trainer, base, update, bytes(32), 1, "f32", reveal)
    offers = [
        good,  # not signed
        replace(good, samples=samples_max + 1).signed(keys[trainer]),
        replace(good, base=bytes(32)).signed(keys[trainer]),
        replace(good, reveal=bytes(32)).signed(keys[trainer]),
        replace(good, update=replace(update, size=2**40)).signed(keys[trainer]),
    ]
    score = Score(state.chain, 0, good.id(), scorer, 1, 0, 0)
    scores = [score.signed(keys[scorer]), replace(score, value=0, scorer=trainer).signed(keys[trainer])]
    return [*offers, *scores, Vote(bytes(32), 1, 0, 1, 0, b"", scorer).signed(keys[scorer])]


async def test_a_hostile_member_costs_itself_and_the_others_learn_on(tmp_path: Path) -> None:
    """A8: bad signature, samples above the cap, another base, a false reveal, a score out of range or from outside the
    committee, another chain, rubbish served as batches and blobs."""
    genesis = make_consortium(rounds_max=1, round_deadline_ms=3_000)
    async with running(genesis, tmp_path, range(3)) as peers:
        for peer in peers:
            peer.workers.pause()  # no honest message comes before the bad ones
        hostile = peers[0].network.transport(key_of(3))
        await hostile.start(Hostile())
        messages = bad_messages(peers[0].core.state, genesis.params.samples_max)
        victim = peers[0].transport.stats(hostile.me)
        for count, message in enumerate(messages, 1):
            hostile.send(peers[0].me, wire.encode(message))
            await until(lambda count=count: victim.faults == count)  # type: ignore[misc]
        hostile.broadcast(wire.encode(Have(10**6, 0, ())))
        await until(lambda: victim.faults > len(messages))
        for peer in peers:
            peer.workers.resume()
        await learn(peers)
        assert len({peer.core.state.last_hash for peer in peers}) == 1
        await hostile.stop()


class Copier(Hostile):
    """A lazy trainer: it trains nothing, and offers under its own name the blob of the first offer that it hears, with
    `extra_bytes` more than it has."""

    def __init__(self, index: int, transport: MemoryTransport, extra_bytes: int) -> None:
        self.index, self.transport, self.extra_bytes = index, transport, extra_bytes
        self.copy: Offer | None = None

    def on_frame(self, member: bytes, frame: bytes) -> None:
        offer = wire.decode(frame)
        if self.copy is None and isinstance(offer, Offer):
            reveal = beacon_of(self.index, LINKS)[LINKS - 1 - offer.round]
            update = replace(offer.update, size=offer.update.size + self.extra_bytes)
            mine = replace(offer, trainer=key_of(self.index), update=update, reveal=reveal)
            self.copy = mine.signed(member_key(self.index))
            self.transport.broadcast(wire.encode(self.copy))

    def serve_head(self, member: bytes, blob: bytes) -> BlobHead | None:
        return None


def bodies_of(peer: MemoryPeer) -> list[Body]:
    blocks = [peer.chain.store.block(height) for height in range(1, peer.height + 1)]
    return [block.body for block in blocks if block is not None]


@pytest.mark.parametrize(("extra_bytes", "code"), [(0, InvalidCode.SEAL), (1, InvalidCode.SIZE)])
async def test_a_trainer_that_copies_an_offer_by_its_id_is_rejected_by_the_committee(
    tmp_path: Path, extra_bytes: int, code: InvalidCode
) -> None:
    """B4, R3, R4: the copied update is as good as the original and to be had from whom it was made by, and its seal is
    copied too; but that is another trainer's seal. The round does not wait for its deadline."""
    genesis = make_consortium(7, rounds_max=1, committee_size=3, round_length=5, round_deadline_ms=600_000)
    lazy = Chain(genesis, MemoryStore()).state.round.trainers[0]
    index = next(index for index in range(7) if key_of(index) == lazy)
    async with running(genesis, tmp_path, [other for other in range(7) if other != index]) as peers:
        for peer in peers:
            peer.workers.pause()  # nobody offers before the copier listens
        transport = peers[0].network.transport(lazy)
        copier = Copier(index, transport, extra_bytes)
        await transport.start(copier)
        for peer in peers:
            peer.workers.resume()
        await learn(peers)
        assert len({peer.core.state.last_hash for peer in peers}) == 1
        bodies = bodies_of(peers[0])
        accepted = [body.offer for body in bodies if isinstance(body, UpdateBody)]
        (listed,) = [item for body in bodies if isinstance(body, EmptyBody) for item in body.unfilled]
        assert copier.copy is not None
        assert copier.copy.update.blob in [offer.update.blob for offer in accepted]
        assert len(accepted) == 3
        assert (listed.trainer, listed.offer) == (lazy, (copier.copy,))
        assert [score.code for score in listed.scores] in ([code] * 2, [code] * 3)
        await transport.stop()


async def test_equal_updates_of_honest_trainers_are_all_accepted(tmp_path: Path) -> None:
    """B4: the same data gives the same bytes; each trainer has its own seal of them."""
    genesis = make_consortium(rounds_max=1, round_deadline_ms=600_000)
    network, task = MemoryNetwork(QUICK), LinearTask()
    peers = [
        MemoryPeer(genesis, index, network, tmp_path / f"peer-{index}", train=lambda job: run_job(task, job))
        for index in range(4)
    ]
    for peer in peers:
        await peer.start()
    try:
        await learn(peers)
        accepted = [body.offer for body in bodies_of(peers[0]) if isinstance(body, UpdateBody)]
        assert len({offer.trainer for offer in accepted}) == len({offer.seal for offer in accepted}) == 3
        assert len({offer.update for offer in accepted}) == 1
    finally:
        for peer in peers:
            await peer.stop()

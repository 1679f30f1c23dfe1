"""The chain of a peer: import is validate, apply, compare, write (S1, Y1)."""

from dataclasses import replace
from pathlib import Path

import pytest

from ledger.certificate import InvalidCertificate
from ledger.chain import Chain
from ledger.store import LevelStore, MemoryStore, StoreDamaged
from ledger.transition import InvalidBlock
from ledger.types import FinalBatch
from tests.ledger.helpers_ledger import ChainBuilder, make_document, play


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(n=6, c=2, k=4)


def height_key(prefix: bytes, height: int) -> bytes:
    return prefix + height.to_bytes(8, "big")


# ------------------------------------------------------------------------------------------------------ import


def test_a_new_chain_begins_with_its_genesis_block(builder: ChainBuilder) -> None:
    chain = builder.chain
    assert chain.state.height == 0
    assert chain.store.block(0) == chain.genesis_block
    assert chain.state.last_hash == chain.genesis_block.header.id()


@pytest.mark.parametrize(
    ("n", "c", "k", "voters", "election"),
    [
        (2, 1, 2, "members", "draw"),
        (4, 1, 4, "members", "score"),
        (6, 4, 3, "committee", "draw"),
        (8, 4, 5, "committee", "score"),
        (13, 4, 9, "members", "draw"),
    ],
)
def test_another_peer_follows_the_batches_to_the_same_state(n: int, c: int, k: int, voters: str, election: str) -> None:
    # Y1
    source = play(ChainBuilder(n=n, c=c, k=k, voters=voters, election=election), 3)
    follower = Chain(source.genesis, MemoryStore())
    for batch in source.chain.batches():
        follower.import_batch(FinalBatch.decode(batch.encode()))
    assert follower.state == source.state
    assert follower.state.height == 3 * k
    assert list(follower.batches()) == list(source.chain.batches())


def test_batches_start_where_they_are_asked_to(builder: ChainBuilder) -> None:
    play(builder, 2)
    assert [batch.blocks[0].height for batch in builder.chain.batches()] == [1, 4, 5, 8]
    assert [batch.blocks[0].height for batch in builder.chain.batches(5)] == [5, 8]
    assert list(builder.chain.batches(2)) == []
    assert list(builder.chain.batches(99)) == []


def unchanged_after(builder: ChainBuilder, batch: FinalBatch, error: type[Exception], message: str) -> None:
    store = builder.store
    assert isinstance(store, MemoryStore)
    before, state = dict(store.data), builder.state
    with pytest.raises(error, match=message):
        builder.chain.import_batch(batch)
    assert store.data == before
    assert builder.state == state


def test_a_refused_batch_changes_nothing(builder: ChainBuilder) -> None:
    good = builder.batch(*builder.fill_slots())
    few = builder.certificate(good.blocks, signers=list(builder.indices)[:4])
    unchanged_after(builder, replace(good, certificate=few), InvalidCertificate, "4 of 6 voters")
    other = replace(good.certificate, last_hash=bytes(32))
    unchanged_after(builder, replace(good, certificate=other), InvalidCertificate, "other blocks")
    builder.chain.import_batch(good)
    unchanged_after(builder, good, InvalidBlock, "does not follow #3")


def test_a_certified_batch_with_a_wrong_root_is_refused(builder: ChainBuilder) -> None:
    # S1: even a certificate does not replace the comparison of the root
    blocks, _ = builder.blocks(*builder.fill_slots())
    wrong = (*blocks[:-1], replace(blocks[-1], header=replace(blocks[-1].header, state_root=bytes(32))))
    batch = FinalBatch(wrong, builder.certificate(wrong))
    unchanged_after(builder, batch, InvalidBlock, "block #3: the state root differs")


def test_a_batch_from_the_future_is_refused(builder: ChainBuilder) -> None:
    ahead = play(ChainBuilder(n=6, c=2, k=4), 1)
    late = list(ahead.chain.batches())[1]
    unchanged_after(builder, late, InvalidBlock, "block #4: does not follow #0")


def test_a_batch_of_another_chain_is_refused(builder: ChainBuilder) -> None:
    other = ChainBuilder(n=6, c=2, k=4, grace_ms=7)
    unchanged_after(builder, other.batch(*other.fill_slots()), InvalidBlock, "belongs to another chain")


# ------------------------------------------------------------------------------------------------- opening again


def reopened(builder: ChainBuilder) -> Chain:
    return Chain(builder.genesis, builder.store)


def test_a_chain_opens_where_it_stopped(builder: ChainBuilder) -> None:
    # Y2
    play(builder, 2)
    assert reopened(builder).state == builder.state


def test_a_chain_on_disk_opens_where_it_stopped(tmp_path: Path) -> None:
    chain_id = make_document(n=4, committee_size=1, round_length=3).chain_id
    first = play(ChainBuilder(n=4, c=1, k=3, store=LevelStore(tmp_path / "chain", chain_id)), 2)
    first.store.close()
    second = ChainBuilder(n=4, c=1, k=3, store=LevelStore(tmp_path / "chain", chain_id))
    assert second.state == first.state
    second.full_round()
    second.store.close()


def test_a_store_of_another_genesis_is_refused(builder: ChainBuilder) -> None:
    with pytest.raises(StoreDamaged, match="#0 on disk is not the genesis block"):
        Chain(make_document(n=6, grace_ms=9), builder.store)


def test_a_missing_tip_is_named(builder: ChainBuilder) -> None:
    assert isinstance(builder.store, MemoryStore)
    del builder.store.data[b"tip"]
    with pytest.raises(StoreDamaged, match="the state at the tip is missing"):
        reopened(builder)


def test_a_tip_that_the_last_block_does_not_commit_to_is_refused(builder: ChainBuilder) -> None:
    play(builder, 1)
    assert isinstance(builder.store, MemoryStore)
    good, state = dict(builder.store.data), builder.state
    rich = state.with_members({state.members[0].key: replace(state.members[0], stake=2**60)})
    for wrong in (rich, replace(state, last_hash=bytes(32)), replace(state, height=3), replace(state, height=99)):
        builder.store.data = good | {b"tip": wrong.encode()}
        with pytest.raises(StoreDamaged, match=r"is not the one that block #\d+ commits to"):
            reopened(builder)


def test_a_missing_last_block_is_named(builder: ChainBuilder) -> None:
    play(builder, 1)
    assert isinstance(builder.store, MemoryStore)
    del builder.store.data[height_key(b"b", 4)]
    with pytest.raises(StoreDamaged, match="block #4 commits to"):
        reopened(builder)

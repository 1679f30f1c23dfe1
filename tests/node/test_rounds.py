"""What a restart reads back from the chain: the models that this machine has not derived yet (A3, Y2)."""

from pathlib import Path

import pytest

from ledger.blobs import BlobStore, blob_ref
from ledger.store import StoreDamaged
from node.rounds import get_obligations, has_whole, read_aggregate, read_block, read_model
from tests.ledger.helpers_ledger import ChainBuilder, play


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    """A store with the initial model."""
    store = BlobStore(tmp_path)
    store.put_bytes(b"initial model")
    return store


def owed_rounds(builder: ChainBuilder, blobs: BlobStore) -> list[int]:
    return [order.round for order in get_obligations(builder.chain, blobs)]


def test_a_new_chain_owes_nothing(blobs: BlobStore) -> None:
    assert get_obligations(ChainBuilder().chain, blobs) == []


def test_a_model_that_is_on_disk_is_not_owed(blobs: BlobStore) -> None:
    builder = play(ChainBuilder(), 2)
    blobs.put_bytes(b"model 0")
    blobs.put_bytes(b"model 1")
    assert owed_rounds(builder, blobs) == []


def test_a_crash_between_commit_and_aggregate_leaves_the_last_model_owed(blobs: BlobStore) -> None:
    builder = play(ChainBuilder(), 2)
    blobs.put_bytes(b"model 0")
    (order,) = get_obligations(builder.chain, blobs)
    assert (order.round, order.model, order.missing) == (1, blob_ref(b"model 0"), ())
    assert [item.height for item in order.updates] == [5, 6, 7]
    assert order.holders == tuple(item.trainer for item in order.updates)
    assert [item.weight for item in order.updates] == [100 + builder.indices[item.trainer] for item in order.updates]


def test_a_sync_that_was_cut_leaves_all_models_owed_oldest_first(blobs: BlobStore) -> None:
    builder = play(ChainBuilder(), 4)
    blobs.put_bytes(b"model 0")
    assert owed_rounds(builder, blobs) == [1, 2, 3]


def test_an_open_round_owes_nothing_yet(blobs: BlobStore) -> None:
    builder = play(ChainBuilder(), 1)
    blobs.put_bytes(b"model 0")
    builder.append(builder.update_body(builder.offer(builder.trainers[0])))
    assert owed_rounds(builder, blobs) == []


def test_what_a_model_block_lists_as_missing_is_left_out_again(blobs: BlobStore) -> None:
    builder = ChainBuilder()
    builder.append(*builder.fill_slots())
    builder.append(builder.model_body(blob_ref(b"without #2"), missing=(2,)))
    (order,) = get_obligations(builder.chain, blobs)
    assert order.missing == (2,)
    assert len(order.updates) == 3


def test_a_round_that_kept_the_old_model_has_nothing_to_derive(blobs: BlobStore) -> None:
    """R7: its one update is below `updates_min`; aggregating it would only lead to a model that nobody has."""
    builder = ChainBuilder(updates_min=2)
    builder.full_round()
    one = builder.trainers[0]
    builder.full_round(accept=[one])
    builder.full_round(accept=())
    assert builder.state.round.model == blob_ref(b"model 0")
    assert owed_rounds(builder, blobs) == [0]


def test_a_round_of_too_few_updates_after_the_missing_ones_keeps_the_old_model(blobs: BlobStore) -> None:
    builder = ChainBuilder(updates_min=2)
    builder.append(*builder.fill_slots(accept=builder.trainers[:2]))
    builder.append(builder.model_body(builder.state.round.model, missing=(1,)))
    blobs.path(builder.genesis.initial_model.blob).unlink()
    assert owed_rounds(builder, blobs) == []


def test_a_damaged_model_is_removed_and_owed_again(blobs: BlobStore) -> None:
    builder = play(ChainBuilder(), 2)
    blobs.put_bytes(b"model 0")
    path = blobs.path(blobs.put_bytes(b"model 1").blob)
    path.write_bytes(b"model X")
    assert owed_rounds(builder, blobs) == [1]
    assert not path.exists()


@pytest.mark.parametrize("damage", [b"", b"shorter", b"initial modem", b"initial model and more"])
def test_a_blob_counts_only_when_it_is_whole(blobs: BlobStore, damage: bytes) -> None:
    ref = blob_ref(b"initial model")
    assert has_whole(blobs, ref)
    blobs.path(ref.blob).write_bytes(damage)
    assert not has_whole(blobs, ref)
    assert not blobs.has(ref.blob)
    assert not has_whole(blobs, ref)


def test_empty_slots_are_no_inputs(blobs: BlobStore) -> None:
    builder = ChainBuilder()
    builder.full_round(silent=builder.trainers[:1])
    order = read_aggregate(builder.chain, 0)
    assert order.holders == tuple(item.trainer for item in order.updates)
    assert len(order.updates) == 2


def test_a_missing_block_is_damage_that_names_the_block() -> None:
    builder = play(ChainBuilder(), 1)
    with pytest.raises(StoreDamaged, match=r"#9 is missing.*chain verify"):
        read_block(builder.chain, 9)


def test_a_model_block_stands_at_its_height_and_nowhere_else() -> None:
    builder = play(ChainBuilder(), 1)
    assert read_model(builder.chain, 4).model == blob_ref(b"model 0")
    with pytest.raises(StoreDamaged, match="H2"):
        read_model(builder.chain, 3)

"""Who may have which blob (B4), and how many batches fit into one answer (Y1)."""

from pathlib import Path

import pytest

from ledger.blobs import CHUNK_BYTES, BlobStore
from ledger.types import FinalBatch
from node.serving import DIGESTS_KEPT_MAX, Librarian
from node.transport import Refused
from tests.ledger.helpers_ledger import ChainBuilder, play

MIB = 1 << 20


@pytest.fixture
def builder() -> ChainBuilder:
    return ChainBuilder(n=5)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def stored_update(builder: ChainBuilder, blobs: BlobStore, trainer: bytes) -> bytes:
    """The update that `builder` invents for this trainer, in the store."""
    return blobs.put_bytes(f"update {builder.state.round.round} {builder.indices[trainer]}".encode()).blob


def test_while_slots_are_open_the_committee_alone_gets_an_update(builder: ChainBuilder, blobs: BlobStore) -> None:
    librarian = Librarian(builder.chain, blobs)
    blob = stored_update(builder, blobs, builder.trainers[0])
    librarian.guard(frozenset({blob}), frozenset(builder.committee))
    for member in builder.indices:
        if member in builder.committee:
            head = librarian.serve_head(member, blob)
            assert head is not None
            assert head.first == librarian.serve_chunk(member, blob, 0) == blobs.read(blob)
            continue
        with pytest.raises(Refused, match="B4"):
            librarian.serve_head(member, blob)
        with pytest.raises(Refused, match="B4"):
            librarian.serve_chunk(member, blob, 0)


def test_a_guard_holds_also_for_an_update_that_the_chain_names_already(builder: ChainBuilder, blobs: BlobStore) -> None:
    trainer = builder.trainers[0]
    blob = stored_update(builder, blobs, trainer)
    builder.append(builder.update_body(builder.offer(trainer)))
    librarian = Librarian(builder.chain, blobs)
    librarian.guard(frozenset({blob}), frozenset(builder.committee))
    with pytest.raises(Refused):
        librarian.serve_head(trainer, blob)


def test_once_the_slots_are_final_every_member_gets_it(builder: ChainBuilder, blobs: BlobStore) -> None:
    blob = stored_update(builder, blobs, builder.trainers[0])
    builder.full_round()
    librarian = Librarian(builder.chain, blobs)
    librarian.guard(frozenset(), frozenset(builder.committee))
    assert all(librarian.serve_head(member, blob) is not None for member in builder.indices)


def test_a_rejected_update_that_the_close_lists_is_served_too(builder: ChainBuilder, blobs: BlobStore) -> None:
    rejected = builder.trainers[0]
    blob = stored_update(builder, blobs, rejected)
    builder.full_round(reject=[rejected])
    assert Librarian(builder.chain, blobs).serve_head(builder.committee[0], blob) is not None


def test_a_blob_that_the_chain_does_not_name_is_served_to_nobody(builder: ChainBuilder, blobs: BlobStore) -> None:
    blob = blobs.put_bytes(b"a private model").blob
    librarian = Librarian(builder.chain, blobs)
    for member in builder.indices:
        assert librarian.serve_head(member, blob) is None
        assert librarian.serve_chunk(member, blob, 0) is None


def test_the_initial_model_is_served_to_every_member(builder: ChainBuilder, blobs: BlobStore) -> None:
    blob = blobs.put_bytes(b"initial model").blob
    assert Librarian(builder.chain, blobs).serve_head(builder.committee[0], blob) is not None


def test_a_blob_is_hashed_for_the_first_of_many_heads_only(builder: ChainBuilder, blobs: BlobStore) -> None:
    """A8: a request of a hundred bytes must not have a whole model read and hashed each time."""
    ref = blobs.put_bytes(bytes(CHUNK_BYTES) + b"tail")
    librarian = Librarian(builder.chain, blobs)
    librarian.guard(frozenset({ref.blob}), frozenset(builder.committee))
    first = librarian.serve_head(builder.committee[0], ref.blob)
    with blobs.path(ref.blob).open("r+b") as file:
        file.seek(CHUNK_BYTES)
        file.write(b"TAIL")  # not read again: the receiver finds it by the digests
    assert librarian.serve_head(builder.committee[0], ref.blob) == first
    blobs.path(ref.blob).unlink()
    assert librarian.serve_head(builder.committee[0], ref.blob) is None


def test_the_digests_of_many_blobs_are_bounded(builder: ChainBuilder, blobs: BlobStore) -> None:
    refs = [blobs.put_bytes(bytes([number])) for number in range(DIGESTS_KEPT_MAX + 2)]
    librarian = Librarian(builder.chain, blobs)
    librarian.guard(frozenset(ref.blob for ref in refs), frozenset(builder.committee))
    heads = [librarian.serve_head(builder.committee[0], ref.blob) for ref in refs]
    assert [head is not None and head.first for head in heads] == [bytes([number]) for number in range(len(refs))]


def test_a_named_blob_that_is_not_here_is_missing(builder: ChainBuilder, blobs: BlobStore) -> None:
    librarian = Librarian(builder.chain, blobs)
    blob = builder.genesis.initial_model.blob
    assert librarian.serve_head(builder.committee[0], blob) is None
    assert librarian.serve_chunk(builder.committee[0], blob, 0) is None


@pytest.mark.parametrize("index", [-1, 2, 10**12])
def test_a_chunk_beyond_the_blob_is_missing(builder: ChainBuilder, blobs: BlobStore, index: int) -> None:
    blob = blobs.put_bytes(bytes(CHUNK_BYTES + 1)).blob
    librarian = Librarian(builder.chain, blobs)
    librarian.guard(frozenset({blob}), frozenset(builder.committee))
    assert librarian.serve_chunk(builder.committee[0], blob, 1) == b"\x00"
    assert librarian.serve_chunk(builder.committee[0], blob, index) is None


# --------------------------------------------------------------------------------------------------------------- Y1


def test_batches_come_from_the_one_that_holds_the_height(builder: ChainBuilder, blobs: BlobStore) -> None:
    play(builder, 3)
    librarian = Librarian(builder.chain, blobs)
    everything = [FinalBatch.decode(data) for data in librarian.serve_batches(1, 64 * MIB)]
    assert everything == list(builder.chain.batches())
    inside = librarian.serve_batches(6, 64 * MIB)  # the second height of round 1's slots
    assert [FinalBatch.decode(data).blocks[0].height for data in inside] == [5, 8, 9, 12]


def test_an_answer_is_bounded_by_its_bytes(builder: ChainBuilder, blobs: BlobStore) -> None:
    play(builder, 3)
    librarian = Librarian(builder.chain, blobs)
    sizes = [len(batch.encode()) for batch in builder.chain.batches()]
    assert len(librarian.serve_batches(1, sum(sizes[:2]))) == 2
    assert len(librarian.serve_batches(1, sum(sizes[:3]) - 1)) == 2


def test_the_first_batch_is_served_whatever_its_size(builder: ChainBuilder, blobs: BlobStore) -> None:
    play(builder, 2)
    assert len(Librarian(builder.chain, blobs).serve_batches(1, 1)) == 1


@pytest.mark.parametrize("height", [0, 13, 2**62])
def test_where_there_is_no_batch_none_is_served(builder: ChainBuilder, blobs: BlobStore, height: int) -> None:
    play(builder, 3)  # the tip is #12; #0 has no certificate
    assert Librarian(builder.chain, blobs).serve_batches(height, MIB) == []

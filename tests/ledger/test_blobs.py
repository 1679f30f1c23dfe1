"""Blobs in files (B1, B3): ids over chunks, whole or not there at all."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.blobs import (
    CHUNK_BYTES,
    BlobError,
    BlobStore,
    blob_id,
    blob_ref,
    chunk_count,
    file_digests,
    file_ref,
    file_seal,
    id_of_digests,
    make_seal,
)
from ledger.types import BlobRef

SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5]

TRAINER, OTHER_TRAINER = b"t" * 32, b"o" * 32


def content(size: int) -> bytes:
    """`size` bytes in which no two chunks are equal."""
    blocks = -(-size // 32) if size else 0
    return b"".join(hashlib.sha256(at.to_bytes(4, "big")).digest() for at in range(blocks))[:size]


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


# -------------------------------------------------------------------------------------------------------- ids


@pytest.mark.parametrize("size", SIZES)
def test_a_blobs_id_is_the_hash_of_its_chunks_hashes(size: int) -> None:
    # B1
    data = content(size)
    chunks = [data[at : at + 2**20] for at in range(0, max(size, 1), 2**20)]
    digests = b"".join(hashlib.sha256(chunk).digest() for chunk in chunks)
    assert blob_id(data) == id_of_digests(digests) == hashlib.sha256(digests).digest()
    assert blob_ref(data) == BlobRef(blob_id(data), size)
    assert chunk_count(size) == len(chunks)


def test_the_empty_blob_has_one_empty_chunk() -> None:
    assert chunk_count(0) == 1
    assert blob_id(b"") == hashlib.sha256(hashlib.sha256(b"").digest()).digest()


@given(st.binary(max_size=100), st.binary(max_size=100))
@settings(max_examples=50)
def test_other_bytes_have_another_id(first: bytes, second: bytes) -> None:
    assert (blob_id(first) == blob_id(second)) == (first == second)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_has_the_id_of_its_content(tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(content(size))
    assert file_ref(file) == blob_ref(content(size))
    assert len(file_digests(file)) == 32 * chunk_count(size)


# ------------------------------------------------------------------------------------------------------ seals


@pytest.mark.parametrize("size", SIZES)
def test_a_file_has_the_seal_of_its_content(tmp_path: Path, size: int) -> None:
    # B4
    file, data = tmp_path / "file", content(size)
    file.write_bytes(data)
    assert file_seal(file, TRAINER) == make_seal(TRAINER, data)
    assert make_seal(TRAINER, data) == hashlib.sha256(b"fedchain/1/seal\0" + TRAINER + data).digest()


@given(st.binary(max_size=100), st.binary(max_size=100))
@settings(max_examples=50)
def test_a_seal_is_of_one_trainer_and_of_these_bytes(first: bytes, second: bytes) -> None:
    # B4: equal updates of two honest trainers have two seals, and one trainer's seal is no other's
    assert (make_seal(TRAINER, first) == make_seal(TRAINER, second)) == (first == second)
    assert make_seal(TRAINER, first) != make_seal(OTHER_TRAINER, first)


def test_a_blobs_id_and_its_chunks_hashes_are_not_enough_for_a_seal() -> None:
    # B4: both are known to whom a holder tells them, without the bytes
    data = content(CHUNK_BYTES + 1)
    digests = b"".join(hashlib.sha256(data[at : at + CHUNK_BYTES]).digest() for at in (0, CHUNK_BYTES))
    assert make_seal(TRAINER, data) not in (make_seal(TRAINER, digests), make_seal(TRAINER, blob_id(data)))


def test_a_file_that_is_not_there_has_no_seal(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_seal(tmp_path / "absent", TRAINER)


# ------------------------------------------------------------------------------------------------------ store


def test_a_stored_blob_is_read_back_whole(store: BlobStore) -> None:
    data = content(2 * CHUNK_BYTES + 7)
    ref = store.put_bytes(data)
    assert ref == blob_ref(data)
    assert store.has(ref.blob)
    assert store.size(ref.blob) == len(data)
    assert store.read(ref.blob) == data
    assert store.path(ref.blob) == store.folder / ref.blob.hex()[:2] / ref.blob.hex()


def test_storing_a_blob_twice_leaves_one_file_and_no_scrap(store: BlobStore) -> None:
    assert store.put_bytes(b"once") == store.put_bytes(b"once")
    assert [path.name for path in store.folder.rglob("*") if path.is_file()] == [blob_id(b"once").hex()]


def test_a_new_store_on_the_same_folder_finds_what_is_there(store: BlobStore) -> None:
    ref = store.put_bytes(b"lasting")
    assert BlobStore(store.folder).read(ref.blob) == b"lasting"


def test_a_blob_that_is_not_there_is_said_to_be_missing(store: BlobStore) -> None:
    absent = blob_id(b"absent")
    assert not store.has(absent)
    assert store.read_chunk(absent, 0) is None
    for ask in (store.read, store.size, store.chunk_digests):
        with pytest.raises(FileNotFoundError):
            ask(absent)


@pytest.mark.parametrize("blob", [b"", b"short", bytes(33), b"../../../../../../etc/passwd....."])
def test_an_id_of_a_wrong_size_never_becomes_a_path(store: BlobStore, blob: bytes) -> None:
    with pytest.raises(BlobError, match="32 bytes"):
        store.path(blob)


def test_the_chunks_of_a_blob_add_up_and_verify_singly(store: BlobStore) -> None:
    # B1: chunks verify singly, so a transfer resumes
    data = content(2 * CHUNK_BYTES + 7)
    ref = store.put_bytes(data)
    digests = store.chunk_digests(ref.blob)
    chunks = [store.read_chunk(ref.blob, index) or b"" for index in range(chunk_count(len(data)))]
    assert b"".join(chunks) == data
    assert b"".join(hashlib.sha256(chunk).digest() for chunk in chunks) == digests
    assert id_of_digests(digests) == ref.blob


@pytest.mark.parametrize("index", [-1, 1, 2, 10**12])
def test_a_chunk_beyond_the_end_is_not_there(store: BlobStore, index: int) -> None:
    ref = store.put_bytes(b"one chunk")
    assert store.read_chunk(ref.blob, index) is None


def test_the_empty_blob_can_be_stored(store: BlobStore) -> None:
    ref = store.put_bytes(b"")
    assert (store.read(ref.blob), store.read_chunk(ref.blob, 0)) == (b"", b"")


@pytest.mark.parametrize("damage", [b"", b"chance", b"changed!", b"content and more"])
def test_a_changed_file_is_noticed_when_it_is_read(store: BlobStore, damage: bytes) -> None:
    ref = store.put_bytes(b"content!")
    store.path(ref.blob).write_bytes(damage)
    with pytest.raises(BlobError, match="the file was changed"):
        store.read(ref.blob)


# --------------------------------------------------------------------------------------------- files that come


def test_a_complete_download_moves_into_the_store(store: BlobStore, tmp_path: Path) -> None:
    file = tmp_path / "download"
    file.write_bytes(b"downloaded")
    ref = blob_ref(b"downloaded")
    store.install(file, ref.blob, ref.size)
    assert store.read(ref.blob) == b"downloaded"
    assert not file.exists()


@pytest.mark.parametrize(
    ("blob", "size"),
    [(blob_id(b"other"), 10), (blob_id(b"downloaded"), 9), (blob_id(b"downloaded"), 11), (bytes(32), 10)],
)
def test_a_download_that_is_not_its_blob_is_refused_and_stays_where_it_is(
    store: BlobStore, tmp_path: Path, blob: bytes, size: int
) -> None:
    file = tmp_path / "download"
    file.write_bytes(b"downloaded")
    with pytest.raises(BlobError, match=rf"is not the blob .* of {size} bytes \(B1\)"):
        store.install(file, blob, size)
    assert file.read_bytes() == b"downloaded"
    assert not store.has(blob)


def test_a_file_made_here_is_adopted_under_the_id_of_its_content(store: BlobStore, tmp_path: Path) -> None:
    file = tmp_path / "made"
    file.write_bytes(content(CHUNK_BYTES + 1))
    ref = store.adopt(file)
    assert ref == blob_ref(content(CHUNK_BYTES + 1))
    assert store.has(ref.blob)
    assert not file.exists()


def test_a_write_that_fails_leaves_nothing_half_done(store: BlobStore) -> None:
    # B3: a blob is there whole or not at all; a file stands where its folder must be made
    ref = blob_ref(b"unlucky")
    (store.folder / ref.blob.hex()[:2]).write_bytes(b"in the way")
    with pytest.raises(OSError, match="exists"):
        store.put_bytes(b"unlucky")
    assert not store.has(ref.blob)
    assert [path.name for path in store.folder.iterdir()] == [ref.blob.hex()[:2]]


def test_a_blob_is_held_under_its_own_size_only(tmp_path: Path) -> None:
    """B1: a reference names id and size."""
    store = BlobStore(tmp_path)
    ref = store.put_bytes(b"blob")
    assert store.holds(ref)
    assert not store.holds(BlobRef(ref.blob, 5))
    assert not store.holds(BlobRef(bytes(32), 4))

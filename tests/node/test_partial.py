"""An unfinished transfer keeps verified chunks only, and takes over only what still verifies (B1)."""

import hashlib
from pathlib import Path

import pytest

from ledger.blobs import CHUNK_BYTES, blob_ref, file_digests
from ledger.types import BlobRef
from node.partial import PartialBlob, SizeLie, WrongBytes, check_chunk, forget_oldest, partial_name

DATA = bytes(CHUNK_BYTES) + b"x" * CHUNK_BYTES + b"end"
CHUNKS = [DATA[at : at + CHUNK_BYTES] for at in range(0, len(DATA), CHUNK_BYTES)]
DIGESTS = b"".join(hashlib.sha256(chunk).digest() for chunk in CHUNKS)
REF = blob_ref(DATA)


def begun(folder: Path, chunks: int) -> PartialBlob:
    partial = PartialBlob(folder, REF)
    partial.set_digests(DIGESTS)
    for chunk in CHUNKS[:chunks]:
        partial.add(chunk)
    return partial


def test_chunks_in_order_complete_the_blob(tmp_path: Path) -> None:
    partial = begun(tmp_path, 2)
    assert not partial.is_complete
    partial.add(CHUNKS[2])
    assert partial.is_complete
    assert partial.path.read_bytes() == DATA
    assert file_digests(partial.path) == DIGESTS
    partial.forget()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("chunks", [0, 1, 2, 3])
def test_a_later_transfer_takes_over_what_is_there(tmp_path: Path, chunks: int) -> None:
    begun(tmp_path, chunks)
    again = PartialBlob(tmp_path, REF)
    assert (again.digests, again.chunks) == (DIGESTS, chunks)


def test_a_torn_chunk_is_written_over(tmp_path: Path) -> None:
    path = begun(tmp_path, 2).path
    path.write_bytes(DATA[: CHUNK_BYTES + 100] + b"torn" * CHUNK_BYTES)
    again = PartialBlob(tmp_path, REF)
    assert again.chunks == 1
    for chunk in CHUNKS[1:]:
        again.add(chunk)
    assert path.read_bytes() == DATA


def test_wrong_bytes_change_nothing(tmp_path: Path) -> None:
    partial = begun(tmp_path, 1)
    with pytest.raises(WrongBytes, match="chunk 1"):
        partial.add(CHUNKS[2])
    with pytest.raises(WrongBytes, match="digest list"):
        partial.set_digests(DIGESTS[:-1] + b"!")
    assert (partial.chunks, partial.digests, partial.path.read_bytes()) == (1, DIGESTS, CHUNKS[0])


def test_a_reference_that_lies_about_the_size_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(SizeLie, match="has 3 chunks"):
        PartialBlob(tmp_path, BlobRef(REF.blob, 2 * CHUNK_BYTES)).set_digests(DIGESTS)
    with pytest.raises(SizeLie, match="chunk 2 has 3 bytes"):
        check_chunk(BlobRef(REF.blob, REF.size + 1), DIGESTS, 2, CHUNKS[2])
    assert partial_name(REF) != partial_name(BlobRef(REF.blob, REF.size + 1))


def test_the_oldest_unfinished_transfers_go_first_and_live_ones_stay(tmp_path: Path) -> None:
    for name in ("a.part", "b.part", "c.part"):
        (tmp_path / name).write_bytes(bytes(1000))
    forget_oldest(tmp_path, 3000, ())
    assert len(list(tmp_path.iterdir())) == 3
    forget_oldest(tmp_path, 1000, {"a"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.part"]

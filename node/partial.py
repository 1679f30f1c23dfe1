"""A blob that is being fetched: its verified chunks on disk, so that a transfer resumes after a break (B1).

Two files in the folder for partial blobs: `<name>.digests`, the digest list that hashes to the id, and `<name>.part`,
the chunks so far, in order. Nothing here is synced: what a crash tears is found by its digest and fetched again.
"""

import contextlib
import hashlib
from collections.abc import Collection
from pathlib import Path

from ledger.blobs import CHUNK_BYTES, chunk_count, id_of_digests
from ledger.keys import HASH_BYTES
from ledger.types import BlobRef


class WrongBytes(Exception):
    """The holder served bytes that are not those of the blob (A8)."""


class SizeLie(Exception):
    """The blob is real but has another size than its reference says: whoever signed the reference lied."""


def check_digests(ref: BlobRef, digests: bytes) -> None:
    """Whether `digests` is the digest list of the blob; raises `WrongBytes` or `SizeLie`."""
    if id_of_digests(digests) != ref.blob:
        raise WrongBytes("a digest list that is not the blob's")
    if len(digests) != HASH_BYTES * chunk_count(ref.size):
        count, expected = len(digests) // HASH_BYTES, chunk_count(ref.size)
        raise SizeLie(f"the blob has {count} chunks; {ref.size} bytes have {expected}")


def check_chunk(ref: BlobRef, digests: bytes, index: int, chunk: bytes) -> None:
    """Whether `chunk` is chunk `index`; raises `WrongBytes` or `SizeLie`."""
    if hashlib.sha256(chunk).digest() != digests[HASH_BYTES * index : HASH_BYTES * (index + 1)]:
        raise WrongBytes(f"chunk {index} is not the blob's")
    expected = min(CHUNK_BYTES, ref.size - index * CHUNK_BYTES)
    if len(chunk) != expected:
        raise SizeLie(f"chunk {index} has {len(chunk)} bytes; a blob of {ref.size} bytes has {expected} there")


def partial_name(ref: BlobRef) -> str:
    """The file name without its ending; the size is part of it, since a reference may lie about it."""
    return f"{ref.blob.hex()}-{ref.size}"


class PartialBlob:
    """The transfer of one blob; all methods block on the disk."""

    def __init__(self, folder: Path, ref: BlobRef) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ref = ref
        self.path = folder / f"{partial_name(ref)}.part"
        self.digests = b""
        self.chunks = 0
        self._digests_path = folder / f"{partial_name(ref)}.digests"
        self._resume()

    @property
    def is_complete(self) -> bool:
        """Whether every chunk is here."""
        return bool(self.digests) and self.chunks == chunk_count(self.ref.size)

    def _resume(self) -> None:
        """Take over what an earlier transfer left, as far as its digests hold."""
        with contextlib.suppress(OSError, WrongBytes, SizeLie):
            if self._digests_path.stat().st_size != HASH_BYTES * chunk_count(self.ref.size):
                return
            digests = self._digests_path.read_bytes()
            check_digests(self.ref, digests)
            self.digests = digests
            with self.path.open("rb") as file:
                while not self.is_complete:
                    check_chunk(self.ref, digests, self.chunks, file.read(CHUNK_BYTES))
                    self.chunks += 1

    def set_digests(self, digests: bytes) -> None:
        """Keep the digest list; raises `WrongBytes` or `SizeLie`."""
        check_digests(self.ref, digests)
        self._digests_path.write_bytes(digests)
        self.digests = digests

    def add(self, chunk: bytes) -> None:
        """Append the next chunk; raises `WrongBytes` or `SizeLie`, and then nothing has changed."""
        check_chunk(self.ref, self.digests, self.chunks, chunk)
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.seek(self.chunks * CHUNK_BYTES)
            file.write(chunk)
            file.truncate()
        self.chunks += 1

    def forget(self) -> None:
        """Remove what is on disk; the part may have been moved away already."""
        self.path.unlink(missing_ok=True)
        self._digests_path.unlink(missing_ok=True)
        self.digests, self.chunks = b"", 0


def forget_oldest(folder: Path, bytes_max: int, keep: Collection[str]) -> None:
    """Remove the oldest partial blobs, but those named in `keep`, until the folder holds at most `bytes_max`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in folder.iterdir() if path.is_file())
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total <= bytes_max:
            return
        if path.stem not in keep:
            path.unlink(missing_ok=True)
            total -= size

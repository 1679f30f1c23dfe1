"""Blobs are files (B1, B3): models and updates live outside the blocks, named by the hash of their chunks' hashes. A
seal proves that a trainer has an update's bytes (B4)."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ledger.keys import HASH_BYTES, digest, digest_stream
from ledger.types import BlobRef

CHUNK_BYTES = 1 << 20
SEAL_DOMAIN = "seal"


class BlobError(ValueError):
    """A blob that is not what its id says, or cannot be stored."""


def chunk_count(size: int) -> int:
    """How many chunks a blob of `size` bytes has; the empty blob has one, empty."""
    return max(1, -(-size // CHUNK_BYTES))


def id_of_digests(digests: bytes) -> bytes:
    """The blob id of concatenated SHA-256 chunk digests (B1)."""
    return hashlib.sha256(digests).digest()


def blob_id(data: bytes) -> bytes:
    """SHA-256 over the concatenated SHA-256 digests of the 1 MiB chunks of `data` (B1)."""
    starts = range(0, max(1, len(data)), CHUNK_BYTES)
    return id_of_digests(b"".join(hashlib.sha256(data[at : at + CHUNK_BYTES]).digest() for at in starts))


def blob_ref(data: bytes) -> BlobRef:
    """Id and size of `data`."""
    return BlobRef(blob_id(data), len(data))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        chunk = file.read(CHUNK_BYTES)
        yield chunk
        while len(chunk) == CHUNK_BYTES and (chunk := file.read(CHUNK_BYTES)):
            yield chunk


def file_digests(path: Path) -> bytes:
    """The concatenated chunk digests of a file."""
    return b"".join(hashlib.sha256(chunk).digest() for chunk in _chunks(path))


def file_ref(path: Path) -> BlobRef:
    """Id and size of a file's content."""
    return BlobRef(id_of_digests(file_digests(path)), path.stat().st_size)


def make_seal(trainer: bytes, data: bytes) -> bytes:
    """The seal of `data` by `trainer` (its member key, 32 bytes): who has only the blob's id, or another trainer's
    seal, cannot make it (B4)."""
    return digest(SEAL_DOMAIN, trainer, data)


def file_seal(path: Path, trainer: bytes) -> bytes:
    """`make_seal` of a file's content, read a chunk at a time; raises `OSError`."""
    return digest_stream(SEAL_DOMAIN, chain((trainer,), _chunks(path)))


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that a rename inside it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class BlobStore:
    """A folder of blobs, one file each, two levels deep. What is there is whole: it was verified when it came."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, blob: bytes) -> Path:
        """Where this blob is, or would be."""
        if len(blob) != HASH_BYTES:
            raise BlobError("a blob id has 32 bytes")
        name = blob.hex()
        return self.folder / name[:2] / name

    def has(self, blob: bytes) -> bool:
        """Whether the blob is here."""
        return self.path(blob).is_file()

    def holds(self, ref: BlobRef) -> bool:
        """Whether the blob is here and has the size that the reference says."""
        return self.has(ref.blob) and self.size(ref.blob) == ref.size

    def size(self, blob: bytes) -> int:
        """Its size in bytes; raises `FileNotFoundError`."""
        return self.path(blob).stat().st_size

    def read(self, blob: bytes) -> bytes:
        """The whole blob, checked against its id; raises `BlobError` when the file was damaged."""
        data = self.path(blob).read_bytes()
        if blob_id(data) != blob:
            raise BlobError(f"{self.path(blob)}: the file was changed: it is not the blob that its name says")
        return data

    def put_bytes(self, data: bytes) -> BlobRef:
        """Store `data` durably: fsync, then an atomic rename (B3)."""
        ref = blob_ref(data)
        if not self.has(ref.blob):
            handle, name = tempfile.mkstemp(dir=self.folder, prefix="new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                self._place(Path(name), ref.blob)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
        return ref

    def install(self, path: Path, blob: bytes, size: int) -> None:
        """Move a complete file into the store durably; raises `BlobError` when it is not that blob."""
        if file_ref(path) != BlobRef(blob, size):
            raise BlobError(f"{path}: is not the blob {blob.hex()[:16]} of {size} bytes (B1)")
        self._place(path, blob)

    def adopt(self, path: Path) -> BlobRef:
        """Move a file made by this machine into the store durably; the id is taken from its content."""
        ref = file_ref(path)
        self._place(path, ref.blob)
        return ref

    def _place(self, path: Path, blob: bytes) -> None:
        target = self.path(blob)
        if not target.parent.is_dir():
            target.parent.mkdir(exist_ok=True)
            sync_folder(self.folder)
        handle = os.open(path, os.O_RDWR)
        try:
            os.fdatasync(handle)
        finally:
            os.close(handle)
        path.replace(target)
        sync_folder(target.parent)

    def read_chunk(self, blob: bytes, index: int) -> bytes | None:
        """Chunk `index` of the blob, or None when blob or chunk is not here."""
        try:
            with self.path(blob).open("rb") as file:
                if not 0 <= index < chunk_count(os.fstat(file.fileno()).st_size):
                    return None
                file.seek(index * CHUNK_BYTES)
                return file.read(CHUNK_BYTES)
        except FileNotFoundError:
            return None

    def chunk_digests(self, blob: bytes) -> bytes:
        """The concatenated SHA-256 digests of the blob's chunks (B1)."""
        return file_digests(self.path(blob))

"""IDX files, the format of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist, section "file formats").

A big-endian header (two zero bytes, a type byte, the number of dimensions, each dimension as u32), then the
values. Every number in the header is a claim and is checked against the bytes that follow.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

_UNSIGNED_BYTE: Final = 0x08
_GZIP_MAGIC: Final = b"\x1f\x8b"
_RANK_MAX: Final = 4
_SIZE_BYTES_MAX: Final = 1 << 30


class IdxError(ValueError):
    """A data file that is missing, damaged or not IDX; the message names the file and what to do."""


def find_idx(folder: Path, stem: str) -> Path:
    """Return `folder/stem` or `folder/stem.gz`; raise `IdxError` where neither is a file."""
    if not folder.is_dir():
        raise IdxError(f"data folder {folder} does not exist: give the folder that holds {stem}[.gz] as `data`")
    for path in (folder / stem, folder / f"{stem}.gz"):
        if path.is_file():
            return path
    raise IdxError(f"data folder {folder} holds neither {stem} nor {stem}.gz: copy the file there")


def read_idx(path: Path, first: int | None = None) -> NDArray[np.uint8]:
    """Read unsigned bytes, shape as the header says; only the first `first` items where given.

    A gzipped file is inflated only as far as needed. Raises `IdxError`.
    """
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == _GZIP_MAGIC
            plain.seek(0)
            if not zipped:
                return _read(plain, path, first)
            with gzip.open(plain) as stream:
                return _read(stream, path, first)
    except (OSError, EOFError, zlib.error) as error:
        raise IdxError(f"cannot read {path}: {error}; fetch the file again") from error


def _read(stream: BinaryIO | gzip.GzipFile, path: Path, first: int | None) -> NDArray[np.uint8]:
    zeros, kind, rank = struct.unpack(">HBB", _read_exactly(stream, 4, path))
    if zeros != 0 or kind != _UNSIGNED_BYTE or not 1 <= rank <= _RANK_MAX:
        raise IdxError(f"{path} is not an IDX file of unsigned bytes with 1 to {_RANK_MAX} dimensions")
    items, *shape = struct.unpack(f">{rank}I", _read_exactly(stream, 4 * rank, path))
    if first is not None and first > items:
        raise IdxError(f"{path} holds {items} items, {first} are wanted: ask for fewer or give another file")
    count = items if first is None else first
    size_bytes = count * math.prod(shape)
    if size_bytes > _SIZE_BYTES_MAX:
        raise IdxError(f"{path} claims {size_bytes} bytes; at most {_SIZE_BYTES_MAX} are read")
    data = _read_exactly(stream, size_bytes, path)
    if count == items and stream.read(1):
        raise IdxError(f"{path} is longer than its header says: fetch the file again")
    return np.frombuffer(data, np.uint8).reshape(count, *shape)


def _read_exactly(stream: BinaryIO | gzip.GzipFile, size_bytes: int, path: Path) -> bytes:
    data = stream.read(size_bytes)
    if len(data) != size_bytes:
        raise IdxError(f"{path} is truncated: {len(data)} bytes where {size_bytes} belong; fetch the file again")
    return data

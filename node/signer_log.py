"""keys/signer.state: the signer's write-ahead log (A5). Bytes in, bytes out; what they mean is the core's business.

File: 8 bytes of magic, 1 of version, then records `[u32 length][u32 crc32(length)][u32 crc32(bytes)][bytes]`, all
big-endian.
The length has its own checksum, so that a torn tail (the last write, cut by a crash before its fsync ended: it never
left this machine) is told apart from a damaged length, which would hide records that did leave.
"""

import fcntl
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self
from zlib import crc32

from node.errors import ExitCode, NodeError, disk_error

MAGIC = b"FEDCSIGN\x01"
RECORD_BYTES_MAX = 64 << 20
REWRITE_BYTES = 32 << 20
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">III")
_NEVER = "Never restore it from a copy, which could sign twice differently"


def create(path: Path, first_records: Sequence[bytes] = ()) -> None:
    """Make a new log, mode 0600, durable; raises `NodeError` SIGNER_STATE when there is one already."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write_all(handle, MAGIC + _packed(first_records))
            os.fsync(handle)
        finally:
            os.close(handle)
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise NodeError(ExitCode.SIGNER_STATE, f"{path}: exists already; it is never overwritten (A5)") from error
    except OSError as error:
        raise disk_error(error, f"creating {path}") from error


class SignerLog:
    """The open log, locked against other processes. Its methods block and belong in an executor, one at a time."""

    def __init__(self, path: Path, handle: int, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._handle = handle
        self._broken = False
        self._rewrite_at_bytes = max(REWRITE_BYTES, 2 * size_bytes)

    @classmethod
    def open(cls, path: Path) -> tuple[Self, list[bytes]]:
        """Lock the log and read its records; a torn tail is cut off.

        Raises `NodeError` SIGNER_STATE (missing or damaged), DATA_LOCKED (another process has it).
        """
        handle = _open_locked(path)
        try:
            with os.fdopen(os.dup(handle), "rb") as file:
                data = file.read()
            records, end = _parse(path, data)
            if end < len(data):
                os.ftruncate(handle, end)
                os.fsync(handle)
            os.lseek(handle, end, os.SEEK_SET)
        except OSError as error:
            os.close(handle)
            raise disk_error(error, f"reading {path}") from error
        except NodeError:
            os.close(handle)
            raise
        return cls(path, handle, end), records

    @property
    def needs_rewrite(self) -> bool:
        """Whether the log has grown so much that `rewrite` pays."""
        return self.size_bytes >= self._rewrite_at_bytes

    def append(self, records: Sequence[bytes]) -> None:
        """One write and one fdatasync for all `records`; when it returns, they may leave the machine (A5)."""
        self._check_usable()
        data = _packed(records)
        try:
            _write_all(self._handle, data)
            os.fdatasync(self._handle)
        except OSError as error:
            # After a failed fsync nobody knows what is on disk: only a restart that reads it again does.
            self._broken = True
            raise disk_error(error, f"writing {self.path}") from error
        self.size_bytes += len(data)

    def rewrite(self, records: Sequence[bytes]) -> None:
        """Replace the content by `records`: new file, fsync, rename, fsync of the folder."""
        self._check_usable()
        data = MAGIC + _packed(records)
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            handle = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _write_all(handle, data)
                os.fsync(handle)
                fresh.replace(self.path)
            except OSError:
                os.close(handle)
                raise
            os.close(self._handle)
            self._handle = handle
            _sync_folder(self.path.parent)
        except OSError as error:
            self._broken = True
            raise disk_error(error, f"rewriting {self.path}") from error
        self.size_bytes = len(data)
        self._rewrite_at_bytes = max(REWRITE_BYTES, 2 * len(data))

    def close(self) -> None:
        """Unlock and close; closing twice does no harm."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _check_usable(self) -> None:
        if self._broken or self._handle < 0:
            message = f"{self.path}: not usable after an earlier error. Start the peer again: it reads the file anew"
            raise NodeError(ExitCode.FAULTY_MACHINE, message)


def _open_locked(path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError as error:
        message = f"{path}: missing. {_NEVER}: make new keys with `fedchain-node keys new` (A5)"
        raise NodeError(ExitCode.SIGNER_STATE, message) from error
    except OSError as error:
        raise disk_error(error, f"opening {path}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder may have renamed a new file over the one that was opened here.
        if not os.path.samestat(os.fstat(handle), path.stat()):
            raise BlockingIOError
    except OSError as error:
        os.close(handle)
        message = f"{path}: another process uses this home. Stop it first: one key may sign in one place only (A5)"
        raise NodeError(ExitCode.DATA_LOCKED, message) from error
    return handle


def _packed(records: Iterable[bytes]) -> bytes:
    parts: list[bytes] = []
    for record in records:
        if not 0 < len(record) <= RECORD_BYTES_MAX:
            raise ValueError(f"a record has 1 to {RECORD_BYTES_MAX} bytes, not {len(record)}")
        parts += (_HEAD.pack(len(record), crc32(_LENGTH.pack(len(record))), crc32(record)), record)
    return b"".join(parts)


def _parse(path: Path, data: bytes) -> tuple[list[bytes], int]:
    """The records and where the last whole one ends."""
    if not data.startswith(MAGIC):
        raise _damaged(path, 0, "no signer state, or one of another version")
    records: list[bytes] = []
    end = len(MAGIC)
    for record in _records(path, data):
        records.append(record)
        end += _HEAD.size + len(record)
    return records, end


def _records(path: Path, data: bytes) -> Iterator[bytes]:
    at = len(MAGIC)
    while len(data) - at >= _HEAD.size:
        length, length_crc, record_crc = _HEAD.unpack_from(data, at)
        if crc32(_LENGTH.pack(length)) != length_crc or length == 0:
            if not any(data[at:]):
                return  # the file grew, but its bytes never reached the disk: the fsync had not ended
            raise _damaged(path, at, "a record's length is damaged")
        start = at + _HEAD.size
        if len(data) - start < length:
            return
        record = data[start : start + length]
        if crc32(record) != record_crc:
            raise _damaged(path, at, "a record's checksum is wrong")
        yield record
        at = start + length


def _damaged(path: Path, offset: int, what: str) -> NodeError:
    advice = "make new keys with `fedchain-node keys new` and let the other members admit them"
    return NodeError(ExitCode.SIGNER_STATE, f"{path}: damaged at byte {offset}: {what}. {_NEVER}; {advice} (A5)")


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

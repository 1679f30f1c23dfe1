"""The signer's log (A5, Y2): a torn tail is dropped, any other damage is refused, one process at a time."""

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node import signer_log
from node.errors import ExitCode, NodeError
from node.signer_log import MAGIC, SignerLog

RECORDS = [b"vote", b"lock" * 100, b"\x00", b"offer"]


def written(path: Path, records: list[bytes]) -> bytes:
    """Create a log, append the records one by one, and return the file's bytes."""
    signer_log.create(path)
    log, _ = SignerLog.open(path)
    for record in records:
        log.append([record])
    log.close()
    return path.read_bytes()


def read(path: Path) -> list[bytes]:
    log, records = SignerLog.open(path)
    log.close()
    return records


def test_what_was_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "signer.state"
    signer_log.create(path, [b"first"])
    log, records = SignerLog.open(path)
    assert records == [b"first"]
    log.append(RECORDS[:2])
    log.append(RECORDS[2:])
    log.close()
    log.close()
    assert read(path) == [b"first", *RECORDS]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_existing_log_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "signer.state"
    signer_log.create(path, [b"first"])
    with pytest.raises(NodeError, match="never overwritten") as error:
        signer_log.create(path)
    assert error.value.exit_code is ExitCode.SIGNER_STATE
    assert read(path) == [b"first"]


def test_a_missing_log_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="keys new") as error:
        SignerLog.open(tmp_path / "signer.state")
    assert error.value.exit_code is ExitCode.SIGNER_STATE


def test_a_tail_torn_at_any_byte_is_dropped_and_the_log_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "signer.state"
    data = written(path, RECORDS)
    last = len(data) - 12 - len(RECORDS[-1])
    for end in range(last, len(data)):
        path.write_bytes(data[:end])
        log, records = SignerLog.open(path)
        assert records == RECORDS[:-1]
        log.append([b"anew"])
        log.close()
        assert read(path) == [*RECORDS[:-1], b"anew"]


def test_a_tail_of_zeros_is_torn_too(tmp_path: Path) -> None:
    path = tmp_path / "signer.state"
    data = written(path, RECORDS)
    path.write_bytes(data + bytes(100))
    assert read(path) == RECORDS
    assert path.read_bytes() == data


@settings(max_examples=100)
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_changed_byte_is_refused_wherever_it_is(tmp_path_factory: pytest.TempPathFactory, at: int, flip: int) -> None:
    path = tmp_path_factory.mktemp("log") / "signer.state"
    data = bytearray(written(path, RECORDS))
    data[at % len(data)] ^= flip
    path.write_bytes(bytes(data))
    with pytest.raises(NodeError, match="damaged at byte") as error:
        SignerLog.open(path)
    assert error.value.exit_code is ExitCode.SIGNER_STATE
    assert path.read_bytes() == bytes(data)


@pytest.mark.parametrize("content", [b"", MAGIC[:-1], MAGIC[:-1] + b"\x02", b"something else"])
def test_a_file_that_is_no_log_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "signer.state"
    path.write_bytes(content)
    with pytest.raises(NodeError, match="no signer state"):
        SignerLog.open(path)


def test_two_processes_with_one_home_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "signer.state"
    signer_log.create(path)
    log, _ = SignerLog.open(path)
    with pytest.raises(NodeError, match="another process uses this home") as error:
        SignerLog.open(path)
    assert error.value.exit_code is ExitCode.DATA_LOCKED
    log.rewrite([b"new"])
    with pytest.raises(NodeError, match="another process"):
        SignerLog.open(path)
    log.close()
    assert read(path) == [b"new"]


def test_a_lock_on_a_file_that_was_renamed_away_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "signer.state"
    signer_log.create(path)
    holder, _ = SignerLog.open(path)
    real_open = os.open

    def open_then_rewrite(*args: object, **kwargs: object) -> int:
        handle = real_open(*args, **kwargs)  # type: ignore[arg-type]
        monkeypatch.undo()
        holder.rewrite([b"kept"])
        return handle

    monkeypatch.setattr(os, "open", open_then_rewrite)
    with pytest.raises(NodeError, match="another process"):
        SignerLog.open(path)
    holder.close()


def test_rewrite_replaces_the_records_and_appending_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "signer.state"
    written(path, RECORDS)
    log, records = SignerLog.open(path)
    log.rewrite(records[2:])
    log.append([b"after"])
    log.close()
    assert read(path) == [*RECORDS[2:], b"after"]
    assert [file.name for file in tmp_path.iterdir()] == ["signer.state"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_rewrite_that_crashed_before_its_rename_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "signer.state"
    written(path, RECORDS)
    (tmp_path / "signer.state.new").write_bytes(b"half of a new f")
    assert read(path) == RECORDS
    log, _ = SignerLog.open(path)
    log.rewrite([b"new"])
    log.close()
    assert read(path) == [b"new"]


def test_a_log_asks_for_its_rewrite_when_it_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signer_log, "REWRITE_BYTES", 1000)
    path = tmp_path / "signer.state"
    signer_log.create(path)
    log, _ = SignerLog.open(path)
    assert not log.needs_rewrite
    log.append([bytes(900)])
    log.append([bytes(900)])
    assert log.needs_rewrite
    log.rewrite([bytes(900)])
    assert not log.needs_rewrite
    log.close()


@pytest.mark.parametrize("record", [b"", bytes(100)])
def test_a_record_out_of_bounds_is_a_mistake_of_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: bytes
) -> None:
    monkeypatch.setattr(signer_log, "RECORD_BYTES_MAX", 99)
    path = tmp_path / "signer.state"
    signer_log.create(path)
    log, _ = SignerLog.open(path)
    with pytest.raises(ValueError, match="a record has"):
        log.append([record])
    log.append([b"fine"])
    log.close()
    assert read(path) == [b"fine"]


def test_a_full_disk_has_its_own_exit_code_and_nothing_signed_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "signer.state"
    written(path, RECORDS)
    log, _ = SignerLog.open(path)
    real_write = os.write

    def half_then_full(handle: int, data: memoryview) -> int:
        if len(data) <= 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(handle, data[: len(data) - 10])

    monkeypatch.setattr(os, "write", half_then_full)
    with pytest.raises(NodeError, match="disk is full") as error:
        log.append([b"does not fit"])
    assert error.value.exit_code is ExitCode.DISK_FULL
    monkeypatch.undo()
    with pytest.raises(NodeError, match="not usable after an earlier error"):
        log.append([b"never after a failed write"])
    log.close()
    assert read(path) == RECORDS


def test_after_a_failed_sync_nothing_more_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "signer.state"
    signer_log.create(path)
    log, _ = SignerLog.open(path)

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(NodeError) as error:
        log.append([b"record"])
    assert error.value.exit_code is ExitCode.FAULTY_MACHINE
    with pytest.raises(NodeError, match="not usable"):
        log.rewrite([b"record"])
    log.close()

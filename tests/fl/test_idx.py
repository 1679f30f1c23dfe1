"""Data files are from outside: each length is checked, each error names the file."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from fl.idx import IdxError, find_idx, read_idx
from tests.fl.helpers_fl import write_idx

IMAGES = np.arange(5 * 3 * 2, dtype=np.uint8).reshape(5, 3, 2)


@pytest.mark.parametrize("zipped", [False, True])
def test_whole_files_and_first_items_are_read(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "images"
    write_idx(path, IMAGES, zipped=zipped)
    np.testing.assert_array_equal(read_idx(path), IMAGES)
    np.testing.assert_array_equal(read_idx(path, 2), IMAGES[:2])
    np.testing.assert_array_equal(read_idx(path, 5), IMAGES)


def test_only_what_is_needed_is_inflated(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    rng = np.random.default_rng(0)
    write_idx(path, rng.integers(0, 256, (400, 28, 28)).astype(np.uint8), zipped=True)
    path.write_bytes(path.read_bytes()[:50_000])  # the first 10 items are there, the rest is lost
    assert read_idx(path, 10).shape == (10, 28, 28)
    with pytest.raises(IdxError, match="fetch the file again"):
        read_idx(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"),
        (b"\0\0\x08", "truncated"),
        (b"\0\0\x0d\x01" + struct.pack(">I", 1) + bytes(4), "not an IDX file"),
        (b"\0\1\x08\x01" + struct.pack(">I", 1) + bytes(1), "not an IDX file"),
        (b"\0\0\x08\x00", "not an IDX file"),
        (b"\0\0\x08\x05" + bytes(20), "not an IDX file"),
        (b"\0\0\x08\x03" + struct.pack(">I", 1), "truncated"),
        (b"\0\0\x08\x01" + struct.pack(">I", 3) + bytes(2), "truncated"),
        (b"\0\0\x08\x01" + struct.pack(">I", 3) + bytes(4), "longer"),
        (b"\0\0\x08\x03" + struct.pack(">III", 2**31, 2**31, 2**31), "claims"),
        (b"\x1f\x8b" + b"no gzip at all", "cannot read"),
        (gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 3) + bytes(2), mtime=0), "truncated"),
    ],
)
def test_damaged_files_are_refused_with_their_name(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "labels-file"
    path.write_bytes(data)
    with pytest.raises(IdxError, match=message) as caught:
        read_idx(path)
    assert "labels-file" in str(caught.value)


def test_more_items_than_there_are_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "images"
    write_idx(path, IMAGES)
    with pytest.raises(IdxError, match="holds 5 items, 6 are wanted"):
        read_idx(path, 6)


def test_files_are_found_plain_or_gzipped(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", IMAGES)
    write_idx(tmp_path / "b.gz", IMAGES, zipped=True)
    assert find_idx(tmp_path, "a") == tmp_path / "a"
    assert find_idx(tmp_path, "b") == tmp_path / "b.gz"


def test_a_missing_folder_or_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(IdxError, match="does not exist: give the folder"):
        find_idx(tmp_path / "nowhere", "train")
    with pytest.raises(IdxError, match=r"neither train nor train\.gz"):
        find_idx(tmp_path, "train")
    with pytest.raises(IdxError, match="cannot read"):
        read_idx(tmp_path / "gone")

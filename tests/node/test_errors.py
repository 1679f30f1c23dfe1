"""Exit codes keep their numbers, and docs/exit-codes.md lists each of them."""

import errno
import re
from pathlib import Path

import pytest

from node.errors import ExitCode, NodeError, disk_error

PAGE = Path(__file__).resolve().parents[2] / "docs" / "exit-codes.md"


def test_the_page_lists_every_exit_code_with_its_name() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {(int(number), name) for number, name in rows} == {(code.value, code.name) for code in ExitCode}


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [
        (errno.ENOSPC, ExitCode.DISK_FULL),
        (errno.EDQUOT, ExitCode.DISK_FULL),
        (errno.EIO, ExitCode.FAULTY_MACHINE),
        (errno.EACCES, ExitCode.FAULTY_MACHINE),
    ],
)
def test_a_disk_error_says_what_was_done_and_what_to_do(number: int, exit_code: ExitCode) -> None:
    error = disk_error(OSError(number, "the system's words"), "writing data/x")
    assert isinstance(error, NodeError)
    assert error.exit_code is exit_code
    assert str(error).startswith("writing data/x: ")
    assert "start again" in str(error)

"""What a person typed wrong is told from what the machine did wrong."""

import errno

import pytest

from cli.errors import file_error, report
from node.errors import ExitCode


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOENT, ExitCode.USAGE, "Correct the path"),
        (errno.ENOTDIR, ExitCode.USAGE, "Correct the path"),
        (errno.EISDIR, ExitCode.USAGE, "Correct the path"),
        (errno.ENOSPC, ExitCode.DISK_FULL, "Free some space"),
        (errno.EIO, ExitCode.FAULTY_MACHINE, "Check the disk"),
    ],
)
def test_a_wrong_path_is_a_usage_error_and_a_bad_disk_is_not(number: int, code: ExitCode, words: str) -> None:
    error = file_error(OSError(number, "the system's words"), "reading x")
    assert error.exit_code is code
    assert str(error).startswith("reading x: ")
    assert words in str(error)


def test_a_bug_ends_with_code_1_and_asks_for_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(KeyError("x")) == 1
    assert "This is a bug" in capsys.readouterr().err


def test_an_error_of_several_lines_is_shown_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(FileNotFoundError(errno.ENOENT, "no\nfile", "a.json")) == ExitCode.USAGE
    assert capsys.readouterr().err == "error: a.json: no file. Correct the path\n"

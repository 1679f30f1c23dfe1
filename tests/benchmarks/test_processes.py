import sys

import pytest

from benchmarks.processes import CommandFailed, Finished, run_command


def test_a_command_is_measured_and_its_lines_are_kept() -> None:
    finished = run_command([sys.executable, "-c", "print('one'); print('two')"], limit_s=60)
    assert [line for _, line in finished.lines] == ["one", "two"]
    assert 0 < finished.seconds_to("two") <= finished.wall_s
    assert finished.cpu_s > 0


def test_a_line_that_never_came_is_an_error() -> None:
    with pytest.raises(CommandFailed, match="never printed 'table'"):
        Finished(1.0, 1.0, 1.0, ((0.1, "other"),)).seconds_to("table")


def test_a_command_that_fails_shows_its_output() -> None:
    with pytest.raises(CommandFailed, match=r"(?s)exit code 3.*no such data"):
        run_command([sys.executable, "-c", "print('no such data'); raise SystemExit(3)"], limit_s=60)


def test_a_command_that_takes_too_long_is_ended() -> None:
    with pytest.raises(CommandFailed, match="not done after"):
        run_command([sys.executable, "-c", "import signal; signal.pause()"], limit_s=0.1)

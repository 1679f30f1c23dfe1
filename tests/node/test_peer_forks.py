"""Peers as forks of a process that has loaded everything: real processes, ended in every way."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from node.peer_forks import ForkedProcess, fork_call
from tests.node.helpers_workers import has_ended, wait_until

pytestmark = pytest.mark.integration

Fork = Callable[..., ForkedProcess]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "peer.log"


@pytest.fixture(autouse=True)
def alone() -> None:
    """A thread of an earlier test (asyncio waits for child processes in one) may still be on its way out."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(10)


@pytest.fixture
def fork(log: Path) -> Iterator[Fork]:
    forked: list[ForkedProcess] = []

    def call(function: Callable[..., int | None], *args: object) -> ForkedProcess:
        forked.append(fork_call(function, *args, log_path=log))
        return forked[-1]

    yield call
    for process in forked:
        process.kill()
        process.wait(10)


def say(word: str, code: int) -> int:
    print(word)
    print(f"{word} to stderr", file=sys.stderr)
    return code


def do_nothing() -> None:
    """Return None, which is exit code 0."""


def fail() -> None:
    raise KeyError("no such peer")


def leave(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]


def sleep_until_killed(ready_fd: int) -> None:
    os.write(ready_fd, f"{os.getpid()} {os.getsid(0)}\n".encode())
    signal.pause()


def exit_on_term(ready_fd: int) -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(5))
    os.write(ready_fd, b"x")
    signal.pause()
    return 1


def test_the_return_value_is_the_exit_code_and_output_goes_to_the_log(fork: Fork, log: Path) -> None:
    assert fork(say, "hello", 7).wait(10) == 7
    assert sorted(log.read_text().splitlines()) == ["hello", "hello to stderr"]
    assert log.stat().st_mode & 0o777 == 0o600


def test_no_return_value_is_exit_code_0(fork: Fork) -> None:
    assert fork(do_nothing).wait(10) == 0


def test_the_log_of_an_earlier_start_is_kept(fork: Fork, log: Path) -> None:
    for word in ("one", "two"):
        fork(say, word, 0).wait(10)
    assert log.read_text().split() == ["one", "one", "to", "stderr", "two", "two", "to", "stderr"]


def test_an_exception_leaves_its_traceback_in_the_log(fork: Fork, log: Path) -> None:
    assert fork(fail).wait(10) == 1
    assert "KeyError: 'no such peer'" in log.read_text()


@pytest.mark.parametrize(("value", "code"), [(None, 0), (9, 9), ("stopped: why", 1)])
def test_system_exit_means_what_it_always_means(fork: Fork, log: Path, value: object, code: int) -> None:
    assert fork(leave, value).wait(10) == code
    assert ("stopped: why" in log.read_text()) == isinstance(value, str)


def test_a_running_child_has_a_session_of_its_own_and_dies_by_kill(fork: Fork) -> None:
    read_fd, write_fd = os.pipe()
    process = fork(sleep_until_killed, write_fd)
    assert os.read(read_fd, 100).split() == [str(process.pid).encode()] * 2
    assert process.poll() is None
    with pytest.raises(TimeoutError, match="still runs"):
        process.wait(0)
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    process.kill()  # once more does no harm, nor hits another process
    os.close(read_fd)
    os.close(write_fd)


def test_terminate_lets_the_child_end_in_its_own_way(fork: Fork) -> None:
    read_fd, write_fd = os.pipe()
    process = fork(exit_on_term, write_fd)
    assert os.read(read_fd, 1) == b"x"
    process.terminate()
    assert process.wait(10) == 5
    os.close(read_fd)
    os.close(write_fd)


PARENT = """
import os, signal, sys
from pathlib import Path
from node.peer_forks import fork_call
read_fd, write_fd = os.pipe()
for number in range(3):
    fork_call(lambda: (os.write(write_fd, b"x"), signal.pause()) and None, log_path=Path(sys.argv[1]))
    os.read(read_fd, 1)
print("ready", flush=True)
signal.pause()
"""


def test_children_die_with_a_parent_that_is_killed(log: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        children = psutil.Process(parent.pid).children()
        assert len(children) == 3
        parent.kill()
    wait_until(lambda: all(has_ended(child.pid) for child in children))


def test_a_process_with_several_threads_is_not_forked(log: Path) -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="display")
    thread.start()
    try:
        with pytest.raises(RuntimeError, match=r"several threads .*display"):
            fork_call(do_nothing, log_path=log)
    finally:
        release.set()
        thread.join()


def test_a_running_event_loop_is_not_forked(log: Path) -> None:
    async def fork_inside() -> None:
        fork_call(do_nothing, log_path=log)

    with pytest.raises(RuntimeError, match="running event loop"):
        asyncio.run(fork_inside())

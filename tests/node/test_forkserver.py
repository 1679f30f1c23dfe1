"""The fork server as a process: how it starts, what it refuses, and that nothing outlives anything."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fl.jobs import EvaluateJob, EvaluateResult
from node.forkserver import listen
from node.forkserver_process import ForkServerError, ForkServerProcess, choose_socket_path
from node.worker_wire import Frame, encode_hello, receive_frame, send_frame
from node.workers import WorkerPool, WorkError
from tests.node.helpers_workers import TASK, has_ended, make_settings, make_train_job, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ForkServerProcess]:
    server = ForkServerProcess(folder / "shared.sock", TASK, {}, workers_max=3)
    server.wait_ready()
    yield server
    server.stop()


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(str(path))
    return connection


def read_pid(connection: socket.socket) -> int:
    match receive_frame(connection):
        case ["pid", int(pid)]:
            return pid
        case frame:
            raise AssertionError(frame)


def ask(connection: socket.socket, kind: str, *values: object) -> Frame | None:
    send_frame(connection, kind, *values)
    return receive_frame(connection)


def test_a_worker_names_its_pid_then_serves_and_ends_with_its_connection(server: ForkServerProcess) -> None:
    with connect(server.socket_path) as connection:
        pid = read_pid(connection)
        connection.sendall(encode_hello(TASK, {"seed": 3}))
        assert receive_frame(connection) == ["ready"]
        assert not has_ended(pid)
    wait_until(lambda: has_ended(pid))


def test_a_busy_worker_ends_with_its_connection_too(server: ForkServerProcess, tmp_path: Path) -> None:
    with connect(server.socket_path) as connection:
        pid = read_pid(connection)
        connection.sendall(encode_hello(TASK, {"fault": "hang"}))
        assert receive_frame(connection) == ["ready"]
        job = make_train_job(tmp_path)
        send_frame(connection, "job", ["train", job.model_path, job.update_path, None, 0, "f32", 10.0, None])
    wait_until(lambda: has_ended(pid))


def test_something_else_than_a_job_is_answered_and_the_worker_lives_on(server: ForkServerProcess) -> None:
    with connect(server.socket_path) as connection:
        read_pid(connection)
        connection.sendall(encode_hello(TASK, {}))
        assert receive_frame(connection) == ["ready"]
        for wrong in (("dance",), ("job", ["no-such-job"]), ("job",)):
            answer = ask(connection, *wrong)
            assert answer is not None
            assert answer[:2] == ["error", "protocol"]


def test_something_else_than_a_hello_ends_the_worker(server: ForkServerProcess) -> None:
    with connect(server.socket_path) as connection:
        pid = read_pid(connection)
        answer = ask(connection, "dance")
        assert answer is not None
        assert answer[:2] == ["error", "start"]
        assert receive_frame(connection) is None
    wait_until(lambda: has_ended(pid))


def test_bytes_that_are_no_frame_end_the_worker_not_the_server(server: ForkServerProcess) -> None:
    with connect(server.socket_path) as connection:
        pid = read_pid(connection)
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        wait_until(lambda: has_ended(pid))
    assert server.is_running()


def test_the_number_of_workers_is_limited(server: ForkServerProcess) -> None:
    connections = [connect(server.socket_path) for _ in range(3)]
    pids = [read_pid(connection) for connection in connections]
    with connect(server.socket_path) as refused:
        answer = receive_frame(refused)
    assert answer == ["error", "start", "the fork server has 3 workers, its limit"]
    for connection in connections:
        connection.close()
    wait_until(lambda: all(has_ended(pid) for pid in pids))
    with connect(server.socket_path) as again:
        assert not has_ended(read_pid(again))


def test_only_its_own_user_may_connect(server: ForkServerProcess) -> None:
    assert server.socket_path.stat().st_mode & 0o777 == 0o600


def test_a_second_server_on_the_same_socket_is_refused(server: ForkServerProcess) -> None:
    with pytest.raises(OSError, match="another fork server listens on"):
        listen(server.socket_path)
    assert server.socket_path.is_socket()


def test_the_socket_of_a_server_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listen(path).close()
    assert path.is_socket()
    with listen(path), connect(path):
        pass


def test_a_socket_path_that_is_too_long_is_named_with_the_limit(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="at most 107"):
        listen(tmp_path / ("x" * 120))


def test_a_deep_home_gets_a_short_private_socket_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert choose_socket_path(Path("/srv/a")) == Path("/srv/a/work.sock")
    deep = Path("/srv") / ("x" * 200)
    path = choose_socket_path(deep)
    assert path == choose_socket_path(deep)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.parent.parent == tmp_path
    path.parent.chmod(0o755)
    with pytest.raises(OSError, match="not a private folder"):
        choose_socket_path(deep)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [("no-such-task", {}, "unknown task 'no-such-task'"), (TASK, {"colour": "red"}, "colour")],
)
def test_a_task_that_cannot_be_loaded_is_told_at_the_start(
    folder: Path, task: str, settings: dict[str, object], message: str
) -> None:
    server = ForkServerProcess(folder / "bad.sock", task, settings)
    with pytest.raises(ForkServerError, match=message):
        server.wait_ready()
    server.stop()


def test_settings_that_are_not_json_start_nothing(folder: Path) -> None:
    with pytest.raises(ForkServerError, match="settings are not JSON"):
        ForkServerProcess(folder / "bad.sock", TASK, {"data": object()})


async def test_a_pool_starts_its_own_server_and_ends_it(folder: Path, tmp_path: Path) -> None:
    job = make_train_job(tmp_path)
    path = folder / "own.sock"
    async with WorkerPool(make_settings(path, start_server=True)) as pool:
        with connect(path) as probe:
            other = read_pid(probe)
        assert isinstance(await pool.run(EvaluateJob(job.model_path, report=False)), EvaluateResult)
        pids = [*pool.pids(), other]
        assert pool.usage().rss_mb > 20
    assert not path.exists()
    wait_until(lambda: all(has_ended(pid) for pid in pids))


async def test_a_pools_own_server_that_was_killed_is_started_again(folder: Path, tmp_path: Path) -> None:
    job = EvaluateJob(make_train_job(tmp_path).model_path, report=False)
    pool = WorkerPool(make_settings(folder / "again.sock", start_server=True))
    async with pool:
        (worker,) = pool.pids()
        server = parent_of(worker)
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: has_ended(worker))  # its workers go with it
        results = await asyncio.gather(pool.run(job), pool.run(job), return_exceptions=True)
        assert isinstance(results[1], EvaluateResult)  # the first may still have met the dead worker
        assert parent_of(pool.pids()[0]) != server


async def test_a_pool_whose_server_cannot_load_the_task_says_why(folder: Path) -> None:
    pool = WorkerPool(make_settings(folder / "bad.sock", start_server=True, colour="red"))
    with pytest.raises(WorkError, match="colour") as caught:
        await pool.start()
    assert caught.value.kind == "start"
    await pool.close()


async def test_closing_a_pool_while_its_server_starts_ends_the_server(folder: Path) -> None:
    pool = WorkerPool(make_settings(folder / "early.sock", start_server=True))
    start = asyncio.create_task(pool.start())
    await asyncio.sleep(0)
    await pool.close()
    with pytest.raises(WorkError, match="closed"):
        await start
    assert not (folder / "early.sock").exists()


PEER = """
import asyncio, sys
from pathlib import Path
from node.workers import WorkerPool
from tests.node.helpers_workers import make_settings, make_train_job, until
async def main():
    folder, own = Path(sys.argv[3]), sys.argv[2] == "own"
    marker = folder / "marker"
    pool = WorkerPool(make_settings(Path(sys.argv[1]), start_server=own, fault="hang", marker=str(marker)))
    await pool.start()
    job = asyncio.create_task(pool.run(make_train_job(folder)))
    await until(marker.exists)
    print(*pool.pids(), flush=True)
    await job
asyncio.run(main())
"""


@pytest.mark.parametrize("mode", ["own", "shared"])
def test_a_peer_that_is_killed_leaves_no_process_behind(
    server: ForkServerProcess, folder: Path, tmp_path: Path, mode: str
) -> None:
    path = server.socket_path if mode == "shared" else folder / "killed.sock"
    command = [sys.executable, "-c", PEER, str(path), mode, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as peer:
        assert peer.stdout is not None
        worker = int(peer.stdout.readline())
        parent = parent_of(worker)
        assert (parent == server.pid) == (mode == "shared")
        peer.kill()
        peer.wait()
    wait_until(lambda: has_ended(worker))
    if mode == "own":
        wait_until(lambda: has_ended(parent))


def parent_of(pid: int) -> int:
    """The fork server that made a worker."""
    parent = int(psutil.Process(pid).ppid())
    assert parent > 1
    return parent

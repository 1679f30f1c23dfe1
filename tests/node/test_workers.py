"""A peer's worker processes: real ones, forked from one server for the whole module."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from fl.jobs import AggregateJob, EvaluateJob, EvaluateResult, TrainResult
from node.forkserver_process import ForkServerProcess
from node.usage import read_usage
from node.worker_wire import NICE_DEFAULT
from node.workers import WorkerPool, WorkError
from tests.node.helpers_workers import TASK, has_ended, make_settings, make_train_job, until, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServerProcess]:
    with tempfile.TemporaryDirectory() as folder:
        server = ForkServerProcess(Path(folder) / "work.sock", TASK, {})
        server.wait_ready()
        yield server
        server.stop()


@pytest.fixture
def socket_path(server: ForkServerProcess) -> Path:
    assert server.is_running()
    return server.socket_path


async def test_a_job_runs_in_a_process_of_its_own_at_a_lower_priority(socket_path: Path, tmp_path: Path) -> None:
    async with WorkerPool(make_settings(socket_path)) as pool:
        result = await pool.run(make_train_job(tmp_path, round=7))
        assert isinstance(result, TrainResult)
        assert result.metrics == {"pid": pool.pids()[0], "nice": os.nice(0) + NICE_DEFAULT, "round": 7}
        assert (tmp_path / "update").stat().st_size > 0
        assert pool.pids() != [os.getpid()]


async def test_a_worker_serves_many_jobs_with_its_peers_own_settings(socket_path: Path, tmp_path: Path) -> None:
    job = make_train_job(tmp_path)
    scores = []
    for shard in (0, 1):
        async with WorkerPool(make_settings(socket_path, shard=shard)) as pool:
            first = await pool.run(EvaluateJob(job.model_path, report=False))
            pids = pool.pids()
            assert await pool.run(EvaluateJob(job.model_path, report=False)) == first
            assert pool.pids() == pids
            assert isinstance(first, EvaluateResult)
            scores.append(first.score_millionths)
    assert scores[0] != scores[1]


async def test_a_tasks_bug_is_an_error_and_the_worker_lives_on(socket_path: Path, tmp_path: Path) -> None:
    job = make_train_job(tmp_path)
    async with WorkerPool(make_settings(socket_path, fault="raise")) as pool:
        with pytest.raises(WorkError, match="ZeroDivisionError: a bug of the task") as caught:
            await pool.run(job)
        pids = pool.pids()
        await pool.run(EvaluateJob(job.model_path, report=False))
        assert (caught.value.kind, pool.pids()) == ("task", pids)


@pytest.mark.parametrize(("fault", "kind"), [("full-disk", "disk-full"), ("", "io")])
async def test_a_fault_of_this_machine_is_told_apart(socket_path: Path, tmp_path: Path, fault: str, kind: str) -> None:
    job = make_train_job(tmp_path)
    if kind == "io":
        os.unlink(job.model_path)
    async with WorkerPool(make_settings(socket_path, fault=fault)) as pool:
        with pytest.raises(WorkError) as caught:
            await pool.run(job)
    assert caught.value.kind == kind


async def test_a_job_of_a_wrong_type_is_an_error_of_protocol(socket_path: Path) -> None:
    job = EvaluateJob(3, report=False)  # type: ignore[arg-type]
    async with WorkerPool(make_settings(socket_path)) as pool:
        with pytest.raises(WorkError, match="model_path") as caught:
            await pool.run(job)
    assert caught.value.kind == "protocol"


async def test_a_worker_that_ends_in_a_job_is_replaced_for_the_next(socket_path: Path, tmp_path: Path) -> None:
    job = make_train_job(tmp_path)
    async with WorkerPool(make_settings(socket_path, fault="exit")) as pool:
        first = pool.pids()
        with pytest.raises(WorkError, match="the worker process ended in TrainJob") as caught:
            await pool.run(job)
        await pool.run(EvaluateJob(job.model_path, report=False))
        assert caught.value.kind == "crashed"
        assert pool.pids() != first


async def test_a_worker_killed_between_two_jobs_is_replaced(socket_path: Path, tmp_path: Path) -> None:
    job = make_train_job(tmp_path)
    async with WorkerPool(make_settings(socket_path)) as pool:
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: has_ended(pid))
        results = await asyncio.gather(pool.run(job), pool.run(job), return_exceptions=True)
        assert isinstance(results[1], TrainResult)  # the first may still have met the dead one
        assert pool.pids() != [pid]


async def test_a_job_over_its_limit_is_killed_with_its_worker(socket_path: Path, tmp_path: Path) -> None:
    job = make_train_job(tmp_path)
    async with WorkerPool(make_settings(socket_path, fault="hang")) as pool:
        (pid,) = pool.pids()
        with pytest.raises(WorkError, match=r"longer than 0\.05 s") as caught:
            await pool.run(job, limit_s=0.05)
        assert caught.value.kind == "timeout"
        wait_until(lambda: has_ended(pid))
        await pool.run(EvaluateJob(job.model_path, report=False))


async def test_cancel_kills_the_running_job_and_the_next_runs(socket_path: Path, tmp_path: Path) -> None:
    job, marker = make_train_job(tmp_path), tmp_path / "marker"
    async with WorkerPool(make_settings(socket_path, fault="hang", marker=str(marker))) as pool:
        (pid,) = pool.pids()
        hanging = asyncio.create_task(pool.run(job))
        evaluation = asyncio.create_task(pool.run(EvaluateJob(job.model_path, report=False)))
        await until(marker.exists)
        assert pool.cancel(lambda other: other == job) == 1
        with pytest.raises(WorkError, match="cancelled"):
            await hanging
        assert isinstance(await evaluation, EvaluateResult)
        wait_until(lambda: has_ended(pid))


async def test_closing_leaves_no_worker_behind(socket_path: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pool = WorkerPool(make_settings(socket_path, fault="hang", marker=str(marker)))
    await pool.start()
    (pid,) = pool.pids()
    hanging = asyncio.create_task(pool.run(make_train_job(tmp_path)))
    await until(marker.exists)
    await pool.close()
    with pytest.raises(WorkError, match="closed"):
        await hanging
    wait_until(lambda: has_ended(pid))


async def test_usage_counts_the_workers_and_remembers_those_that_were_killed(socket_path: Path, tmp_path: Path) -> None:
    async with WorkerPool(make_settings(socket_path)) as pool:
        for _ in range(50):
            await pool.run(make_train_job(tmp_path))
        usage = pool.usage()
        worker = read_usage(pool.pids()[0])
        assert worker is not None
        assert usage.rss_mb > 5
        assert 0 <= usage.cpu_s <= worker.cpu_s
    after = pool.usage()
    assert after.cpu_s >= usage.cpu_s
    assert after.rss_mb == 0


async def test_bad_task_settings_are_told_at_the_start(socket_path: Path) -> None:
    with pytest.raises(WorkError, match="unexpected keyword argument 'colour'") as caught:
        await WorkerPool(make_settings(socket_path, colour="red")).start()
    assert caught.value.kind == "start"


async def test_another_task_than_the_servers_is_refused(socket_path: Path) -> None:
    settings = make_settings(socket_path)
    other = type(settings)("digits", {}, socket_path, start_server=False)
    with pytest.raises(WorkError, match=r"was started for task 'tests\.node"):
        await WorkerPool(other).start()


async def test_without_a_fork_server_the_error_names_the_socket(tmp_path: Path) -> None:
    pool = WorkerPool(make_settings(tmp_path / "none.sock"))
    with pytest.raises(WorkError, match=r"no worker from the fork server at .*none\.sock"):
        await pool.run(AggregateJob("fedavg", "m", (), "o"))
    await pool.close()


async def test_two_workers_of_one_peer_are_two_processes(socket_path: Path, tmp_path: Path) -> None:
    base = make_settings(socket_path)
    settings = type(base)(base.task, base.task_settings, socket_path, start_server=False, workers=2)
    async with WorkerPool(settings) as pool:
        assert len(set(pool.pids())) == 2
        job = make_train_job(tmp_path)
        results = await asyncio.gather(*(pool.run(EvaluateJob(job.model_path, report=False)) for _ in range(4)))
        assert len(set(map(str, results))) == 1


def test_it_works_under_uvloop(socket_path: Path, tmp_path: Path) -> None:
    async def train_cancel_train() -> None:
        job = make_train_job(tmp_path)
        async with WorkerPool(make_settings(socket_path)) as pool:
            assert isinstance(await pool.run(job), TrainResult)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await pool.run(job)
            assert isinstance(await pool.run(job), TrainResult)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(train_cancel_train())

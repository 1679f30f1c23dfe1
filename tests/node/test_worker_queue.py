"""How jobs wait, run, fail and are cancelled, seen through the in-memory twin of the worker processes."""

import asyncio
from collections.abc import Callable

import pytest

from fl.jobs import EvaluateJob, EvaluateResult, Job, Result, TrainJob
from node.usage import NO_USAGE, Usage
from node.worker_queue import WorkerQueue, WorkError, as_kind
from node.workers import InlineWorkers


def make_job(path: str = "model", report: bool = False) -> EvaluateJob:
    return EvaluateJob(path, report)


def score_by_length(job: Job) -> Result:
    assert isinstance(job, EvaluateJob)
    return EvaluateResult(len(job.model_path))


class HangingWorker:
    """A worker whose jobs never end by themselves; counts what is asked of it."""

    def __init__(self) -> None:
        self.started: list[Job] = []
        self.interrupted = self.killed = 0

    async def open(self) -> None:
        """Always ready."""

    async def call(self, job: Job) -> Result:
        self.started.append(job)
        try:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")
        except asyncio.CancelledError:
            self.interrupted += 1
            raise

    def kill(self) -> None:
        self.killed += 1

    def usage(self) -> Usage:
        return NO_USAGE


async def run_until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any step of any task may make it true
            await asyncio.sleep(0)


async def expect(job: "asyncio.Task[Result]", kind: str) -> WorkError:
    with pytest.raises(WorkError) as caught:
        await job
    assert caught.value.kind == kind
    return caught.value


async def test_a_job_gets_its_result() -> None:
    async with InlineWorkers(score_by_length) as workers:
        assert await workers.run(make_job("four")) == EvaluateResult(4)
        assert workers.load == 0
        assert workers.usage() == NO_USAGE


async def test_jobs_run_in_the_order_in_which_they_came() -> None:
    seen: list[str] = []

    def note(job: Job) -> Result:
        assert isinstance(job, EvaluateJob)
        seen.append(job.model_path)
        return EvaluateResult(0)

    async with InlineWorkers(note) as workers:
        await asyncio.gather(*(workers.run(make_job(name)) for name in "abcd"))
    assert seen == list("abcd")


async def test_a_tasks_bug_fails_one_job_only() -> None:
    def fail_on_x(job: Job) -> Result:
        assert isinstance(job, EvaluateJob)
        if job.model_path == "x":
            raise ZeroDivisionError("a bug")
        return EvaluateResult(1)

    async with InlineWorkers(fail_on_x) as workers:
        error = await expect(asyncio.create_task(workers.run(make_job("x"))), "task")
        assert "ZeroDivisionError: a bug" in error.reason
        assert await workers.run(make_job("y")) == EvaluateResult(1)


async def test_a_full_queue_refuses_at_once() -> None:
    async with InlineWorkers(score_by_length, queue_max=2) as workers:
        workers.pause()
        running = asyncio.create_task(workers.run(make_job("aa")))
        await run_until(lambda: workers.load == 1)
        waiting = [asyncio.create_task(workers.run(make_job("a" * n))) for n in (3, 4)]
        await run_until(lambda: workers.load == 3)
        with pytest.raises(WorkError, match="full: 2 jobs wait already"):
            await workers.run(make_job())
        workers.resume()
        assert await asyncio.gather(running, *waiting) == [EvaluateResult(n) for n in (2, 3, 4)]


async def test_cancel_fails_the_matching_jobs_waiting_and_running() -> None:
    async with InlineWorkers(score_by_length) as workers:
        workers.pause()
        old = [asyncio.create_task(workers.run(make_job("old"))) for _ in range(3)]
        new = asyncio.create_task(workers.run(make_job("newer")))
        await run_until(lambda: workers.load == 4)
        cancelled = workers.cancel(lambda job: isinstance(job, EvaluateJob) and job.model_path == "old")
        workers.resume()
        assert cancelled == 3
        for job in old:
            await expect(job, "cancelled")
        assert await new == EvaluateResult(5)


async def test_cancel_that_matches_nothing_does_nothing() -> None:
    async with InlineWorkers(score_by_length) as workers:
        assert workers.cancel(lambda job: isinstance(job, TrainJob)) == 0


async def test_cancelling_a_running_job_interrupts_its_worker_and_the_next_job_starts() -> None:
    worker = HangingWorker()
    async with WorkerQueue([worker]) as queue:
        first = asyncio.create_task(queue.run(make_job("a")))
        second = asyncio.create_task(queue.run(make_job("b")))
        await run_until(lambda: len(worker.started) == 1)
        assert queue.cancel(lambda job: job == make_job("a")) == 1
        await expect(first, "cancelled")
        await run_until(lambda: len(worker.started) == 2)
        assert worker.interrupted == 1
    await expect(second, "closed")


async def test_a_caller_that_is_cancelled_takes_its_job_along() -> None:
    worker = HangingWorker()
    async with WorkerQueue([worker]) as queue:
        running = asyncio.create_task(queue.run(make_job("a")))
        waiting = asyncio.create_task(queue.run(make_job("b")))
        await run_until(lambda: len(worker.started) == 1)
        for job in (waiting, running):
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
        await run_until(lambda: worker.interrupted == 1 and queue.load == 0)
        assert worker.started == [make_job("a")]


async def test_a_job_over_its_limit_is_interrupted() -> None:
    worker = HangingWorker()
    async with WorkerQueue([worker], job_limit_s=600) as queue:
        error = await expect(asyncio.create_task(queue.run(make_job(), limit_s=0.001)), "timeout")
        assert "EvaluateJob took longer than 0.001 s" in error.reason
        assert worker.interrupted == 1


async def test_two_workers_run_two_jobs_at_a_time() -> None:
    workers = [HangingWorker(), HangingWorker()]
    async with WorkerQueue(workers) as queue:
        jobs = [asyncio.create_task(queue.run(make_job(name))) for name in "abc"]
        await run_until(lambda: all(worker.started for worker in workers))
        assert queue.load == 3
    for job in jobs:
        await expect(job, "closed")


async def test_closing_fails_every_job_and_kills_the_workers() -> None:
    worker = HangingWorker()
    queue = WorkerQueue([worker])
    jobs = [asyncio.create_task(queue.run(make_job(name))) for name in "ab"]
    await run_until(lambda: len(worker.started) == 1)
    await queue.close()
    await queue.close()
    for job in jobs:
        await expect(job, "closed")
    assert (worker.interrupted, worker.killed) == (1, 2)
    with pytest.raises(WorkError, match="closed"):
        await queue.run(make_job())


async def test_closing_ends_a_start_that_waits() -> None:
    workers = InlineWorkers(score_by_length)
    workers.pause()
    start = asyncio.create_task(workers.start())
    await asyncio.sleep(0)
    await workers.close()
    with pytest.raises(WorkError, match="closed"):
        await start


@pytest.mark.parametrize("limits", [{"queue_max": 0}, {"job_limit_s": 0.0}])
def test_limits_that_allow_nothing_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs at least"):
        WorkerQueue([HangingWorker()], **limits)  # type: ignore[arg-type]


def test_a_kind_that_does_not_exist_counts_as_a_fault_of_protocol() -> None:
    assert as_kind("disk-full") == "disk-full"
    assert as_kind("weather") == "protocol"

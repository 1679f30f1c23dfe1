"""The queue before one peer's workers: bounded, first in first out, with limits of time and cancellation.

`WorkerQueue` is the whole behaviour that callers see; `node.workers` puts processes behind it, and its in-memory
twin a function.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self, cast, get_args

from fl.jobs import Job, Result
from node.usage import NO_USAGE, Usage

QUEUE_MAX_DEFAULT: Final = 128
JOB_LIMIT_S_DEFAULT: Final = 600.0
LINGER_S: Final = 0.1

WorkErrorKind = Literal[
    "start",  # no worker can be made: a bad task, data that cannot be read, no fork server; the reason says which
    "crashed",  # the worker process ended in the middle of the job
    "timeout",  # the job took longer than its limit; its worker was killed
    "cancelled",  # `cancel` matched it
    "task",  # the task raised an error or returned something unusable
    "disk-full",
    "io",  # a file of the job cannot be read or written
    "protocol",  # the worker doesn't speak our language
    "full",  # the queue is full
    "closed",
]
_KINDS: Final = frozenset(get_args(WorkErrorKind))


class WorkError(Exception):
    """A job without a result. The peer goes on: the next job gets a fresh worker where that is needed."""

    def __init__(self, kind: WorkErrorKind, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind = kind
        self.reason = reason


def as_kind(name: str) -> WorkErrorKind:
    """Return the kind that a worker named, or "protocol" for one that doesn't exist."""
    return cast(WorkErrorKind, name) if name in _KINDS else "protocol"


class Worker(Protocol):
    """One thing that does one job at a time."""

    async def open(self) -> None:
        """Get ready, where it isn't; raises `WorkError`."""
        ...

    async def call(self, job: Job) -> Result:
        """Do a job, opening first; raises `WorkError`. A call that is cancelled kills what it started."""
        ...

    def kill(self) -> None:
        """End it now, the job in it too; `open` makes a fresh one."""
        ...

    def usage(self) -> Usage:
        """What it cost so far, the killed ones included."""
        ...


@dataclass(slots=True, eq=False)
class _Entry:
    job: Job
    limit_s: float
    future: asyncio.Future[Result]


class WorkerQueue:
    """Runs jobs on `workers`, each of which takes the oldest job that waits. Of one event loop, not thread-safe."""

    def __init__(
        self,
        workers: Sequence[Worker],
        *,
        queue_max: int = QUEUE_MAX_DEFAULT,
        job_limit_s: float = JOB_LIMIT_S_DEFAULT,
    ) -> None:
        if not workers or queue_max < 1 or job_limit_s <= 0:
            raise ValueError("needs at least one worker, a queue_max of at least 1 and a job_limit_s above 0")
        self._workers = tuple(workers)
        self._queue_max = queue_max
        self._job_limit_s = job_limit_s
        self._waiting: deque[_Entry] = deque()
        self._running: set[_Entry] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._opening: set[asyncio.Future[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def start(self) -> None:
        """Make the workers ready now, so that the first job doesn't wait; raises `WorkError` ("start").

        May be left out: `run` opens what it needs.
        """
        opening = [asyncio.ensure_future(worker.open()) for worker in self._workers]
        self._opening.update(opening)
        try:
            await asyncio.gather(*opening)
        except asyncio.CancelledError:
            if self._closed:
                raise WorkError("closed", "the workers were closed") from None
            raise
        finally:
            self._opening.difference_update(opening)

    async def run(self, job: Job, limit_s: float | None = None) -> Result:
        """Return the job's result; raises `WorkError`. Cancelling the caller cancels the job.

        `limit_s` bounds the work itself, not the wait for a worker.
        """
        if self._closed:
            raise WorkError("closed", "the workers are closed")
        if len(self._waiting) >= self._queue_max:
            raise WorkError("full", f"{self._queue_max} jobs wait already")
        loop = asyncio.get_running_loop()
        entry = _Entry(job, self._job_limit_s if limit_s is None else limit_s, loop.create_future())
        self._waiting.append(entry)
        self._wake.set()
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._serve(worker), name="worker") for worker in self._workers]
        try:
            return await entry.future
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def cancel(self, predicate: Callable[[Job], bool]) -> int:
        """Fail every matching job, waiting or running, with `WorkError` ("cancelled"); return how many.

        A worker in the middle of a matching job is killed.
        """
        matching = [entry for entry in (*self._waiting, *self._running) if predicate(entry.job)]
        for entry in matching:
            _fail(entry, WorkError("cancelled", "no longer needed"))
            if entry in self._waiting:
                self._waiting.remove(entry)
        return len(matching)

    @property
    def load(self) -> int:
        """How many jobs wait or run."""
        return len(self._waiting) + len(self._running)

    def usage(self) -> Usage:
        """CPU seconds and resident memory of the workers."""
        return sum((worker.usage() for worker in self._workers), NO_USAGE)

    async def close(self) -> None:
        """Fail what waits and runs with `WorkError` ("closed") and end the workers. May be called again."""
        self._closed = True
        for entry in (*self._waiting, *self._running):
            _fail(entry, WorkError("closed", "the workers were closed"))
        self._waiting.clear()
        ending = (*self._tasks, *self._opening)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self._tasks = []
        for worker in self._workers:
            worker.kill()

    async def _serve(self, worker: Worker) -> None:
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            entry = self._waiting.popleft()
            self._running.add(entry)
            try:
                await _execute(worker, entry)
            finally:
                self._running.discard(entry)


async def _execute(worker: Worker, entry: _Entry) -> None:
    """Put the result of a job, or why there is none, into its future; stop as soon as nobody waits for it."""
    call = asyncio.ensure_future(_call(worker, entry))
    try:
        await asyncio.wait((call, entry.future), return_when=asyncio.FIRST_COMPLETED)
        if not call.done():  # nobody waits for it; but a new worker costs more than the end of a short job
            await asyncio.wait((call,), timeout=LINGER_S)
    finally:
        # cancelled here, or by the caller, or by `cancel`: the worker must not go on with it for long
        call.cancel()
        outcome = (await asyncio.gather(call, return_exceptions=True))[0]
    if entry.future.done():
        return
    if isinstance(outcome, BaseException):
        entry.future.set_exception(outcome)
    else:
        entry.future.set_result(outcome)


async def _call(worker: Worker, entry: _Entry) -> Result:
    await worker.open()  # within a limit of its own
    try:
        async with asyncio.timeout(entry.limit_s):
            return await worker.call(entry.job)
    except TimeoutError:
        reason = f"{type(entry.job).__name__} took longer than {entry.limit_s:g} s"
        raise WorkError("timeout", reason) from None


def _fail(entry: _Entry, error: WorkError) -> None:
    if not entry.future.done():
        entry.future.set_exception(error)

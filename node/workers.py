"""One peer's worker processes: training and scoring run there, so that the event loop never waits for them.

`WorkerPool` talks to a fork server, its own or one that the peers of a machine share; `InlineWorkers` is its
in-memory twin for tests and simulations.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from fl.jobs import Job, Result
from node.usage import NO_USAGE, Usage
from node.worker_process import ProcessWorker, ServerOfPool, WorkerSettings
from node.worker_queue import QUEUE_MAX_DEFAULT, WorkerQueue, WorkError, WorkErrorKind

__all__ = ["InlineWorkers", "WorkError", "WorkErrorKind", "WorkerPool", "WorkerSettings"]


class WorkerPool(WorkerQueue):
    """The queue before worker processes that a fork server makes (see `WorkerQueue` for its methods)."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._server = ServerOfPool(settings)
        self._processes = [ProcessWorker(settings, self._server) for _ in range(settings.workers)]
        super().__init__(self._processes, queue_max=settings.queue_max, job_limit_s=settings.job_limit_s)

    def pids(self) -> list[int]:
        """The workers' process ids, without the fork server's."""
        return [worker.pid for worker in self._processes if worker.pid is not None]

    def usage(self) -> Usage:
        """CPU seconds and resident memory of the workers, and of the fork server where it is the pool's own."""
        return super().usage() + self._server.usage()

    async def close(self) -> None:
        """End the workers, then the pool's own fork server."""
        await super().close()
        await self._server.close()


class InlineWorkers(WorkerQueue):
    """The same queue before a function that runs in this process, one job at a time in order.

    `pause` holds jobs back until `resume`, so that a test can cancel one that waits.
    """

    def __init__(self, function: Callable[[Job], Result], *, queue_max: int = QUEUE_MAX_DEFAULT) -> None:
        self._inline = _InlineWorker(function)
        super().__init__([self._inline], queue_max=queue_max)

    def pause(self) -> None:
        """Start no job from now on."""
        self._inline.gate.clear()

    def resume(self) -> None:
        """Go on."""
        self._inline.gate.set()

    def refuse(self, error: WorkError) -> None:
        """Be a worker that cannot start."""
        self._inline.refusal = error


@dataclass(slots=True)
class _InlineWorker:
    function: Callable[[Job], Result]
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: WorkError | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    async def open(self) -> None:
        await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal

    async def call(self, job: Job) -> Result:
        await asyncio.sleep(0)  # as with a process, a result never comes before the caller waits
        try:
            return self.function(job)
        except WorkError:
            raise
        except Exception as error:
            raise WorkError("task", f"{type(error).__name__}: {error}") from error

    def kill(self) -> None:
        """Nothing outlives a call."""

    def usage(self) -> Usage:
        return NO_USAGE

"""What the tests of real worker processes share."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import psutil

from fl.jobs import TrainJob
from fl.tensors import encode_tensors
from node.workers import WorkerSettings
from tests.node.helpers_tasks import LinearTask

TASK = "tests.node.helpers_tasks:LinearTask"
WAIT_S = 20.0


def make_settings(socket_path: Path, *, start_server: bool = False, **task_settings: object) -> WorkerSettings:
    """Settings of a peer with the linear task."""
    return WorkerSettings(TASK, task_settings, socket_path, start_server=start_server, job_limit_s=WAIT_S)


def make_train_job(folder: Path, round: int = 0) -> TrainJob:
    """A train job in `folder`, with the initial model of the linear task written there."""
    model_path = folder / "model"
    model_path.write_bytes(encode_tensors(LinearTask().model()))
    return TrainJob(str(model_path), str(folder / "update"), None, round, "f32", 10.0)


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again; fails after `WAIT_S`."""
    deadline_s = monotonic() + WAIT_S
    while not condition():
        assert monotonic() < deadline_s, "it did not become true in time"


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until the condition holds; fails after `WAIT_S`."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.001)


def has_ended(pid: int) -> bool:
    """Whether a process is gone; a zombie that nobody has reaped yet is."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True

"""Workers forked from a server that has torch warmed up: they train, alike, and do not hang (fork and threads)."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl.jobs import EvaluateJob, EvaluateResult, InitialModelJob, TrainJob, TrainResult
from node.forkserver_process import ForkServerProcess
from node.workers import WorkerPool, WorkerSettings

pytestmark = pytest.mark.integration

LIMIT_S = 30.0  # a forked child that waits for threads it doesn't have waits for ever


@pytest.fixture(scope="module")
def socket_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        server = ForkServerProcess(Path(folder) / "work.sock", "digits", {})
        server.wait_ready()
        yield server.socket_path
        server.stop()


def make_pool(socket_path: Path, shard: int) -> WorkerPool:
    settings = {"shards": 4, "shard": shard, "epochs": 1}
    return WorkerPool(WorkerSettings("digits", settings, socket_path, start_server=False, job_limit_s=LIMIT_S))


async def train(pool: WorkerPool, folder: Path) -> bytes:
    """Return the bytes of the update that a fresh model gives."""
    model, update = str(folder / "model"), folder / "update"
    await pool.run(InitialModelJob(model))
    result = await pool.run(TrainJob(model, str(update), None, 0, "f32", 10.0))
    assert isinstance(result, TrainResult)
    assert 300 < result.samples < 350
    return update.read_bytes()


async def test_peers_with_one_server_train_at_once_each_on_its_own_shard(socket_path: Path, tmp_path: Path) -> None:
    pools = [make_pool(socket_path, shard) for shard in (0, 1, 0)]
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    updates = await asyncio.gather(*(train(pool, folder) for pool, folder in zip(pools, folders, strict=True)))
    assert updates[0] == updates[2]  # the same shard, the same bytes, in another process
    assert updates[0] != updates[1]
    for pool in pools:
        await pool.close()


async def test_a_worker_evaluates_with_metrics(socket_path: Path, tmp_path: Path) -> None:
    model = str(tmp_path / "model")
    async with make_pool(socket_path, 0) as pool:
        await pool.run(InitialModelJob(model))
        result = await pool.run(EvaluateJob(model, report=True))
    assert isinstance(result, EvaluateResult)
    assert 0 <= result.metrics["accuracy"] <= 1

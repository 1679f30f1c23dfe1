"""A task's initial model, made in a worker process: torch stays out of this one."""

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.errors import file_error
from fl.jobs import InitialModelJob, InitialModelResult
from ledger.blobs import file_ref
from ledger.genesis import GenesisModel
from node.errors import ExitCode, NodeError
from node.workers import WorkerPool, WorkError, WorkerSettings


@dataclass(frozen=True, slots=True)
class TaskSource:
    """A task's name and settings, and the socket of a fork server that has it in memory (None: start one)."""

    name: str
    settings: Mapping[str, object]
    socket_path: Path | None = None


def make_model(source: TaskSource, output: Path) -> GenesisModel:
    """Write the task's initial model to `output`; what genesis says about it. Raises `NodeError`."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fedchain-") as folder:
            made = Path(folder) / "model.safetensors"
            socket_path = source.socket_path or Path(folder) / "work.sock"
            result = asyncio.run(_run(source, socket_path, InitialModelJob(str(made))))
            ref = file_ref(made)
            output.write_bytes(made.read_bytes())
    except OSError as error:
        raise file_error(error, f"writing the initial model to {output}") from error
    return GenesisModel(blob=ref.blob, size=ref.size, task=source.name, test_set_digest=result.test_set_digest)


async def _run(source: TaskSource, socket_path: Path, job: InitialModelJob) -> InitialModelResult:
    own_server = source.socket_path is None
    pool = WorkerPool(WorkerSettings(source.name, source.settings, socket_path, start_server=own_server))
    try:
        result = await pool.run(job)
    except WorkError as error:
        raise NodeError(ExitCode.TASK, f"task {source.name!r}: {error.reason}") from error
    finally:
        await pool.close()
    assert isinstance(result, InitialModelResult)
    return result

"""The peer's learning work (R2, R3, R7): fetch what is needed, run it in a worker process, store the result durably,
tell the core. Each piece is a task of its own, cancelled when its round ends."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from consensus.events import Aggregate, Aggregated, Evaluate, Event, Held, Scored, Train, Trained
from fl.codes import InvalidCode
from fl.jobs import AggregateJob, AggregateResult, Job, Result, ScoreJob, ScoreResult, TrainJob, TrainResult
from ledger.blobs import BlobStore, file_ref, file_seal
from ledger.keys import digest
from ledger.params import Params
from ledger.types import BlobRef, Offer
from node.errors import ExitCode, NodeError, disk_error
from node.exchange import BlobExchange, ExchangeError, SizeMismatch
from node.logs import get_log
from node.worker_queue import WorkerQueue, WorkError

MILLION = 1_000_000
NO_ROUND = -1
TRIES_MAX = 3
RETRY_S = 0.5
RETRY_MAX_S = 10.0
METRICS_SHOWN_MAX = 8

log = get_log(__name__)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Training:
    """What the operator decided: the codec of updates, and an attack for demonstrations."""

    codec: str
    attack: str | None


class Workroom:
    """Carries out `Train`, `Evaluate` and `Aggregate`; answers through `post`. `fail` ends the peer."""

    def __init__(
        self,
        params: Params,
        training: Training,
        workers: WorkerQueue,
        exchange: BlobExchange,
        blobs: BlobStore,
        folder: Path,
        me: bytes,
        connected: Callable[[], Sequence[bytes]],
        post: Callable[[Event], None],
        fail: Callable[[NodeError], None],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`pause` waits some seconds between two tries."""
        self._params, self._training = params, training
        self._workers, self._exchange, self._blobs, self._folder = workers, exchange, blobs, folder
        self._me, self._connected, self._post, self._fail = me, connected, post, fail
        self._pause = pause
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._model_came = asyncio.Event()
        self._number = 0
        self._abandoned: list[Path] = []

    @property
    def owed(self) -> int:
        """Tasks under way."""
        return len(self._tasks)

    def prepare(self) -> None:
        """Make the workers ready before the first order. A task that cannot be loaded ends the peer: it would take
        part in nothing, and its operator would only see missed rounds."""
        self._spawn(NO_ROUND, self._prepare(), "prepare")

    async def _prepare(self) -> None:
        try:
            await self._workers.start()
        except WorkError as error:
            if error.kind == "start":
                advice = "Correct [task] and [worker] in config.toml, or the task's code"
                raise NodeError(ExitCode.TASK, f"no worker can be started: {error.reason}. {advice}") from error

    def train(self, order: Train) -> None:
        """R2."""
        self._spawn(order.round, self._train(order), "train")

    def evaluate(self, order: Evaluate) -> None:
        """R3."""
        self._spawn(order.round, self._evaluate(order), "score")

    def aggregate(self, order: Aggregate) -> None:
        """R7."""
        self._spawn(order.round, self._aggregate(order), "aggregate")

    def end_round(self, round: int) -> None:
        """Nobody waits for work of this round any more."""
        for task, at in list(self._tasks.items()):
            if at == round:
                task.cancel()

    async def stop(self) -> None:
        """Cancel everything and wait for its end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._remove_abandoned()

    # -------------------------------------------------------------------------------------------------- the pieces

    async def _train(self, order: Train) -> None:
        model = await self._await_model(order.model)
        with self._scratch(f"update-{order.round}") as path:
            job = TrainJob(
                str(model),
                str(path),
                str(self._folder / "residual.safetensors"),
                order.round,
                self._training.codec,
                self._params.update_norm_max / MILLION,
                self._training.attack,
            )
            result = await self._run(job, TrainResult)
            if result is None:
                return
            if (size_bytes := path.stat().st_size) > self._params.update_bytes_max:
                limit = self._params.update_bytes_max
                log.error("update too large, not offered: see update_bytes_max in genesis", bytes=size_bytes, max=limit)
                return
            update = await self._adopt(path)  # B3: durable before the offer is signed
        seal = await self._seal(self._blobs.path(update.blob), self._me)
        metrics = _shown(result.metrics)
        log.info("trained", round=order.round, samples=result.samples, norm=result.norm, metrics=metrics)
        self._post(Trained(order.round, update, seal, max(1, result.samples), self._training.codec))

    async def _evaluate(self, order: Evaluate) -> None:
        offer = order.offer
        model = await self._await_model(order.model)
        try:
            path = await self._fetch(offer.update, (offer.trainer,))
        except SizeMismatch as error:  # R3: the blob was seen and is not what the offer says
            log.warning("offer lies about its size", source=offer.trainer.hex(), reason=str(error))
            self._refuse(order, InvalidCode.SIZE)
            return
        if not await self._is_sealed(path, offer):  # B4, R3
            log.warning("offer names an update whose bytes its maker did not have", source=offer.trainer.hex())
            self._refuse(order, InvalidCode.SEAL)
            return
        job = ScoreJob(
            str(model),
            str(path),
            offer.codec,
            self._params.update_norm_max / MILLION,
            self._params.update_bytes_max,
        )
        result = await self._run(job, ScoreResult)
        if result is not None:
            self._post(Scored(order.round, offer.id(), result.value, result.baseline, result.code))

    async def _aggregate(self, order: Aggregate) -> None:
        used = [item for item in order.updates if item.height not in order.missing]
        holders = self._spread(order)
        try:
            paths = await asyncio.gather(*(self._fetch(item.update, (item.trainer, *holders)) for item in used))
        except SizeMismatch as error:  # only a committee that lied accepts it; the round goes on without it (R7)
            log.warning("an accepted update is not what its offer says", round=order.round, reason=str(error))
            return
        model = await self._await_model(order.model)
        inputs = tuple((str(path), item.codec, item.weight) for path, item in zip(paths, used, strict=True))
        with self._scratch(f"model-{order.round}") as output:
            job = AggregateJob(self._params.aggregation, str(model), inputs, str(output))
            wait_s = RETRY_S
            while await self._run(job, AggregateResult) is None:  # A3 obliges: there is no going on without it
                await self._pause(wait_s)
                wait_s = min(2 * wait_s, RETRY_MAX_S)
            ref = await self._adopt(output)
        self._note_model()
        self._post(Aggregated(order.round, order.missing, ref))

    # ----------------------------------------------------------------------------------------------------- helpers

    def _spread(self, order: Aggregate) -> list[bytes]:
        """Who may have the updates, in an order of my own, so that not everybody asks the same member first."""
        known = dict.fromkeys((*order.holders, *self._connected()))
        others = [member for member in known if member != self._me]
        return sorted(others, key=lambda member: (member not in order.holders, digest("spread", self._me, member)))

    async def _await_model(self, model: BlobRef) -> Path:
        """Where the model is, once it was derived here."""
        while True:
            came = self._model_came  # before looking: a model that comes meanwhile is not missed
            if await asyncio.to_thread(self._blobs.has, model.blob):
                return self._blobs.path(model.blob)
            await came.wait()

    def _note_model(self) -> None:
        came, self._model_came = self._model_came, asyncio.Event()
        came.set()

    async def _adopt(self, path: Path) -> BlobRef:
        """Store a file made by a worker durably (B3)."""
        try:
            return await asyncio.to_thread(self._blobs.adopt, path)
        except OSError as error:
            raise disk_error(error, f"storing {path}") from error

    def _refuse(self, order: Evaluate, code: InvalidCode) -> None:
        """INVALID(code), without any evaluation (R3); as a plain integer, since a record takes no other."""
        self._post(Scored(order.round, order.offer.id(), 0, 0, int(code)))

    async def _seal(self, path: Path, trainer: bytes) -> bytes:
        """The seal of a stored blob by `trainer` (B4)."""
        try:
            return await asyncio.to_thread(file_seal, path, trainer)
        except OSError as error:
            raise disk_error(error, f"reading {path}") from error

    async def _is_sealed(self, path: Path, offer: Offer) -> bool:
        """Whether the offer's seal is that of its blob. A file damaged here is not the trainer's fault (A8)."""
        if await self._seal(path, offer.trainer) == offer.seal:
            return True
        if await asyncio.to_thread(file_ref, path) != offer.update:
            advice = f"Check the disk, remove {path} and start again: it is fetched again"
            raise NodeError(ExitCode.FAULTY_MACHINE, f"{path}: is not the blob that its name says. {advice}")
        return False

    async def _fetch(self, ref: BlobRef, holders: Sequence[bytes]) -> Path:
        """The blob's file; tried for as long as the round lasts. Raises `SizeMismatch`."""
        wait_s = RETRY_S
        while True:
            others = [member for member in dict.fromkeys((*holders, *self._connected())) if member != self._me]
            try:
                path = await self._exchange.fetch(ref, others)
            except SizeMismatch:
                raise
            except ExchangeError as error:
                log.warning("blob not to be had yet", source=ref.blob.hex(), blob=ref.blob[:8], reason=str(error))
                await self._pause(wait_s)
                wait_s = min(2 * wait_s, RETRY_MAX_S)
                continue
            self._post(Held((ref,)))
            return path

    async def _run(self, job: Job, kind: type[R]) -> R | None:
        """The result, or None when this machine cannot do it: the peer goes on without, the reason is logged."""
        for tries in range(1, TRIES_MAX + 1):
            try:
                result: Result = await self._workers.run(job)
                assert isinstance(result, kind)
                return result
            except WorkError as error:
                if error.kind == "closed":
                    return None
                if error.kind == "disk-full":
                    raise NodeError(ExitCode.DISK_FULL, f"{error.reason}. Free some space and start again") from error
                log.error("work failed", job=type(job).__name__, kind=error.kind, reason=error.reason, tries=tries)
                if error.kind not in ("crashed", "start"):
                    return None
                await self._pause(RETRY_S * tries)
        return None

    @contextmanager
    def _scratch(self, name: str) -> Iterator[Path]:
        """Where a worker writes; nothing stays there. What a killed process leaves is removed at the next start."""
        self._number += 1
        path = self._folder / f"{name}-{self._number}.part"
        self._remove_abandoned()
        try:
            yield path
        except asyncio.CancelledError:
            self._abandoned.append(path)  # its worker is being killed, and may have written once more
            raise
        finally:
            path.unlink(missing_ok=True)

    def _remove_abandoned(self) -> None:
        """What a worker wrote after nobody waited for it any more."""
        for path in self._abandoned:
            path.unlink(missing_ok=True)
        self._abandoned.clear()

    def _spawn(self, round: int, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"{name}-{round}")
        self._tasks[task] = round
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, NodeError):
            self._fail(error)
        elif error is not None:
            log.error("a task of this peer failed", task=task.get_name(), exc_info=error)
            self._fail(NodeError(ExitCode.FAULTY_MACHINE, f"{task.get_name()}: {type(error).__name__}: {error}"))


def _shown(metrics: dict[str, float]) -> str:
    """Some of a task's metrics for people. A task names them as it likes: they must not be our fields' names."""
    return ", ".join(f"{name[:40]} {value:.6g}" for name, value in list(metrics.items())[:METRICS_SHOWN_MAX])

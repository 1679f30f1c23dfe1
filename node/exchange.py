"""Fetching blobs from the members that hold them, chunk by chunk, each chunk verified by itself (B1).

A broken transfer resumes where it stopped, also from another holder and after a restart (see `node.partial`). What has
arrived whole is stored durably before anybody hears of it (B3).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from ledger.blobs import BlobError, chunk_count, id_of_digests
from ledger.types import BlobRef
from node.errors import disk_error
from node.limits import Limits
from node.logs import get_log
from node.partial import (
    PartialBlob,
    SizeLie,
    WrongBytes,
    check_chunk,
    check_digests,
    forget_oldest,
    partial_name,
)
from node.transport import BlobHead, FetchError, FetchKind, Transport

log = get_log(__name__)

T = TypeVar("T")


class BlobStore(Protocol):
    """What is needed of `ledger.blobs.BlobStore`; its methods block and run in worker threads."""

    def has(self, blob: bytes) -> bool: ...

    def path(self, blob: bytes) -> Path: ...

    def size(self, blob: bytes) -> int: ...

    def put_bytes(self, data: bytes) -> BlobRef: ...

    def install(self, path: Path, blob: bytes, size: int) -> None: ...

    def read_chunk(self, blob: bytes, index: int) -> bytes | None: ...

    def chunk_digests(self, blob: bytes) -> bytes: ...


class ExchangeError(Exception):
    """A blob cannot be had: nobody serves it, or it is not what its reference says."""


class SizeMismatch(ExchangeError):
    """The blob is there, verified, and its size is not the one that its reference says: whoever signed it lied."""


def read_head(store: BlobStore, blob: bytes) -> BlobHead | None:
    """The answer to a `fetch_head` from what the store holds; blocks."""
    try:
        first = store.read_chunk(blob, 0)
        return BlobHead(store.chunk_digests(blob), first) if first is not None else None
    except FileNotFoundError:
        return None


@dataclass(slots=True, eq=False)
class _Job:
    ref: BlobRef
    holders: list[bytes]
    task: asyncio.Task[Path] | None = None
    waiters: int = 0
    liars: set[bytes] = field(default_factory=set)
    partial: PartialBlob | None = None

    @property
    def progress(self) -> int:
        return self.partial.chunks if self.partial is not None else 0


class BlobExchange:
    """Fetches blobs into the store; concurrent requests of one blob share one transfer."""

    def __init__(
        self,
        transport: Transport,
        store: BlobStore,
        partial: Path,
        limits: Limits | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`partial` is the folder for unfinished transfers, `pause` waits some seconds between two tries."""
        self._transport = transport
        self._store = store
        self._folder = partial
        self._limits = limits or Limits()
        self._pause = pause
        self._total = asyncio.Semaphore(self._limits.fetches_max)
        self._per_peer: dict[bytes, asyncio.Semaphore] = {}
        self._jobs: dict[BlobRef, _Job] = {}

    async def fetch(self, ref: BlobRef, holders: Sequence[bytes]) -> Path:
        """Where the blob is, once it is stored durably (B3). `holders` are tried in turn, the connected ones first;
        `ref.size` is a hard limit. Cancelling the last caller ends the transfer; what it has got stays for later.

        Raises `ExchangeError` when the blob cannot be had (`SizeMismatch` also for one that is here under another
        size), `NodeError` when this machine's disk fails.
        """
        while not await _in_thread(_is_here, self._store, ref):
            job = self._jobs.get(ref) or self._begin(ref)
            job.holders += [holder for holder in holders if holder not in job.holders]
            assert job.task is not None
            if job.task.cancelling():
                await asyncio.wait([job.task])
                continue
            return await self._wait(job)
        return self._store.path(ref.blob)

    @property
    def active(self) -> int:
        """Transfers under way."""
        return len(self._jobs)

    async def stop(self) -> None:
        """Cancel every transfer and wait for its end."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, ref: BlobRef) -> _Job:
        job = self._jobs[ref] = _Job(ref, [])
        job.task = asyncio.create_task(self._run(job), name=f"fetch-{ref.blob.hex()[:8]}")
        job.task.add_done_callback(lambda _: self._jobs.pop(ref, None))
        return job

    async def _wait(self, job: _Job) -> Path:
        assert job.task is not None
        job.waiters += 1
        try:
            return await asyncio.shield(job.task)
        finally:
            job.waiters -= 1
            if job.waiters == 0 and not job.task.done():
                job.task.cancel()

    # ------------------------------------------------------------------------------------------------ one transfer

    async def _run(self, job: _Job) -> Path:
        try:
            await self._prepare(job)
            return await self._try_all(job)
        except SizeLie as lie:
            await _in_thread(_forget, job)
            raise SizeMismatch(f"blob {_name(job)}: {lie}") from lie
        except BlobError as error:  # the part was verified chunk by chunk: somebody changed the file since
            await _in_thread(_forget, job)
            raise ExchangeError(f"blob {_name(job)}: {error}") from error
        except OSError as error:
            raise disk_error(error, f"storing blob {_name(job)}") from error

    async def _prepare(self, job: _Job) -> None:
        if job.ref.size > self._limits.partial_bytes_max:
            raise ExchangeError(f"blob {_name(job)}: {job.ref.size} bytes are above limits.partial_bytes_max")
        if chunk_count(job.ref.size) > 1:
            keep = {partial_name(ref) for ref in self._jobs}
            room = self._limits.partial_bytes_max - job.ref.size
            await _in_thread(forget_oldest, self._folder, room, keep)
            job.partial = await _in_thread(PartialBlob, self._folder, job.ref)

    async def _try_all(self, job: _Job) -> Path:
        """Pass over the holders until one pass too many has brought nothing new."""
        wait_s, passes = self._limits.backoff_min_s, 0
        reasons: dict[bytes, str] = {}
        while passes < self._limits.fetch_passes_max:
            before = job.progress
            for holder in self._order(job):
                if await self._try(job, holder, reasons):
                    return self._store.path(job.ref.blob)
            if job.holders and job.liars.issuperset(job.holders):
                break
            if job.progress > before:
                wait_s, passes = self._limits.backoff_min_s, 0
                continue
            passes += 1
            await self._pause(wait_s)
            wait_s = min(2 * wait_s, self._limits.backoff_max_s)
        told = "; ".join(f"{holder.hex()[:8]}: {reason}" for holder, reason in sorted(reasons.items())[:5])
        raise ExchangeError(f"blob {_name(job)}: no holder serves it ({told or 'none is known'})")

    def _order(self, job: _Job) -> list[bytes]:
        connected = set(self._transport.connected())
        return sorted((holder for holder in job.holders if holder not in job.liars), key=lambda h: h not in connected)

    async def _try(self, job: _Job, holder: bytes, reasons: dict[bytes, str]) -> bool:
        """Whether this holder has completed the blob; else the reason why not is noted."""
        try:
            await (self._whole(job, holder) if job.partial is None else self._chunks(job, job.partial, holder))
            return True
        except FetchError as error:
            reasons[holder] = str(error)
            if error.kind is FetchKind.BAD:  # the transport has counted the fault
                job.liars.add(holder)
        except WrongBytes as error:  # A8
            reasons[holder] = str(error)
            job.liars.add(holder)
            self._transport.fault(holder, f"blob {_name(job)}: {error}")
        return False

    async def _whole(self, job: _Job, holder: bytes) -> None:
        """A blob of one chunk: one request (B1)."""
        head = await self._head(job, holder)
        check_digests(job.ref, head.digests)
        check_chunk(job.ref, head.digests, 0, head.first)
        await _in_thread(self._store.put_bytes, head.first)

    async def _chunks(self, job: _Job, partial: PartialBlob, holder: bytes) -> None:
        if not partial.digests:
            head = await self._head(job, holder)
            await _in_thread(partial.set_digests, head.digests)
            if partial.chunks == 0:
                await _in_thread(partial.add, head.first)
        while not partial.is_complete:
            async with self._slot(holder), self._total:
                chunk = await self._transport.fetch_chunk(holder, job.ref.blob, partial.chunks)
            await _in_thread(partial.add, chunk)
        await _in_thread(self._store.install, partial.path, job.ref.blob, job.ref.size)
        await _in_thread(partial.forget)

    async def _head(self, job: _Job, holder: bytes) -> BlobHead:
        # The limit is not the reference's: it may lie about the size, and an honest holder must not pay for that.
        chunks_max = chunk_count(self._limits.partial_bytes_max)
        async with self._slot(holder), self._total:
            return await self._transport.fetch_head(holder, job.ref.blob, chunks_max)

    def _slot(self, holder: bytes) -> asyncio.Semaphore:
        return self._per_peer.setdefault(holder, asyncio.Semaphore(self._limits.fetches_per_peer_max))


def _is_here(store: BlobStore, ref: BlobRef) -> bool:
    """Whether the blob is in the store. Whoever happens to have it must see the same lie about its size as whoever has
    to fetch it: else some voters hold what the others can never get (R7). A damaged file is removed, to be had
    again."""
    if not store.has(ref.blob):
        return False
    if (size := store.size(ref.blob)) == ref.size:
        return True
    if id_of_digests(store.chunk_digests(ref.blob)) == ref.blob:
        raise SizeMismatch(f"blob {ref.blob.hex()[:16]} has {size} bytes, its reference says {ref.size}")
    store.path(ref.blob).unlink(missing_ok=True)
    return False


def _forget(job: _Job) -> None:
    if job.partial is not None:
        job.partial.forget()


def _name(job: _Job) -> str:
    return job.ref.blob.hex()[:16]


async def _in_thread(work: Callable[..., T], *args: object) -> T:
    """Disk work beside the loop. When cancelled, wait for its end: nothing may still write afterwards."""
    future = asyncio.get_running_loop().run_in_executor(None, work, *args)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise

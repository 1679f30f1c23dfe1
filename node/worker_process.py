"""One worker process as its peer sees it: the connection to a fork server and what is at its other end."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fl.jobs import Job, Result, WireError, job_to_wire, result_from_wire
from node.forkserver_process import ForkServerError, ForkServerProcess
from node.usage import NO_USAGE, Usage, read_usage
from node.worker_queue import JOB_LIMIT_S_DEFAULT, QUEUE_MAX_DEFAULT, WorkError, as_kind
from node.worker_wire import (
    LENGTH,
    NICE_DEFAULT,
    Frame,
    FrameError,
    check_length,
    decode_body,
    encode_frame,
    encode_hello,
)

START_LIMIT_S_DEFAULT: Final = 120.0


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a peer's workers do and where they come from.

    `socket_path` is the fork server's Unix socket. With `start_server` the pool starts one there, at its first
    need, and ends it; otherwise whoever started the peer did.
    """

    task: str
    task_settings: Mapping[str, object]
    socket_path: Path
    start_server: bool = True
    workers: int = 1
    nice: int = NICE_DEFAULT
    queue_max: int = QUEUE_MAX_DEFAULT
    job_limit_s: float = JOB_LIMIT_S_DEFAULT
    start_limit_s: float = START_LIMIT_S_DEFAULT


class ServerOfPool:
    """The fork server that workers connect to; starts the pool's own again where it ended."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._process: ForkServerProcess | None = None
        self._lock = asyncio.Lock()
        self._cpu_s_ended = 0.0

    async def ensure(self, failed: ForkServerProcess | None = None) -> ForkServerProcess | None:
        """Return the pool's own server when it listens, or None where it's another's; raises `WorkError` ("start").

        `failed` is one that ended though it may not look so yet: another takes its place.
        """
        if not self._settings.start_server:
            return None
        async with self._lock:
            running = self._process is not None and self._process.is_running()
            if not running or self._process is failed:
                await self._stop()
                await self._start()
            return self._process

    async def _start(self) -> None:
        settings = self._settings
        try:
            # in this thread: the server dies with the thread that started it
            process = ForkServerProcess(
                settings.socket_path,
                settings.task,
                settings.task_settings,
                nice=settings.nice,
                workers_max=2 * settings.workers + 2,  # those just killed take a while to go
            )
            self._process = process
            await asyncio.get_running_loop().run_in_executor(None, process.wait_ready)
        except ForkServerError as error:
            await self._stop()
            raise WorkError("start", str(error)) from error
        except asyncio.CancelledError:
            await self._stop()
            raise

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            usage = read_usage(process.pid)
            self._cpu_s_ended += usage.cpu_s if usage is not None else 0.0
            await asyncio.get_running_loop().run_in_executor(None, process.stop)

    async def close(self) -> None:
        """End the pool's own server."""
        await self._stop()

    def usage(self) -> Usage:
        """What the pool's own server cost."""
        now = read_usage(self._process.pid) if self._process is not None else None
        return Usage(self._cpu_s_ended, 0.0) + (now or NO_USAGE)


class ProcessWorker:
    """A connection to the fork server and the process at its other end."""

    def __init__(self, settings: WorkerSettings, server: ServerOfPool) -> None:
        self._settings = settings
        self._server = server
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._opening = asyncio.Lock()
        self._cpu_s_ended = 0.0
        self.pid: int | None = None

    async def open(self) -> None:
        """Connect, where it isn't; raises `WorkError` ("start")."""
        async with self._opening:
            if self._streams is None or self._streams[0].at_eof():
                self.kill()
                await self._open()

    async def _open(self) -> None:
        limit_s = self._settings.start_limit_s
        try:
            async with asyncio.timeout(limit_s):
                await self._connect_to_server()
        except TimeoutError:
            self.kill()
            raise WorkError("start", f"no worker within {limit_s:g} s") from None
        except (OSError, EOFError, FrameError) as error:
            self.kill()
            where = self._settings.socket_path
            raise WorkError("start", f"no worker from the fork server at {where}: {_describe(error)}") from error
        except BaseException:
            self.kill()
            raise

    async def _connect_to_server(self) -> None:
        server = await self._server.ensure()
        try:
            await self._connect()
        except (OSError, EOFError):
            if server is None:
                raise
            self.kill()
            await self._server.ensure(failed=server)
            await self._connect()

    async def _connect(self) -> None:
        reader, writer = self._streams = await asyncio.open_unix_connection(str(self._settings.socket_path))
        match await _receive(reader):
            case ["pid", int(pid)] if pid > 1:
                self.pid = pid
            case frame:
                raise _to_error(frame)
        writer.write(encode_hello(self._settings.task, self._settings.task_settings))
        match await _receive(reader):
            case ["ready"]:
                return
            case frame:
                raise _to_error(frame)

    async def call(self, job: Job) -> Result:
        """Have a job done by the open worker; raises `WorkError`, of which "crashed" leaves it closed."""
        if self._streams is None:
            raise WorkError("crashed", "the worker is gone")
        reader, writer = self._streams
        try:
            writer.write(encode_frame("job", job_to_wire(job)))
            await writer.drain()
            frame = await _receive(reader)
        except (OSError, EOFError, FrameError) as error:
            self.kill()
            reason = f"the worker process ended in {type(job).__name__} ({_describe(error)}); see stderr"
            raise WorkError("crashed", reason) from error
        except BaseException:  # a limit of time or a cancellation: only SIGKILL ends a job in C code
            self.kill()
            raise
        match frame:
            case ["result", wire]:
                return self._read_result(wire)
        raise _to_error(frame)

    def _read_result(self, wire: object) -> Result:
        try:
            return result_from_wire(wire)
        except WireError as error:
            raise WorkError("protocol", str(error)) from error

    def kill(self) -> None:
        """End the process and what it does, and the connection."""
        if self._streams is None:
            return
        reader, writer = self._streams
        # an open connection proves that the process is still the one that sent its pid
        if self.pid is not None and not reader.at_eof():
            usage = read_usage(self.pid)
            self._cpu_s_ended += usage.cpu_s if usage is not None else 0.0
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        writer.transport.abort()
        self._streams = self.pid = None

    def usage(self) -> Usage:
        """What this process and those before it cost."""
        now = read_usage(self.pid) if self.pid is not None else None
        return Usage(self._cpu_s_ended, 0.0) + (now or NO_USAGE)


async def _receive(reader: asyncio.StreamReader) -> Frame:
    (size_bytes,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    check_length(size_bytes)
    return decode_body(await reader.readexactly(size_bytes))


def _to_error(frame: Frame) -> WorkError:
    match frame:
        case ["error", str(kind), str(reason)]:
            return WorkError(as_kind(kind), reason)
    return WorkError("protocol", f"the worker sent {frame[0]!r} of {len(frame)} items")


def _describe(error: BaseException) -> str:
    return "connection closed" if isinstance(error, EOFError) else str(error) or type(error).__name__

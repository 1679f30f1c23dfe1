"""The life of one worker process, from the fork to the end of its peer's connection."""

import errno
import os
import socket
import sys
import traceback
from dataclasses import dataclass
from typing import Final

from fl.jobs import WireError, job_from_wire, result_to_wire, run_job
from fl.task import Task, TaskError, load_task
from node.lifeline import exit_when_gone
from node.worker_wire import (
    REASON_CHARS_MAX,
    Frame,
    FrameError,
    decode_hello,
    encode_frame,
    receive_frame,
    send_frame,
)

_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a fork server tells its workers."""

    task: str  # the one whose modules and data are in memory already
    nice: int  # added to the process's nice value: event loops go first
    lifeline_fd: int  # read end of a pipe whose other end only the fork server holds


def serve_peer(connection: socket.socket, options: WorkerOptions) -> None:
    """Run one peer's jobs, one after the other, until it closes its connection.

    Speaks as `node.worker_wire` says. A watcher thread ends the process in the middle of a job, too, when the
    peer or the fork server is gone.
    """
    exit_when_gone([connection.fileno(), options.lifeline_fd])
    os.nice(options.nice)
    send_frame(connection, "pid", os.getpid())
    hello = receive_frame(connection)
    task = None if hello is None else _build_task(connection, hello, options.task)
    if task is None:
        return
    send_frame(connection, "ready")
    while (frame := receive_frame(connection)) is not None:
        connection.sendall(_answer(task, frame))


def _build_task(connection: socket.socket, hello: Frame, served: str) -> Task | None:
    """Build the peer's own task; the data that the fork server read for its own are shared, not read again."""
    try:
        name, settings = decode_hello(hello)
        if name != served:
            raise FrameError(f"this fork server was started for task {served!r}, not {name!r}")
        return load_task(name, settings)
    except (FrameError, TaskError) as error:
        send_frame(connection, "error", "start", _describe(error))
        return None


def _answer(task: Task, frame: Frame) -> bytes:
    """Return the frame that answers a job; whatever a task raises is an answer, too."""
    try:
        match frame:
            case ["job", wire]:
                return encode_frame("result", result_to_wire(run_job(task, job_from_wire(wire))))
        return encode_frame("error", "protocol", f"expected a job, not {frame[0]!r} of {len(frame)} items")
    except Exception as error:  # a task is foreign code: its bug is one job's failure
        if not isinstance(error, TaskError | WireError):
            traceback.print_exc(file=sys.stderr)
        return encode_frame("error", _get_kind(error), _describe(error))


def _get_kind(error: Exception) -> str:
    if isinstance(error, WireError):
        return "protocol"
    if isinstance(error, OSError):
        return "disk-full" if error.errno in _DISK_FULL else "io"
    return "task"


def _describe(error: Exception) -> str:
    named = isinstance(error, TaskError | WireError | FrameError)
    reason = str(error) if named else f"{type(error).__name__}: {error}"
    return reason if len(reason) <= REASON_CHARS_MAX else reason[:REASON_CHARS_MAX] + "..."

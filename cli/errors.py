"""Whatever goes wrong becomes one line, what, where and what to do, and a numbered exit code."""

import errno
from typing import Final

from pydantic import ValidationError

from cli.output import Interrupted, make_console
from fl.task import TaskError
from fl.tensors import TensorError
from ledger.blobs import BlobError
from ledger.codec import CodecError
from ledger.genesis import GenesisError
from ledger.store import StoreError, StoreLocked
from node.errors import ExitCode, NodeError, disk_error

# A path that was typed wrong, and no fault of the disk.
_WRONG_PATH: Final = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)

_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (GenesisError, ExitCode.GENESIS),
    (StoreLocked, ExitCode.DATA_LOCKED),
    (StoreError, ExitCode.DATA_DAMAGED),
    (BlobError, ExitCode.DATA_DAMAGED),
    (TensorError, ExitCode.DATA_DAMAGED),
    (CodecError, ExitCode.DATA_DAMAGED),
    (TaskError, ExitCode.TASK),
    (ValidationError, ExitCode.USAGE),
)


def exit_code_of(error: BaseException) -> ExitCode | None:
    """The exit code of an error, or None for a bug of this program."""
    if isinstance(error, NodeError):
        return error.exit_code
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)


def file_error(error: OSError, doing: str) -> NodeError:
    """The `NodeError` of a file that a command line names: USAGE for a wrong path, else as `disk_error` has it."""
    if error.errno in _WRONG_PATH:
        return NodeError(ExitCode.USAGE, f"{doing}: {error.strerror}. Correct the path")
    return disk_error(error, doing)


def report(error: BaseException) -> int:
    """Print one line about `error` on stderr; return the exit code."""
    if isinstance(error, Interrupted):
        _print("interrupted")
        return ExitCode.INTERRUPTED
    if isinstance(error, OSError):
        error = file_error(error, str(error.filename or "a file operation"))
    code = exit_code_of(error)
    if code is None:
        _print(f"error: {type(error).__name__}: {error}. This is a bug: run `fedchain-node --debug ...` and report it")
        return 1
    _print(f"error: {' '.join(str(error).split())}")
    return code


def _print(line: str) -> None:
    make_console(stderr=True).print(line, style="red")

"""Errors that end the program, each with a numbered exit code (docs/exit-codes.md lists them)."""

import errno
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process ends with. The numbers never change their meaning."""

    OK = 0
    USAGE = 2
    CONFIG = 3
    GENESIS = 4
    KEYS = 5
    SIGNER_STATE = 6
    DATA_LOCKED = 7
    DATA_DAMAGED = 8
    PORT_IN_USE = 9
    DISK_FULL = 10
    FAULTY_MACHINE = 11
    NETWORK = 12
    TASK = 13
    VERIFY_FAILED = 14
    INTERRUPTED = 130


class NodeError(Exception):
    """This machine cannot go on. The message says what happened, to which file or peer, and what to do next (A8)."""

    def __init__(self, exit_code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def disk_error(error: OSError, doing: str) -> NodeError:
    """The `NodeError` of a failed file operation; `doing` says what was tried with which file."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "Free some space and start again: nothing signed or final is lost"
        return NodeError(ExitCode.DISK_FULL, f"{doing}: the disk is full. {advice}")
    advice = "Check the disk, the mount and the folder's permissions, then start again"
    return NodeError(ExitCode.FAULTY_MACHINE, f"{doing}: {error.strerror or error}. {advice}")

"""What a peer and its worker processes say to each other over a Unix socket.

A frame is a big-endian u32 length and that many bytes of msgpack: one array whose first item names its kind.
The worker speaks first:

    worker -> peer   ["pid", pid]
    peer -> worker   ["hello", version, task, settings as JSON]
    worker -> peer   ["ready"] or ["error", kind, reason]
    peer -> worker   ["job", job]                              one at a time
    worker -> peer   ["result", result] or ["error", kind, reason]

Closing the connection ends the worker. Both ends belong to one user of one machine (the socket's mode is 0600);
lengths and forms are checked all the same.
"""

import json
import socket
import struct
from collections.abc import Mapping
from typing import Final

import msgpack

VERSION: Final = 1
FRAME_BYTES_MAX: Final = 8 << 20  # jobs name files; models never travel here
SETTINGS_BYTES_MAX: Final = 64 << 10
REASON_CHARS_MAX: Final = 2000
WORKERS_MAX_DEFAULT: Final = 64
NICE_DEFAULT: Final = 15  # added to a worker's nice value: event loops go first
LENGTH: Final = struct.Struct(">I")

Frame = list[object]


class FrameError(Exception):
    """A frame that breaks the rules above, or a connection that ended within one."""


def encode_frame(kind: str, *values: object) -> bytes:
    """Return the bytes of a frame; raises `FrameError` where it would be too long."""
    body: bytes = msgpack.packb([kind, *values], use_bin_type=True)
    check_length(len(body))
    return LENGTH.pack(len(body)) + body


def check_length(size_bytes: int) -> None:
    """Raise `FrameError` for a length that no frame has."""
    if not 1 <= size_bytes <= FRAME_BYTES_MAX:
        raise FrameError(f"frame of {size_bytes} bytes; 1 to {FRAME_BYTES_MAX} are allowed")


def decode_body(body: bytes) -> Frame:
    """Return the array in a frame's body; raises `FrameError` for anything else."""
    try:
        frame = msgpack.unpackb(body, raw=False, strict_map_key=False)
    except ValueError as error:  # msgpack's own errors are all of this class
        raise FrameError(f"frame is not msgpack: {error}") from error
    if not isinstance(frame, list) or not frame or not isinstance(frame[0], str):
        raise FrameError("frame is not an array that begins with its kind")
    return frame


def send_frame(connection: socket.socket, kind: str, *values: object) -> None:
    """Send a frame over a blocking socket."""
    connection.sendall(encode_frame(kind, *values))


def receive_frame(connection: socket.socket) -> Frame | None:
    """Wait for a frame on a blocking socket; None when the other end closed between two frames."""
    head = _receive_exactly(connection, LENGTH.size, may_end=True)
    if head is None:
        return None
    (size_bytes,) = LENGTH.unpack(head)
    check_length(size_bytes)
    body = _receive_exactly(connection, size_bytes, may_end=False)
    return None if body is None else decode_body(body)


def encode_hello(task: str, settings: Mapping[str, object]) -> bytes:
    """Return the frame that asks for a worker for `task`, built with `settings`."""
    return encode_frame("hello", VERSION, task, encode_settings(settings))


def decode_hello(frame: Frame) -> tuple[str, dict[str, object]]:
    """Return (task, settings) of a hello frame; raises `FrameError` for another frame or version."""
    match frame:
        case ["hello", int(version), str(task), str(settings)]:
            if version != VERSION:
                raise FrameError(f"worker protocol {version}; this fork server speaks {VERSION}: restart it")
            return task, decode_settings(settings)
    raise FrameError(f"expected a hello of 4 items, not {frame[0]!r} of {len(frame)}")


def encode_settings(settings: Mapping[str, object]) -> str:
    """Return a task's settings as JSON; raises `FrameError` for what JSON doesn't hold."""
    try:
        text = json.dumps(dict(settings), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise FrameError(f"task settings are not JSON: {error}") from error
    if len(text) > SETTINGS_BYTES_MAX:
        raise FrameError(f"task settings of {len(text)} bytes; at most {SETTINGS_BYTES_MAX} are allowed")
    return text


def decode_settings(text: str) -> dict[str, object]:
    """Return the settings in a JSON object; raises `FrameError` for anything else."""
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise FrameError(f"task settings are not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise FrameError(f"task settings are not a JSON object but {type(settings).__name__}")
    return settings


def _receive_exactly(connection: socket.socket, size_bytes: int, *, may_end: bool) -> bytes | None:
    parts = bytearray()  # grows with what arrives: a length is only a claim
    while len(parts) < size_bytes:
        part = connection.recv(min(size_bytes - len(parts), 1 << 20))
        if not part:
            if may_end and not parts:
                return None
            raise FrameError(f"connection ended after {len(parts)} of {size_bytes} bytes")
        parts += part
    return bytes(parts)

"""One live connection to a member: a bounded send queue, one writer that bundles frames, and the receiver's limits.

A WebSocket message is a bundle of frames, each after its length (u32, big-endian). Bundling makes thousands of small
messages a second cheap: one task switch, one TLS record and one system call carry what one step of the core has sent.
"""

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import Callable, Iterable

from aiohttp import ClientWebSocketResponse, WebSocketError, WSMsgType, web

from node.faults import Clock, TokenBucket
from node.limits import Limits
from node.transport import PeerStats
from node.wire import GOODBYE_HEAD, Goodbye, WireError, decode, goodbye

BUNDLE_BYTES = 65_536
CLOSE_TIMEOUT_S = 1.0
_LENGTH = struct.Struct(">I")

Socket = web.WebSocketResponse[bool] | ClientWebSocketResponse[bool]


class LinkFault(Exception):
    """The member did what no correct peer does (A8); the connection cannot go on."""


class Dismissed(Exception):
    """The member said Goodbye, for the reason that this carries."""


def message_bytes_max(limits: Limits) -> int:
    """The largest WebSocket message that is accepted: a full bundle, or one frame of the largest size."""
    return limits.frame_bytes_max + BUNDLE_BYTES


def bundle(frames: Iterable[bytes]) -> bytes:
    """The WebSocket message that carries `frames`."""
    return b"".join([part for frame in frames for part in (_LENGTH.pack(len(frame)), frame)])


def split(message: bytes, frame_bytes_max: int) -> list[bytes]:
    """The frames of a WebSocket message; raises `LinkFault`."""
    frames: list[bytes] = []
    at, end = 0, len(message)
    while at < end:
        if end - at < _LENGTH.size:
            raise LinkFault("a truncated bundle of frames")
        (size,) = _LENGTH.unpack_from(message, at)
        at += _LENGTH.size
        if not 0 < size <= frame_bytes_max:
            raise LinkFault(f"a frame of {size} bytes; 1 to {frame_bytes_max} are allowed")
        if size > end - at:
            raise LinkFault("a truncated frame")
        frames.append(message[at : at + size])
        at += size
    return frames


class Link:
    """A connection after the TLS handshake. `greet` and `expect` exchange the Hellos; then `run` until it ends."""

    def __init__(self, member: bytes, socket: Socket, limits: Limits, stats: PeerStats, clock: Clock) -> None:
        self.member = member
        self.closed = False
        self._socket = socket
        self._limits = limits
        self._stats = stats
        self._queue: deque[bytes] = deque()
        self._queue_bytes = 0
        self._wake = asyncio.Event()
        self._pong = asyncio.Event()
        self._messages = TokenBucket(limits.messages_per_s_max, limits.messages_burst_max, clock)
        self._bytes = TokenBucket(limits.bytes_per_s_max, limits.bytes_burst_max, clock)

    # ------------------------------------------------------------------------------------------------- sending

    def send(self, frame: bytes) -> None:
        """Queue a frame; where the queue is full, its oldest frames are dropped and counted (never blocks)."""
        limits = self._limits
        self._queue.append(frame)
        self._queue_bytes += len(frame)
        while len(self._queue) > limits.queue_messages_max or self._queue_bytes > limits.queue_bytes_max:
            if len(self._queue) == 1:
                break
            self._queue_bytes -= len(self._queue.popleft())
            self._stats.dropped_messages += 1
        self._wake.set()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._send(self._take())

    def _take(self) -> list[bytes]:
        """The next frames: as many as fit into a bundle, and always one."""
        frames, room = [self._queue.popleft()], BUNDLE_BYTES
        room -= len(frames[0])
        while self._queue and len(self._queue[0]) <= room:
            frames.append(self._queue.popleft())
            room -= len(frames[-1])
        self._queue_bytes -= BUNDLE_BYTES - room
        return frames

    async def _send(self, frames: list[bytes]) -> None:
        message = bundle(frames)
        await self._socket.send_bytes(message)
        self._stats.sent_bytes += len(message)
        self._stats.sent_messages += len(frames)

    # ----------------------------------------------------------------------------------------------- receiving

    async def _receive(self) -> list[bytes] | None:
        """The frames of the next message; None at the end. Raises `LinkFault`."""
        message = await self._socket.receive()
        if message.type is WSMsgType.BINARY:
            return self._accept(message.data)
        if message.type is WSMsgType.PING:
            self._accept(b"")
            await self._socket.pong(message.data)
            return []
        if message.type is WSMsgType.PONG:
            self._pong.set()
            return []
        if message.type is WSMsgType.ERROR and isinstance(message.data, WebSocketError):
            raise LinkFault(f"broken WebSocket framing or a frame too long: {message.data}")
        if message.type is WSMsgType.TEXT:
            raise LinkFault("a text message on a binary connection")
        return None

    def _accept(self, data: bytes) -> list[bytes]:
        frames = split(data, self._limits.frame_bytes_max)
        self._stats.received_bytes += len(data)
        self._stats.received_messages += len(frames)
        if not (self._messages.take(len(frames) or 1) and self._bytes.take(len(data))):
            raise LinkFault("a flood of messages")
        return frames

    async def greet(self, frame: bytes) -> None:
        """Send one frame at once, before `run`."""
        await self._send([frame])

    async def expect(self) -> bytes:
        """The first frame of the other side; raises `LinkFault`, `Dismissed`, or `ConnectionError` at the end."""
        while (frames := await self._receive()) is not None:
            if len(frames) > 1:
                raise LinkFault("more than a Hello before mine was answered")
            if frames:
                _check_dismissed(frames[0])
                return frames[0]
        raise ConnectionResetError("the connection ended before a Hello")

    async def run(self, on_frame: Callable[[bytes, bytes], None]) -> None:
        """Send what is queued and hand over what comes, until the connection ends, which it has when this returns.

        Raises `LinkFault` and `Dismissed`.
        """
        writer = asyncio.create_task(self._write(), name=f"write-{self.member.hex()[:8]}")
        try:
            while not self.closed and (frames := await self._receive()) is not None:
                for frame in frames:
                    if self.closed:
                        return
                    _check_dismissed(frame)
                    on_frame(self.member, frame)
        finally:
            self.closed = True
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await self._shut()

    async def answers(self, timeout_s: float) -> bool:
        """Whether the other end still answers a ping; `run` must be running."""
        self._pong.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._socket.ping()
                await self._pong.wait()
        except (OSError, TimeoutError):
            return False
        return not self.closed

    async def close(self, reason: str | None = None) -> None:
        """Say Goodbye, if there is a reason, and close; nothing that comes after this call is handed over."""
        self.closed = True
        if reason is not None:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._send([goodbye(reason)])
        await self._shut()

    async def _shut(self) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):
                await self._socket.close()


def _check_dismissed(frame: bytes) -> None:
    if not frame.startswith(GOODBYE_HEAD):
        return
    try:
        message = decode(frame)
    except WireError as error:
        raise LinkFault(str(error)) from error
    if isinstance(message, Goodbye):
        raise Dismissed(message.reason)

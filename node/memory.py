"""The in-memory twin of `TlsTransport`: the same interface, frames delivered one by one in the order of sending."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from node.faults import FaultBook
from node.limits import Limits
from node.transport import BlobHead, FetchError, FetchKind, Handler, PeerStats, Refused

T = TypeVar("T")


class MemoryNetwork:
    """Connects the transports that it makes; a pair can be cut and healed. Everything runs in one event loop."""

    def __init__(self, limits: Limits | None = None, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.limits = limits or Limits()
        self.clock = clock
        self._members: dict[bytes, MemoryTransport] = {}
        self._cuts: set[frozenset[bytes]] = set()
        self._frames: deque[tuple[bytes, bytes, bytes]] = deque()
        self._scheduled = False

    def transport(self, member: bytes) -> "MemoryTransport":
        """The transport of `member`, not yet started; a restarted member gets a new one."""
        return MemoryTransport(self, member)

    def cut(self, one: bytes, other: bytes) -> None:
        """Break the link of a pair; frames under way are lost."""
        self.disconnect(one, other)
        self._cuts.add(frozenset((one, other)))

    def heal(self, one: bytes, other: bytes) -> None:
        """Undo `cut`."""
        self._cuts.discard(frozenset((one, other)))
        self._connect(one, other)

    def find(self, asker: bytes, member: bytes) -> "MemoryTransport":
        """The started transport that `asker` can reach; raises `FetchError`."""
        found = self._members.get(member)
        if found is None or frozenset((asker, member)) in self._cuts:
            raise FetchError(FetchKind.UNREACHABLE, "not connected")
        if found.banned_for_s(asker) > 0 or self._members[asker].banned_for_s(member) > 0:
            raise FetchError(FetchKind.REFUSED, "banned for repeated faults")
        return found

    def join(self, transport: "MemoryTransport") -> None:
        self._members[transport.me] = transport
        for member in sorted(self._members):
            self._connect(transport.me, member)

    def leave(self, transport: "MemoryTransport") -> None:
        for member in sorted(self._members):
            self.disconnect(transport.me, member)
        self._members.pop(transport.me, None)

    def _connect(self, one: bytes, other: bytes) -> None:
        ends = [self._members.get(member) for member in sorted((one, other))]
        if one == other or frozenset((one, other)) in self._cuts or None in ends:
            return
        low, high = (end for end in ends if end is not None)
        if low.banned_for_s(high.me) == 0 and high.banned_for_s(low.me) == 0:
            low.up(high.me)
            high.up(low.me)

    def disconnect(self, one: bytes, other: bytes) -> None:
        """Break the link of a pair until it is healed or one of them starts anew; frames under way are lost."""
        if one == other:
            return
        for member, peer in sorted(((one, other), (other, one))):
            if member in self._members:
                self._members[member].down(peer)
        pair = {one, other}
        self._frames = deque(item for item in self._frames if {item[0], item[1]} != pair)

    def post(self, sender: bytes, receiver: bytes, frame: bytes) -> None:
        """Deliver the frame in a later turn of the loop."""
        self._frames.append((sender, receiver, frame))
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and self._frames:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        sender, receiver, frame = self._frames.popleft() if self._frames else (b"", b"", b"")
        if receiver in self._members:
            self._members[receiver].receive(sender, frame)
        self._schedule()


class MemoryTransport:
    """One member's end; see `node.transport.Transport`."""

    def __init__(self, network: MemoryNetwork, me: bytes) -> None:
        self.me = me
        self._network = network
        self._handler: Handler | None = None
        self._up: set[bytes] = set()
        self._stats: dict[bytes, PeerStats] = {}
        limits = network.limits
        self._faults = FaultBook(limits.faults_max, limits.fault_decay_s, limits.ban_s, network.clock)

    async def start(self, handler: Handler) -> None:
        self._handler = handler
        self._network.join(self)

    async def stop(self) -> None:
        self._network.leave(self)
        self._handler = None

    def up(self, member: bytes) -> None:
        """Called by the network: the link to `member` stands."""
        if member not in self._up and self._handler is not None:
            self._up.add(member)
            self.stats(member).connects += 1
            self._handler.on_up(member)

    def down(self, member: bytes) -> None:
        """Called by the network: the link to `member` is gone."""
        if member in self._up and self._handler is not None:
            self._up.remove(member)
            self._handler.on_down(member)

    def receive(self, sender: bytes, frame: bytes) -> None:
        """Called by the network: a frame has arrived."""
        if sender not in self._up or self._handler is None:
            return
        stats = self.stats(sender)
        stats.received_bytes += len(frame)
        stats.received_messages += 1
        if len(frame) > self._network.limits.frame_bytes_max:
            self.fault(sender, "a frame too long")
        else:
            self._handler.on_frame(sender, frame)

    def send(self, member: bytes, frame: bytes) -> bool:
        if member not in self._up:
            return False
        stats = self.stats(member)
        stats.sent_bytes += len(frame)
        stats.sent_messages += 1
        self._network.post(self.me, member, frame)
        return True

    def broadcast(self, frame: bytes) -> None:
        for member in self.connected():
            self.send(member, frame)

    def connected(self) -> list[bytes]:
        return sorted(self._up)

    def stats(self, member: bytes) -> PeerStats:
        return self._stats.setdefault(member, PeerStats())

    def banned_for_s(self, member: bytes) -> float:
        return self._faults.banned_for_s(member)

    def fault(self, member: bytes, reason: str) -> None:
        stats = self.stats(member)
        stats.faults += 1
        if self._faults.add(member):  # A8
            stats.bans += 1
            self._network.disconnect(self.me, member)

    async def fetch_head(self, member: bytes, blob: bytes, chunks_max: int) -> BlobHead:
        handler = await self._serving(member)
        return _served(lambda: handler.serve_head(self.me, blob))

    async def fetch_chunk(self, member: bytes, blob: bytes, index: int) -> bytes:
        handler = await self._serving(member)
        return _served(lambda: handler.serve_chunk(self.me, blob, index))

    async def fetch_batches(self, member: bytes, height: int) -> list[bytes]:
        handler = await self._serving(member)
        return handler.serve_batches(self.me, height, self._network.limits.batches_bytes_max)

    async def _serving(self, member: bytes) -> Handler:
        await asyncio.sleep(0)
        found = self._network.find(self.me, member)._handler
        assert found is not None
        return found


def _served(work: Callable[[], T | None]) -> T:
    try:
        result = work()
    except Refused as refused:
        raise FetchError(FetchKind.REFUSED, str(refused)) from refused
    if result is None:
        raise FetchError(FetchKind.MISSING, "not here")
    return result

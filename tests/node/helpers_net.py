"""Shared by the tests of the network side: members with real keys, a handler that records, transports on loopback."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ledger.blobs import BlobStore
from node.exchange import read_head
from node.keyfiles import KeyFolder, new_keys
from node.limits import Limits
from node.transport import BlobHead, Peer, Refused
from node.transport_tls import TlsTransport

CHAIN = bytes(range(32))
QUICK = Limits(backoff_min_s=0.01, backoff_max_s=0.05, backoff_long_s=0.05, answer_timeout_s=0.5, settled_s=0.01)
WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Member:
    """A member's public half and where its key files are."""

    key: bytes
    files: KeyFolder
    peer: Peer


def make_members(folder: Path, count: int) -> list[Member]:
    """New members by key, lowest first; their endpoints lead nowhere until `at` sets them."""
    members: list[Member] = []
    for number in range(count):
        public = new_keys(folder / f"m{number}", f"m{number}")
        peer = Peer(f"m{number}", "127.0.0.1:1", public.certificate)
        members.append(Member(public.member, KeyFolder(folder / f"m{number}"), peer))
    return sorted(members, key=lambda member: member.key)


def peers_of(members: Sequence[Member], ports: Mapping[bytes, int]) -> dict[bytes, Peer]:
    """What genesis would say, with the ports that are known."""
    return {m.key: replace(m.peer, endpoint=f"127.0.0.1:{ports.get(m.key, 1)}") for m in members}


class Recorder:
    """A handler that notes what happens, and serves the blobs and batches that it is given."""

    def __init__(self, store: BlobStore | None = None) -> None:
        self.log: list[tuple[str, bytes]] = []
        self.frames: dict[bytes, list[bytes]] = defaultdict(list)
        self.asked: list[tuple[str, int]] = []
        self.batches: list[bytes] = []
        self.refused = False
        self.fails_from = 10**9
        self.damage: Callable[[bytes], bytes] = lambda chunk: chunk
        self._store = store
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def on_up(self, member: bytes) -> None:
        self._note("up", member)

    def on_down(self, member: bytes) -> None:
        self._note("down", member)

    def on_frame(self, member: bytes, frame: bytes) -> None:
        self.frames[member].append(frame)
        self._changed.set()

    def serve_head(self, member: bytes, blob: bytes) -> BlobHead | None:
        self._ask("head", 0)
        head = read_head(self._store, blob) if self._store else None
        return BlobHead(head.digests, self.damage(head.first)) if head else None

    def serve_chunk(self, member: bytes, blob: bytes, index: int) -> bytes | None:
        self._ask("chunk", index)
        if index >= self.fails_from:
            return None
        chunk = self._store.read_chunk(blob, index) if self._store else None
        return None if chunk is None else self.damage(chunk)

    def serve_batches(self, member: bytes, height: int, bytes_max: int) -> list[bytes]:
        self._ask("batches", height)
        return self.batches

    def _ask(self, what: str, number: int) -> None:
        self.asked.append((what, number))
        self._loop.call_soon_threadsafe(self._changed.set)
        if self.refused:
            raise Refused("only the committee may have it now")

    def _note(self, what: str, member: bytes) -> None:
        self.log.append((what, member))
        self._changed.set()

    def ups(self, member: bytes) -> int:
        return self.log.count(("up", member))

    def downs(self, member: bytes) -> int:
        return self.log.count(("down", member))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when `holds()`, which only what this handler hears can change."""
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


def make_transport(
    me: Member,
    members: Sequence[Member],
    ports: Mapping[bytes, int],
    *,
    listen: str = "127.0.0.1:0",
    chain: bytes = CHAIN,
    limits: Limits = QUICK,
) -> TlsTransport:
    """A transport of `me`, not yet started, which knows `members` at `ports`."""
    return TlsTransport(
        me.key,
        certificate=me.files.transport_certificate,
        key=me.files.transport_key,
        members=peers_of(members, ports),
        listen=listen,
        chain=chain,
        limits=limits,
        height=lambda: 7,
    )


class Logged(logging.Handler):
    """A log handler on which a test can wait for a line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._changed = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {getattr(record, 'fields', {})}")
        self._changed.set()

    async def until(self, text: str) -> None:
        """Return when a line holds `text`."""
        async with asyncio.timeout(WAIT_S):
            while not any(text in line for line in self.lines):
                self._changed.clear()
                await self._changed.wait()


@contextmanager
def logged() -> Iterator[Logged]:
    """What the network side logs meanwhile."""
    handler, root = Logged(), logging.getLogger("node")
    root.addHandler(handler)
    try:
        yield handler
    finally:
        root.removeHandler(handler)


@asynccontextmanager
async def running(transport: TlsTransport, handler: Recorder) -> AsyncIterator[TlsTransport]:
    """The transport, started, and stopped at the end."""
    await transport.start(handler)
    try:
        yield transport
    finally:
        await transport.stop()


@dataclass(frozen=True, slots=True)
class Pair:
    """Two members that are connected: `low` has dialled `high`."""

    low: Member
    high: Member
    low_side: TlsTransport
    high_side: TlsTransport
    low_heard: Recorder
    high_heard: Recorder


@asynccontextmanager
async def connected_pair(
    members: Sequence[Member],
    *,
    limits: Limits = QUICK,
    high_limits: Limits | None = None,
    store: BlobStore | None = None,
) -> AsyncIterator[Pair]:
    """The first two members, connected; the high one serves `store`."""
    low, high = members[:2]
    low_heard, high_heard = Recorder(), Recorder(store)
    async with running(make_transport(high, members, {}, limits=high_limits or limits), high_heard) as high_side:
        low_side = make_transport(low, members, {high.key: high_side.port}, limits=limits)
        async with running(low_side, low_heard):
            await low_heard.until(lambda: low_heard.ups(high.key) == 1)
            await high_heard.until(lambda: high_heard.ups(low.key) == 1)
            yield Pair(low, high, low_side, high_side, low_heard, high_heard)

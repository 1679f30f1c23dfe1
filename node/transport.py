"""The contract between the peer and its transport: `TlsTransport` over the network, `MemoryTransport` in tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Peer:
    """What genesis says of a member that the transport needs: its name, where it listens, its certificate (DER)."""

    name: str
    endpoint: str
    certificate: bytes


class FetchKind(StrEnum):
    """Why nothing was fetched, which decides what to do: ask another, ask again later, or punish."""

    MISSING = "missing"
    REFUSED = "refused"
    BUSY = "busy"
    UNREACHABLE = "unreachable"
    BAD = "bad"


class FetchError(Exception):
    """A member did not serve what was asked of it; BAD means that its answer was malformed (A8)."""

    def __init__(self, kind: FetchKind, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind = kind
        self.reason = reason


class Refused(Exception):
    """Raised by a handler's `serve_` methods: this member may not have it now (B4)."""


@dataclass(frozen=True, slots=True)
class BlobHead:
    """The first answer about a blob: its concatenated chunk digests (32 bytes each) and its chunk 0, so that a blob of
    one chunk costs one request (B1)."""

    digests: bytes
    first: bytes


@dataclass(slots=True)
class PeerStats:
    """Counters of one member since start; bytes are those of frames and bodies, before TLS."""

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_messages: int = 0
    received_messages: int = 0
    dropped_messages: int = 0
    connects: int = 0
    faults: int = 0
    bans: int = 0
    height: int = 0


class Handler(Protocol):
    """The peer behind a transport. The `on_` methods run in the event loop and must not block."""

    def on_up(self, member: bytes) -> None:
        """The member is connected and has said a valid Hello."""

    def on_down(self, member: bytes) -> None:
        """It no longer is."""

    def on_frame(self, member: bytes, frame: bytes) -> None:
        """One frame of the member, within the size limit, not decoded."""

    def serve_head(self, member: bytes, blob: bytes) -> BlobHead | None:
        """Digests and chunk 0; None when the blob is not here; raises `Refused` (B4). In a worker thread: read only."""

    def serve_chunk(self, member: bytes, blob: bytes, index: int) -> bytes | None:
        """Chunk `index`; None when it is not here; raises `Refused` (B4). In a worker thread: read only."""

    def serve_batches(self, member: bytes, height: int, bytes_max: int) -> list[bytes]:
        """Encoded final batches from the one that holds block `height`; the first whatever its size, then as many as
        fit into `bytes_max` (Y1). In a worker thread: read only."""


class Transport(Protocol):
    """Authenticated links to the other members, and fetches from them."""

    async def start(self, handler: Handler) -> None:
        """Listen and connect."""

    async def stop(self) -> None:
        """Close everything; when it returns, no task and no socket is left."""

    def send(self, member: bytes, frame: bytes) -> bool:
        """Queue a frame; False when the member is not connected. Never blocks; a full queue drops its oldest frame."""

    def broadcast(self, frame: bytes) -> None:
        """Queue a frame for every connected member."""

    async def fetch_head(self, member: bytes, blob: bytes, chunks_max: int) -> BlobHead:
        """The blob's digests, at most `chunks_max`, and its chunk 0, unchecked; raises `FetchError`."""

    async def fetch_chunk(self, member: bytes, blob: bytes, index: int) -> bytes:
        """Chunk `index`, at most 1 MiB, unchecked; raises `FetchError`."""

    async def fetch_batches(self, member: bytes, height: int) -> list[bytes]:
        """Encoded final batches from `height` on, unchecked; raises `FetchError`."""

    def fault(self, member: bytes, reason: str) -> None:
        """Count a fault of the member; at the threshold it is banned for a while (A8)."""

    def connected(self) -> Sequence[bytes]:
        """The connected members, by key."""

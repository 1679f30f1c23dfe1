"""The transport over the network: WebSocket for control frames, HTTPS for blobs and batches, mutual TLS 1.3."""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ledger.blobs import CHUNK_BYTES
from ledger.codec import CodecError, pack, unpack
from ledger.keys import HASH_BYTES
from node.endpoint import Endpoint
from node.faults import Clock
from node.greeting import Greeter
from node.limits import Limits
from node.logs import get_log
from node.switchboard import Switchboard
from node.tls import TlsIdentity
from node.transport import BlobHead, FetchError, FetchKind, Handler, Peer, PeerStats
from node.transport_client import Dialler, Fetcher, client_session
from node.transport_server import BATCHES_PATH, BLOBS_PATH, Server

log = get_log(__name__)

COUNT_BYTES = 4


class TlsTransport:
    """Links to all members: the lower key dials the higher one, so that a pair has one connection."""

    def __init__(
        self,
        me: bytes,
        *,
        certificate: Path,
        key: Path,
        members: Mapping[bytes, Peer],
        listen: str,
        chain: bytes,
        limits: Limits | None = None,
        height: Callable[[], int] = lambda: 0,
        clock: Clock = time.monotonic,
    ) -> None:
        """`me` is this peer's member key, `members` all members with it; `height` is the tip that Hello tells.

        Raises `NodeError` KEYS or GENESIS (see `TlsIdentity`), `ValueError` for `listen`.
        """
        self.strangers = 0
        self._board = Switchboard(me, members, limits or Limits(), clock)
        certificates = {member: peer.certificate for member, peer in members.items()}
        self._tls = TlsIdentity(certificate, key, certificates, self._on_stranger)
        self._greeter = Greeter(self._board, chain, height)
        self._server = Server(self._board, self._tls, self._greeter, Endpoint.parse(listen))
        self._dials: dict[bytes, asyncio.Task[None]] = {}
        self._knocks: list[asyncio.Task[None]] = []
        self._dialler: Dialler | None = None
        self._fetcher: Fetcher | None = None

    @property
    def port(self) -> int:
        """The port that is listened on, also where `listen` asked for any free one."""
        return self._server.port

    async def start(self, handler: Handler) -> None:
        """Listen and dial; raises `NodeError` PORT_IN_USE or NETWORK."""
        self._board.handler = handler
        await self._server.start()
        limits = self._board.limits
        self._links_session = client_session(0)
        self._fetch_session = client_session(limits.fetches_max)
        self._dialler = Dialler(self._board, self._tls, self._greeter, self._links_session)
        self._fetcher = Fetcher(self._board, self._tls, self._fetch_session)
        self._dial()
        for member in self._board.peers:
            if member < self._board.me:
                self._knocks.append(asyncio.create_task(self._fetcher.knock(member)))

    def _dial(self) -> None:
        assert self._dialler is not None
        for member in self._board.peers:
            if member > self._board.me and member not in self._dials:
                name = f"dial-{member.hex()[:8]}"
                self._dials[member] = asyncio.create_task(self._dialler.keep(member), name=name)

    async def stop(self) -> None:
        """Close every link, session and the port."""
        self._board.closing = True
        tasks = [*self._dials.values(), *self._knocks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._dials.clear()
        await self._board.close()
        await self._server.stop()
        if self._fetcher is not None:
            await self._links_session.close()
            await self._fetch_session.close()

    def set_members(self, members: Mapping[bytes, Peer]) -> None:
        """The members have changed (S4): trust, dial and serve these from now on."""
        self._tls.set_members({member: peer.certificate for member, peer in members.items()})
        self._board.set_peers(members)
        for member in [member for member in self._dials if member not in members]:
            self._dials.pop(member).cancel()
        if self._dialler is not None:
            self._dial()

    def _on_stranger(self, reason: str) -> None:
        """A8: a stranger cannot fill the log; each power of two is told."""
        self.strangers += 1
        if self.strangers & (self.strangers - 1) == 0:
            log.warning("a stranger's connection was refused", reason=reason, strangers=self.strangers)

    # --------------------------------------------------------------------------------------------------- links

    def send(self, member: bytes, frame: bytes) -> bool:
        return self._board.send(member, frame)

    def broadcast(self, frame: bytes) -> None:
        self._board.broadcast(frame)

    def connected(self) -> list[bytes]:
        return self._board.connected()

    def fault(self, member: bytes, reason: str) -> None:
        self._board.fault(member, reason)

    def banned_for_s(self, member: bytes) -> float:
        """Seconds until the member's ban ends; 0 when it is not banned."""
        return self._board.banned_for_s(member)

    def stats(self, member: bytes) -> PeerStats:
        """The member's counters since this transport was made."""
        return self._board.stats(member)

    # ------------------------------------------------------------------------------------------------- fetches

    async def fetch_head(self, member: bytes, blob: bytes, chunks_max: int) -> BlobHead:
        bytes_max = COUNT_BYTES + HASH_BYTES * chunks_max + CHUNK_BYTES
        body = await self._get(member, f"{BLOBS_PATH}/{blob.hex()}", bytes_max)
        end = COUNT_BYTES + int.from_bytes(body[:COUNT_BYTES], "big")
        if len(body) < end or end > COUNT_BYTES + HASH_BYTES * chunks_max or len(body) - end > CHUNK_BYTES:
            raise self._bad(member, "a blob's head that is not well formed")
        return BlobHead(body[COUNT_BYTES:end], body[end:])

    async def fetch_chunk(self, member: bytes, blob: bytes, index: int) -> bytes:
        return await self._get(member, f"{BLOBS_PATH}/{blob.hex()}/{index}", CHUNK_BYTES)

    async def fetch_batches(self, member: bytes, height: int) -> list[bytes]:
        limits = self._board.limits
        # One batch is served whatever its size; it travelled in a frame once, and its certificate is smaller.
        bytes_max = 2 * limits.frame_bytes_max + limits.batches_bytes_max
        body = await self._get(member, BATCHES_PATH, bytes_max, f"from={height}")
        try:
            batches = unpack(body)
            if not all(type(batch) is bytes for batch in batches) or pack(batches) != body:
                raise CodecError("not a list of batches")
        except (CodecError, MemoryError) as error:
            raise self._bad(member, f"batches that are not well formed: {error}") from error
        return list(batches)

    async def _get(self, member: bytes, path: str, bytes_max: int, query: str = "") -> bytes:
        if self._fetcher is None:
            raise FetchError(FetchKind.UNREACHABLE, "the transport is not started")
        try:
            return await self._fetcher.get(member, path, bytes_max, query)
        except FetchError as error:
            if error.kind is FetchKind.BAD:
                self.fault(member, error.reason)
            raise

    def _bad(self, member: bytes, reason: str) -> FetchError:
        self.fault(member, reason)
        return FetchError(FetchKind.BAD, reason)

"""The listening side: control connections, blobs and batches on one TLS port, for members only."""

import asyncio
import errno
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import TypeVar

from aiohttp import web

from ledger.codec import pack
from ledger.types import ROUND_MAX, SLOTS_MAX
from node.endpoint import Endpoint
from node.errors import ExitCode, NodeError
from node.gate import Gate
from node.greeting import Greeter
from node.logs import get_log
from node.switchboard import Switchboard
from node.tls import TlsIdentity
from node.transport import BlobHead, Refused
from node.transport_link import CLOSE_TIMEOUT_S, Dismissed, Link, LinkFault, message_bytes_max

log = get_log(__name__)

STREAM_PATH = "/p2p/v1/stream"
BLOBS_PATH = "/p2p/v1/blobs"
BATCHES_PATH = "/p2p/v1/batches"
KNOCK_PATH = "/p2p/v1/knock"
HANDSHAKE_TIMEOUT_S = 10.0
KEEPALIVE_S = 75.0
BACKLOG = 128
HEIGHT_MAX = ROUND_MAX * SLOTS_MAX

SERVED_AT_ONCE_MAX = 2  # of one member's requests; the others wait for their turn
BATCHES_AT_ONCE_MAX = 1  # of all: encoding them takes the interpreter from the event loop

T = TypeVar("T")
Route = Callable[[bytes, web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Serves the members from `listen` on; `port` is the real one after `start`."""

    def __init__(self, board: Switchboard, tls: TlsIdentity, greeter: Greeter, listen: Endpoint) -> None:
        self.port = listen.port
        self._board = board
        self._tls = tls
        self._greeter = greeter
        self._listen = listen
        self._runner: web.AppRunner | None = None
        self._socket: asyncio.Server | None = None
        self._requests: Counter[bytes] = Counter()
        self._turns: dict[bytes, asyncio.Semaphore] = {}
        self._batch_turns = asyncio.Semaphore(BATCHES_AT_ONCE_MAX)

    async def start(self) -> None:
        """Listen; raises `NodeError` PORT_IN_USE or NETWORK."""
        app = web.Application()
        app.router.add_get(STREAM_PATH, self._members_only(self._stream))
        app.router.add_get(BLOBS_PATH + "/{blob:[0-9a-f]{64}}", self._members_only(self._head))
        app.router.add_get(BLOBS_PATH + "/{blob:[0-9a-f]{64}}/{index:[0-9]{1,7}}", self._members_only(self._chunk))
        app.router.add_get(BATCHES_PATH, self._members_only(self._batches))
        app.router.add_get(KNOCK_PATH, self._members_only(self._knock))
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, keepalive_timeout=KEEPALIVE_S, shutdown_timeout=CLOSE_TIMEOUT_S
        )
        await runner.setup()
        try:
            self._socket = await self._bind(runner)
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = self._socket.sockets[0].getsockname()[1]

    async def _bind(self, runner: web.AppRunner) -> asyncio.Server:
        listen = self._listen
        server = runner.server
        assert server is not None
        gate = Gate(self._tls.member_of)
        try:
            return await asyncio.get_running_loop().create_server(
                lambda: gate.guard(server()),
                listen.host,
                listen.port,
                ssl=self._tls.server_context,
                backlog=BACKLOG,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                message = f"{listen}: the port is in use. Stop the other program or change [peer] listen in config.toml"
                raise NodeError(ExitCode.PORT_IN_USE, message) from error
            message = f"{listen}: cannot listen: {error.strerror or error}. Correct [peer] listen in config.toml"
            raise NodeError(ExitCode.NETWORK, message) from error

    async def stop(self) -> None:
        """Close the port, then what is still open."""
        if self._socket is not None and self._runner is not None:
            self._socket.close()
            await self._runner.cleanup()
            await self._socket.wait_closed()
            self._socket = self._runner = None

    # ------------------------------------------------------------------------------------------------- routes

    def _members_only(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def checked(request: web.Request) -> web.StreamResponse:
            ssl_object: ssl.SSLObject | None = request.get_extra_info("ssl_object")
            member = self._tls.member_of(ssl_object)
            if member is None:
                raise web.HTTPForbidden(text="your certificate is not that of a member")
            if self._board.banned_for_s(member) > 0:
                raise web.HTTPForbidden(text="banned for repeated faults")
            if self._requests[member] >= self._board.limits.requests_per_peer_max:
                raise web.HTTPTooManyRequests(text="too many requests at once")
            self._requests[member] += 1
            try:
                return await route(member, request)
            finally:
                self._requests[member] -= 1

        return checked

    async def _head(self, member: bytes, request: web.Request) -> web.StreamResponse:
        handler, blob = self._board.handler, bytes.fromhex(request.match_info["blob"])
        assert handler is not None
        head: BlobHead | None = await self._serve(member, lambda: handler.serve_head(member, blob))
        if head is None:
            raise web.HTTPNotFound(text="this blob is not here")
        count = len(head.digests).to_bytes(4, "big")
        return self._reply(member, count + head.digests + head.first)

    async def _chunk(self, member: bytes, request: web.Request) -> web.StreamResponse:
        handler, blob = self._board.handler, bytes.fromhex(request.match_info["blob"])
        index = int(request.match_info["index"])
        assert handler is not None
        chunk = await self._serve(member, lambda: handler.serve_chunk(member, blob, index))
        if chunk is None:
            raise web.HTTPNotFound(text="this chunk is not here")
        return self._reply(member, chunk)

    async def _batches(self, member: bytes, request: web.Request) -> web.StreamResponse:
        handler, limits = self._board.handler, self._board.limits
        text = request.query.get("from", "")
        if not (text.isascii() and text.isdecimal() and len(text) <= 20 and int(text) <= HEIGHT_MAX):
            raise web.HTTPBadRequest(text="from=HEIGHT is needed")
        assert handler is not None
        work = partial(handler.serve_batches, member, int(text), limits.batches_bytes_max)
        batches = await self._serve(member, work, self._batch_turns)
        return self._reply(member, pack(batches))

    async def _serve(self, member: bytes, work: Callable[[], T], turns: asyncio.Semaphore | None = None) -> T:
        """Read in a worker thread: the disk may be slow, and the loop must not wait for it. A member's requests wait
        for each other, so that a flood of them takes neither all threads nor the interpreter (A8)."""
        mine = self._turns.setdefault(member, asyncio.Semaphore(SERVED_AT_ONCE_MAX))
        try:
            async with mine, turns or nullcontext():
                return await asyncio.get_running_loop().run_in_executor(None, work)
        except Refused as refused:
            raise web.HTTPForbidden(text=str(refused)) from refused

    def _reply(self, member: bytes, body: bytes) -> web.Response:
        self._board.stats(member).sent_bytes += len(body)
        return web.Response(body=body, content_type="application/octet-stream")

    async def _knock(self, member: bytes, request: web.Request) -> web.StreamResponse:
        """A member that has just started says so: whoever dials it need not wait for the end of its backoff."""
        self._board.wake(member).set()
        return web.Response(status=204)

    # ------------------------------------------------------------------------------------------------- stream

    async def _stream(self, member: bytes, request: web.Request) -> web.StreamResponse:
        limits = self._board.limits
        socket = web.WebSocketResponse(
            heartbeat=limits.heartbeat_s,
            autoping=False,
            compress=False,
            max_msg_size=message_bytes_max(limits),
            timeout=CLOSE_TIMEOUT_S,
        )
        if self._board.closing:
            raise web.HTTPServiceUnavailable(text="this peer is stopping")
        await socket.prepare(request)
        link = Link(member, socket, limits, self._board.stats(member), self._board.clock)
        try:
            if await self._welcome(link):
                await self._serve_link(link)
        except Dismissed as dismissed:
            name, reason = self._board.name(member), str(dismissed)
            log.warning("a peer closed the connection", source=member.hex(), peer=name, reason=reason)
        finally:
            await link.close()
        return socket

    async def _serve_link(self, link: Link) -> None:
        self._requests[link.member] -= 1  # greeted, it counts as a connection, of which there is one a member
        try:
            await self._board.serve(link)
        finally:
            self._requests[link.member] += 1

    async def _welcome(self, link: Link) -> bool:
        """Hello and Hello; False when the connection was refused or ended."""
        member = link.member
        try:
            reason = await self._greeter.welcome(link)
        except LinkFault as fault:
            self._board.fault(member, str(fault))
            return False
        except (OSError, TimeoutError):
            return False
        if reason is not None:
            log.warning("connection refused", source=member.hex(), peer=self._board.name(member), reason=reason)
            await link.close(reason)
        return reason is None

"""The dialling side: one task a member with a higher key, and HTTPS requests to any member."""

import asyncio
import os
import ssl
from dataclasses import dataclass

import aiohttp
from yarl import URL

from node.endpoint import Endpoint
from node.greeting import Greeter
from node.limits import Limits
from node.logs import get_log
from node.switchboard import Switchboard
from node.tls import TlsIdentity
from node.transport import FetchError, FetchKind
from node.transport_link import CLOSE_TIMEOUT_S, Dismissed, Link, LinkFault, message_bytes_max
from node.transport_server import KNOCK_PATH, STREAM_PATH

log = get_log(__name__)

KEEPALIVE_S = 30.0
REASON_BYTES_MAX = 200
_KINDS = {403: FetchKind.REFUSED, 404: FetchKind.MISSING, 429: FetchKind.BUSY, 503: FetchKind.BUSY}


def url(scheme: str, endpoint: str, path: str, query: str = "") -> URL:
    """The address of `path` at a peer's endpoint; raises `ValueError` when that is none."""
    where = Endpoint.parse(endpoint)
    return URL.build(scheme=scheme, host=where.host, port=where.port, path=path, query_string=query)


def client_session(limit_per_host: int) -> aiohttp.ClientSession:
    """A session that resolves names anew for each connection and uses no proxy, cookie or redirect."""
    connector = aiohttp.TCPConnector(
        limit=0, limit_per_host=limit_per_host, use_dns_cache=False, keepalive_timeout=KEEPALIVE_S
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)


@dataclass(slots=True)
class Backoff:
    """Seconds until the next try: doubling from the least to the most, and back after success."""

    limits: Limits
    next_s: float = 0.0

    def step(self) -> float:
        """The wait before the next try."""
        wait = max(self.next_s, self.limits.backoff_min_s)
        self.next_s = min(2 * wait, self.limits.backoff_max_s)
        return wait

    def reset(self) -> None:
        self.next_s = 0.0


class Dialler:
    """Keeps one member connected for as long as it is one."""

    def __init__(self, board: Switchboard, tls: TlsIdentity, greeter: Greeter, session: aiohttp.ClientSession) -> None:
        self._board = board
        self._tls = tls
        self._greeter = greeter
        self._session = session
        self._said: dict[bytes, str] = {}

    async def keep(self, member: bytes) -> None:
        """Dial, serve the link until it ends, wait, and so on; runs until it is cancelled."""
        board = self._board
        backoff = Backoff(board.limits)
        while member in board.peers:
            wake = board.wake(member)
            wake.clear()
            patient = await self._once(member, backoff)
            if patient or board.banned_for_s(member) > 0:
                await asyncio.sleep(max(board.limits.backoff_long_s, board.banned_for_s(member)))
            else:
                await _wait(wake, backoff.step())

    async def _once(self, member: bytes, backoff: Backoff) -> bool:
        """One connection from dialling to its end; True when it is not worth trying again soon."""
        try:
            link = await self._dial(member)
            try:
                await self._greeter.approach(link)
                await self._serve(link, backoff)
            finally:
                await link.close()
        except Dismissed as dismissed:
            self._say(member, f"refused: {dismissed}")
            return True
        except LinkFault as fault:
            self._board.fault(member, str(fault))
        except ssl.SSLCertVerificationError as error:
            self._say(member, self._wrong_certificate(error))
            return True
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._say(member, _why(error))
        return False

    async def _serve(self, link: Link, backoff: Backoff) -> None:
        self._said.pop(link.member, None)
        started_s = self._board.clock()
        try:
            await self._board.serve(link)
        finally:
            # A link that ends at once is no success: it would be dialled twenty times a second.
            if self._board.clock() - started_s >= self._board.limits.settled_s:
                backoff.reset()

    async def _dial(self, member: bytes) -> Link:
        limits = self._board.limits
        async with asyncio.timeout(limits.dial_timeout_s):
            socket = await self._session.ws_connect(
                url("https", self._board.peers[member].endpoint, STREAM_PATH),
                ssl=self._tls.client_context,
                heartbeat=limits.heartbeat_s,
                autoping=False,
                compress=0,
                max_msg_size=message_bytes_max(limits),
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
            )
        reached = self._tls.member_of(socket.get_extra_info("ssl_object"))
        link = Link(member, socket, limits, self._board.stats(member), self._board.clock)
        if reached != member:
            await link.close()
            raise Dismissed(self._wrong_member(reached))
        return link

    def _wrong_member(self, reached: bytes | None) -> str:
        if reached == self._board.me:
            return "its endpoint leads back to this peer itself. Correct the endpoint in genesis or in the name service"
        who = "a stranger" if reached is None else self._board.name(reached)
        return f"{who} answers at its endpoint. Correct the endpoint in genesis or in the name service"

    def _wrong_certificate(self, error: ssl.SSLCertVerificationError) -> str:
        reason = getattr(error, "verify_message", "") or str(error)
        return f"whoever answers at its endpoint shows a stranger's certificate ({reason})"

    def _say(self, member: bytes, reason: str) -> None:
        """Log why a member is not connected, once for each reason."""
        if self._said.get(member) == reason:
            return
        self._said[member] = reason
        endpoint = self._board.peers[member].endpoint if member in self._board.peers else ""
        name = self._board.name(member)
        log.warning("cannot connect", source=member.hex(), peer=name, endpoint=endpoint, reason=reason)


async def _wait(wake: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"it refuses me with status {error.status}: am I banned there, or unknown in its genesis?"
    if isinstance(error, aiohttp.ServerDisconnectedError) or "ALERT" in str(error):
        return "it closed the connection during the handshake: is my certificate the one in its genesis?"
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error.os_error, ssl.SSLError):
        cause = error.os_error
        number = cause.errno or 0  # below 0: the name service speaks, and its text is in the error
        return os.strerror(number) if number > 0 else cause.strerror or str(cause)
    return str(error) or type(error).__name__


class Fetcher:
    """Bounded GET requests, each over a connection that only this member's certificate can open."""

    def __init__(self, board: Switchboard, tls: TlsIdentity, session: aiohttp.ClientSession) -> None:
        self._board = board
        self._tls = tls
        self._session = session

    async def knock(self, member: bytes) -> None:
        """Tell a member with a lower key that it may dial now; whether it hears is not important."""
        try:
            await self.get(member, KNOCK_PATH, 0)
        except FetchError:
            return

    async def get(self, member: bytes, path: str, bytes_max: int, query: str = "") -> bytes:
        """The body of the answer; raises `FetchError`."""
        peer = self._board.peers.get(member)
        if peer is None:
            raise FetchError(FetchKind.REFUSED, "not a member")
        if self._board.banned_for_s(member) > 0:
            raise FetchError(FetchKind.REFUSED, "banned here for repeated faults")
        limits = self._board.limits
        try:
            async with self._session.get(
                url("https", peer.endpoint, path, query),
                ssl=self._tls.client_context_of(member),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=limits.fetch_timeout_s, sock_connect=limits.dial_timeout_s),
            ) as response:
                body = await self._body(response, bytes_max)
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            raise FetchError(FetchKind.UNREACHABLE, f"{self._board.name(member)}: {_why(error)}") from error
        self._board.stats(member).received_bytes += len(body)
        return body

    async def _body(self, response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
        if response.status not in (200, 204):
            text = (await response.content.read(REASON_BYTES_MAX)).decode("utf-8", "replace")
            raise FetchError(_KINDS.get(response.status, FetchKind.BAD), f"status {response.status}: {text}")
        parts: list[bytes] = []
        room = bytes_max
        async for part in response.content.iter_any():
            room -= len(part)
            if room < 0:
                response.close()
                raise FetchError(FetchKind.BAD, f"an answer longer than {bytes_max} bytes")
            parts.append(part)
        return b"".join(parts)

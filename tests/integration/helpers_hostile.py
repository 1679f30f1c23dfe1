"""A client that holds a member's keys and keeps none of its duties: raw WebSocket messages over genuine mutual TLS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from cli.testnet_homes import PeerHome
from ledger.genesis import Genesis
from node.home import Home
from node.keyfiles import KeyFolder
from node.tls import TlsIdentity
from node.transport_link import bundle, split
from node.wire import FRAME_BYTES_MAX, Frame, Goodbye, Hello, decode, encode

STREAM_PATH = "/p2p/v1/stream"
ANSWER_LIMIT_S = 10.0


class Intruder:
    """One connection to a victim, as the member of some key folder."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        self._socket = socket

    async def send_message(self, data: bytes) -> None:
        """A raw WebSocket message."""
        await self._socket.send_bytes(data)

    async def send(self, *frames: Frame | bytes) -> None:
        """Frames, well bundled, whatever is in them."""
        raw = [frame if isinstance(frame, bytes) else encode(frame) for frame in frames]
        await self._socket.send_bytes(bundle(raw))

    async def listen(self) -> Frame | None:
        """The next frame of the victim; None when it has closed the connection."""
        async with asyncio.timeout(ANSWER_LIMIT_S):
            message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            return None
        return decode(split(message.data, FRAME_BYTES_MAX)[0])

    async def await_end(self) -> Goodbye | None:
        """Listen until the victim says Goodbye or closes."""
        while (frame := await self.listen()) is not None:
            if isinstance(frame, Goodbye):
                return frame
        return None


@asynccontextmanager
async def intrude(keys: KeyFolder, genesis: Genesis, victim: PeerHome) -> AsyncIterator[Intruder]:
    """Connect with these keys; raises aiohttp's errors where the victim refuses."""
    trusted = {member.member_key: member.certificate for member in genesis.members}
    identity = TlsIdentity(keys.transport_certificate, keys.transport_key, trusted)
    endpoint = next(member.endpoint for member in genesis.members if member.member_key == victim.member_key)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"https://{endpoint}{STREAM_PATH}", ssl=identity.client_context, compress=0, max_msg_size=0
        ) as socket,
    ):
        yield Intruder(socket)


@asynccontextmanager
async def greeted(home: Path, member: bytes, genesis: Genesis, victim: PeerHome) -> AsyncIterator[Intruder]:
    """Connect as a member that says a correct Hello and is let in."""
    async with intrude(Home(home).keys, genesis, victim) as intruder:
        await intruder.send(Hello(genesis.chain_id, member, 0))
        answer = await intruder.listen()
        assert isinstance(answer, Hello), answer
        yield intruder

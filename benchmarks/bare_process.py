"""One node of the bare loop that agreement is compared with: the same messages, and nothing else.

    python -m benchmarks.bare_process HOME RESULT.json BATCHES WARM_UP PROPOSAL_BYTES VOTE_BYTES

For each batch the node whose turn it is sends a proposal; everybody answers with a prevote, after more than 2/3 of
those with a precommit, and after more than 2/3 of these the batch counts. Each message is signed and verified
(Ed25519), sent over a WebSocket under mutual TLS 1.3, and on disk (fdatasync) before it is sent, as is the batch at
its end. There is no ledger, no state, no validity, no gossip, no timer and no repair.
"""

import asyncio
import os
import signal
import struct
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks.voters import write_result
from ledger.genesis import load_genesis
from node.config import load_config
from node.endpoint import Endpoint
from node.home import Home
from node.keyfiles import load_member_key
from node.tls import TlsIdentity

PROPOSAL, PREVOTE, PRECOMMIT = 1, 2, 3
HEAD = struct.Struct(">BIB")  # kind, batch, sender
SIGNATURE_BYTES = 64
DIAL_PAUSE_S = 0.05
Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class Bare:
    """One of n nodes."""

    def __init__(self, home: Path, batches: int, warm_up: int, proposal_bytes: int, vote_bytes: int) -> None:
        self.home = Home(home)
        self.genesis = load_genesis(self.home.genesis)
        self.key = load_member_key(self.home.keys.member_key)
        keys = [member.member_key for member in self.genesis.members]
        self.me = keys.index(self.key.public_key().public_bytes_raw())
        self.n, self.keys = len(keys), [Ed25519PublicKey.from_public_bytes(key) for key in keys]
        certificates = {member.member_key: member.certificate for member in self.genesis.members}
        self.tls = TlsIdentity(self.home.keys.transport_certificate, self.home.keys.transport_key, certificates)
        self.batches, self.counted = batches, (warm_up, batches)
        self.sizes = {PROPOSAL: proposal_bytes, PREVOTE: vote_bytes, PRECOMMIT: vote_bytes}
        self.log = os.open(self.home.data / "bare.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.sockets: list[Socket] = []
        self.is_connected = asyncio.Event()
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.batch = 0
        self.waiting: dict[int, list[bytes]] = {}
        self.begin()
        self.times_s: list[float] = []
        self.cpu_s: list[float] = []

    # -------------------------------------------------------------------------------------------------- the protocol

    def begin(self) -> None:
        """The next batch opens."""
        self.proposal: bytes | None = None
        self.votes: Counter[int] = Counter()
        self.spoken = 0

    def make(self, kind: int) -> bytes:
        """A signed message of the size that such a message has on the chain."""
        body = HEAD.pack(kind, self.batch, self.me).ljust(self.sizes[kind] - SIGNATURE_BYTES, b"\0")
        return body + self.key.sign(body)

    def take(self, message: bytes) -> None:
        """A message of another node; a late one is not looked at, an early one waits."""
        kind, batch, sender = HEAD.unpack_from(message)
        if batch > self.batch:
            self.waiting.setdefault(batch, []).append(message)
            return
        if batch < self.batch:
            return
        try:
            self.keys[sender].verify(message[-SIGNATURE_BYTES:], message[:-SIGNATURE_BYTES])
        except InvalidSignature:
            sys.exit("a message with a bad signature")
        if kind == PROPOSAL:
            self.proposal = message
        else:
            self.votes[kind] += 1

    def is_quorum(self, kind: int) -> bool:
        return 3 * self.votes[kind] > 2 * self.n

    async def advance(self) -> None:
        """Say what is due; on disk before it is sent."""
        if self.spoken == 0 and self.batch % self.n == self.me:
            self.proposal = self.make(PROPOSAL)
            await self.speak(PREVOTE, [self.proposal])
        if self.spoken == 0 and self.proposal is not None:
            await self.speak(PREVOTE, [])
        if self.spoken == PREVOTE and self.is_quorum(PREVOTE):
            await self.speak(PRECOMMIT, [])
        if self.spoken == PRECOMMIT and self.is_quorum(PRECOMMIT):
            self.commit()

    async def speak(self, kind: int, before: list[bytes]) -> None:
        """Sign a vote, sync it, and send it to all; a precommit's lock holds the proposal."""
        messages = [*before, self.make(kind)]
        self.sync(messages if kind == PREVOTE else [self.proposal or b"", *messages])
        for message in messages:
            for socket in self.sockets:
                await socket.send_bytes(message)
        self.votes[kind] += 1
        self.spoken = kind

    def sync(self, data: list[bytes]) -> None:
        """Append and fdatasync."""
        os.write(self.log, b"".join(data))
        os.fdatasync(self.log)

    def commit(self) -> None:
        """The batch is final and on disk."""
        self.sync([self.proposal or b""])
        self.times_s.append(time.monotonic())
        if len(self.times_s) in self.counted:
            self.cpu_s.append(time.process_time())
        self.batch += 1
        self.begin()
        for message in self.waiting.pop(self.batch, []):
            self.take(message)

    async def run(self) -> None:
        """All batches."""
        while self.batch < self.batches:
            before = (self.batch, self.spoken)
            await self.advance()
            if before == (self.batch, self.spoken):
                self.take(await self.inbox.get())
            while not self.inbox.empty():
                self.take(self.inbox.get_nowait())

    # ------------------------------------------------------------------------------------------------- the connections

    async def read(self, socket: Socket) -> None:
        """Count the connection in and take its messages until it ends."""
        self.sockets.append(socket)
        if len(self.sockets) == self.n - 1:
            self.is_connected.set()
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                self.inbox.put_nowait(message.data)

    async def accept(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=0)
        await socket.prepare(request)
        await self.read(socket)
        return socket

    async def dial(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        url = f"https://{endpoint}/"
        while True:
            try:
                socket = await session.ws_connect(url, ssl=self.tls.client_context, compress=0, max_msg_size=0)
                break
            except (OSError, aiohttp.ClientError):
                await asyncio.sleep(DIAL_PAUSE_S)
        await self.read(socket)

    async def serve(self, result: Path) -> None:
        """Connect everybody, run, report, and stay until SIGTERM."""
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        app = web.Application()
        app.router.add_get("/", self.accept)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        listen = Endpoint.parse(load_config(self.home.config).peer.listen)
        await web.TCPSite(runner, listen.host, listen.port, ssl_context=self.tls.server_context).start()
        async with aiohttp.ClientSession() as session:
            others = [member.endpoint for member in self.genesis.members[self.me + 1 :]]
            links = [asyncio.create_task(self.dial(session, endpoint)) for endpoint in others]
            await self.is_connected.wait()
            await self.run()
            sizes = {"proposal": [self.sizes[PROPOSAL]], "vote": [self.sizes[PREVOTE]]}
            write_result(result, self.times_s, self.counted, self.cpu_s[1] - self.cpu_s[0], sizes)
            await stop.wait()
            for link in links:
                link.cancel()
            await asyncio.gather(*links, return_exceptions=True)
        await runner.cleanup()


def main(arguments: list[str]) -> None:
    """Run the node."""
    home, result = Path(arguments[0]), Path(arguments[1])
    batches, warm_up, proposal_bytes, vote_bytes = map(int, arguments[2:])
    node = Bare(home, batches, warm_up, proposal_bytes, vote_bytes)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(node.serve(result))


if __name__ == "__main__":
    main(sys.argv[1:])

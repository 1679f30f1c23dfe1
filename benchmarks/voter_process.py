"""One voter of the agreement benchmark: the peer's real core, shell, transport and stores, with learning left out.

    python -m benchmarks.voter_process HOME RESULT.json BATCHES WARM_UP

It writes its figures once `BATCHES` batches are final, and goes on serving the others until SIGTERM.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from benchmarks.voters import write_result
from consensus.core import Core
from consensus.events import Train
from ledger.chain import Chain
from ledger.genesis import Genesis
from ledger.state import State
from ledger.store import Store
from ledger.types import FinalBatch, ProposedBatch, Vote
from node.exchange import BlobExchange
from node.following import Follower
from node.logs import setup_logging
from node.peer import Opened, open_home
from node.serving import Librarian
from node.shell import Shell
from node.transport import Peer
from node.transport_tls import TlsTransport
from node.workers import WorkerPool, WorkerSettings
from node.workroom import Training, Workroom

TAG_AT = 2  # a frame is the array [version, tag, ...]: its third byte is the tag


class TimedChain(Chain):
    """The chain, with the time of each commit, and the process' CPU time at the first and last that count."""

    def __init__(self, genesis: Genesis, store: Store, batches: int, warm_up: int) -> None:
        super().__init__(genesis, store)
        self.times_s: list[float] = []
        self.cpu_s: list[float] = []
        self.counted = (warm_up, batches)
        self.on_done: Callable[[], object] = lambda: None

    def commit(self, batch: FinalBatch, state: State) -> None:
        """In the shell's disk thread, after the synced write."""
        super().commit(batch, state)
        self.times_s.append(time.monotonic())
        if len(self.times_s) in self.counted:
            self.cpu_s.append(time.process_time())
            if len(self.cpu_s) == len(self.counted):
                self.on_done()


class CountingTransport(TlsTransport):
    """The transport, with the sizes of the proposals and votes that it was given to send."""

    sizes: dict[int, list[int]]

    def broadcast(self, frame: bytes) -> None:
        self.sizes.setdefault(frame[TAG_AT], []).append(len(frame))
        super().broadcast(frame)


class QuietRoom(Workroom):
    """Nobody trains: rounds close by their deadline, empty."""

    def train(self, order: Train) -> None:
        """Never an offer."""


def make_transport(opened: Opened, chain: Chain) -> CountingTransport:
    """As `node.peer` makes it."""
    home, config, genesis = opened.home, opened.config, opened.genesis
    transport = CountingTransport(
        opened.signer.public,
        certificate=home.keys.transport_certificate,
        key=home.keys.transport_key,
        members={m.member_key: Peer(m.name, m.endpoint, m.certificate) for m in genesis.members},
        listen=config.peer.listen,
        chain=genesis.chain_id,
        limits=config.limits,
        height=lambda: chain.state.height,
    )
    transport.sizes = {}
    return transport


async def serve(opened: Opened, chain: TimedChain, result: Path) -> None:
    """`node.peer.serve` without its API, until SIGTERM."""
    home, config, params = opened.home, opened.config, opened.genesis.params
    core = Core(params, chain.state, opened.signer, opened.beacon)
    transport = make_transport(opened, chain)
    workers = WorkerPool(WorkerSettings("none", {}, home.work / "none.sock", start_server=False))
    shell = Shell(core, chain, opened.signer_log, transport, Librarian(chain, opened.blobs))
    exchange = BlobExchange(transport, opened.blobs, home.partial, config.limits)
    work = (params, Training("f32", None), workers, exchange, opened.blobs, home.work, core.me)
    shell.workroom = QuietRoom(*work, transport.connected, shell.post, shell.fail)
    shell.follower = Follower(transport, shell.post, lambda: core.state.height, lambda: 0)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, shell.stop)
    reporter = asyncio.create_task(report(chain, transport, result))
    await transport.start(shell)
    try:
        await shell.run([])
    finally:
        reporter.cancel()
        await shell.follower.stop()
        await shell.workroom.stop()
        await exchange.stop()
        await transport.stop()
        await workers.close()


async def report(chain: TimedChain, transport: CountingTransport, result: Path) -> None:
    """Write the figures when there are enough."""
    done, loop = asyncio.Event(), asyncio.get_running_loop()
    chain.on_done = lambda: loop.call_soon_threadsafe(done.set)
    await done.wait()
    sizes = {"proposal": transport.sizes.get(ProposedBatch.TAG, []), "vote": transport.sizes.get(Vote.TAG, [])}
    write_result(result, chain.times_s, chain.counted, chain.cpu_s[1] - chain.cpu_s[0], sizes)


def main(home: Path, result: Path, batches: int, warm_up: int) -> None:
    """Run the voter."""
    with open_home(home) as opened:
        setup_logging(opened.config.log.format, opened.config.log.level)
        chain = TimedChain(opened.genesis, opened.chain.store, batches, warm_up)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(opened, chain, result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

"""A peer from its home folder: everything is opened and checked, then the loop runs until SIGTERM or SIGINT."""

import asyncio
import errno
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from consensus.core import Core
from consensus.signer import Signer, SignerError, SignerState, WalEntry
from fl.aggregation import check_golden_vectors
from fl.aggregation.golden import GoldenVectorError
from ledger.blobs import BlobStore, file_ref
from ledger.chain import Chain
from ledger.codec import CodecError, Record
from ledger.genesis import Genesis, GenesisError, load_genesis
from ledger.heights import model_height
from ledger.keys import beacon_chain, public_bytes
from ledger.store import LevelStore, StoreDamaged, StoreError, StoreLocked
from ledger.types import BlobRef
from node.api import ApiServer
from node.config import NodeConfig, load_config
from node.endpoint import Endpoint
from node.errors import ExitCode, NodeError, disk_error
from node.exchange import BlobExchange
from node.following import Follower
from node.forkserver_process import choose_socket_path
from node.gate import allow_many_files
from node.home import Home
from node.keyfiles import load_member_key, load_public
from node.limits import fitted
from node.logs import get_log, setup_logging
from node.reporting import Reporter
from node.rounds import get_obligations, has_whole, read_model
from node.serving import Librarian
from node.shell import Shell
from node.signer_log import SignerLog
from node.stall import StallMeter
from node.transport import Peer
from node.transport_tls import TlsTransport
from node.workers import WorkerPool, WorkerSettings
from node.workroom import Training, Workroom

log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """A home, checked and opened by this process alone."""

    home: Home
    config: NodeConfig
    genesis: Genesis
    signer: Signer
    signer_log: SignerLog
    beacon: list[bytes]
    chain: Chain
    blobs: BlobStore


def _open_genesis(home: Home) -> Genesis:
    try:
        return load_genesis(home.genesis)
    except GenesisError as error:
        raise NodeError(ExitCode.GENESIS, f"{error}. Use the document that all members agreed on") from error


def _open_signer(home: Home, genesis: Genesis, stack: ExitStack) -> tuple[Signer, SignerLog, list[bytes]]:
    key = load_member_key(home.keys.member_key)
    public = public_bytes(key)
    member = next((member for member in genesis.members if member.member_key == public), None)
    if member is None:
        raise NodeError(
            ExitCode.GENESIS,
            f"{home.genesis}: the key of this home ({public.hex()[:16]}...) is no member of chain {genesis.chain!r}. "
            "Use the genesis.json that names it, or have it added before the chain starts",
        )
    if load_public(home.keys).certificate != member.certificate:
        raise NodeError(
            ExitCode.KEYS,
            f"{home.keys.transport_certificate}: genesis names another certificate for {member.name!r}: nobody "
            "would let this peer in. Restore the certificate and transport key that were on its card",
        )
    signer_log, data = SignerLog.open(home.keys.signer_state)
    stack.callback(signer_log.close)
    try:
        records: list[Record] = [WalEntry.decode(item).record for item in data]
        state = SignerState.replay(records)
        state.check_chain(genesis.chain_id)
        signer = Signer(key, state)
    except (SignerError, CodecError) as error:
        raise NodeError(ExitCode.SIGNER_STATE, f"{home.keys.signer_state}: {error}") from error
    beacon = beacon_chain(key, genesis.params.beacon_links, genesis.chain.encode())
    if beacon[-1] != member.beacon_tip:
        raise NodeError(
            ExitCode.GENESIS,
            f"{home.genesis}: the beacon tip of {member.name!r} is not the one that this key gives for chain "
            f"{genesis.chain!r} with {genesis.params.beacon_links} links (R9): make the member card again",
        )
    return signer, signer_log, beacon


def _open_chain(home: Home, genesis: Genesis, stack: ExitStack) -> Chain:
    try:
        store = LevelStore(home.chain, genesis.chain_id)
        stack.callback(store.close)
        return Chain(genesis, store)
    except StoreLocked as error:
        raise NodeError(ExitCode.DATA_LOCKED, str(error)) from error
    except StoreDamaged as error:
        raise NodeError(ExitCode.DATA_DAMAGED, f"{error}. {_resync(home.path)}") from error
    except StoreError as error:
        code = ExitCode.DISK_FULL if os.strerror(errno.ENOSPC) in str(error) else ExitCode.DATA_DAMAGED
        raise NodeError(code, str(error)) from error
    except OSError as error:
        raise disk_error(error, f"opening {home.chain}") from error


def _clear_scratch(home: Home) -> None:
    """Remove what a killed process left half written: nothing refers to it. The home must be locked."""
    try:
        for path in (*home.work.glob("*.part"), *home.blobs.glob("new-*")):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, f"clearing {home.work}") from error


def _open_blobs(home: Home, genesis: Genesis) -> BlobStore:
    """The blob store, with the genesis model in it (H2)."""
    try:
        blobs = BlobStore(home.blobs)
        if not has_whole(blobs, genesis.initial_model):
            if file_ref(home.genesis_model) != genesis.initial_model:
                message = f"{home.genesis_model}: is not the initial model that genesis names (B1). Copy it again"
                raise NodeError(ExitCode.GENESIS, message)
            blobs.put_bytes(home.genesis_model.read_bytes())
        return blobs
    except OSError as error:
        raise disk_error(error, f"opening {home.blobs}") from error


@contextmanager
def open_home(path: Path) -> Iterator[Opened]:
    """Everything of a home, locked for this process; raises `NodeError` naming what is wrong."""
    home = Home(path)
    home.check()
    config = load_config(home.config)
    genesis = _open_genesis(home)
    if config.training.codec not in genesis.params.codecs:
        allowed = ", ".join(genesis.params.codecs)
        message = f"{home.config}: training.codec {config.training.codec!r} is not allowed by genesis: use {allowed}"
        raise NodeError(ExitCode.CONFIG, message)
    with ExitStack() as stack:
        signer, signer_log, beacon = _open_signer(home, genesis, stack)
        chain = _open_chain(home, genesis, stack)
        _clear_scratch(home)
        blobs = _open_blobs(home, genesis)
        yield Opened(home, config, genesis, signer, signer_log, beacon, chain, blobs)


async def serve(opened: Opened, worker_socket: Path | None = None) -> None:
    """Run the peer until a signal; raises the `NodeError` that ended it. `worker_socket` is a fork server that the
    peers of a machine share; without one the peer has its own."""
    home, config, genesis, chain = opened.home, opened.config, opened.genesis, opened.chain
    me = opened.signer.public
    owed = await asyncio.to_thread(get_obligations, chain, opened.blobs)
    held = [update.update for update in chain.state.updates if opened.blobs.holds(update.update)]
    targets = {order.round: _final_model(chain, order.round) for order in owed}
    core = Core(genesis.params, chain.state, opened.signer, opened.beacon, held=held, obliged=targets)
    transport = TlsTransport(
        me,
        certificate=home.keys.transport_certificate,
        key=home.keys.transport_key,
        members={m.member_key: Peer(m.name, m.endpoint, m.certificate) for m in genesis.members},
        listen=config.peer.listen,
        chain=genesis.chain_id,
        limits=fitted(config.limits, genesis.params),
        height=lambda: chain.state.height,
    )
    shared = worker_socket or (Path(config.worker.socket) if config.worker.socket else None)
    workers = WorkerPool(
        WorkerSettings(
            config.task.name,
            config.task.settings,
            shared or _own_socket(home),
            start_server=shared is None,
            nice=config.worker.nice,
        )
    )
    shell = Shell(core, chain, opened.signer_log, transport, Librarian(chain, opened.blobs))
    exchange = BlobExchange(transport, opened.blobs, home.partial, config.limits)
    shell.workroom = Workroom(
        genesis.params,
        Training(config.training.codec, config.training.attack),
        workers,
        exchange,
        opened.blobs,
        home.work,
        me,
        transport.connected,
        shell.post,
        shell.fail,
    )
    shell.follower = Follower(transport, shell.post, lambda: core.state.height, lambda: shell.workroom.owed)
    stall = StallMeter()
    reporter = Reporter(opened.genesis, shell, transport, workers, stall)
    endpoint = Endpoint.parse(config.api.listen)
    api = ApiServer(reporter, endpoint.port, endpoint.host)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, shell.stop)
    async with api:
        try:
            gc.freeze()  # what lives for the whole run need not be looked at again: no long pauses
            await transport.start(shell)
            stall.start()
            log.info(
                "peer started", chain=genesis.chain, member=me[:4], height=chain.state.height, listen=config.peer.listen
            )
            shell.workroom.prepare()
            await shell.run(owed)
        finally:
            stall.stop()
            await shell.follower.stop()
            await shell.workroom.stop()
            await exchange.stop()
            await transport.stop()
            await workers.close()
    log.info("peer stopped", height=chain.state.height)


def _own_socket(home: Home) -> Path:
    try:
        return choose_socket_path(home.work)
    except OSError as error:
        raise NodeError(ExitCode.CONFIG, str(error)) from error


def _final_model(chain: Chain, round: int) -> BlobRef:
    return read_model(chain, model_height(chain.params.round_length, round)).model


def run_peer(home: Path, worker_socket: Path | None = None) -> int:
    """Run the peer of a home in this process until it is stopped; returns its exit code."""
    try:
        with open_home(home) as opened:
            setup_logging(opened.config.log.format, opened.config.log.level)
            allow_many_files()
            check_golden_vectors()  # R7: the same bytes on every machine
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(serve(opened, worker_socket))
        return ExitCode.OK
    except GoldenVectorError as error:
        return _report(NodeError(ExitCode.FAULTY_MACHINE, f"{error}. This machine must not take part (R7)"))
    except NodeError as error:
        return _report(error)
    except StoreError as error:
        return _report(NodeError(ExitCode.DATA_DAMAGED, f"{error}. {_resync(home)}"))
    except Exception as error:  # A8: a broken invariant of our own ends with a number, too
        traceback.print_exc()
        advice = "This is a bug or a broken machine. Keep the lines above, and start the peer again"
        return _report(NodeError(ExitCode.FAULTY_MACHINE, f"{type(error).__name__}: {error}. {advice}"))


def _resync(home: Path) -> str:
    data = Home(home).data
    return f"Move {data} away and start again: the peer syncs from the others; keys/ must stay as it is"


def _report(error: NodeError) -> int:
    print(f"fedchain-node: error: {error}", file=sys.stderr, flush=True)
    return error.exit_code


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for this platform: asyncio's own loop does the same, slower
        return None
    return uvloop.new_event_loop

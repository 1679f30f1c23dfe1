"""A testnet from its first process to its last: fork server, homes, peers, watch, summary, end."""

import asyncio
import resource
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

from cli.model import write_bytes
from cli.output import Interrupted, say, warn
from cli.testnet_display import make_display
from cli.testnet_homes import Net, choose_places, make_members, make_net, prepare_folder
from cli.testnet_peers import RunningPeer, preload, start_peers, stop_peers
from cli.testnet_plan import Plan
from cli.testnet_summary import Costs, check_agreement, describe, print_end, write_summary
from cli.testnet_watch import Listener, Outcome, Watch
from ledger.blobs import BlobStore
from node.errors import ExitCode, NodeError
from node.forkserver_process import ForkServerError, ForkServerProcess, choose_socket_path
from node.workers import WorkerPool, WorkerSettings

STALL_FACTOR: Final = 4  # this many deadlines without a block: something is wrong
STALL_MIN_S: Final = 60.0
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_testnet(plan: Plan, *, replace: bool = False, json_path: Path | None = None, keep_serving: bool = False) -> int:
    """Run it to its end; return the exit code. Whatever happens, no process is left."""
    started_s = time.monotonic()
    plan.check()
    prepare_folder(plan.home, replace)
    with _ending_signals(), _fork_server(plan) as server:
        net = _make_or_clear(plan, server)
        running: list[RunningPeer] = []
        try:
            with _signals_held():
                running += start_peers(net.peers, server.socket_path)
            _run(plan, net, running, server, started_s, json_path)
            if keep_serving:
                _serve(net)
        finally:
            _stop(running)
    return ExitCode.OK


@contextmanager
def _ending_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end the testnet through its `finally` clauses."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = [(number, signal.signal(number, end)) for number in _ENDING]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def _signals_held() -> Iterator[None]:
    """A fork runs callbacks in which an exception is lost, and the Ctrl-C with it: it comes after this instead."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _fork_server(plan: Plan) -> Iterator[ForkServerProcess]:
    """One process with torch loaded and warmed up, for all peers and this command."""
    try:
        server = ForkServerProcess(
            choose_socket_path(plan.home), plan.task, plan.settings_of(0), workers_max=4 * (plan.peers + 1)
        )
    except (ForkServerError, OSError) as error:
        raise NodeError(ExitCode.TASK, str(error)) from error
    try:
        yield server
    finally:
        server.stop()


def _make_or_clear(plan: Plan, server: ForkServerProcess) -> Net:
    """A testnet that could not be made leaves no homes behind, so that the corrected command runs as it is."""
    try:
        return _make(plan, server)
    except BaseException:
        with suppress(NodeError):
            prepare_folder(plan.home, replace=True)
        raise


def _make(plan: Plan, server: ForkServerProcess) -> Net:
    """Homes and keys, while the fork server loads torch on the other core."""
    k, rounds = plan.round_length, plan.rounds
    length = f"{rounds} round{'' if rounds == 1 else 's'} of {k} blocks"
    say(f"{plan.peers} peers, committee of {plan.committee}, {length}, task {plan.task}")
    places = choose_places(plan)
    cards = make_members(plan, places)
    preload()
    try:
        server.wait_ready()
    except ForkServerError as error:
        raise NodeError(ExitCode.TASK, f"task {plan.task!r}: {error}. Check --task, --data and --setting") from error
    return make_net(plan, places, cards, server.socket_path)


def _run(
    plan: Plan,
    net: Net,
    running: Sequence[RunningPeer],
    server: ForkServerProcess,
    started_s: float,
    json_path: Path | None,
) -> None:
    start_s = time.monotonic() - started_s
    with make_display(plan.round_length, net.names()) as display:
        outcome = asyncio.run(_watch(plan, net, running, server, display))
    check_agreement(net, outcome)
    model = _save_model(net, outcome)
    costs = Costs(start_s, time.monotonic() - started_s, _cpu_s(outcome, server))
    print_end(plan, net, outcome, costs, model)
    if json_path is not None:
        write_summary(json_path, describe(plan, net, outcome, costs))
        say(f"Summary: {json_path}")


async def _watch(
    plan: Plan, net: Net, running: Sequence[RunningPeer], server: ForkServerProcess, display: Listener
) -> Outcome:
    """Follow the network; Ctrl-C cancels this as it would any other task."""
    settings = WorkerSettings(plan.task, plan.settings_of(0), server.socket_path, start_server=False)
    stall_limit_s = max(STALL_MIN_S, STALL_FACTOR * plan.deadline_ms / 1000)
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    before = [(number, signal.getsignal(number)) for number in _ENDING]
    for number in _ENDING:
        loop.add_signal_handler(number, task.cancel)
    try:
        async with WorkerPool(settings) as workers:
            return await Watch(net, running, workers, display, stall_limit_s).run()
    except asyncio.CancelledError:
        raise Interrupted from None
    except BaseExceptionGroup as group:
        raise _first(group) from group
    finally:
        for number, handler in before:
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a task group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _save_model(net: Net, outcome: Outcome) -> Path:
    """The final model, beside the homes."""
    blob = bytes.fromhex(outcome.rounds[-1].model)
    path = net.folder / "model.safetensors"
    for peer in net.peers:
        with suppress(FileNotFoundError):
            write_bytes(path, BlobStore(peer.home.blobs).read(blob))
            return path
    raise NodeError(ExitCode.DATA_DAMAGED, f"no peer in {net.folder} has the final model {blob.hex()[:16]}")


def _cpu_s(outcome: Outcome, server: ForkServerProcess) -> float:
    """This process, its fork server with all workers, and the peers' main processes, so far."""
    from node.usage import read_usage

    own = resource.getrusage(resource.RUSAGE_SELF)
    usage = read_usage(server.pid)
    peers = [status.get("cpu_s") for status in outcome.statuses]
    counted = sum(float(value) for value in peers if isinstance(value, int | float))
    return own.ru_utime + own.ru_stime + (usage.cpu_s if usage else 0.0) + counted


def _serve(net: Net) -> None:
    say("The peers go on serving; Ctrl-C stops them. Their API:")
    for peer in net.peers:
        say(f"  {peer.name}: {peer.api}/v1/status")
    with suppress(Interrupted):
        signal.pause()


def _stop(running: Sequence[RunningPeer]) -> None:
    """Nobody interrupts this: it is limited in time."""
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in _ENDING]
    try:
        for name in stop_peers(running):
            warn(f"{name} did not stop in time and was killed; its home starts again all the same (Y2)")
    finally:
        for number, handler in before:
            signal.signal(number, handler)

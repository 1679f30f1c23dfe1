"""kill -9 at random moments, twenty times in one run (issue's item 2; A1, A5, Y2)."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ledger.types import PREVOTE, Block, Offer, Present, ProposedBatch, Score, Vote
from node.config import load_config
from node.home import Home
from node.keyfiles import load_member_key
from node.limits import Limits
from node.transport import Peer
from node.transport_tls import TlsTransport
from node.wire import decode
from tests.integration.conftest import MakeNetwork
from tests.integration.helpers_chain import (
    Promises,
    assert_one_history,
    place_of,
    read_batches,
    read_blocks,
    read_signer_log,
    statements_in,
    workers_of,
)
from tests.integration.helpers_network import Network, Status
from tests.integration.helpers_processes import run_command, wait_for

pytestmark = pytest.mark.integration

PEERS, C, K = 12, 4, 9
KILLS, KILLS_HEARD, POWER_CUTS = 20, 8, 8
ROLES = ("proposer", "committee", "trainer")
MOMENT_S_MAX = 0.6  # a little longer than a round of this network
DOWN_S_MAX = 0.5
ROUNDS_AFTER = 6


def choose_victim(net: Network, status: Status, role: str, rng: random.Random) -> int:
    """A running peer that has this role now: the proposer of the next instance is C[(h + 0) mod c] (A2)."""
    committee = status["committee"]
    next_one = committee[(status["height"] + 1) % len(committee)]
    able = {"proposer": [next_one], "committee": committee, "trainer": status["trainers"]}[role]
    running = [index for index in map(net.index_of, able) if index in net.running]
    return rng.choice(running or net.running)


def wait_moment(seconds: float) -> None:
    """Until a moment that was drawn."""
    until_s = time.monotonic() + seconds
    wait_for("moment", lambda: time.monotonic() >= until_s, seconds + 1)


class Memory:
    """What each dead peer had on disk at each of its deaths: signed statements, and its signer's log as it grew."""

    def __init__(self, scratch: Path) -> None:
        self.promises = Promises()
        self._scratch = scratch
        self._logs: dict[Path, bytes] = {}

    def note(self, home: Path) -> None:
        """A5: the log only ever grows, and never contradicts what anybody has signed before."""
        data, statements = read_signer_log(home, self._scratch)
        assert data.startswith(self._logs.get(home, b"")), f"{home}: the signer forgot what it had signed"
        self._logs[home] = data
        self.promises.add(statements, f"{home.name}'s signer log")


def kill_and_restart(net: Network, role: str, memory: Memory, rng: random.Random) -> tuple[int, int]:
    """One kill at a random moment; the victim, and the height of its last block when it died."""
    wait_moment(rng.uniform(0, MOMENT_S_MAX))
    status = net.await_status(rng.choice(net.running))
    victim = choose_victim(net, status, role, rng)
    net.kill(victim)
    height = read_blocks(net.home(victim))[-1].height if status["height"] else 0
    memory.note(net.home(victim))
    wait_moment(rng.uniform(0, DOWN_S_MAX))
    net.start([victim])
    return victim, height


def assert_nothing_was_signed_twice(net: Network, memory: Memory) -> None:
    """A5: what stands on chain and what stands in the signers' logs is the same statement, wherever it shows."""
    for index in net.all:
        memory.note(net.home(index))
    in_logs = set(memory.promises.seen)
    batches = read_batches(net.home(0))
    memory.promises.add(statements_in(batches), "the chain")
    said = {place_of(item) for item in statements_in(batches)}
    assert said <= in_logs, "something is on chain that is in no signer's log"  # write before you speak


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (3, 4))])
def test_twenty_kills_of_any_peer_lose_nothing_and_repeat_nothing(
    network: MakeNetwork, tmp_path: Path, seed: int
) -> None:
    """A5, Y2, A1: the network goes on, whoever was killed starts without repair, catches up and works again."""
    rng = random.Random(seed)
    net = network(peers=PEERS, committee=C, round_length=K, deadline_ms=4_000)
    net.start()
    net.wait_height(K)
    memory, died_at = Memory(tmp_path), dict[int, int]()
    for number in range(KILLS):
        before = max(net.heights())
        victim, height = kill_and_restart(net, ROLES[number % len(ROLES)], memory, rng)
        died_at[victim] = height
        others = [index for index in net.running if index != victim]
        net.wait_height(before + 1, others)
    reached = max(net.heights())
    net.wait_height(reached + K * ROUNDS_AFTER)
    assert net.stop() == [0] * PEERS
    chains = assert_one_history([net.home(index) for index in net.all])
    assert_nothing_was_signed_twice(net, memory)
    at_work = workers_of(block for block in chains[0] if block.height > reached)
    assert {net.net.peers[index].member_key for index in died_at} <= at_work
    assert all(len(chains[index]) > height for index, height in died_at.items())
    for index in died_at:
        assert run_command("chain", "verify", "--home", net.home(index)).returncode == 0


def test_a_power_cut_of_the_whole_network_loses_nothing_final(network: MakeNetwork, tmp_path: Path) -> None:
    """Y2, A4, A5: all killed at the same moment, four times, whatever was locked or half said; the chain goes on."""
    rng = random.Random(7)
    net = network(peers=7, committee=2, round_length=5, deadline_ms=4_000)
    memory = Memory(tmp_path)
    before: list[list[Block]] = [[] for _ in net.all]
    for _ in range(POWER_CUTS):
        net.start()
        net.wait_height(max(map(len, before)) + 5)
        wait_moment(rng.uniform(0, MOMENT_S_MAX))
        net.kill(*net.all)
        after = assert_one_history([net.home(index) for index in net.all])
        assert all(new[: len(old)] == old for old, new in zip(before, after, strict=True))
        before = after
        for index in net.all:
            memory.note(net.home(index))
    assert_nothing_was_signed_twice(net, memory)


class Listener:
    """A member that only listens: whatever the others say to it is kept. A `Handler` that serves nothing."""

    def __init__(self) -> None:
        self.promises = Promises()
        self.frames = 0

    def on_up(self, member: bytes) -> None: ...

    def on_down(self, member: bytes) -> None: ...

    def on_frame(self, member: bytes, frame: bytes) -> None:
        self.frames += 1
        message = decode(frame)
        if isinstance(message, ProposedBatch):
            self.promises.add([message.proposal], "the wire")
        elif isinstance(message, Vote | Offer | Score | Present):
            self.promises.add([message], "the wire")

    def serve_head(self, member: bytes, blob: bytes) -> None: ...

    def serve_chunk(self, member: bytes, blob: bytes, index: int) -> None: ...

    def serve_batches(self, member: bytes, height: int, bytes_max: int) -> list[bytes]:
        return []


@asynccontextmanager
async def listening(net: Network, index: int) -> AsyncIterator[Listener]:
    """Take a member's place on the network, to listen."""
    home, genesis = Home(net.home(index)), net.net.genesis
    heard = Listener()
    transport = TlsTransport(
        net.net.peers[index].member_key,
        certificate=home.keys.transport_certificate,
        key=home.keys.transport_key,
        members={m.member_key: Peer(m.name, m.endpoint, m.certificate) for m in genesis.members},
        listen=load_config(home.config).peer.listen,
        chain=genesis.chain_id,
        limits=Limits(backoff_max_s=0.2),
    )
    await transport.start(heard)
    try:
        yield heard
    finally:
        await transport.stop()


async def test_all_that_peers_say_between_kills_was_on_their_disks_first(network: MakeNetwork, tmp_path: Path) -> None:
    """A5: a member that only listens hears no contradiction, and nothing that is missing in its author's log."""
    rng = random.Random(5)
    net = await asyncio.to_thread(network, peers=8, committee=2, round_length=5, deadline_ms=2_000)
    silent = 7
    memory = Memory(tmp_path)
    async with listening(net, silent) as heard:
        net.start(range(silent))
        await asyncio.to_thread(net.wait_height, 5)
        for number in range(KILLS_HEARD):
            await asyncio.to_thread(kill_and_restart, net, ROLES[number % len(ROLES)], memory, rng)
            await asyncio.to_thread(net.wait_height, max(net.heights()) + 1)
        assert await asyncio.to_thread(net.stop) == [0] * silent
    for index in range(silent):
        memory.note(net.home(index))
    assert heard.promises.seen.items() <= memory.promises.seen.items()
    assert len(heard.promises.seen) > 100
    assert_one_history([net.home(index) for index in range(silent)])


def test_two_different_statements_at_one_place_do_not_go_unnoticed(network: MakeNetwork, tmp_path: Path) -> None:
    """A5: the check above finds what it looks for."""
    net = network(peers=2, committee=1, round_length=2)
    key = load_member_key(Home(net.home(0)).keys.member_key)
    chain, me = net.net.genesis.chain_id, net.net.peers[0].member_key
    votes = [Vote(chain, 1, 0, PREVOTE, 1, bytes([at]) * 32, me).signed(key) for at in range(2)]
    with pytest.raises(AssertionError, match="signed twice differently"):
        Promises().add(votes, "a liar")

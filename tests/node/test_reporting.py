"""The status that operators and scripts read, from what the running parts know."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from consensus.events import Commit, Have
from ledger.heights import model_height
from ledger.state import State
from node.reporting import Reporter
from node.shell import Shell
from node.stall import StallMeter
from tests.ledger.helpers_ledger import ChainBuilder, play
from tests.node.helpers_net import Recorder
from tests.node.helpers_shell import Bench, key_of


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, lambda event: [])
    await bench.start()
    yield bench
    await bench.stop()


def make_reporter(bench: Bench) -> Reporter:
    shell: Shell = bench.shell
    return Reporter(bench.builder.genesis, shell, bench.transport, bench.workers, StallMeter())


def move_to(bench: Bench, state: State) -> None:
    bench.core.state = state


async def test_a_new_peer_stands_at_genesis(bench: Bench) -> None:
    status = make_reporter(bench).status()
    state = bench.builder.state
    assert (status.height, status.round, status.phase) == (0, 0, "training")
    assert status.member == bench.me.hex()
    assert status.name == "peer-0"
    assert status.chain == state.chain.hex()
    assert status.tip == state.last_hash.hex()
    assert status.state_root == state.root().hex()
    assert status.model == bench.builder.genesis.initial_model.blob.hex()
    assert status.committee == [member.hex() for member in state.round.committee]
    assert status.trainers == [member.hex() for member in state.round.trainers]
    assert (status.peers_known, status.peers_connected) == (3, 0)
    assert (status.syncing, status.behind_blocks) == (False, 0)
    assert status.last_rounds == []


async def test_connections_and_bytes_are_counted(bench: Bench) -> None:
    other = bench.network.transport(key_of(1))
    await other.start(Recorder())
    other.send(bench.me, b"12345")
    await bench.settle()
    bench.transport.send(key_of(1), b"123")
    status = make_reporter(bench).status()
    assert status.peers_connected == 1
    assert (status.sent_bytes, status.received_bytes) == (3, 5)


async def test_offers_that_come_in_make_the_phase_deciding(bench: Bench) -> None:
    builder = bench.builder
    bench.core.work.pool.add(builder.state, builder.offer(builder.trainers[0]), 0)
    assert make_reporter(bench).status().phase == "deciding"


async def test_full_slots_make_the_phase_model(bench: Bench) -> None:
    bench.builder.append(*bench.builder.fill_slots())
    move_to(bench, bench.builder.state)
    assert make_reporter(bench).status().phase == "model"


async def test_after_the_last_round_the_phase_is_finished(bench: Bench) -> None:
    play(bench.builder, bench.builder.params.rounds_max)
    move_to(bench, bench.builder.state)
    status = make_reporter(bench).status()
    assert status.phase == "finished"
    assert status.height == model_height(bench.builder.params.round_length, bench.builder.params.rounds_max - 1)


async def test_the_role_follows_the_round(bench: Bench) -> None:
    seen = set()
    for _ in range(bench.builder.params.rounds_max):
        status = make_reporter(bench).status()
        expected = "committee" if status.member in status.committee else "trainer"
        assert status.role == expected
        seen.add(expected)
        bench.builder.full_round()
        move_to(bench, bench.builder.state)
    assert seen == {"committee", "trainer"}


async def test_a_member_that_is_neither_drawn_nor_sits_is_idle(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda event: [])
    bench.builder = ChainBuilder(n=12, k=2)
    roles = set()
    for _ in range(8):
        move_to(bench, bench.builder.state)
        roles.add(make_reporter(bench).status().role)
        bench.builder.full_round()
    assert "idle" in roles
    await bench.close()


async def test_a_model_that_is_still_owed_counts_as_syncing(bench: Bench) -> None:
    bench.core.obliged[0] = bench.builder.genesis.initial_model
    assert make_reporter(bench).status().syncing


async def test_a_claim_of_a_peer_shows_how_far_behind_this_one_is(bench: Bench) -> None:
    bench.core._on_have(key_of(1), Have(9, 0, ()))
    assert make_reporter(bench).status().behind_blocks == 9


async def test_rounds_and_faults_of_the_history_are_told(bench: Bench) -> None:
    for _ in range(2):
        for bodies in (bench.builder.fill_slots(), None):
            batch = bench.builder.append(*(bodies or [bench.builder.model_body()]))
            bench.shell.history.note(Commit(batch, bench.builder.state))
    bench.shell.history.faulted("score: bad signature")
    status = make_reporter(bench).status()
    assert [line["round"] for line in status.last_rounds] == [0, 1]
    assert status.faults == {"bad signature": 1}


async def test_the_machine_is_measured(bench: Bench) -> None:
    status = make_reporter(bench).status()
    assert status.rss_mb > 1
    assert status.cpu_s > 0

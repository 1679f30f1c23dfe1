"""A genesis member that comes late with nothing but its home's keys and configuration (issue's item 4; Y1, R6)."""

import json

import pytest

from ledger.types import ModelBody
from node.home import Home
from tests.integration.conftest import MakeNetwork
from tests.integration.helpers_chain import assert_one_history, read_blocks, workers_of
from tests.integration.helpers_processes import run_command

pytestmark = pytest.mark.integration

K = 5
LATE = 7
ROUNDS_BEFORE, ROUNDS_AFTER = 8, 10


def test_a_member_that_starts_late_syncs_verifies_everything_and_takes_part(network: MakeNetwork) -> None:
    """Y1, A3, R6: it was absent, says `present`, is drawn again, and its update or score is on chain."""
    net = network(peers=8, committee=4, round_length=K, deadline_ms=1_500)
    net.start(range(LATE))
    net.wait_height(K * ROUNDS_BEFORE, limit_s=90)
    assert not any(Home(net.home(LATE)).chain.iterdir())
    came_at = max(net.heights())
    net.start([LATE])
    me = net.net.peers[LATE].member_key
    net.wait_height(came_at + K * ROUNDS_AFTER)
    assert net.stop() == [0] * 8
    chains = assert_one_history([net.home(index) for index in net.all])
    mine = chains[LATE]
    assert me in workers_of(block for block in mine if block.height > came_at)
    presents = [item.member for block in mine if isinstance(block.body, ModelBody) for item in block.body.present]
    assert me in presents
    ended = run_command("chain", "verify", "--home", net.home(LATE), "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["height"] == len(mine)
    for block in mine:
        if isinstance(block.body, ModelBody):
            assert Home(net.home(LATE)).blobs.joinpath(_name(block.body.model.blob)).is_file()


def test_a_member_whose_data_folder_was_moved_away_syncs_again(network: MakeNetwork) -> None:
    """A5, Y1: data/ may go, keys/ with the signer's state stays; nothing is signed twice, the chain is the same."""
    net = network(peers=5, committee=1, round_length=K, deadline_ms=4_000)
    net.start()
    net.wait_height(K * 3)
    net.kill(2)
    before = read_blocks(net.home(2))
    Home(net.home(2)).data.rename(net.home(2) / "data.old")
    reached = max(net.heights())
    net.start([2])
    net.wait_height(reached + 3 * K)
    assert net.stop() == [0] * 5
    chains = assert_one_history([net.home(index) for index in net.all])
    assert chains[2][: len(before)] == before
    assert net.net.peers[2].member_key in workers_of(block for block in chains[2] if block.height > reached)
    assert run_command("chain", "verify", "--home", net.home(2)).returncode == 0


def _name(blob: bytes) -> str:
    return f"{blob.hex()[:2]}/{blob.hex()}"

"""What happens when those who should act are gone (issue's item 3; R6, R9, A1)."""

import time

import pytest

from ledger.types import Block, EmptyBody, ModelBody
from tests.integration.conftest import MakeNetwork
from tests.integration.helpers_chain import assert_one_history, workers_of
from tests.integration.helpers_network import Network, Status
from tests.integration.helpers_processes import wait_for

pytestmark = pytest.mark.integration

C = 4
DEADLINE_MS = 3_000
FAST = {"timeout_propose_ms": 400, "timeout_vote_ms": 250, "timeout_step_ms": 100}


def kill_committee(net: Network) -> int:
    """Kill all who sit now, at once, while the others train; the round in which they sat."""

    def training() -> Status | None:
        status = net.status(0)
        return status if status and status["phase"] == "training" else None

    status = wait_for("round that has just begun", training, 30)
    net.kill(*(net.index_of(member) for member in status["committee"]))
    return int(status["round"])


def of_round(blocks: list[Block], k: int, number: int) -> list[Block]:
    """The k blocks of a round (H2)."""
    return blocks[k * number : k * (number + 1)]


def test_a_dead_committee_costs_one_deadline_and_never_the_chain(network: MakeNetwork) -> None:
    """R6, H4, R9: 13 voters, the 4 of the sitting committee killed: the round closes empty, the next ones learn."""
    k = 10
    net = network(peers=13, committee=C, round_length=k, deadline_ms=DEADLINE_MS, params=FAST)
    net.start()
    net.wait_height(k)
    dead_round = kill_committee(net)
    alive = net.running
    assert len(alive) == 9  # just more than 2/3 of 13
    net.wait_height(k * (dead_round + 1), alive)
    assert net.await_status(alive[0])["round"] > dead_round
    net.wait_height(k * (dead_round + 4), alive, limit_s=90)
    committees = {line["round"]: line["committee"] for line in net.await_status(alive[0])["last_rounds"]}
    assert net.stop() == [0] * 9
    chain = assert_one_history([net.home(index) for index in alive])[0]

    def is_closed_empty(number: int) -> bool:
        return any(isinstance(block.body, EmptyBody) for block in of_round(chain, k, number))

    assert all(isinstance(of_round(chain, k, t)[-1].body, ModelBody) for t in range(dead_round + 4))
    assert is_closed_empty(dead_round)
    assert not set(committees[dead_round]) & set(committees[dead_round + 1])  # R9
    after = workers_of(block for t in (dead_round + 1, dead_round + 2) for block in of_round(chain, k, t))
    assert after, "nobody learned after the committee was gone"


def test_without_two_thirds_the_chain_waits_and_goes_on_when_they_are_back(network: MakeNetwork) -> None:
    """A1: 4 of 8 voters make nothing final, however many deadlines pass; with 2 more back the chain goes on."""
    k, deadline_ms = 5, 1_000
    net = network(peers=8, committee=C, round_length=k, deadline_ms=deadline_ms, params=FAST)
    net.start()
    net.wait_height(k)
    dead = [0, 2, 4, 6]
    net.kill(*dead)
    stuck = _settled(net)
    until_s = time.monotonic() + 4 * deadline_ms / 1000
    wait_for("several deadlines", lambda: _unmoved(net, stuck) and time.monotonic() >= until_s, 30)
    net.start(dead[:2])
    net.wait_height(stuck + 2 * k)
    assert net.stop() == [0] * 6
    chains = assert_one_history([net.home(index) for index in net.all])
    assert max(len(chain) for chain in chains) >= stuck + 2 * k


def _settled(net: Network) -> int:
    """The height on which all the living agree once the last batch has reached them."""

    def one() -> int | None:
        heights = set(net.heights())
        return heights.pop() if len(heights) == 1 else None

    return wait_for("common height", one, 20)


def _unmoved(net: Network, height: int) -> bool:
    """Fails as soon as somebody makes a block final."""
    assert set(net.heights()) == {height}, "a block became final with half of the voters"
    return True

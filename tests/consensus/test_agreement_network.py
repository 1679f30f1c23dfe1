"""Agreement always, and termination once the adversary stops, under seeded schedules with up to a third of the voters
lying (A1, A4) and with crashes at any action (A5, Y2). A failure's seed is in the test's id."""

import pytest

from tests.consensus.helpers_network import Network


@pytest.mark.parametrize("seed", range(60))
def test_four_agree_and_end_while_one_lies(seed: int) -> None:
    network = Network(4, seed)
    network.chaos(events=100 + seed % 5 * 100)
    network.calm()
    network.check()


@pytest.mark.parametrize("seed", range(20))
def test_seven_agree_and_end_while_two_lie(seed: int) -> None:
    network = Network(7, seed)
    network.chaos(events=300 + seed % 4 * 200)
    network.calm()
    network.check()


@pytest.mark.parametrize("seed", range(40))
def test_four_agree_and_end_though_they_are_killed_at_any_action(seed: int) -> None:
    network = Network(4, 1000 + seed, crash_odds=0.04)
    network.chaos(events=200 + seed % 4 * 100)
    network.calm()
    network.check()


@pytest.mark.parametrize("seed", range(40))
def test_four_agree_and_end_after_a_power_cut_that_takes_the_liar_with_it(seed: int) -> None:
    network = Network(4, 2000 + seed)
    network.chaos(events=100 + seed % 4 * 100)
    network.restart_all()
    network.calm()
    network.check()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10])
def test_honest_voters_decide_in_the_first_round(count: int) -> None:
    network = Network(count, seed=1)
    network.calm()
    rounds = {peer.decided.certificate.round for peer in network.peers if peer.decided}
    assert rounds == {0}

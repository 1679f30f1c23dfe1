"""Networks on virtual time in which members die, come back, come late, or are cut off: agreement, and going on."""

import random

import pytest

from ledger.types import EmptyBody, ModelBody
from tests.consensus.helpers_check import check, check_chain
from tests.consensus.helpers_cluster import Cluster, Plan


def empty_slots(cluster: Cluster, round: int) -> int:
    """How many slots of the round were closed without an update (H4)."""
    k, store = cluster.params.round_length, cluster.tallest().chain.store
    blocks = [store.block(height) for height in range(k * round + 1, k * (round + 1))]
    return sum(block is not None and isinstance(block.body, EmptyBody) for block in blocks)


@pytest.mark.parametrize("seed", range(2))
def test_a_dead_committee_costs_one_deadline_and_never_the_chain(seed: int) -> None:
    """A2, R6: 4 of 13 voters are dead, and they are all who could score and propose: the others close the round with
    empty blocks after its deadline, and a new committee takes over."""
    cluster = Cluster(13, 4, 5, seed)
    dead = set(cluster.committee)
    cluster.start(*(member for member in cluster.members if member not in dead))
    took_ms = cluster.run_to_round(1)
    assert empty_slots(cluster, 0) == 4
    assert cluster.params.round_deadline_ms <= took_ms < cluster.params.round_deadline_ms + 15_000
    assert not dead & set(cluster.committee)
    cluster.run_to_round(3)
    assert empty_slots(cluster, 1) < 4  # the new committee scores
    check(cluster)


def test_half_the_voters_wait_and_go_on_when_a_quorum_is_back() -> None:
    """R1, A1: 4 of 8 decide nothing; the round's clock starts when more than 2/3 of the voters were heard."""
    cluster = Cluster(8, 4, 5, seed=4)
    dead = [*cluster.committee[:2], *cluster.trainers[:2]]
    cluster.start(*(member for member in cluster.members if member not in dead))
    cluster.run_for(60_000)
    assert set(cluster.heights()) == {0}
    assert all(node.running.work.clock.opened_ms is None for node in cluster.alive())
    cluster.start(*dead[1:3])
    cluster.run_for(100)
    assert {node.running.work.clock.opened_ms for node in cluster.alive()} == {60_001}
    cluster.run_to_round(1)
    assert cluster.now_ms >= 60_000 + cluster.params.round_deadline_ms
    cluster.start(dead[0], dead[3])
    cluster.run_to_round(4)
    check(cluster)


@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_kills_at_random_moments_lose_and_contradict_nothing(seed: int, loss: float) -> None:
    """A5, Y2: proposers, scorers and trainers are killed at any moment; up to three of eight are down at a time."""
    cluster, dice = Cluster(8, 4, 5, seed, Plan(loss=loss)), random.Random(seed)
    cluster.start()

    def kill() -> None:
        up = cluster.alive()
        if len(up) > 5:
            victim = dice.choice(up)
            victim.crash()
            cluster.restart_later(victim.me, dice.randint(1, 1_500))
        cluster.at(dice.randint(20, 400), kill)

    kill()
    cluster.run_to_round(4)
    check(cluster)


@pytest.mark.parametrize("seed", range(3))
def test_power_cuts_of_the_whole_network_lose_nothing_final(seed: int) -> None:
    """Y2: everybody dies at once, again and again."""
    cluster, dice = Cluster(5, 1, 4, seed), random.Random(seed)
    cluster.start()
    heights = []
    for _ in range(8):
        cluster.run_for(dice.randint(200, 1_500))
        heights.append(max(node.height for node in cluster.nodes.values()))
        cluster.crash(*cluster.members)
        cluster.start()
        assert max(node.height for node in cluster.nodes.values()) == heights[-1]
    cluster.run_to_height(heights[-1] + 4)
    assert sorted(heights) == heights
    check(cluster)


@pytest.mark.parametrize("seed", range(3))
def test_a_late_starter_syncs_derives_every_model_and_takes_part(seed: int) -> None:
    """Y1, A3: it verifies what it follows, and owes itself each model before it trains."""
    cluster = Cluster(8, 4, 5, seed)
    late = cluster.trainers[-1]
    cluster.start(*(member for member in cluster.members if member != late))
    cluster.run_to_round(3)
    cluster.start(late)
    cluster.run_to_round(7)
    node = cluster.nodes[late]
    states = check_chain(cluster)
    models = {states[5 * round].round.model.blob for round in range(1, 7)}
    assert models <= node.held
    member = cluster.tallest().state.member(late)
    assert member is not None
    assert member.accepted > 0 or any(late in states[5 * round].round.committee for round in range(4, 7))
    check(cluster)


@pytest.mark.parametrize("seed", range(3))
def test_a_minority_that_is_cut_off_stands_still_and_catches_up(seed: int) -> None:
    """A1: no two sides ever decide."""
    cluster = Cluster(8, 4, 5, seed)
    few, many = cluster.members[:2], cluster.members[2:]
    cluster.start()
    cluster.run_to_round(1)
    cluster.cut(few, many)
    cluster.run_for(1)
    before = {member: cluster.nodes[member].height for member in few}
    cluster.run(lambda cluster: min(cluster.nodes[member].height for member in many) >= 15)
    assert all(cluster.nodes[member].height <= before[member] + 4 for member in few)
    cluster.heal()
    cluster.run_to_round(5)
    check(cluster)


@pytest.mark.parametrize("seed", range(3))
def test_two_halves_wait_for_each_other(seed: int) -> None:
    """A1: neither half is more than 2/3, whichever has the committee."""
    cluster = Cluster(8, 4, 5, seed)
    half = [*cluster.committee[: seed + 1], *cluster.trainers[: 3 - seed]]
    cluster.start()
    cluster.run_to_round(1)
    cluster.cut(half, [member for member in cluster.members if member not in half])
    cluster.run_for(500)
    tops = cluster.heights()
    cluster.run_for(60_000)
    assert cluster.heights() == tops
    cluster.heal()
    cluster.run_to_round(3, 60_000)
    check(cluster)


@pytest.mark.parametrize("seed", range(3))
def test_flapping_links_slow_the_chain_and_do_not_stop_it(seed: int) -> None:
    """A4: what a cut hid is repaired by gossip."""
    cluster, dice = Cluster(7, 4, 4, seed), random.Random(seed)
    cluster.start()

    def flap() -> None:
        cluster.heal()
        ones = dice.sample(cluster.members, dice.randint(1, 4))
        cluster.cut(ones, dice.sample(cluster.members, 3))
        cluster.at(dice.randint(50, 800), flap)

    flap()
    cluster.run_to_round(3)
    check(cluster)


@pytest.mark.parametrize("loss", [0.05, 0.1, 0.2])
def test_lost_messages_are_repaired_by_gossip(loss: float) -> None:
    """A4: with up to a fifth of all messages lost no round needs its deadline more than once."""
    cluster = Cluster(8, 4, 5, seed=int(100 * loss), plan=Plan(loss=loss))
    cluster.start()
    cluster.run_to_round(4, 40_000)
    check(cluster)


def test_slow_links_only_make_rounds_longer() -> None:
    """A6: delays beyond the base timeouts are met by longer ones."""
    cluster = Cluster(5, 1, 3, plan=Plan(delay_ms=(300, 600)))
    cluster.start()
    cluster.run_to_round(3)
    check(cluster)


@pytest.mark.parametrize("seed", range(2))
def test_committee_voters_stop_without_harm_until_enough_of_them_are_back(seed: int) -> None:
    """A1: voters = "committee": two of four dead stop the chain; one back makes it go on."""
    cluster = Cluster(8, 4, 5, seed, voters="committee")
    cluster.start()
    cluster.run_to_round(1)
    victims = cluster.committee[:2]
    cluster.crash(*victims)
    cluster.run_for(500)
    height = cluster.tallest().height
    cluster.run_for(60_000)
    assert cluster.tallest().height == height
    cluster.start(victims[0])
    cluster.run_to_round(2, 60_000)
    cluster.start(victims[1])
    cluster.run_to_round(4)
    check(cluster)


def test_a_member_that_dies_between_its_last_slot_and_the_model_derives_it_after_its_restart() -> None:
    """A3: the final model that it missed is an obligation, met before it works on."""
    cluster = Cluster(5, 1, 4, plan=Plan(derive_ms=400))
    victim = cluster.trainers[0]
    cluster.start()
    cluster.run(lambda cluster: cluster.nodes[victim].height >= 3)
    cluster.crash(victim)
    cluster.run_to_height(4)
    cluster.start(victim)
    cluster.run(lambda cluster: cluster.nodes[victim].height >= 4)
    node = cluster.nodes[victim]
    assert not node.running.is_ready
    cluster.run(lambda cluster: node.running.is_ready)
    block = node.chain.store.block(4)
    assert block is not None
    assert isinstance(block.body, ModelBody)
    assert block.body.model.blob in node.held
    cluster.run_to_round(3)
    check(cluster)

"""Whole networks on virtual time: rounds as they go where nobody crashes."""

from dataclasses import replace

import pytest

from ledger.settlement import get_absent
from ledger.state import ABSENT, ACTIVE, REJECTED, State
from ledger.types import EmptyBody, ModelBody, Offer, UpdateBody
from tests.consensus.helpers_check import check, check_chain
from tests.consensus.helpers_cluster import Cluster, Plan

FAILS = (-2_000_000, -1_100_000, 0)
PASSES = (-1_000_000, -1_100_000, 0)


def model_body(cluster: Cluster, round: int) -> ModelBody:
    """The body of the block that ends `round`."""
    block = cluster.tallest().chain.store.block(cluster.params.round_length * (round + 1))
    assert block is not None
    assert isinstance(block.body, ModelBody)
    return block.body


def bodies(cluster: Cluster, round: int) -> list[UpdateBody | EmptyBody]:
    """The bodies in the update slots of `round`."""
    k, store = cluster.params.round_length, cluster.tallest().chain.store
    blocks = [store.block(height) for height in range(k * round + 1, k * (round + 1))]
    return [block.body for block in blocks if block is not None and not isinstance(block.body, ModelBody)]


def round_starts(cluster: Cluster) -> dict[int, State]:
    """The state at the start of each round (R1)."""
    k = cluster.params.round_length
    return {height // k: state for height, state in check_chain(cluster).items() if height % k == 0}


@pytest.mark.parametrize("seed", range(3))
def test_eight_peers_with_a_committee_of_four_make_ten_rounds_of_five_blocks(seed: int) -> None:
    """H1, H2, R5: four trainers fill the four slots; each fifth block is a model that all derive alike."""
    cluster = Cluster(8, 4, 5, seed)
    cluster.start()
    cluster.run_to_round(10, 60_000)
    check(cluster)
    assert all(isinstance(body, UpdateBody) for round in range(10) for body in bodies(cluster, round))
    assert len({model_body(cluster, round).model.blob for round in range(10)}) == 10


def test_one_seed_has_one_history() -> None:
    finals = []
    for _ in range(2):
        cluster = Cluster(8, 4, 5, seed=7, plan=Plan(loss=0.1))
        cluster.start()
        cluster.run_to_round(3)
        finals.append((cluster.now_ms, cluster.final))
    assert finals[0] == finals[1]


@pytest.mark.parametrize(("n", "c", "k"), [(2, 1, 2), (4, 1, 2), (5, 1, 4), (7, 4, 9), (13, 4, 4)])
def test_consortia_of_every_shape_make_rounds(n: int, c: int, k: int) -> None:
    """R6, R9: more trainers than slots are drawn from, fewer leave slots empty."""
    cluster = Cluster(n, c, k)
    cluster.start()
    cluster.run_to_round(4, 60_000)
    check(cluster)
    filled = min(n - c, k - 1)
    expected = [UpdateBody] * filled + [EmptyBody] * (k - 1 - filled)
    assert all([type(body) for body in bodies(cluster, round)] == expected for round in range(4))


def test_after_the_last_round_nothing_more_is_made() -> None:
    """R1: rounds_max rounds, and then peace; who comes late can still follow (Y1)."""
    cluster = Cluster(4, 1, 3, rounds_max=2)
    cluster.start(*cluster.members[:3])
    cluster.run_to_height(6)
    cluster.run_for(20_000)
    cluster.start(cluster.members[3])
    cluster.run_to_height(6, 5_000)
    cluster.run_for(5_000)
    assert set(cluster.heights()) == {6}
    check(cluster)


def test_poisoned_updates_are_rejected_and_listed_with_their_scores() -> None:
    """R4, R6: the close names them with the scores that failed them; their trainers' standing falls."""
    cluster = Cluster(8, 4, 5, seed=2)
    bad = set(cluster.trainers[:2])
    cluster.plan.score = lambda member, offer: FAILS if offer.trainer in bad else PASSES
    cluster.start()
    took_ms = cluster.run_to_round(1)
    close = next(body for body in bodies(cluster, 0) if isinstance(body, EmptyBody))
    assert {item.trainer for item in close.unfilled} == bad
    assert all(item.offer and 2 * len(item.scores) >= 4 for item in close.unfilled)
    members = {member.key: member for member in round_starts(cluster)[1].members}
    assert {key for key, member in members.items() if member.rejected} == bad
    assert took_ms < cluster.params.round_deadline_ms  # R6: all decided, so nobody waits for the deadline
    check(cluster)


def test_invalid_scores_reject_an_update() -> None:
    """R3, R4: INVALID with a code counts as a failure."""
    cluster = Cluster(8, 4, 5)
    bad = cluster.trainers[0]
    cluster.plan.score = lambda member, offer: (0, 0, 3) if offer.trainer == bad else PASSES
    cluster.start()
    cluster.run_to_round(1)
    close = next(body for body in bodies(cluster, 0) if isinstance(body, EmptyBody))
    assert [item.trainer for item in close.unfilled] == [bad]
    assert {score.code for score in close.unfilled[0].scores} == {3}
    check(cluster)


def test_a_silent_trainer_is_absent_after_three_due_rounds_in_a_row_and_returns_with_present() -> None:
    """R6: three due rounds, not two; absent, it is not drawn but votes; its `present` rides on a model block."""
    cluster = Cluster(5, 1, 5, seed=1, round_deadline_ms=1_000)
    silent = cluster.trainers[0]
    cluster.start(*(member for member in cluster.members if member != silent))
    cluster.run(lambda cluster: cluster.tallest().state.member(silent).status == ABSENT)  # type: ignore[union-attr]
    away_from = cluster.tallest().state.round.round
    cluster.run_to_round(away_from + 2)
    cluster.start(silent)
    cluster.run(lambda cluster: cluster.tallest().state.member(silent).status == ACTIVE)  # type: ignore[union-attr]
    cluster.run_to_height(cluster.tallest().height)
    states = round_starts(cluster)
    missed = 0
    for round in range(away_from):
        member = states[round].member(silent)
        assert member is not None
        assert (member.status, member.missed) == (ACTIVE, missed)
        missed += silent in states[round].round.trainers  # the lone scorer is missed by nobody: there are no scores
    assert missed == 3
    assert all(silent not in states[round].round.trainers for round in range(away_from, away_from + 2))
    back = cluster.tallest().state.round.round - 1
    assert [present.member for present in model_body(cluster, back).present] == [silent]
    cluster.run_to_round(back + 3)
    check(cluster)
    assert any(
        isinstance(body, UpdateBody) and body.offer.trainer == silent
        for round in (back + 1, back + 2)
        for body in bodies(cluster, round)
    )


def test_a_member_that_comes_to_every_third_due_round_is_never_absent() -> None:
    """R6: in a row."""
    cluster = Cluster(5, 1, 5, seed=3, round_deadline_ms=1_000)
    idle, due = cluster.trainers[0], [0]

    def trains(member: bytes, round: int) -> bool:
        if member != idle:
            return True
        due[0] += 1
        return due[0] % 3 == 0

    cluster.plan.trains = trains
    cluster.start()
    cluster.run_to_round(8)
    assert all(state.member(idle).status == ACTIVE for state in round_starts(cluster).values())  # type: ignore[union-attr]
    check(cluster)


def test_scores_that_come_late_ride_on_the_model_block_and_count_for_attendance() -> None:
    """R6: three of four scorers suffice; the fourth is not absent, as its scores come before the model."""
    cluster = Cluster(8, 4, 5, plan=Plan(derive_ms=1_500))
    slow = cluster.committee[0]
    cluster.plan.slow_ms = lambda member: 700 if member == slow else 0
    cluster.start()
    cluster.run_to_round(1)
    late = model_body(cluster, 0).late
    assert {score.scorer for score in late} == {slow}
    assert len(late) == 4
    check(cluster)


def test_a_scorer_whose_scores_never_come_is_absent_in_the_round() -> None:
    """R6: a committee member without a score where others' are listed."""
    cluster = Cluster(8, 4, 5)
    mute = cluster.committee[0]
    cluster.plan.score = lambda member, offer: None if member == mute else PASSES
    cluster.start()
    cluster.run_to_round(1)
    states = check_chain(cluster)
    assert get_absent(states[4]) == {mute}
    assert states[5].member(mute).missed == 1  # type: ignore[union-attr]
    check(cluster)


@pytest.mark.parametrize("seed", range(2))
def test_colluding_scorers_of_a_withheld_update_cost_one_fetch_deadline(seed: int) -> None:
    """R7: accepted, but to be had nowhere: it is listed as missing, weighs 0, and the chain goes on."""
    cluster = Cluster(8, 4, 5, seed)
    thief, colluders = cluster.trainers[0], set(cluster.committee[:3])
    cluster.plan.serves = lambda holder, asker: holder != thief
    cluster.plan.scores_blind = lambda member: member in colluders
    cluster.start()
    cluster.run_to_round(1)
    stolen = next(b.offer for b in bodies(cluster, 0) if isinstance(b, UpdateBody) and b.offer.trainer == thief)
    state = check_chain(cluster)[4]
    height = next(update.height for update in state.updates if update.offer == stolen.id())
    assert model_body(cluster, 0).missing == (height,)
    assert cluster.now_ms >= cluster.params.fetch_deadline_ms
    cluster.plan.serves = lambda holder, asker: True
    cluster.run_to_round(3)
    check(cluster)


def test_an_update_that_comes_just_before_the_fetch_deadline_is_not_missing() -> None:
    """R7: nobody lists what can be had."""
    cluster = Cluster(8, 4, 5)
    thief, colluders = cluster.trainers[0], set(cluster.committee[:3])
    cluster.plan.scores_blind = lambda member: member in colluders
    cluster.plan.serves = lambda holder, asker: holder != thief or cluster.now_ms > 1_500
    cluster.start()
    cluster.run_to_round(1)
    assert model_body(cluster, 0).missing == ()
    assert 1_500 < cluster.now_ms < 2_500
    check(cluster)


@pytest.mark.parametrize("seed", range(2))
def test_the_committee_alone_can_be_the_voters(seed: int) -> None:
    """A1, R9: genesis voters = "committee", BFLC's literal form; the voters change with each round."""
    cluster = Cluster(8, 4, 5, seed, voters="committee")
    cluster.start()
    cluster.run_to_round(5, 60_000)
    check(cluster)


def test_a_single_scorer_can_be_the_only_voter() -> None:
    """R1, A5: nobody else could show it forgotten votes, so it need not wait for them."""
    cluster = Cluster(3, 1, 3, voters="committee")
    cluster.start()
    cluster.run_to_round(4, 20_000)
    check(cluster)


@pytest.mark.parametrize("seed", range(2))
def test_scores_elect_the_best_trainers(seed: int) -> None:
    """R9: policy `score`; whoever sits now is out."""
    cluster = Cluster(9, 2, 8, seed, election="score", weight="score")

    def score(member: bytes, offer: Offer) -> tuple[int, int, int]:
        return (-1_000_000 + 1_000 * cluster.nodes[offer.trainer].index, -1_100_000, 0)

    cluster.plan.score = score
    cluster.start()
    cluster.run_to_round(4, 60_000)
    for round, state in sorted(round_starts(cluster).items())[:4]:
        best = sorted(state.round.trainers, key=lambda member: -cluster.nodes[member].index)[:2]
        after = round_starts(cluster)[round + 1]
        assert set(after.round.committee) == set(best)
    check(cluster)


def test_half_the_committee_may_lie_about_scores_and_the_others_decide_at_the_deadline() -> None:
    """R4: no majority passes it, and half fail it: rejected, whichever scores a proposer lists."""
    cluster = Cluster(8, 4, 5)
    liars = set(cluster.committee[:2])
    cluster.plan = replace(cluster.plan, score=lambda member, offer: FAILS if member in liars else PASSES)
    cluster.start()
    cluster.run_to_round(1)
    states = check_chain(cluster)
    assert states[4].updates == ()
    assert {item.outcome for item in states[4].listed} == {REJECTED}
    assert states[5].round.model == states[0].round.model
    check(cluster)

"""The pool: what is kept of a round beside the chain, since when, and what is refused (R2, R3, R6, A8)."""

from dataclasses import replace

import pytest

from consensus.pool import ORPHANS_FACTOR, RoundPool
from ledger.endorsement import ACCEPTED, REJECTED, UNDECIDED
from ledger.transition import InvalidMessage, get_listed_scores
from tests.ledger.helpers_ledger import FAILING, PASSING, ChainBuilder


@pytest.fixture
def chain() -> ChainBuilder:
    return ChainBuilder(8, 4, 5)


@pytest.fixture
def pool(chain: ChainBuilder) -> RoundPool:
    return RoundPool(chain.params)


def test_an_offer_is_kept_once_with_the_time_of_its_first_coming(chain: ChainBuilder, pool: RoundPool) -> None:
    offer = chain.offer(chain.trainers[0])
    assert pool.add(chain.state, offer, 10)
    assert not pool.add(chain.state, offer, 99)
    assert pool.held_since(offer) == 10
    assert pool.messages() == [offer]


def test_a_trainers_second_offer_is_not_kept(chain: ChainBuilder, pool: RoundPool) -> None:
    """R2: one offer a trainer."""
    first, second = chain.offer(chain.trainers[0]), chain.offer(chain.trainers[0], samples=7)
    assert pool.add(chain.state, first, 0)
    assert not pool.add(chain.state, second, 1)
    assert pool.offers == {chain.trainers[0]: first}


def test_an_offer_of_one_who_is_no_trainer_of_the_round_is_refused(chain: ChainBuilder, pool: RoundPool) -> None:
    """R2."""
    with pytest.raises(InvalidMessage, match="not a drawn trainer"):
        pool.add(chain.state, chain.offer(chain.committee[0]), 0)
    assert pool.messages() == []


def test_a_message_whose_signature_does_not_stand_is_refused_and_leaves_room_for_the_true_one(
    chain: ChainBuilder, pool: RoundPool
) -> None:
    """A8: a forger cannot keep the true offer or score out."""
    offer = chain.offer(chain.trainers[0])
    score = chain.score(offer, chain.committee[0])
    for true in (offer, score):
        with pytest.raises(InvalidMessage, match="bad signature"):
            pool.add(chain.state, replace(true, signature=bytes(64)), 0)
        assert pool.add(chain.state, true, 1)


def test_one_score_of_each_scorer_is_kept_for_an_offer(chain: ChainBuilder, pool: RoundPool) -> None:
    """R3: the first one stands."""
    offer = chain.offer(chain.trainers[0])
    score = chain.score(offer, chain.committee[0])
    assert pool.add(chain.state, score, 5)
    assert not pool.add(chain.state, chain.score(offer, chain.committee[0], FAILING), 6)
    assert pool.scores_of(offer.id()) == (score,)


def test_scores_of_others_than_the_committee_are_refused(chain: ChainBuilder, pool: RoundPool) -> None:
    """R3."""
    offer = chain.offer(chain.trainers[0])
    with pytest.raises(InvalidMessage, match="not on the committee"):
        pool.add(chain.state, chain.score(offer, chain.trainers[1]), 0)


def test_scores_may_come_before_their_offer_and_stand_in_order_of_scorer(chain: ChainBuilder, pool: RoundPool) -> None:
    offer = chain.offer(chain.trainers[0])
    for at, scorer in enumerate(chain.committee):
        pool.add(chain.state, chain.score(offer, scorer), at)
    assert [score.scorer for score in pool.scores_of(offer.id())] == sorted(chain.committee)
    assert pool.get_accepted(chain.state) == []
    assert pool.add(chain.state, offer, 9)
    assert pool.get_accepted(chain.state) == [offer]


def test_a_scorer_has_room_for_a_bounded_number_of_scores(chain: ChainBuilder, pool: RoundPool) -> None:
    """A8: a committee member cannot fill the memory with scores of offers that nobody knows."""
    room = ORPHANS_FACTOR * chain.params.round_length
    flooder, honest = chain.committee[:2]
    offers = [chain.offer(chain.trainers[0], samples=number + 1) for number in range(room + 1)]
    kept = [pool.add(chain.state, chain.score(offer, flooder), 0) for offer in offers]
    assert kept == [True] * room + [False]
    assert pool.add(chain.state, chain.score(offers[-1], honest), 0)
    assert len(pool.messages()) == room + 1


def test_scores_of_nothing_leave_room_for_those_of_a_known_offer(chain: ChainBuilder, pool: RoundPool) -> None:
    """R6: a voter that holds such a score refuses a close without it, so every proposer must be able to list it."""
    flooder, offer = chain.committee[0], chain.offer(chain.trainers[0])
    pool.add(chain.state, offer, 0)
    for number in range(ORPHANS_FACTOR * chain.params.round_length):
        pool.add(chain.state, chain.score(chain.offer(chain.trainers[1], samples=number + 1), flooder), 0)
    assert pool.add(chain.state, chain.score(offer, flooder), 0)
    assert [score.scorer for score in pool.scores_of(offer.id())] == [flooder]


def test_decided_is_the_moment_of_acceptance_and_not_of_later_scores(chain: ChainBuilder, pool: RoundPool) -> None:
    """R4, R5: accepted with the third of four scores (more than 2c/3); `batch_wait` runs from there."""
    offer = chain.offer(chain.trainers[0])
    pool.add(chain.state, offer, 0)
    outcomes = []
    for at, scorer in enumerate(chain.committee, 1):
        pool.add(chain.state, chain.score(offer, scorer), at)
        outcomes.append(pool.get_outcome(offer.id()))
    assert outcomes == [UNDECIDED, UNDECIDED, ACCEPTED, ACCEPTED]
    assert pool.decided_ms == {offer.id(): 3}


def test_an_offer_that_follows_its_scores_is_decided_when_the_last_of_them_came(
    chain: ChainBuilder, pool: RoundPool
) -> None:
    offer = chain.offer(chain.trainers[0])
    for at, scorer in enumerate(chain.committee):
        pool.add(chain.state, chain.score(offer, scorer), at)
    pool.add(chain.state, offer, 9)
    assert pool.decided_ms == {offer.id(): 2}


def test_rejection_by_half_of_the_committee(chain: ChainBuilder, pool: RoundPool) -> None:
    """R4."""
    offer = chain.offer(chain.trainers[0])
    pool.add(chain.state, offer, 0)
    for scorer, values in zip(chain.committee, (FAILING, FAILING, PASSING, PASSING), strict=True):
        pool.add(chain.state, chain.score(offer, scorer, values), 0)
    assert pool.get_outcome(offer.id()) == REJECTED
    assert pool.get_accepted(chain.state) == []


def accept(chain: ChainBuilder, pool: RoundPool, trainer: bytes, values: tuple[int, int] = PASSING) -> None:
    offer = chain.offer(trainer)
    pool.add(chain.state, offer, 0)
    for score in chain.scores(offer, values):
        pool.add(chain.state, score, 0)


def test_accepted_offers_come_in_order_of_trainer_key_and_not_again_once_on_chain(chain: ChainBuilder) -> None:
    """R5."""
    pool = RoundPool(chain.params)
    for trainer in reversed(chain.trainers):
        accept(chain, pool, trainer)
    assert [offer.trainer for offer in pool.get_accepted(chain.state)] == sorted(chain.trainers)
    chain.append(chain.update_body(chain.offer(chain.trainers[1])))
    waiting = [offer.trainer for offer in pool.get_accepted(chain.state)]
    assert waiting == [trainer for trainer in sorted(chain.trainers) if trainer != chain.trainers[1]]


def test_a_round_is_decided_when_each_trainer_is_accepted_or_rejected_here_or_on_chain(chain: ChainBuilder) -> None:
    """R6."""
    pool = RoundPool(chain.params)
    chain.append(chain.update_body(chain.offer(chain.trainers[0])))
    accept(chain, pool, chain.trainers[1])
    accept(chain, pool, chain.trainers[2], FAILING)
    assert not pool.is_decided(chain.state)
    pool.add(chain.state, chain.offer(chain.trainers[3]), 0)
    assert not pool.is_decided(chain.state)
    accept(chain, pool, chain.trainers[3], FAILING)
    assert pool.is_decided(chain.state)


def test_a_round_without_trainers_is_never_decided(chain: ChainBuilder, pool: RoundPool) -> None:
    """R6: it waits for its deadline, or empty rounds would follow each other as fast as votes travel."""
    state = replace(chain.state, round=replace(chain.state.round, trainers=()))
    assert not pool.is_decided(state)


def test_late_scores_are_those_held_for_listed_offers_and_not_listed_in_order(chain: ChainBuilder) -> None:
    """R6."""
    pool = RoundPool(chain.params)
    offers = [chain.offer(trainer) for trainer in chain.trainers[:3]]
    listed, (late, *_) = offers[:2], sorted(chain.committee)
    others = [scorer for scorer in chain.committee if scorer != late]
    for offer in offers:
        for score in chain.scores(offer):
            pool.add(chain.state, score, 0)
    chain.append(*(chain.update_body(offer, chain.scores(offer, scorers=others)) for offer in listed))
    found = pool.late_scores(get_listed_scores(chain.state), chain.committee)
    assert [(score.offer, score.scorer) for score in found] == sorted((offer.id(), late) for offer in listed)


def test_a_present_is_kept_once_and_only_of_an_absent_member() -> None:
    """R6."""
    chain = ChainBuilder(8, 4, 5, absent_after=1)
    silent = chain.trainers[0]
    pool = RoundPool(chain.params)
    with pytest.raises(InvalidMessage, match="not an absent member"):
        pool.add(chain.state, chain.present(silent), 0)
    chain.full_round(silent=[silent])
    present = chain.present(silent)
    assert pool.add(chain.state, present, 4)
    assert not pool.add(chain.state, present, 5)
    assert pool.presents == {silent: present}
    assert pool.held_since(present) == 4

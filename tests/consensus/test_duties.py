"""What a member owes the open round, asked for once, signed once (R2, R3, R6, R7, A5)."""

from consensus.duties import RoundWork, make_aggregate
from consensus.events import Aggregate, Effect, Evaluate, Persist, Train
from consensus.signer import Identity, Signer, SignerState
from ledger.blobs import blob_ref
from ledger.codec import Record
from ledger.transition import check_offer, check_present, check_score
from ledger.types import Offer, Present, Score
from tests.ledger.helpers_ledger import ChainBuilder, beacon_of

UPDATE = blob_ref(b"my update")
SEAL, OTHER_SEAL = b"s" * 32, b"o" * 32


def work_of(chain: ChainBuilder, me: bytes, log: list[Record] | None = None) -> RoundWork:
    signer = Signer(chain.key(me), SignerState.replay([Identity(me), *(log or [])]))
    return RoundWork(chain.params, signer, beacon_of(chain.indices[me], chain.params.beacon_links))


def asks(work: RoundWork, chain: ChainBuilder, now_ms: int = 0) -> list[Effect]:
    return list(work.ask(chain.state, now_ms))


def test_a_trainer_is_asked_once_to_train_from_the_rounds_model() -> None:
    """R2."""
    chain = ChainBuilder(8, 4, 5)
    work = work_of(chain, chain.trainers[0])
    assert asks(work, chain) == [Train(0, chain.state.round.model)]
    assert asks(work, chain) == []


def test_who_has_offered_before_a_restart_does_not_train_again() -> None:
    """A5: its stored offer is sent again."""
    chain = ChainBuilder(8, 4, 5)
    work = work_of(chain, chain.trainers[0])
    work.pool.add(chain.state, chain.offer(chain.trainers[0]), 0)
    assert asks(work, chain) == []


def test_nobody_trains_for_slots_that_are_final() -> None:
    """R6."""
    chain = ChainBuilder(8, 4, 5)
    chain.append(*chain.fill_slots(accept=chain.trainers[1:]))
    assert asks(work_of(chain, chain.trainers[0]), chain) != []
    assert not any(isinstance(effect, Train) for effect in asks(work_of(chain, chain.trainers[0]), chain))


def test_a_scorer_is_asked_once_for_each_offer_that_it_has_not_scored() -> None:
    """R3: of a round's offers; a trainer scores nothing."""
    chain = ChainBuilder(8, 4, 5)
    offers = [chain.offer(trainer) for trainer in chain.trainers]
    scorer, trainer = work_of(chain, chain.committee[0]), work_of(chain, chain.trainers[0])
    for work in (scorer, trainer):
        for offer in offers[:3]:
            work.pool.add(chain.state, offer, 0)
    scorer.pool.add(chain.state, chain.score(offers[0], chain.committee[0]), 0)
    model = chain.state.round.model
    assert asks(scorer, chain) == [Evaluate(0, offer, model) for offer in offers[1:3]]
    scorer.pool.add(chain.state, offers[3], 0)
    assert asks(scorer, chain) == [Evaluate(0, offers[3], model)]
    assert asks(trainer, chain) == []


def test_the_candidate_is_asked_for_once_when_the_slots_are_final() -> None:
    """R7: the updates in block order with their weights, the committee and the trainers as holders."""
    chain = ChainBuilder(8, 4, 5)
    work = work_of(chain, chain.committee[0])
    assert asks(work, chain) == []
    chain.append(*chain.fill_slots())
    (order,) = asks(work, chain)
    assert isinstance(order, Aggregate)
    assert order == make_aggregate(chain.state, ())
    assert [item.height for item in order.updates] == [1, 2, 3, 4]
    assert [item.weight for item in order.updates] == [update.weight for update in chain.state.updates]
    assert set(order.holders) == {*chain.committee, *chain.trainers}
    assert asks(work, chain) == []


def test_no_candidate_is_asked_for_where_the_model_stays() -> None:
    """R7."""
    chain = ChainBuilder(8, 4, 5, updates_min=2)
    chain.append(*chain.fill_slots(accept=chain.trainers[:1]))
    assert asks(work_of(chain, chain.committee[0]), chain) == []


def test_at_the_fetch_deadline_a_candidate_without_what_is_not_held_is_asked_for() -> None:
    """R7: exactly then, once for each set of updates that are missing."""
    chain = ChainBuilder(8, 4, 5)
    chain.append(*chain.fill_slots())
    updates = chain.state.updates
    work = work_of(chain, chain.committee[0])
    work.clock.slots_final_ms = 1_000
    work.candidates.held.update(item.update for item in updates[:2])
    due = 1_000 + chain.params.fetch_deadline_ms
    assert [order.missing for order in asks(work, chain, due - 1) if isinstance(order, Aggregate)] == [()]
    assert [order.missing for order in asks(work, chain, due) if isinstance(order, Aggregate)] == [(3, 4)]
    assert asks(work, chain, due + 1) == []
    work.candidates.held.add(updates[2].update)
    assert [order.missing for order in asks(work, chain, due + 2) if isinstance(order, Aggregate)] == [(4,)]


def test_with_its_full_candidate_nobody_asks_for_a_lesser_one() -> None:
    chain = ChainBuilder(8, 4, 5)
    chain.append(*chain.fill_slots())
    work = work_of(chain, chain.committee[0])
    work.clock.slots_final_ms = 0
    work.candidates.models[()] = blob_ref(b"candidate")
    assert [order.missing for order in asks(work, chain, 10**9) if isinstance(order, Aggregate)] == [()]


def test_nothing_is_asked_after_the_last_round() -> None:
    chain = ChainBuilder(8, 4, 5, rounds_max=1)
    chain.full_round()
    assert [effect for member in chain.indices for effect in asks(work_of(chain, member), chain)] == []


def test_an_offer_stands_is_written_first_and_is_the_same_when_asked_again() -> None:
    """R2, R9, A5: it reveals link L - 1 - t, and its samples are capped."""
    chain = ChainBuilder(8, 4, 5, samples_max=200)
    chain.full_round()
    me = chain.trainers[0]
    work = work_of(chain, me)
    effects, offer = work.make_offer(chain.state, UPDATE, SEAL, 1_000_000, "int8")
    assert isinstance(offer, Offer)
    check_offer(chain.params, chain.state, offer)
    assert (offer.update, offer.seal, offer.samples, offer.codec, offer.round) == (UPDATE, SEAL, 200, "int8", 1)
    (persist,) = effects
    assert isinstance(persist, Persist)
    assert work.make_offer(chain.state, blob_ref(b"another"), OTHER_SEAL, 1, "f32") == ([], offer)
    again = work_of(chain, me, [persist.record])
    assert again.make_offer(chain.state, blob_ref(b"another"), OTHER_SEAL, 1, "f32") == ([], offer)


def test_a_score_is_kept_within_the_range_of_genesis() -> None:
    """R3."""
    chain = ChainBuilder(8, 4, 5)
    work = work_of(chain, chain.committee[0])
    offer = chain.offer(chain.trainers[0])
    low, high = chain.params.score_min, chain.params.score_max
    effects, score = work.make_score(chain.state, offer.id(), low - 1, high + 1, 0)
    assert isinstance(score, Score)
    check_score(chain.params, chain.state, score)
    assert (score.value, score.baseline) == (low, high)
    assert len(effects) == 1
    assert work.make_score(chain.state, offer.id(), -5, -5, 0) == ([], score)


def test_an_invalid_score_carries_its_code_and_no_values() -> None:
    """R3: INVALID, whatever range genesis allows."""
    chain = ChainBuilder(8, 4, 5, score_min=10, score_max=20)
    work = work_of(chain, chain.committee[0])
    _, score = work.make_score(chain.state, chain.offer(chain.trainers[0]).id(), 0, 0, 4)
    assert isinstance(score, Score)
    check_score(chain.params, chain.state, score)
    assert (score.code, score.value, score.baseline) == (4, 0, 0)


def test_only_an_absent_member_says_that_it_is_back_once_a_round() -> None:
    """R6."""
    chain = ChainBuilder(8, 4, 5, absent_after=1)
    silent, other = chain.trainers[:2]
    assert work_of(chain, silent).make_present(chain.state) == ([], None)
    chain.full_round(silent=[silent])
    assert work_of(chain, other).make_present(chain.state) == ([], None)
    work = work_of(chain, silent)
    effects, present = work.make_present(chain.state)
    assert isinstance(present, Present)
    check_present(chain.state, present)
    assert [type(effect) for effect in effects] == [Persist]
    work.pool.add(chain.state, present, 0)
    assert work.make_present(chain.state) == ([], None)


def test_a_muted_signer_leaves_duties_undone() -> None:
    """A5: a restored copy signs neither offers nor scores of this learning round."""
    chain = ChainBuilder(8, 4, 5)
    signer = Signer(chain.key(chain.committee[0]), SignerState.replay([Identity(chain.committee[0])]))
    signer.mute(1, below_round=1)
    work = RoundWork(chain.params, signer, beacon_of(0, chain.params.beacon_links))
    assert work.make_score(chain.state, chain.offer(chain.trainers[0]).id(), -1, -1, 0) == ([], None)

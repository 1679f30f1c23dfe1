"""What only this voter can say of a fresh proposal (A3): its clock and its blobs, to the millisecond."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consensus.drafting import Candidates, RoundClock, make_batch
from consensus.freshness import CLOCK_AHEAD_MAX_MS, FreshCheck
from consensus.pool import RoundPool
from ledger.blobs import blob_ref
from ledger.types import Block, Body, EmptyBody, Offer
from tests.ledger.helpers_ledger import FAILING, PASSING, ChainBuilder

OPENED = 10_000


class Voter:
    """One voter's view of a chain of 8 members, c = 4, k = 5; the round opened at `OPENED`."""

    def __init__(self) -> None:
        self.chain = ChainBuilder(8, 4, 5)
        self.params = self.chain.params
        self.pool, self.clock, self.candidates = RoundPool(self.params), RoundClock(OPENED), Candidates()

    def hold(self, offer: Offer, at_ms: int, scorers: Sequence[bytes] = (), values: tuple[int, int] = PASSING) -> None:
        self.pool.add(self.chain.state, offer, at_ms)
        for score in self.chain.scores(offer, values, scorers):
            self.pool.add(self.chain.state, score, at_ms)

    def answer(self, blocks: Sequence[Block], now_ms: int, wall_ms: int | None = None) -> bool | None:
        wall_ms = blocks[-1].header.time_ms if wall_ms is None else wall_ms
        state = self.chain.state
        check = FreshCheck(self.params, state, self.pool, self.clock, self.candidates, now_ms, wall_ms)
        return check.answer(blocks)

    def asks(self, bodies: Sequence[Body], now_ms: int) -> bool | None:
        return self.answer(self.chain.blocks(*bodies)[0], now_ms)


@pytest.fixture
def voter() -> Voter:
    return Voter()


def deadline(voter: Voter) -> int:
    return OPENED + voter.params.round_deadline_ms


def empty_close(voter: Voter) -> list[Body]:
    return [voter.chain.close_body_of_all(), *[EmptyBody(())] * 3]


@pytest.mark.parametrize(("ahead", "answer"), [(CLOCK_AHEAD_MAX_MS, True), (CLOCK_AHEAD_MAX_MS + 1, False)])
def test_a_blocks_time_may_be_ten_seconds_ahead_and_no_more(voter: Voter, ahead: int, answer: bool) -> None:
    """A3, S3."""
    blocks, _ = voter.chain.blocks(*voter.chain.fill_slots())
    assert voter.answer(blocks, OPENED, blocks[-1].header.time_ms - ahead) is answer


def test_a_batch_of_updates_needs_no_clock(voter: Voter) -> None:
    """A3: its scores say all."""
    voter.clock.opened_ms = None
    assert voter.asks(voter.chain.fill_slots()[:2], 0) is True


def test_a_close_is_held_until_the_voters_own_deadline(voter: Voter) -> None:
    """R6: None before, True exactly at it."""
    assert voter.asks(empty_close(voter), deadline(voter) - 1) is None
    assert voter.asks(empty_close(voter), deadline(voter)) is True


def test_a_close_is_held_for_ever_where_the_clock_has_not_started(voter: Voter) -> None:
    """R1."""
    voter.clock.opened_ms = None
    assert voter.asks(empty_close(voter), 10**9) is None


def test_a_close_that_shows_every_trainer_decided_needs_no_deadline(voter: Voter) -> None:
    """R6."""
    bodies = voter.chain.fill_slots(accept=voter.chain.trainers[:1], reject=voter.chain.trainers[1:])
    assert voter.asks(bodies, OPENED) is True


def test_a_close_of_a_round_without_trainers_waits_for_the_deadline(voter: Voter) -> None:
    """R6: nobody is undecided in it, and yet it is not closed as fast as votes travel."""
    state = replace(voter.chain.state, round=replace(voter.chain.state.round, trainers=()))
    blocks = make_batch(voter.params, state, voter.chain.committee[0], 0, [EmptyBody(())] * 4)
    for now, answer in ((deadline(voter) - 1, None), (deadline(voter), True)):
        check = FreshCheck(voter.params, state, voter.pool, voter.clock, voter.candidates, now, 2**41)
        assert check.answer(blocks) is answer


def test_a_close_with_one_silent_trainer_waits(voter: Voter) -> None:
    """R6: `none` decides nothing."""
    *rejected, silent = voter.chain.trainers
    assert voter.asks(voter.chain.fill_slots(accept=(), reject=rejected, silent=[silent]), OPENED) is None


@pytest.mark.parametrize(("age", "answer"), [(0, True), (1_000, True), (1_001, False)])
def test_a_close_may_not_omit_an_offer_held_for_longer_than_grace(voter: Voter, age: int, answer: bool) -> None:
    """R6: exactly `grace` is not longer."""
    assert voter.params.grace_ms == 1_000
    now = deadline(voter)
    voter.hold(voter.chain.offer(voter.chain.trainers[0]), now - age)
    assert voter.asks(empty_close(voter), now) is answer


@pytest.mark.parametrize(("age", "answer"), [(1_000, True), (1_001, False)])
def test_a_close_may_not_omit_a_score_held_for_longer_than_grace(voter: Voter, age: int, answer: bool) -> None:
    """R6."""
    trainer, *silent = voter.chain.trainers
    offer, (held, listed, *_) = voter.chain.offer(trainer), voter.chain.committee
    now = deadline(voter)
    voter.hold(offer, now - age, [held])
    close = voter.chain.close_body(
        [
            voter.chain.unfilled(trainer, offer, voter.chain.scores(offer, FAILING, [listed])),
            *(voter.chain.unfilled(item) for item in silent),
        ]
    )
    assert voter.asks([close, *[EmptyBody(())] * 3], now) is answer


def test_an_omission_is_refused_even_before_the_deadline(voter: Voter) -> None:
    """R6: waiting would not make it better."""
    voter.hold(voter.chain.offer(voter.chain.trainers[0]), OPENED)
    assert voter.asks(empty_close(voter), OPENED + 1_001) is False


def test_another_offer_of_the_same_trainer_is_no_omission(voter: Voter) -> None:
    """R2, R6: which of two offers is listed is the proposer's choice."""
    trainer, *silent = voter.chain.trainers
    voter.hold(voter.chain.offer(trainer, samples=5), OPENED)
    bodies = voter.chain.fill_slots(accept=(), reject=[trainer], silent=silent)
    assert voter.asks(bodies, deadline(voter)) is True


def test_what_a_close_lists_and_the_voter_does_not_hold_is_fine(voter: Voter) -> None:
    """A3: the listed messages are signed."""
    trainer, *silent = voter.chain.trainers
    assert voter.asks(voter.chain.fill_slots(accept=(), reject=[trainer], silent=silent), deadline(voter)) is True


# ---------------------------------------------------------------------------------------------------- model block


@pytest.fixture
def full(voter: Voter) -> Voter:
    """The slots are final since `OPENED`; every update but those of one scorer is listed."""
    quiet = sorted(voter.chain.committee)[0]
    others = [scorer for scorer in voter.chain.committee if scorer != quiet]
    offers = [voter.chain.offer(trainer) for trainer in voter.chain.trainers]
    voter.chain.append(*(voter.chain.update_body(o, voter.chain.scores(o, scorers=others)) for o in offers))
    voter.clock.slots_final_ms = OPENED
    return voter


def test_a_model_is_held_until_the_own_candidate_is_there_and_then_compared(full: Voter) -> None:
    """R7, A3."""
    body = full.chain.model_body()
    assert full.asks([body], OPENED) is None
    full.candidates.models[()] = body.model
    assert full.asks([body], OPENED) is True
    full.candidates.models[()] = blob_ref(b"another")
    assert full.asks([body], OPENED) is False


def test_an_unchanged_model_needs_no_candidate(voter: Voter) -> None:
    """R7: the transition has compared it."""
    voter.chain.append(*empty_close(voter))
    assert voter.asks([voter.chain.model_body()], OPENED) is True


def test_a_missing_update_is_held_until_the_voters_own_fetch_deadline(full: Voter) -> None:
    """R7: None before; at it, its own candidate without the update decides."""
    missing = (full.chain.state.updates[0].height,)
    body = full.chain.model_body(blob_ref(b"without"), missing=missing)
    due = OPENED + full.params.fetch_deadline_ms
    full.candidates.models[missing] = body.model
    assert full.asks([body], due - 1) is None
    assert full.asks([body], due) is True


def test_a_voter_that_holds_the_blob_refuses_to_call_it_missing(full: Voter) -> None:
    """R7: whatever the clock says."""
    update = full.chain.state.updates[0]
    full.candidates.held.add(update.update)
    body = full.chain.model_body(blob_ref(b"without"), missing=(update.height,))
    full.candidates.models[(update.height,)] = body.model
    for now in (OPENED, OPENED + full.params.fetch_deadline_ms):
        assert full.asks([body], now) is False


def test_a_voter_whose_slots_clock_has_not_started_holds_what_is_called_missing(full: Voter) -> None:
    """R7."""
    full.clock.slots_final_ms = None
    missing = (full.chain.state.updates[0].height,)
    assert full.asks([full.chain.model_body(blob_ref(b"without"), missing=missing)], 10**9) is None


@pytest.mark.parametrize(("age", "answer"), [(1_000, True), (1_001, False)])
def test_a_model_block_may_not_omit_a_late_score_held_for_longer_than_grace(
    full: Voter, age: int, answer: bool
) -> None:
    """R6: a proposer cannot make a scorer absent."""
    late = full.chain.score(full.chain.offer(full.chain.trainers[0]), sorted(full.chain.committee)[0])
    now = OPENED + 5_000
    full.pool.add(full.chain.state, late, now - age)
    body = full.chain.model_body()
    full.candidates.models[()] = body.model
    assert full.asks([body], now) is answer
    assert full.asks([full.chain.model_body(late=(late,))], now) is True


def test_a_score_that_the_chain_lists_is_not_late(full: Voter) -> None:
    """R6."""
    offer = full.chain.offer(full.chain.trainers[0])
    full.pool.add(full.chain.state, full.chain.score(offer, sorted(full.chain.committee)[1]), 0)
    body = full.chain.model_body()
    full.candidates.models[()] = body.model
    assert full.asks([body], OPENED + 60_000) is True

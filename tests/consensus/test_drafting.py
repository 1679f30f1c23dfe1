"""What a proposer proposes, and exactly when (R5, R6, R7)."""

import pytest

from consensus.drafting import (
    Candidates,
    RoundClock,
    get_missing,
    get_model_body,
    get_update_bodies,
    is_close_due,
    is_unchanged,
    make_batch,
    open_slots,
)
from consensus.pool import RoundPool
from ledger.blobs import blob_ref
from ledger.transition import apply_all
from ledger.types import BlobRef, EmptyBody, ModelBody, UpdateBody
from tests.ledger.helpers_ledger import BLOCK_MS, FAILING, PASSING, ChainBuilder

OPENED = 1_000


class Draft:
    """A pool, a clock and candidates on a chain of 8 members, c = 4, k = 5."""

    def __init__(self, updates_min: int = 1) -> None:
        self.chain = ChainBuilder(8, 4, 5, updates_min=updates_min)
        self.params = self.chain.params
        self.pool, self.clock, self.candidates = RoundPool(self.params), RoundClock(OPENED), Candidates()

    def offer(self, trainer: bytes, at_ms: int, values: tuple[int, int] | None = PASSING) -> None:
        offer = self.chain.offer(trainer)
        self.pool.add(self.chain.state, offer, at_ms)
        for score in self.chain.scores(offer, values) if values else ():
            self.pool.add(self.chain.state, score, at_ms)

    def updates(self, now_ms: int) -> list[type] | None:
        bodies = get_update_bodies(self.params, self.chain.state, self.pool, self.clock, now_ms)
        if bodies is None:
            return None
        blocks = make_batch(self.params, self.chain.state, self.chain.committee[0], 0, bodies)
        apply_all(self.params, self.chain.state, blocks)  # whatever is drafted is valid (A3)
        return [type(body) for body in bodies]

    def model(self, now_ms: int) -> ModelBody | None:
        state = self.chain.state
        return get_model_body(self.params, state, self.pool, self.candidates, self.clock, now_ms)


@pytest.fixture
def draft() -> Draft:
    return Draft()


def test_a_clock_that_has_not_started_never_passes() -> None:
    """R1."""
    assert not RoundClock().has_passed(None, 0, 10**9)


def test_a_duration_has_passed_exactly_at_its_end() -> None:
    clock = RoundClock(OPENED)
    assert [clock.has_passed(OPENED, 50, OPENED + after) for after in (49, 50, 51)] == [False, True, True]


def test_nothing_is_proposable_in_an_empty_round_before_its_deadline(draft: Draft) -> None:
    """R5, R6: at the deadline, to the millisecond, the close lists every trainer with `none`."""
    end = OPENED + draft.params.round_deadline_ms
    assert draft.updates(end - 1) is None
    assert draft.updates(end) == [EmptyBody] * 4
    bodies = get_update_bodies(draft.params, draft.chain.state, draft.pool, draft.clock, end)
    assert bodies is not None
    close = bodies[0]
    assert isinstance(close, EmptyBody)
    assert [item.trainer for item in close.unfilled] == sorted(draft.chain.trainers)
    assert all(not item.offer for item in close.unfilled)


def test_a_round_whose_clock_has_not_started_is_not_closed(draft: Draft) -> None:
    """R1: fewer than a quorum was heard."""
    draft.clock.opened_ms = None
    assert not is_close_due(draft.params, draft.chain.state, draft.pool, draft.clock, 10**9)


def test_accepted_offers_that_fill_the_slots_are_proposed_at_once(draft: Draft) -> None:
    """R5."""
    for trainer in draft.chain.trainers:
        draft.offer(trainer, OPENED)
    assert draft.updates(OPENED) == [UpdateBody] * 4


def test_fewer_accepted_offers_wait_until_one_of_them_is_as_old_as_batch_wait(draft: Draft) -> None:
    """R5: exactly at `batch_wait` after its acceptance."""
    draft.offer(draft.chain.trainers[0], OPENED + 10)
    draft.offer(draft.chain.trainers[1], OPENED + 500)
    due = OPENED + 10 + draft.params.batch_wait_ms
    assert draft.updates(due - 1) is None
    assert draft.updates(due) == [UpdateBody] * 2


def test_the_close_follows_the_accepted_ones_as_soon_as_all_are_decided(draft: Draft) -> None:
    """R6: no `batch_wait`, no deadline."""
    first, second, third, fourth = draft.chain.trainers
    draft.offer(first, OPENED)
    draft.offer(second, OPENED, FAILING)
    draft.offer(third, OPENED, FAILING)
    assert draft.updates(OPENED) is None
    draft.offer(fourth, OPENED, FAILING)
    assert draft.updates(OPENED) == [UpdateBody, EmptyBody, EmptyBody, EmptyBody]


def test_the_close_at_the_deadline_lists_offers_with_the_scores_that_there_are(draft: Draft) -> None:
    """R6: undecided ones too."""
    undecided, rejected, *_ = draft.chain.trainers
    draft.offer(undecided, OPENED, None)
    draft.offer(rejected, OPENED, FAILING)
    end = OPENED + draft.params.round_deadline_ms
    assert draft.updates(end) == [EmptyBody] * 4
    bodies = get_update_bodies(draft.params, draft.chain.state, draft.pool, draft.clock, end)
    assert bodies is not None
    assert isinstance(bodies[0], EmptyBody)
    listed = {item.trainer: (len(item.offer), len(item.scores)) for item in bodies[0].unfilled}
    assert listed[undecided] == (1, 0)
    assert listed[rejected] == (1, 4)


def test_what_is_on_chain_already_is_not_drafted_again(draft: Draft) -> None:
    """R5: the second batch of a round fills what the first has left."""
    draft.chain.append(draft.chain.update_body(draft.chain.offer(draft.chain.trainers[0])))
    assert open_slots(draft.params, draft.chain.state) == 3
    for trainer in draft.chain.trainers:
        draft.offer(trainer, OPENED)
    assert draft.updates(OPENED) == [UpdateBody] * 3


def filled(draft: Draft, accept: int = 4) -> None:
    """Make the slots of the round final, `accept` of them with updates."""
    draft.chain.append(*draft.chain.fill_slots(accept=draft.chain.trainers[:accept]))
    draft.clock.slots_final_ms = OPENED


def test_the_model_block_waits_for_its_candidate(draft: Draft) -> None:
    """R7."""
    filled(draft)
    assert draft.model(OPENED) is None
    draft.candidates.models[()] = blob_ref(b"candidate")
    assert draft.model(OPENED) == ModelBody(blob_ref(b"candidate"), (), (), ())


@pytest.mark.parametrize("accepted", [0, 1])
def test_with_fewer_than_updates_min_the_model_stays(accepted: int) -> None:
    """R7."""
    draft = Draft(updates_min=2)
    filled(draft, accepted)
    assert is_unchanged(draft.params, draft.chain.state, ())
    assert draft.model(OPENED) == ModelBody(draft.chain.state.round.model, (), (), ())


def test_an_update_is_not_held_under_a_size_that_it_does_not_have(draft: Draft) -> None:
    """R7: two accepted offers name one blob, one of them with a lie about its size: nobody can hold that one."""
    filled(draft)
    update = draft.chain.state.updates[0]
    draft.candidates.held.update(item.update for item in draft.chain.state.updates[1:])
    draft.candidates.held.add(BlobRef(update.update.blob, update.update.size + 1))
    assert get_missing(draft.chain.state, draft.candidates) == (update.height,)


def test_updates_are_called_missing_from_the_fetch_deadline_on_and_not_before(draft: Draft) -> None:
    """R7."""
    filled(draft)
    updates = draft.chain.state.updates
    draft.candidates.held.update(item.update for item in updates[1:])
    missing = (updates[0].height,)
    assert get_missing(draft.chain.state, draft.candidates) == missing
    draft.candidates.models[missing] = blob_ref(b"without it")
    due = OPENED + draft.params.fetch_deadline_ms
    assert draft.model(due - 1) is None
    assert draft.model(due) == ModelBody(blob_ref(b"without it"), missing, (), ())
    draft.candidates.models[()] = blob_ref(b"with it")
    assert draft.model(due) == ModelBody(blob_ref(b"with it"), (), (), ())


def test_a_round_all_of_whose_updates_are_missing_keeps_its_model(draft: Draft) -> None:
    """R7: what is missing does not count towards `updates_min`."""
    filled(draft)
    heights = tuple(item.height for item in draft.chain.state.updates)
    body = draft.model(OPENED + draft.params.fetch_deadline_ms)
    assert body == ModelBody(draft.chain.state.round.model, heights, (), ())


def test_the_model_block_carries_late_scores_and_presents(draft: Draft) -> None:
    """R6."""
    late = sorted(draft.chain.committee)[0]
    others = [scorer for scorer in draft.chain.committee if scorer != late]
    offers = [draft.chain.offer(trainer) for trainer in draft.chain.trainers]
    draft.chain.append(*(draft.chain.update_body(o, draft.chain.scores(o, scorers=others)) for o in offers))
    score = draft.chain.score(offers[0], late)
    draft.pool.add(draft.chain.state, score, OPENED)
    draft.candidates.models[()] = blob_ref(b"candidate")
    body = draft.model(OPENED)
    assert body is not None
    assert body.late == (score,)


def test_blocks_of_a_batch_follow_each_other_and_time_never_falls(draft: Draft) -> None:
    """S3: a proposer whose clock is behind uses the time of the block before."""
    filled(draft)
    state = draft.chain.state
    (block,) = make_batch(draft.params, state, draft.chain.committee[0], 0, [draft.chain.model_body()])
    assert block.header.time_ms == state.time_ms
    (later,) = make_batch(
        draft.params, state, draft.chain.committee[0], state.time_ms + BLOCK_MS, [draft.chain.model_body()]
    )
    assert later.header.time_ms == state.time_ms + BLOCK_MS

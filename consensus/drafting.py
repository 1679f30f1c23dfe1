"""What a proposer proposes (R5, R6, R7): bodies from the pool, blocks from bodies."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from consensus.pool import RoundPool
from ledger.endorsement import get_value, get_weight
from ledger.heights import slot_of
from ledger.params import Params
from ledger.state import State
from ledger.transition import get_listed_scores, make_block
from ledger.types import BlobRef, Block, Body, EmptyBody, ModelBody, Offer, Unfilled, UpdateBody


@dataclass(slots=True)
class RoundClock:
    """This voter's own clock of the round (R1), monotonic ms. None: not started yet."""

    opened_ms: int | None = None
    slots_final_ms: int | None = None

    def has_passed(self, since_ms: int | None, duration_ms: int, now_ms: int) -> bool:
        """Whether `duration_ms` have gone by since `since_ms`."""
        return since_ms is not None and now_ms - since_ms >= duration_ms


@dataclass(slots=True)
class Candidates:
    """The candidate models of the round that this machine has computed, by the heights left out (R7), and the update
    blobs that it holds. Id and size together: a blob under a reference that lies about its size is not held, here or
    anywhere, or voters would disagree for ever on whether it is missing."""

    models: dict[tuple[int, ...], BlobRef] = field(default_factory=dict)
    held: set[BlobRef] = field(default_factory=set)


def open_slots(params: Params, state: State) -> int:
    """How many update slots of the open round are not filled (H1); 0 when the model block is next."""
    return params.round_length - 1 - slot_of(params.round_length, state.height + 1)


def is_close_due(params: Params, state: State, pool: RoundPool, clock: RoundClock, now_ms: int) -> bool:
    """R6: every drawn trainer is decided, or the deadline has passed on this clock."""
    return pool.is_decided(state) or clock.has_passed(clock.opened_ms, params.round_deadline_ms, now_ms)


def get_update_bodies(
    params: Params, state: State, pool: RoundPool, clock: RoundClock, now_ms: int
) -> list[Body] | None:
    """The bodies of the next update batch, or None when nothing is proposable (R5): a close, a batch that fills the
    slots, or accepted offers of which one is older than `batch_wait`."""
    free = open_slots(params, state)
    accepted = pool.get_accepted(state)[:free]
    closes = len(accepted) < free and is_close_due(params, state, pool, clock, now_ms)
    oldest = min((pool.decided_ms[offer.id()] for offer in accepted), default=now_ms)
    waited = bool(accepted) and now_ms - oldest >= params.batch_wait_ms
    if len(accepted) < free and not closes and not waited:
        return None  # asked after every event: nothing is built before something is due
    updates: list[Body] = [_update_body(params, pool, offer) for offer in accepted]
    if closes:
        taken = {offer.trainer for offer in accepted} | {update.trainer for update in state.updates}
        rest = [trainer for trainer in sorted(state.round.trainers) if trainer not in taken]
        close = EmptyBody(tuple(_unfilled(pool, trainer) for trainer in rest))
        return [*updates, close, *[EmptyBody(())] * (free - len(accepted) - 1)]
    return updates


def _update_body(params: Params, pool: RoundPool, offer: Offer) -> UpdateBody:
    scores = pool.scores_of(offer.id())
    return UpdateBody(offer, scores, get_value(params, scores), get_weight(params, offer, scores))


def _unfilled(pool: RoundPool, trainer: bytes) -> Unfilled:
    offer = pool.offers.get(trainer)
    return Unfilled(trainer, (offer,), pool.scores_of(offer.id())) if offer else Unfilled(trainer, (), ())


def get_missing(state: State, candidates: Candidates) -> tuple[int, ...]:
    """Heights of the round's accepted updates whose blobs are not held here (R7)."""
    return tuple(update.height for update in state.updates if update.update not in candidates.held)


def is_unchanged(params: Params, state: State, missing: Sequence[int]) -> bool:
    """Whether too few updates are left: the candidate is the old model (R7)."""
    return len(state.updates) - len(missing) < params.updates_min


def get_model_body(
    params: Params, state: State, pool: RoundPool, candidates: Candidates, clock: RoundClock, now_ms: int
) -> ModelBody | None:
    """The body of the round's model block, or None when no candidate is known yet (R7)."""
    missing: tuple[int, ...] = ()
    if () not in candidates.models and clock.has_passed(clock.slots_final_ms, params.fetch_deadline_ms, now_ms):
        missing = get_missing(state, candidates)
    model = state.round.model if is_unchanged(params, state, missing) else candidates.models.get(missing)
    if model is None:
        return None
    late = tuple(pool.late_scores(get_listed_scores(state), state.round.committee))
    present = tuple(pool.presents[member] for member in sorted(pool.presents))
    return ModelBody(model, missing, late, present)


def make_batch(
    params: Params, state: State, proposer: bytes, time_ms: int, bodies: Sequence[Body]
) -> tuple[Block, ...]:
    """Consecutive blocks with these bodies on top of `state`."""
    blocks = []
    for body in bodies:
        block, state = make_block(params, state, proposer, time_ms, body)
        blocks.append(block)
    return tuple(blocks)

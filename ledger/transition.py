"""`apply(params, state, block) -> state` (S1): pure, integers only, and it ends by comparing the state root.

The style is consensus-specs': `process_` changes the state, `get_` and `is_` ask, `check_` refuses with `InvalidBlock`.
Nothing here knows a clock or a blob: what only one voter can say is consensus' business (A3).
"""

from collections.abc import Sequence
from dataclasses import replace

from ledger.certificate import check_certificate
from ledger.endorsement import ACCEPTED as IS_ACCEPTED
from ledger.endorsement import REJECTED as IS_REJECTED
from ledger.endorsement import get_outcome, get_value, get_weight
from ledger.heights import is_model_height, round_of
from ledger.keys import is_beacon_link
from ledger.params import Params
from ledger.settlement import process_round_end
from ledger.state import (
    ABSENT,
    NONE,
    REJECTED,
    UNDECIDED,
    Accepted,
    Listed,
    State,
    committee_hash,
    get_voters,
    is_finished,
    voters_hash,
)
from ledger.types import (
    NO_HASH,
    NO_LINK,
    VERSION,
    Block,
    Body,
    EmptyBody,
    FinalBatch,
    Header,
    ModelBody,
    Offer,
    Present,
    Score,
    Unfilled,
    UpdateBody,
    body_root,
)


class InvalidBlock(ValueError):
    """A block that no honest member would make; the message says which rule it breaks."""


class InvalidMessage(InvalidBlock):
    """An offer, score or present that does not stand in this round."""


def apply(params: Params, state: State, block: Block) -> State:
    """The state after `block`; raises `InvalidBlock`."""
    header = block.header
    _check_header(params, state, header)
    if header.kind != block.body.TAG or body_root(block.body) != header.body_root:
        raise InvalidBlock(f"block #{header.height}: the body is not the one that the header commits to (S3)")
    after = _moved(process_body(params, state, block.body), header)
    if after.root() != header.state_root:
        raise InvalidBlock(f"block #{header.height}: the state root differs from the one re-derived (S1)")
    if voters_hash(params, after) != header.voters or committee_hash(after) != header.committee:
        raise InvalidBlock(f"block #{header.height}: wrong voters or committee of the next block (S3)")
    return after


def apply_all(params: Params, state: State, blocks: Sequence[Block]) -> State:
    """The state after a batch: update blocks of one round, or one model block alone (R5, R6)."""
    check_batch_shape(params, state, blocks)
    for block in blocks:
        state = apply(params, state, block)
    return state


def apply_final(params: Params, state: State, batch: FinalBatch) -> State:
    """The state after a final batch, whose certificate must be by the voters that `state` names (A1, Y1); raises
    `InvalidCertificate` or `InvalidBlock`."""
    check_certificate(batch.certificate, batch.blocks, get_voters(params, state))
    return apply_all(params, state, batch.blocks)


def check_batch_shape(params: Params, state: State, blocks: Sequence[Block]) -> None:
    """R5, R6: at most `batch_max` consecutive blocks; a close fills every slot; the model block is a batch alone."""
    if not 1 <= len(blocks) <= params.batch_max:
        raise InvalidBlock(f"a batch has 1 to {params.batch_max} blocks, not {len(blocks)} (A1)")
    last = state.height + len(blocks)
    ends_round = any(is_model_height(params.round_length, block.height) for block in blocks)
    if ends_round and len(blocks) > 1:
        raise InvalidBlock("a model block is a batch of its own (R6)")
    if isinstance(blocks[-1].body, EmptyBody) and not is_model_height(params.round_length, last + 1):
        raise InvalidBlock("a close fills every open slot of its round (R6)")


def make_block(params: Params, state: State, proposer: bytes, time_ms: int, body: Body) -> tuple[Block, State]:
    """The next block with this body, and the state after it; raises `InvalidBlock` when the body does not stand."""
    height = state.height + 1
    after = process_body(params, state, body)
    header = Header(
        VERSION,
        state.chain,
        height,
        body.TAG,
        round_of(params.round_length, height),
        state.last_hash,
        max(time_ms, state.time_ms),
        proposer,
        body_root(body),
        after.root(),
        voters_hash(params, after),
        committee_hash(after),
    )
    return Block(header, body), _moved(after, header)


def _moved(state: State, header: Header) -> State:
    return replace(state, height=header.height, last_hash=header.id(), time_ms=header.time_ms)


def _check_header(params: Params, state: State, header: Header) -> None:
    where = f"block #{header.height}"
    if header.chain != state.chain:
        raise InvalidBlock(f"{where}: belongs to another chain")
    if header.height != state.height + 1 or header.parent != state.last_hash:
        raise InvalidBlock(f"{where}: does not follow #{state.height} (S3)")
    if header.round != state.round.round or header.round != round_of(params.round_length, header.height):
        raise InvalidBlock(f"{where}: wrong round {header.round} (H2)")
    if (header.kind == ModelBody.TAG) != is_model_height(params.round_length, header.height):
        raise InvalidBlock(f"{where}: model blocks stand at multiples of k and nowhere else (H2, H4)")
    if header.time_ms < state.time_ms:
        raise InvalidBlock(f"{where}: time falls (S3)")
    if header.proposer not in get_voters(params, state) and header.proposer not in state.round.committee:
        raise InvalidBlock(f"{where}: its proposer is neither a voter nor on the committee (A2)")
    if is_finished(params, state):
        raise InvalidBlock(f"{where}: the last round is over (rounds_max {params.rounds_max})")


def process_body(params: Params, state: State, body: Body) -> State:
    """The state after the body alone, before the position moves; raises `InvalidBlock`."""
    if isinstance(body, ModelBody):
        return process_model(params, state, body)
    if isinstance(body, UpdateBody):
        return process_update(params, state, body)
    return process_empty(params, state, body)


# ---------------------------------------------------------------------------------------------- offers and scores


def check_offer(params: Params, state: State, offer: Offer) -> None:
    """Whether this offer may stand in the open round (R2); raises `InvalidMessage` with the reason."""
    who = f"offer of {offer.trainer.hex()[:8]} for round {offer.round}"
    round = state.round
    member = state.member(offer.trainer)
    if offer.chain != state.chain or offer.round != round.round:
        raise InvalidMessage(f"{who}: another chain or round")
    if member is None or offer.trainer not in round.trainers:
        raise InvalidMessage(f"{who}: not a drawn trainer of the round (R2)")
    if offer.base != round.model.blob:
        raise InvalidMessage(f"{who}: trained from another model (R2)")
    if not 1 <= offer.update.size <= params.update_bytes_max:
        raise InvalidMessage(
            f"{who}: {offer.update.size} bytes, allowed are {params.update_bytes_max} (update_bytes_max)"
        )
    if offer.samples > params.samples_max:
        raise InvalidMessage(f"{who}: {offer.samples} samples, the cap is {params.samples_max} (samples_max)")
    if offer.codec not in params.codecs:
        raise InvalidMessage(f"{who}: codec {offer.codec!r} is not one of {', '.join(params.codecs)} (B2)")
    # before the beacon: a stranger must not make this machine hash a whole chain
    if not offer.is_signed():
        raise InvalidMessage(f"{who}: bad signature")
    index = params.beacon_links - 1 - offer.round
    if not is_beacon_link(offer.reveal, index, member.beacon_link, member.beacon_index):
        raise InvalidMessage(f"{who}: its beacon link does not lead to the tip on chain (R9)")


def check_score(params: Params, state: State, score: Score) -> None:
    """Whether this score may stand in the open round (R3); raises `InvalidMessage` with the reason."""
    who = f"score of {score.scorer.hex()[:8]} for round {score.round}"
    if score.chain != state.chain or score.round != state.round.round:
        raise InvalidMessage(f"{who}: another chain or round")
    if score.scorer not in state.round.committee:
        raise InvalidMessage(f"{who}: not on the committee (R3)")
    if score.code:
        in_range = score.value == score.baseline == 0
    else:
        in_range = all(params.score_min <= value <= params.score_max for value in (score.value, score.baseline))
    if not in_range:
        raise InvalidMessage(f"{who}: outside {params.score_min}..{params.score_max} millionths (R3)")
    if not score.is_signed():
        raise InvalidMessage(f"{who}: bad signature")


def check_present(state: State, present: Present) -> None:
    """Whether an absent member may say now that it is back (R6); raises `InvalidMessage`."""
    member = state.member(present.member)
    who = f"present of {present.member.hex()[:8]}"
    if present.chain != state.chain or present.round != state.round.round:
        raise InvalidMessage(f"{who}: another chain or round")
    if member is None or member.status != ABSENT:
        raise InvalidMessage(f"{who}: not an absent member (R6)")
    if not present.is_signed():
        raise InvalidMessage(f"{who}: bad signature")


def _check_scores(params: Params, state: State, offer: Offer, scores: Sequence[Score]) -> None:
    scorers = [score.scorer for score in scores]
    if scorers != sorted(set(scorers)):
        raise InvalidBlock("scores must be listed once each, in order of the scorer's key (S5)")
    for score in scores:
        if score.offer != offer.id():
            raise InvalidBlock("a score is for another offer (R3)")
        check_score(params, state, score)


def _scorer_bits(state: State, scores: Sequence[Score]) -> int:
    places = {member: place for place, member in enumerate(state.round.committee)}
    return sum(1 << places[score.scorer] for score in scores)


# ------------------------------------------------------------------------------------------------- update slots


def process_update(params: Params, state: State, body: UpdateBody) -> State:
    """One accepted update fills the next slot (R4)."""
    offer, scores = body.offer, body.scores
    if state.round.closed:
        raise InvalidBlock("an update after the round's close (R6)")
    check_offer(params, state, offer)
    if any(update.trainer == offer.trainer for update in state.updates):
        raise InvalidBlock("the trainer has an accepted update in this round already (R2)")
    _check_scores(params, state, offer, scores)
    if get_outcome(params, scores, len(state.round.committee)) != IS_ACCEPTED:
        raise InvalidBlock("the listed scores do not accept the update (R4)")
    if body.value != get_value(params, scores) or body.weight != get_weight(params, offer, scores):
        raise InvalidBlock("value or weight score is not the one that the scores give (R4)")
    accepted = Accepted(
        state.height + 1,
        offer.trainer,
        offer.id(),
        offer.update,
        offer.codec,
        body.value,
        body.weight,
        offer.reveal,
        _scorer_bits(state, scores),
    )
    return replace(state, updates=(*state.updates, accepted))


def process_empty(params: Params, state: State, body: EmptyBody) -> State:
    """An empty slot (H4); the first one of a round is its close and lists everything that is left (R6)."""
    if state.round.closed:
        if body.unfilled:
            raise InvalidBlock("only the first empty block of a round lists anything (R6)")
        return state
    filled = {update.trainer for update in state.updates}
    expected = tuple(trainer for trainer in sorted(state.round.trainers) if trainer not in filled)
    if tuple(item.trainer for item in body.unfilled) != expected:
        raise InvalidBlock("the close must list each trainer without an accepted update, in order of key (R6)")
    listed = tuple(_listed(params, state, item) for item in body.unfilled)
    return replace(state, listed=listed, round=replace(state.round, closed=1))


def _listed(params: Params, state: State, item: Unfilled) -> Listed:
    if not item.offer:
        if item.scores:
            raise InvalidBlock("scores are listed without their offer (R6)")
        return Listed(item.trainer, NONE, NO_HASH, NO_LINK, 0)
    offer = item.offer[0]
    if offer.trainer != item.trainer:
        raise InvalidBlock("the close lists an offer of another trainer (R6)")
    check_offer(params, state, offer)
    _check_scores(params, state, offer, item.scores)
    outcome = get_outcome(params, item.scores, len(state.round.committee))
    if outcome == IS_ACCEPTED:
        raise InvalidBlock("the close lists an offer that its scores accept: it belongs in an update block (R6)")
    decided = REJECTED if outcome == IS_REJECTED else UNDECIDED
    return Listed(item.trainer, decided, offer.id(), offer.reveal, _scorer_bits(state, item.scores))


def get_listed_scores(state: State) -> dict[bytes, int]:
    """The round's offers on chain, each with the bits of the committee members whose score is listed (R6)."""
    bits = {update.offer: update.scorers for update in state.updates}
    bits.update({item.offer: item.scorers for item in state.listed if item.offer != NO_HASH})
    return bits


def _with_late(params: Params, state: State, late: Sequence[Score]) -> State:
    """Scores that came after their offer was listed count for attendance (R6)."""
    places = [(score.offer, score.scorer) for score in late]
    if places != sorted(set(places)):
        raise InvalidBlock("late scores must be listed once each, by (offer, scorer) (S5)")
    bits = get_listed_scores(state)
    for score in late:
        check_score(params, state, score)
        bit = _scorer_bits(state, [score])
        if bits.get(score.offer, bit) & bit:
            raise InvalidBlock("a late score is for an offer that is not listed, or is listed already (R6)")
        bits[score.offer] |= bit
    updates = tuple(replace(item, scorers=bits[item.offer]) for item in state.updates)
    listed = tuple(replace(item, scorers=bits.get(item.offer, 0)) for item in state.listed)
    return replace(state, updates=updates, listed=listed)


# -------------------------------------------------------------------------------------------------- model block


def process_model(params: Params, state: State, body: ModelBody) -> State:
    """The round's model (R7), then the end of the round: standing, absences, seed, election (R6, R9). Whether the
    model's bytes are the aggregate is asked of blobs, not here (A3)."""
    heights = [update.height for update in state.updates]
    if list(body.missing) != sorted(set(body.missing)) or not set(body.missing) <= set(heights):
        raise InvalidBlock("`missing` must list heights of the round's accepted updates, in order (R7)")
    if len(heights) - len(body.missing) < params.updates_min and body.model != state.round.model:
        raise InvalidBlock("fewer than updates_min accepted updates: the model stays as it was (R7)")
    members = [present.member for present in body.present]
    if members != sorted(set(members)):
        raise InvalidBlock("`present` must be in order of key, each member once (R6)")
    for present in body.present:
        check_present(state, present)
    return process_round_end(params, _with_late(params, state, body.late), body)

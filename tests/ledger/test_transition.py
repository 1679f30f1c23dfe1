"""`apply` and batches: headers (S3), roots (S1), heights (H1, H2, H4) and the shape of a batch (R5, R6)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ledger.heights import is_model_height, round_of
from ledger.state import EJECTED, State
from ledger.transition import InvalidBlock, apply, apply_all, check_batch_shape, make_block
from ledger.types import Block, EmptyBody, Header, ModelBody, UpdateBody, body_root
from tests.ledger.helpers_ledger import GENESIS_TIME_MS, ChainBuilder, play

BUILDER = ChainBuilder(n=6, c=2, k=4)
STATE = BUILDER.state
GOOD = BUILDER.blocks(BUILDER.update_body(BUILDER.offer(BUILDER.trainers[0])))[0][0]


def refuse(block: Block, message: str, state: State = STATE) -> None:
    with pytest.raises(InvalidBlock, match=message):
        apply(BUILDER.params, state, block)


def with_header(block: Block = GOOD, **changes: Any) -> Block:
    return replace(block, header=replace(block.header, **changes))


# ------------------------------------------------------------------------------------------------------- apply


def test_a_good_block_moves_the_state_to_its_header() -> None:
    # S1
    after = apply(BUILDER.params, STATE, GOOD)
    assert (after.height, after.last_hash, after.time_ms) == (1, GOOD.header.id(), GOOD.header.time_ms)
    assert after.root() == GOOD.header.state_root
    assert [update.trainer for update in after.updates] == [BUILDER.trainers[0]]


def test_apply_is_pure() -> None:
    # S1: the same state and block give the same state, and the old one is untouched
    before = STATE.encode()
    assert apply(BUILDER.params, STATE, GOOD) == apply(BUILDER.params, STATE, GOOD)
    assert STATE.encode() == before


def test_apply_needs_no_more_than_the_blocks_bytes() -> None:
    assert apply(BUILDER.params, State.decode(STATE.encode()), Block.decode(GOOD.encode())) == apply(
        BUILDER.params, STATE, GOOD
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chain": bytes(32)}, "belongs to another chain"),
        ({"height": 2}, r"block #2: does not follow #0 \(S3\)"),
        ({"height": 0}, r"block #0: does not follow #0"),
        ({"parent": bytes(32)}, "block #1: does not follow #0"),
        ({"round": 1}, r"block #1: wrong round 1 \(H2\)"),
        ({"kind": ModelBody.TAG}, r"model blocks stand at multiples of k and nowhere else \(H2, H4\)"),
        ({"kind": EmptyBody.TAG}, "the body is not the one that the header commits to"),
        ({"time_ms": GENESIS_TIME_MS - 1}, r"block #1: time falls \(S3\)"),
        ({"proposer": bytes(32)}, r"its proposer is neither a voter nor on the committee \(A2\)"),
        ({"body_root": bytes(32)}, r"the body is not the one that the header commits to \(S3\)"),
        ({"state_root": bytes(32)}, r"the state root differs from the one re-derived \(S1\)"),
        ({"voters": bytes(32)}, r"wrong voters or committee of the next block \(S3\)"),
        ({"committee": bytes(32)}, r"wrong voters or committee of the next block \(S3\)"),
    ],
)
def test_each_wrong_field_of_a_header_is_refused(changes: dict[str, Any], message: str) -> None:
    refuse(with_header(**changes), message)


def test_time_may_stand_still() -> None:
    # S3: time never falls, and decides nothing
    block = with_header(time_ms=GENESIS_TIME_MS)
    assert apply(BUILDER.params, STATE, block).time_ms == GENESIS_TIME_MS


def test_any_voter_may_propose() -> None:
    # A2 rotates over committee and voters; who was due is agreement's business
    for proposer in BUILDER.indices:
        apply(BUILDER.params, STATE, with_header(proposer=proposer))


def test_with_voters_committee_others_may_not_propose() -> None:
    builder = ChainBuilder(n=6, c=2, voters="committee")
    body = builder.update_body(builder.offer(builder.trainers[0]))
    for proposer in builder.indices:
        block, _ = make_block(builder.params, builder.state, proposer, 0, body)
        if proposer in builder.committee:
            apply(builder.params, builder.state, block)
        else:
            with pytest.raises(InvalidBlock, match="proposer"):
                apply(builder.params, builder.state, block)


def test_an_ejected_member_may_not_propose() -> None:
    outsider = next(key for key in BUILDER.indices if key not in BUILDER.committee)
    member = STATE.member(outsider)
    assert member is not None
    state = STATE.with_members({outsider: replace(member, status=EJECTED)})
    refuse(with_header(proposer=outsider), "proposer", state)


def test_another_body_under_the_same_header_is_refused() -> None:
    other = BUILDER.update_body(BUILDER.offer(BUILDER.trainers[1]))
    refuse(replace(GOOD, body=other), "the body is not the one that the header commits to")
    assert body_root(other) != GOOD.header.body_root


def test_a_block_with_a_forged_state_root_is_refused_whatever_it_claims() -> None:
    # S1: e.g. the root of a state in which the proposer is richer
    member = STATE.members[0]
    rich = STATE.with_members({member.key: replace(member, stake=2**62)})
    refuse(with_header(state_root=apply(BUILDER.params, rich, with_header_of(rich)).root()), "state root differs")


def with_header_of(state: State) -> Block:
    """GOOD's body as the next block of another state."""
    return make_block(BUILDER.params, state, BUILDER.committee[0], 0, GOOD.body)[0]


def test_after_the_last_round_no_block_follows() -> None:
    builder = play(ChainBuilder(n=4, k=2, rounds_max=2), 2)
    block, _ = make_block(builder.params, builder.state, builder.committee[0], 0, builder.close_body_of_all())
    with pytest.raises(InvalidBlock, match=r"the last round is over \(rounds_max 2\)"):
        apply(builder.params, builder.state, block)


def test_a_made_block_never_runs_behind_its_parents_time() -> None:
    block, after = make_block(BUILDER.params, STATE, BUILDER.committee[0], 5, GOOD.body)
    assert block.header.time_ms == after.time_ms == GENESIS_TIME_MS
    assert make_block(BUILDER.params, STATE, BUILDER.committee[0], GENESIS_TIME_MS + 9, GOOD.body)[1].time_ms > (
        GENESIS_TIME_MS
    )


# ----------------------------------------------------------------------------------------------- law of heights


@pytest.mark.parametrize("k", [2, 3, 5])
def test_model_blocks_stand_where_the_law_of_heights_says(k: int) -> None:
    # H1, H2, H4: whatever fails, no height moves
    builder = ChainBuilder(n=6, c=1, k=k)
    builder.full_round()
    builder.full_round(accept=[])
    builder.full_round(accept=[], reject=builder.trainers)
    for height in range(builder.state.height + 1):
        block = builder.store.block(height)
        assert block is not None
        assert isinstance(block.body, ModelBody) == is_model_height(k, height)
        assert block.header.round == (0 if height == 0 else round_of(k, height))
    assert builder.state.height == 3 * k


def test_a_model_block_in_an_update_slot_is_refused() -> None:
    # H4
    block, _ = make_block(BUILDER.params, STATE, BUILDER.committee[0], 0, BUILDER.model_body())
    refuse(block, "model blocks stand at multiples of k and nowhere else")


def test_an_update_or_empty_block_at_a_model_height_is_refused() -> None:
    # H2
    builder = ChainBuilder(n=6, c=2, k=4)
    builder.append(*builder.fill_slots(accept=builder.trainers[:1]))
    for body in (EmptyBody(()), builder.close_body()):
        block, _ = make_block(builder.params, builder.state, builder.committee[0], 0, body)
        with pytest.raises(InvalidBlock, match="model blocks stand at multiples of k"):
            apply(builder.params, builder.state, block)


# ------------------------------------------------------------------------------------------------------ batches


def batch_of(builder: ChainBuilder, *bodies: UpdateBody | EmptyBody | ModelBody) -> tuple[Block, ...]:
    return builder.blocks(*bodies)[0]


def test_a_batch_is_the_application_of_its_blocks() -> None:
    builder = ChainBuilder(n=6, c=2, k=4)
    blocks, after = builder.blocks(*builder.fill_slots())
    assert apply_all(builder.params, builder.state, blocks) == after
    state = builder.state
    for block in blocks:
        state = apply(builder.params, state, block)
    assert state == after


def test_updates_may_come_in_several_batches() -> None:
    # R5: a batch may hold some of the slots
    builder = ChainBuilder(n=6, c=2, k=5)
    for trainer in builder.trainers:
        builder.append(builder.update_body(builder.offer(trainer)))
    builder.append(builder.model_body())
    assert (builder.state.height, builder.state.round.round) == (5, 1)


def test_an_empty_batch_and_one_above_batch_max_are_refused() -> None:
    builder = ChainBuilder(n=6, c=2, k=3)
    blocks, _ = builder.blocks(*builder.fill_slots())
    with pytest.raises(InvalidBlock, match="a batch has 1 to 2 blocks, not 0"):
        apply_all(builder.params, builder.state, ())
    with pytest.raises(InvalidBlock, match=r"a batch has 1 to 2 blocks, not 3 \(A1\)"):
        apply_all(builder.params, builder.state, (*blocks, blocks[0]))


def test_a_model_block_never_shares_its_batch() -> None:
    # R6: the model block is the next batch, alone
    builder = ChainBuilder(n=6, c=2, k=3, batch_max=5)
    slots = builder.fill_slots()
    blocks, state = builder.blocks(*slots)
    model, _ = make_block(builder.params, state, builder.committee[0], 0, builder.model_body())
    with pytest.raises(InvalidBlock, match=r"a model block is a batch of its own \(R6\)"):
        apply_all(builder.params, builder.state, (*blocks, model))
    builder.append(*slots)
    apply_all(builder.params, builder.state, (model,))


def test_a_close_fills_every_open_slot() -> None:
    # R6
    builder = ChainBuilder(n=6, c=2, k=5)
    bodies = builder.fill_slots(accept=builder.trainers[:1])
    assert [type(body) for body in bodies] == [UpdateBody, EmptyBody, EmptyBody, EmptyBody]
    whole, _ = builder.blocks(*bodies)
    for size in (2, 3):
        with pytest.raises(InvalidBlock, match=r"a close fills every open slot of its round \(R6\)"):
            apply_all(builder.params, builder.state, whole[:size])
    assert apply_all(builder.params, builder.state, whole).round.closed == 1


def test_the_shape_is_asked_before_any_signature() -> None:
    builder = ChainBuilder(n=6, c=2, k=4)
    blocks, _ = builder.blocks(*builder.fill_slots())
    unsigned = replace(blocks[0], body=EmptyBody(()))
    with pytest.raises(InvalidBlock, match="a close fills every open slot"):
        check_batch_shape(builder.params, builder.state, (unsigned,))


def test_a_batch_fails_as_a_whole_at_its_first_bad_block() -> None:
    builder = ChainBuilder(n=6, c=2, k=4)
    blocks, _ = builder.blocks(*builder.fill_slots())
    bad = replace(blocks[1], header=replace(blocks[1].header, state_root=bytes(32)))
    with pytest.raises(InvalidBlock, match="block #2: the state root"):
        apply_all(builder.params, builder.state, (blocks[0], bad, blocks[2]))


CHANGES: list[Callable[[Header], Header]] = [
    lambda header: replace(header, time_ms=header.time_ms + 1),
    lambda header: replace(header, proposer=BUILDER.committee[1]),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_parent_breaks_the_chain_to_its_child(change: Callable[[Header], Header]) -> None:
    builder = ChainBuilder(n=6, c=2, k=4)
    blocks, _ = builder.blocks(*builder.fill_slots())
    changed = replace(blocks[0], header=change(blocks[0].header))
    with pytest.raises(InvalidBlock, match="block #2: does not follow #1"):
        apply_all(builder.params, builder.state, (changed, *blocks[1:]))

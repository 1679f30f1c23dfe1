"""Who sits and who trains (R9): recomputed here with hashlib alone."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.election import draw_committee, draw_trainers, elect_committee, next_seed, ticket
from ledger.params import Params
from ledger.state import ABSENT, ACTIVE, EJECTED, LEAVING, Accepted, Member, State
from ledger.types import BlobRef
from tests.ledger.helpers_ledger import ChainBuilder, make_params

SEED = hashlib.sha256(b"seed").digest()


def key_of(index: int) -> bytes:
    """A key that only has to be 32 bytes."""
    return hashlib.sha256(b"key %d" % index).digest()


def member(index: int, status: int = ACTIVE, accepted: int = 0, rejected: int = 0) -> Member:
    return Member(key_of(index), f"peer-{index}", 1, accepted, rejected, status, 0, bytes(32), 16)


def members(count: int) -> list[Member]:
    """Active members in order of key, as a state has them."""
    return sorted((member(index) for index in range(count)), key=lambda item: item.key)


def own_ticket(purpose: str, seed: bytes, round: int, key: bytes) -> bytes:
    """A ticket, computed without the ledger's code."""
    head = b"fedchain/1/ticket-" + purpose.encode() + b"\x00"
    return hashlib.sha256(head + seed + round.to_bytes(8, "big") + key).digest()


# --------------------------------------------------------------------------------------------- tickets and seeds


@given(st.sampled_from(["committee", "trainer"]), st.integers(0, 10**7), st.binary(min_size=32, max_size=32))
def test_a_ticket_is_the_hash_of_purpose_seed_round_and_key(purpose: str, round: int, key: bytes) -> None:
    assert ticket(purpose, SEED, round, key) == own_ticket(purpose, SEED, round, key)


def test_the_next_seed_hashes_the_links_in_order_of_member_key() -> None:
    links = [(key_of(index), hashlib.sha256(b"link %d" % index).digest()) for index in range(5)]
    expected = hashlib.sha256(b"fedchain/1/seed\x00" + SEED + b"".join(link for _, link in sorted(links))).digest()
    assert next_seed(SEED, links) == next_seed(SEED, reversed(links)) == expected


def test_a_round_without_reveals_still_changes_the_seed() -> None:
    assert next_seed(SEED, []) == hashlib.sha256(b"fedchain/1/seed\x00" + SEED).digest() != SEED


# ------------------------------------------------------------------------------------------------ policy `draw`


@given(st.integers(2, 25), st.integers(1, 8), st.integers(0, 50), st.data())
@settings(max_examples=80)
def test_the_draw_takes_the_lowest_tickets_outside_the_sitting_committee(
    n: int, c: int, round: int, data: st.DataObject
) -> None:
    params, all_members = make_params(committee_size=c), members(n)
    keys = [item.key for item in all_members]
    sitting = data.draw(st.lists(st.sampled_from(keys), unique=True, max_size=c))
    drawn = draw_committee(params, all_members, sitting, SEED, round)
    outside = [key for key in keys if key not in sitting]
    expected = sorted(outside, key=lambda key: own_ticket("committee", SEED, round, key))[:c]
    assert list(drawn[: len(expected)]) == expected
    assert len(drawn) == len(set(drawn)) == min(c, n)
    if len(outside) >= c:
        assert not set(drawn) & set(sitting)


def test_a_draw_does_not_depend_on_the_order_of_the_members() -> None:
    params, all_members = make_params(committee_size=3), members(9)
    assert draw_committee(params, all_members, [], SEED, 1) == draw_committee(params, all_members[::-1], [], SEED, 1)


def test_each_round_and_seed_draws_anew() -> None:
    params, all_members = make_params(committee_size=4), members(20)
    draws = {draw_committee(params, all_members, [], SEED, round) for round in range(20)}
    draws |= {draw_committee(params, all_members, [], bytes([at]) * 32, 0) for at in range(20)}
    assert len(draws) > 35


# --------------------------------------------------------------------------------------------------- filling up


def test_too_few_are_filled_from_the_absent_by_standing_and_only_then_from_the_sitting() -> None:
    sitting = [member(0, accepted=9), member(1, accepted=5)]
    fresh, away = member(2), [member(3, ABSENT, accepted=1), member(4, ABSENT, accepted=7, rejected=1)]
    everyone = [*sitting, fresh, *away]
    seats = [item.key for item in sitting]
    for c in range(1, 6):
        drawn = draw_committee(make_params(committee_size=c), everyone, seats, SEED, 1)
        order = [fresh, away[1], away[0], sitting[0], sitting[1]]
        assert list(drawn) == [item.key for item in order[:c]]


def test_ties_of_standing_go_by_key() -> None:
    away = sorted((member(index, ABSENT, accepted=2, rejected=2) for index in range(4)), key=lambda item: item.key)
    drawn = draw_committee(make_params(committee_size=3), away[::-1], [], SEED, 1)
    assert list(drawn) == [item.key for item in away[:3]]


def test_standing_can_fall_below_zero() -> None:
    good, bad = member(0, ABSENT), member(1, ABSENT, rejected=3)
    assert bad.standing == -3
    assert draw_committee(make_params(), [bad, good], [], SEED, 1) == (good.key,)


@pytest.mark.parametrize("status", [LEAVING, EJECTED])
def test_who_has_left_is_never_elected(status: int) -> None:
    gone = [member(index, status, accepted=50) for index in range(5)]
    drawn = draw_committee(make_params(committee_size=5), [*gone, member(5)], [], SEED, 1)
    assert drawn == (key_of(5),)


# ----------------------------------------------------------------------------------------------- policy `score`


def state_with(weights: dict[bytes, int], sitting: tuple[bytes, ...] = ()) -> tuple[Params, State]:
    """A state whose open round has accepted updates of these weights."""
    builder = ChainBuilder(n=4)
    updates = tuple(
        Accepted(at, key, bytes(32), BlobRef(bytes(32), 1), "f32", 0, weight, bytes(32), 1)
        for at, (key, weight) in enumerate(weights.items(), 1)
    )
    round = replace(builder.state.round, seed=SEED, committee=sitting)
    return builder.params, replace(builder.state, updates=updates, round=round)


def test_the_best_weight_scores_sit_next() -> None:
    _, state = state_with({key_of(0): 5, key_of(1): 9, key_of(2): 7, key_of(3): 9})
    elected = elect_committee(make_params(election="score", committee_size=3), state, members(6), 1)
    tied = sorted([key_of(1), key_of(3)])
    assert elected == (*tied, key_of(2))


def test_score_election_skips_the_sitting_and_the_inactive_and_fills_by_standing() -> None:
    _, state = state_with({key_of(0): 9, key_of(1): 8, key_of(2): 7}, sitting=(key_of(0),))
    everyone = [member(0), member(1, ABSENT), member(2), member(3, accepted=1), member(4, accepted=4)]
    elected = elect_committee(make_params(election="score", committee_size=3), state, everyone, 1)
    assert elected == (key_of(2), key_of(4), key_of(3))


@given(st.dictionaries(st.integers(0, 9), st.integers(1, 50), max_size=9), st.integers(1, 5))
@settings(max_examples=60)
def test_score_election_equals_a_sort_of_the_whole_list(weights: dict[int, int], c: int) -> None:
    everyone = members(10)
    _, state = state_with({key_of(index): weight for index, weight in weights.items()})
    scored = sorted((key_of(index) for index in weights), key=lambda key: (-_weight(state, key), key))
    others = sorted(item.key for item in everyone if item.key not in scored)
    elected = elect_committee(make_params(election="score", committee_size=c), state, everyone, 1)
    assert list(elected) == [*scored, *others][:c]


def _weight(state: State, key: bytes) -> int:
    return next(update.weight for update in state.updates if update.trainer == key)


def test_the_draw_ignores_what_was_accepted() -> None:
    # R9: a committee cannot choose its successors
    params = make_params(committee_size=3)
    _, rich = state_with({key_of(0): 10**6})
    _, poor = state_with({})
    assert elect_committee(params, rich, members(8), 1) == elect_committee(params, poor, members(8), 1)


# ------------------------------------------------------------------------------------------------------ trainers


@given(st.integers(1, 25), st.integers(2, 12), st.integers(0, 9))
@settings(max_examples=80)
def test_the_trainers_are_the_others_or_the_lowest_tickets_among_them(n: int, k: int, seated: int) -> None:
    # R2: at most k - 1 of the active members outside the committee
    params, all_members = make_params(round_length=k), members(n)
    committee = [item.key for item in all_members[:seated]]
    drawn = draw_trainers(params, all_members, committee, SEED, 3)
    others = [item.key for item in all_members[seated:]]
    lowest = sorted(others, key=lambda key: own_ticket("trainer", SEED, 3, key))[: k - 1]
    assert drawn == tuple(sorted(lowest))


@pytest.mark.parametrize("status", [ABSENT, LEAVING, EJECTED])
def test_only_active_members_train(status: int) -> None:
    # R6: an absent member is not drawn
    assert draw_trainers(make_params(), [member(0, status), member(1)], [], SEED, 0) == (key_of(1),)


# ----------------------------------------------------------------------------------------------- on a real chain


@pytest.mark.parametrize(("n", "c"), [(4, 1), (9, 3), (13, 4)])
def test_nobody_sits_twice_in_a_row_where_enough_others_are_active(n: int, c: int) -> None:
    builder = ChainBuilder(n=n, c=c, k=5, rounds_max=8)
    for _ in range(6):
        before = set(builder.committee)
        builder.full_round()
        assert not before & set(builder.committee)
        assert not set(builder.trainers) & set(builder.committee)
        assert len(builder.trainers) == min(4, n - c)


def test_the_first_committee_is_drawn_with_the_hash_of_genesis() -> None:
    builder = ChainBuilder(n=8, c=3, k=4)
    seed = hashlib.sha256(b"fedchain/1/seed\x00" + builder.genesis.chain_id).digest()
    assert builder.state.round.seed == seed
    keys = sorted(builder.indices)
    lowest = sorted(keys, key=lambda key: own_ticket("committee", seed, 0, key))[:3]
    assert list(builder.committee) == lowest
    others = [key for key in keys if key not in lowest]
    assert builder.trainers == tuple(sorted(sorted(others, key=lambda key: own_ticket("trainer", seed, 0, key))[:3]))


def test_the_next_committee_is_drawn_with_the_seed_that_the_ending_round_opened_with() -> None:
    # R9: who closes a round cannot grind the draw, because its reveals count one round later only
    builder = ChainBuilder(n=8, c=3, k=4)
    seed = builder.state.round.seed
    some, all_of_them = ChainBuilder(n=8, c=3, k=4), builder
    some.full_round(accept=some.trainers[:1])
    all_of_them.full_round()
    assert some.committee == all_of_them.committee
    assert some.state.round.seed != all_of_them.state.round.seed
    lowest = sorted(builder.indices, key=lambda key: own_ticket("committee", seed, 1, key))
    assert set(builder.committee) <= set(lowest)


def test_six_rounds_of_committees_equal_an_independent_recomputation() -> None:
    builder = ChainBuilder(n=10, c=3, k=5, rounds_max=8)
    seed = hashlib.sha256(b"fedchain/1/seed\x00" + builder.genesis.chain_id).digest()
    draw_seed, sitting = seed, list[bytes]()
    for round in range(6):
        outside = [key for key in builder.indices if key not in sitting]
        tickets = {own_ticket("committee", draw_seed, round, key): key for key in outside}
        lowest = [tickets[found] for found in sorted(tickets)]
        assert list(builder.committee) == lowest[:3]
        trainers = builder.trainers
        slots, _ = builder.full_round()
        links = sorted((key, builder.reveal(key, round)) for key in trainers)
        draw_seed, sitting = seed, lowest[:3]
        seed = hashlib.sha256(b"fedchain/1/seed\x00" + seed + b"".join(link for _, link in links)).digest()
        assert builder.state.round.seed == seed
        assert len(slots.blocks) == 4

"""The law of heights: H1, H2, H3 and H4 for every k and round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.heights import first_height, is_model_height, model_height, round_of, slot_of
from ledger.types import SLOTS_MAX

LENGTHS = st.integers(2, SLOTS_MAX)
ROUNDS = st.integers(0, 10_000_000)


def test_the_example_of_the_design_stands() -> None:
    # H3: k = 100: #0 is a model, #1 to #99 are updates, #100 is a model.
    assert is_model_height(100, 0)
    assert not any(is_model_height(100, height) for height in range(1, 100))
    assert is_model_height(100, 100)
    assert (first_height(100, 0), model_height(100, 0)) == (1, 100)
    assert (first_height(100, 1), model_height(100, 1)) == (101, 200)


def test_the_smallest_round_alternates_updates_and_models() -> None:
    # H1: k = 2 has one update slot.
    assert [is_model_height(2, height) for height in range(6)] == [True, False, True, False, True, False]
    assert [round_of(2, height) for height in range(1, 7)] == [0, 0, 1, 1, 2, 2]
    assert [slot_of(2, height) for height in range(1, 7)] == [0, 1, 0, 1, 0, 1]


@given(LENGTHS, ROUNDS)
def test_a_round_occupies_k_consecutive_heights(k: int, round: int) -> None:
    # H2
    first, model = first_height(k, round), model_height(k, round)
    assert model - first + 1 == k
    assert first_height(k, round + 1) == model + 1
    assert round_of(k, first) == round_of(k, model) == round
    assert round_of(k, model + 1) == round + 1


@given(LENGTHS, ROUNDS, st.integers(0, SLOTS_MAX - 1))
def test_a_slot_and_its_round_give_the_height_back(k: int, round: int, slot: int) -> None:
    slot %= k
    height = first_height(k, round) + slot
    assert (round_of(k, height), slot_of(k, height)) == (round, slot)
    # H4: a model block stands in the last place of its round and nowhere else
    assert is_model_height(k, height) == (slot == k - 1) == (height == model_height(k, round))


@given(LENGTHS, ROUNDS)
def test_bflc_counts_the_same_chain(k: int, round: int) -> None:
    # H3: k' = k - 1, model blocks at t * (k' + 1)
    updates = k - 1
    assert model_height(k, round) == (round + 1) * (updates + 1)


@pytest.mark.parametrize("height", [0, -1])
def test_the_genesis_block_belongs_to_no_round(height: int) -> None:
    with pytest.raises(ValueError, match="belongs to no round"):
        round_of(4, height)

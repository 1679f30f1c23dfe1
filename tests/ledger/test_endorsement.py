"""From scores to acceptance: R3's passing and R4's arithmetic, compared with brute force."""

from itertools import product
from statistics import median_low

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.endorsement import (
    ACCEPTED,
    REJECTED,
    UNDECIDED,
    get_outcome,
    get_value,
    get_weight,
    is_pass,
    lower_median,
)
from ledger.params import Params
from ledger.types import NO_SIGNATURE, BlobRef, Offer, Score
from tests.ledger.helpers_ledger import make_params

RELATIVE = make_params(score_tolerance=20_000)
ABSOLUTE = make_params(acceptance="absolute", score_threshold=-500_000)
PASS, FAIL = (-100, -100), (-900_000, -100)


def score(value: int = -100, baseline: int = -100, code: int = 0, scorer: int = 0) -> Score:
    """An unsigned score: only its numbers matter here."""
    return Score(bytes(32), 0, bytes(32), bytes([scorer]) * 32, value, baseline, code, NO_SIGNATURE)


def offer(samples: int = 100) -> Offer:
    return Offer(bytes(32), 0, bytes(32), bytes(32), BlobRef(bytes(32), 1), bytes(32), samples, "f32", bytes(32))


def listed(passes: int, fails: int) -> list[Score]:
    """Scores of which `passes` pass and `fails` fail under `RELATIVE`."""
    return [score(*PASS) for _ in range(passes)] + [score(*FAIL) for _ in range(fails)]


# -------------------------------------------------------------------------------------------------- passing (R3)


@pytest.mark.parametrize(
    ("value", "baseline", "passes"),
    [(0, 0, True), (-20_000, 0, True), (-20_001, 0, False), (5, -100, True), (-120_000, -100_000, True)],
)
def test_relative_passing_allows_the_tolerance_and_no_more(value: int, baseline: int, passes: bool) -> None:
    assert is_pass(RELATIVE, score(value, baseline)) is passes


@pytest.mark.parametrize(("value", "passes"), [(-500_000, True), (-500_001, False), (0, True)])
def test_absolute_passing_asks_for_the_threshold_alone(value: int, passes: bool) -> None:
    for baseline in (-(10**6), 0):
        assert is_pass(ABSOLUTE, score(value, baseline)) is passes


@pytest.mark.parametrize("params", [RELATIVE, ABSOLUTE])
@pytest.mark.parametrize("code", [1, 7, 255])
def test_invalid_never_passes(params: Params, code: int) -> None:
    assert not is_pass(params, score(0, 0, code))


# -------------------------------------------------------------------------------------------------- outcome (R4)


@pytest.mark.parametrize(
    ("c", "passes", "fails", "outcome"),
    [
        (4, 3, 0, ACCEPTED),
        (4, 2, 0, UNDECIDED),  # 2 of 4 is not more than half, nor are 2 scores more than 2/3
        (4, 2, 1, UNDECIDED),
        (4, 3, 1, ACCEPTED),
        (4, 2, 2, REJECTED),
        (4, 0, 2, REJECTED),
        (4, 0, 1, UNDECIDED),
        (1, 1, 0, ACCEPTED),
        (1, 0, 1, REJECTED),
        (1, 0, 0, UNDECIDED),
        (2, 2, 0, ACCEPTED),
        (2, 1, 0, UNDECIDED),
        (2, 1, 1, REJECTED),
        (3, 2, 0, UNDECIDED),  # two of three are exactly 2/3, not more
        (3, 2, 1, ACCEPTED),
        (7, 5, 0, ACCEPTED),
        (7, 4, 1, ACCEPTED),
        (7, 4, 0, UNDECIDED),
        (7, 3, 4, REJECTED),
        (31, 21, 0, ACCEPTED),
        (31, 16, 5, ACCEPTED),
        (31, 15, 6, UNDECIDED),
        (31, 0, 16, REJECTED),
        (31, 0, 15, UNDECIDED),
    ],
)
def test_the_outcome_follows_the_two_thirds_and_the_half(c: int, passes: int, fails: int, outcome: str) -> None:
    assert get_outcome(RELATIVE, listed(passes, fails), c) == outcome


def test_the_outcome_equals_brute_force_for_every_small_committee() -> None:
    # R4, in fractions: more than 2c/3 listed and more than c/2 pass; or at least c/2 fail.
    for c in range(1, 8):
        for votes in product((None, True, False), repeat=c):
            given_votes = [vote for vote in votes if vote is not None]
            passes, fails = given_votes.count(True), given_votes.count(False)
            accepted = len(given_votes) > 2 * c / 3 and passes > c / 2
            rejected = fails >= c / 2
            assert not (accepted and rejected)
            expected = ACCEPTED if accepted else REJECTED if rejected else UNDECIDED
            assert get_outcome(RELATIVE, listed(passes, fails), c) == expected


@given(st.lists(st.booleans(), min_size=1, max_size=31), st.data())
def test_no_two_choices_of_listed_scores_accept_and_reject(votes: list[bool], data: st.DataObject) -> None:
    # R4: each member of the committee has one score; a proposer lists any subset of them.
    chosen = [data.draw(st.lists(st.booleans(), min_size=len(votes), max_size=len(votes))) for _ in range(2)]
    outcomes = set()
    for take in chosen:
        kept = [vote for vote, taken in zip(votes, take, strict=True) if taken]
        outcomes.add(get_outcome(RELATIVE, listed(kept.count(True), kept.count(False)), len(votes)))
    assert not {ACCEPTED, REJECTED} <= outcomes


@given(st.integers(1, 31), st.integers(0, 31), st.integers(0, 31))
def test_more_scores_never_undo_a_decision(c: int, passes: int, fails: int) -> None:
    passes, fails = min(passes, c), min(fails, max(0, c - passes))
    before = get_outcome(RELATIVE, listed(passes, fails), c)
    left = c - passes - fails
    for more in range(left + 1):
        after = get_outcome(RELATIVE, listed(passes + more, fails + left - more), c)
        assert before in (UNDECIDED, after)


# -------------------------------------------------------------------------------------- median, value, weight (R4)


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=31))
def test_the_lower_median_is_the_one_of_the_textbook(values: list[int]) -> None:
    assert lower_median(values) == median_low(values)
    assert lower_median(values[::-1]) == lower_median(values)


@pytest.mark.parametrize(("values", "median"), [([5], 5), ([1, 9], 1), ([9, 1, 5], 5), ([4, 1, 3, 2], 2)])
def test_the_lower_median_takes_the_lower_of_two(values: list[int], median: int) -> None:
    assert lower_median(values) == median


@given(st.lists(st.tuples(st.integers(-(10**8), 0), st.booleans()), min_size=1, max_size=31))
def test_the_value_of_an_accepted_update_is_a_real_score(values: list[tuple[int, bool]]) -> None:
    scores = [score(0, 0, 1) if invalid else score(value, value) for value, invalid in values]
    if get_outcome(RELATIVE, scores, len(scores)) == ACCEPTED:
        value = get_value(RELATIVE, scores)
        assert value in [item.value for item in scores if not item.code]
        ranked = [RELATIVE.score_min - 1 if item.code else item.value for item in scores]
        assert value == median_low(ranked)


def test_invalid_ranks_below_every_score() -> None:
    lowest = RELATIVE.score_min
    assert get_value(RELATIVE, [score(lowest, lowest), score(0, 0, 3), score(-5, -5)]) == lowest


@given(st.integers(1, 2**40))
def test_samples_weigh_up_to_the_cap(samples: int) -> None:
    params = make_params(weight="samples", samples_max=1_000)
    assert get_weight(params, offer(samples), listed(1, 0)) == min(samples, 1_000)


def test_uniform_weights_are_all_one() -> None:
    params = make_params(weight="uniform")
    assert {get_weight(params, offer(samples), listed(3, 1)) for samples in (1, 7, 10**6)} == {1}


@pytest.mark.parametrize(
    ("pairs", "weight"),
    [
        ([(-100, -100)], 20_001),  # a margin of 0 above what is asked, which is -20,000
        ([(-20_100, -100)], 1),  # just passed
        ([(900, -100)], 21_001),
        ([(0, 0), (-20_000, 0), (50, 0)], 20_001),
        ([(0, 0), (50, 0)], 20_001),
    ],
)
def test_the_score_weight_is_the_margin_plus_one(pairs: list[tuple[int, int]], weight: int) -> None:
    params = make_params(weight="score", score_tolerance=20_000)
    assert get_weight(params, offer(), [score(*pair) for pair in pairs]) == weight


def test_invalid_counts_below_every_margin() -> None:
    params = make_params(weight="score", score_tolerance=20_000)
    assert get_weight(params, offer(), [score(0, 0, 9), score(0, 0), score(100, 0)]) == 20_001


def test_the_absolute_score_weight_is_the_value_above_the_threshold_plus_one() -> None:
    params = make_params(weight="score", acceptance="absolute", score_threshold=-500_000)
    assert get_weight(params, offer(), [score(-500_000)]) == 1
    assert get_weight(params, offer(), [score(-499_000), score(-400_000)]) == 1_001


@given(
    st.sampled_from(["samples", "score", "uniform"]),
    st.sampled_from(["relative", "absolute"]),
    st.lists(st.tuples(st.integers(-(10**8), 0), st.integers(-(10**8), 0), st.booleans()), min_size=1, max_size=9),
)
@settings(max_examples=200)
def test_an_accepted_update_always_weighs_something_that_fits_its_field(
    weight: str, acceptance: str, values: list[tuple[int, int, bool]]
) -> None:
    params = make_params(weight=weight, acceptance=acceptance, score_threshold=-(10**6))
    scores = [score(0, 0, 1) if invalid else score(value, base) for value, base, invalid in values]
    assert 1 <= get_weight(params, offer(), scores) < 2**63

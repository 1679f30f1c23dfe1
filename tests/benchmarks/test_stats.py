import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stats import Spread, median, paired_ratios, percentile, spread

VALUES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=50)


def test_the_median_of_an_even_count_is_the_mean_of_the_two_in_the_middle() -> None:
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.5
    assert median([9.0, 1.0, 2.0]) == 2.0


@given(VALUES)
def test_a_spread_is_in_order(values: list[float]) -> None:
    found = spread(values)
    assert found.least <= found.median <= found.greatest
    assert {found.least, found.greatest} <= set(values)


@given(VALUES, st.integers(1, 100))
def test_a_percentile_is_a_value_that_enough_others_do_not_exceed(values: list[float], percent: int) -> None:
    found = percentile(values, percent)
    assert found in values
    assert 100 * sum(value <= found for value in values) >= percent * len(values)
    assert 100 * sum(value < found for value in values) < percent * len(values)


def test_the_99th_percentile_of_few_values_is_the_greatest() -> None:
    assert percentile([1.0, 2.0, 3.0], 99) == 3.0
    assert percentile([float(value) for value in range(1, 201)], 99) == 198.0


def test_ratios_are_made_pair_by_pair() -> None:
    assert paired_ratios([6.0, 10.0], [2.0, 5.0]) == [3.0, 2.0]
    assert spread(paired_ratios([6.0, 10.0, 4.0], [2.0, 5.0, 4.0])) == Spread(2.0, 1.0, 3.0)


@pytest.mark.parametrize(("ours", "others"), [([1.0], [1.0, 2.0]), ([1.0], [0.0])])
def test_ratios_need_pairs_and_divisors(ours: list[float], others: list[float]) -> None:
    with pytest.raises(ValueError, match="paired ratios"):
        paired_ratios(ours, others)


def test_nothing_has_no_median_and_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        median([])
    for values, percent in (([], 50), ([1.0], 0), ([1.0], 101)):
        with pytest.raises(ValueError, match="percentile"):
            percentile(values, percent)

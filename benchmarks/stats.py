"""The few statistics that the benchmarks need; pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of some measurements."""

    median: float
    least: float
    greatest: float


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle; raises `ValueError` for none."""
    if not values:
        raise ValueError("no values have no median")
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the least value that `percent` % of the values do not exceed."""
    if not values or not 0 < percent <= 100:
        raise ValueError(f"a percentile needs values and a percentage above 0 and up to 100, not {percent}")
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def spread(values: Sequence[float]) -> Spread:
    """Median, least and greatest; raises `ValueError` for no values."""
    return Spread(median(values), min(values), max(values))


def paired_ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    """ours[i] / others[i]: each pair was measured one right after the other, so that a busy machine hits both."""
    if len(ours) != len(others) or any(value <= 0 for value in others):
        raise ValueError("paired ratios need as many values on both sides, and divisors above 0")
    return [mine / other for mine, other in zip(ours, others, strict=True)]

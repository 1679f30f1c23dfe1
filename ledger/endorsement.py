"""From scores to acceptance (R3, R4): pure functions of the listed scores, the same for every proposer and voter."""

from collections.abc import Sequence

from ledger.params import Params
from ledger.types import Offer, Score

ACCEPTED, REJECTED, UNDECIDED = "accepted", "rejected", "undecided"


def is_pass(params: Params, score: Score) -> bool:
    """Whether this score passes its offer (R3): INVALID never does."""
    if score.code:
        return False
    if params.acceptance == "relative":
        return score.value - score.baseline >= -params.score_tolerance
    return score.value >= params.score_threshold


def get_outcome(params: Params, scores: Sequence[Score], c: int) -> str:
    """R4: accepted when more than 2c/3 scores are listed and more than c/2 pass; rejected when at least c/2 fail.
    `scores` hold at most one score a committee member; `c` is the committee's size."""
    passes = sum(is_pass(params, score) for score in scores)
    fails = len(scores) - passes
    if 3 * len(scores) > 2 * c and 2 * passes > c:
        return ACCEPTED
    return REJECTED if 2 * fails >= c else UNDECIDED


def lower_median(values: Sequence[int]) -> int:
    """The lower of the two middle values where their number is even."""
    return sorted(values)[(len(values) - 1) // 2]


def get_value(params: Params, scores: Sequence[Score]) -> int:
    """The lower median of an accepted update's scores (R4). INVALID ranks below every score; as more than half of the
    committee passed, the median is always a real one."""
    return lower_median([params.score_min - 1 if score.code else score.value for score in scores])


def get_weight(params: Params, offer: Offer, scores: Sequence[Score]) -> int:
    """The weight score of an accepted update (R4): its samples (capped), its margin above what acceptance asks for
    plus one (so that it is never 0), or 1."""
    if params.weight == "samples":
        return min(offer.samples, params.samples_max)
    if params.weight == "uniform":
        return 1
    if params.acceptance == "absolute":
        return max(1, get_value(params, scores) - params.score_threshold + 1)
    margins = [-params.score_tolerance - 1 if score.code else score.value - score.baseline for score in scores]
    return max(1, lower_median(margins) + params.score_tolerance + 1)

"""The table of rules and the checks that all of them share (R7)."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from fl.aggregation import fedavg
from fl.tensors import Tensors, check_schema

WEIGHT_SUM_MAX: Final = 1 << 53  # beyond it an integer is no longer exact in float64

Rule = Callable[[Tensors, Sequence[tuple[int, Tensors]]], Tensors]
RULES: Final[dict[str, Rule]] = {"fedavg": fedavg.aggregate}


def aggregate(rule: str, model: Tensors, updates: Sequence[tuple[int, Tensors]]) -> Tensors:
    """Return model + aggregate(updates), float32 (R7); `updates` are (weight, delta) in block order.

    Updates of weight 0 are left out, and so is one that takes the model out of float32, as no honest scorer lets it
    pass (R3): colluding scorers must not make a candidate that nobody can derive. Where none is left, the model is
    returned unchanged. Raises `ValueError` for an unknown rule or a weight below 0, `TensorError` for a delta that
    breaks the schema.
    """
    if rule not in RULES:
        raise ValueError(f"unknown aggregation rule {rule!r}; known are {', '.join(RULES)}")
    weights = [weight for weight, _ in updates]
    if any(weight < 0 for weight in weights) or sum(weights) >= WEIGHT_SUM_MAX:
        raise ValueError(f"weights must be at least 0 and their sum below 2**53, not {weights}")
    for _, delta in updates:
        check_schema(delta, model)
    used = [(weight, delta) for weight, delta in updates if weight > 0 and _fits(delta, model)]
    if not used:
        return dict(model)
    result = RULES[rule](model, used)
    return result if _is_finite(result) else dict(model)


def _fits(delta: Tensors, model: Tensors) -> bool:
    with np.errstate(over="ignore"):
        return _is_finite({name: model[name] + delta[name] for name in model})


def _is_finite(tensors: Tensors) -> bool:
    return all(bool(np.isfinite(array).all()) for array in tensors.values())

"""The table of rules and the checks that all of them share (R7)."""

from collections.abc import Callable, Sequence
from typing import Final

from fl.aggregation import fedavg
from fl.tensors import Tensors, check_schema

WEIGHT_SUM_MAX: Final = 1 << 53  # beyond it an integer is no longer exact in float64

Rule = Callable[[Tensors, Sequence[tuple[int, Tensors]]], Tensors]
RULES: Final[dict[str, Rule]] = {"fedavg": fedavg.aggregate}


def aggregate(rule: str, model: Tensors, updates: Sequence[tuple[int, Tensors]]) -> Tensors:
    """Return model + aggregate(updates), float32 (R7); `updates` are (weight, delta) in block order.

    Updates of weight 0 are left out; where none is left, the model is returned unchanged. Raises `ValueError`
    for an unknown rule or a weight below 0, `TensorError` for a delta or a result that breaks the schema.
    """
    if rule not in RULES:
        raise ValueError(f"unknown aggregation rule {rule!r}; known are {', '.join(RULES)}")
    weights = [weight for weight, _ in updates]
    if any(weight < 0 for weight in weights) or sum(weights) >= WEIGHT_SUM_MAX:
        raise ValueError(f"weights must be at least 0 and their sum below 2**53, not {weights}")
    for _, delta in updates:
        check_schema(delta, model)
    used = [(weight, delta) for weight, delta in updates if weight > 0]
    if not used:
        return dict(model)
    result = RULES[rule](model, used)
    check_schema(result, model)
    return result

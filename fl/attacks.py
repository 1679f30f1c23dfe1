"""Poisoned updates for demonstrations and tests: a switch of the train job, never on by itself."""

from collections.abc import Callable
from typing import Final

from fl.norms import scale
from fl.tensors import Tensors

SIGN_FLIP_SCALE: Final = 4.0


def sign_flip(delta: Tensors) -> Tensors:
    """Return the delta turned round and 4 times as long: each step leads away from what was learned."""
    return scale(delta, -SIGN_FLIP_SCALE)


ATTACKS: Final[dict[str, Callable[[Tensors], Tensors]]] = {"sign-flip": sign_flip}


def apply_attack(name: str | None, delta: Tensors) -> Tensors:
    """Return what a trainer with this attack sends instead of `delta`; None sends the truth."""
    if name is None:
        return delta
    if name not in ATTACKS:
        raise ValueError(f"unknown attack {name!r}; known are {', '.join(ATTACKS)}")
    return ATTACKS[name](delta)

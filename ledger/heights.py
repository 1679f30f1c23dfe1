"""The law of heights (H1-H4): round t occupies #(k*t + 1) ... #(k*(t+1)); its model block closes it.

`k` is the genesis `round_length`: k-1 update slots and one model block (H1). In BFLC's notation k' = k-1 counts the
updates only and model blocks stand at t*(k'+1): the same chain (H3).
"""


def model_height(k: int, round: int) -> int:
    """The height of the model block that `round` produces: k*(t+1) (H2)."""
    return k * (round + 1)


def first_height(k: int, round: int) -> int:
    """The height of the first update slot of `round` (H2)."""
    return k * round + 1


def round_of(k: int, height: int) -> int:
    """The round that the block at `height` >= 1 belongs to (H2)."""
    if height < 1:
        raise ValueError("#0 is the genesis model block and belongs to no round (H2)")
    return (height - 1) // k


def slot_of(k: int, height: int) -> int:
    """The place of `height` in its round: 0..k-2 are update slots, k-1 is the model block (H1)."""
    return (height - 1) % k


def is_model_height(k: int, height: int) -> bool:
    """Whether a model block stands at `height`; the genesis block counts as one (H2, H4)."""
    return height % k == 0

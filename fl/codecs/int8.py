"""Codec `int8`: blocks of 256 values share a float32 scale, absmax / 127; about one byte a value.

Block-wise quantisation as in Dettmers et al. 2022 (arXiv 2110.02861). A tensor NAME of the model becomes
`q/NAME`, int8 of the same shape, and `s/NAME`, float32 of one scale per block of the flattened tensor.
"""

from typing import Final

import numpy as np

from fl.codes import InvalidCode
from fl.tensors import Array, TensorError, Tensors, check_finite

BLOCK_VALUES: Final = 256
LEVELS: Final = 127  # -128 is never used: the grid is symmetric


def pack(delta: Tensors) -> Tensors:
    """Quantise each value to the nearest of 255 levels of its block; float32 throughout."""
    packed: Tensors = {}
    for name, array in delta.items():
        blocks = _to_blocks(array)
        scales = np.abs(blocks).max(axis=1) / np.float32(LEVELS)
        # A scale that underflowed to 0 stands for a block of zeros; divide by 1 there.
        divisors = np.where(scales > 0, scales, np.float32(1))
        levels = np.clip(np.rint(blocks / divisors[:, None]), -LEVELS, LEVELS)
        levels[scales == 0] = 0
        packed[f"q/{name}"] = levels.astype(np.int8).reshape(-1)[: array.size].reshape(array.shape)
        packed[f"s/{name}"] = scales
    return packed


def unpack(packed: Tensors, model: Tensors) -> Tensors:
    """Return level times scale for every value (R7: one float32 product each).

    Raises `TensorError`: SCHEMA, DTYPE, NOT_FINITE, or CODEC for a level or scale that `pack` never makes.
    """
    if packed.keys() != {prefix + name for name in model for prefix in ("q/", "s/")}:
        raise TensorError(InvalidCode.SCHEMA, "an int8 update needs 'q/NAME' and 's/NAME' for each tensor of the model")
    return {name: _unpack_one(name, packed, array.shape) for name, array in model.items()}


def _unpack_one(name: str, packed: Tensors, shape: tuple[int, ...]) -> Array:
    levels, scales = packed[f"q/{name}"], packed[f"s/{name}"]
    blocks_count = -(-levels.size // BLOCK_VALUES)
    if levels.shape != shape or scales.shape != (blocks_count,):
        message = f"int8 levels {levels.shape} and scales {scales.shape} for {name!r}; the model has {shape}"
        raise TensorError(InvalidCode.SCHEMA, message)
    if levels.dtype != np.int8:
        raise TensorError(InvalidCode.DTYPE, f"int8 levels of {name!r} are {levels.dtype}")
    check_finite({f"s/{name}": scales})
    if np.signbit(scales).any() or (levels == -128).any():
        raise TensorError(InvalidCode.CODEC, f"int8 update of {name!r} with a negative scale or the level -128")
    values = levels.reshape(-1).astype(np.float32)
    with np.errstate(over="ignore"):  # an infinity is refused by the caller's check
        values *= np.repeat(scales, BLOCK_VALUES)[: values.size]
    return values.reshape(shape)


def _to_blocks(array: Array) -> Array:
    """Flatten to (blocks, 256) float32, the last block padded with zeros."""
    flat = array.reshape(-1)
    padding = -flat.size % BLOCK_VALUES
    return np.pad(flat, (0, padding)).reshape(-1, BLOCK_VALUES)

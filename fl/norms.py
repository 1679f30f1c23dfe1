"""The length of a set of tensors, and clipping to it (R2, R3)."""

import math
from collections.abc import Mapping

import numpy as np

from fl.tensors import Array, Tensors


def compute_norm(tensors: Mapping[str, Array]) -> float:
    """Return the Euclidean norm over all arrays together, squared and summed in float64."""
    total = 0.0
    for name in sorted(tensors):
        total += float(np.sum(np.square(tensors[name].astype(np.float64))))
    return math.sqrt(total)


def scale(tensors: Mapping[str, Array], factor: float) -> Tensors:
    """Return float32 `tensors` times `factor`."""
    return {name: array * np.float32(factor) for name, array in tensors.items()}


def clip(tensors: Tensors, norm_max: float) -> Tensors:
    """Return `tensors`, scaled down to length `norm_max` where they are longer (R2).

    As in differentially private SGD (Abadi et al. 2016, arXiv 1607.00133): the direction stays.
    """
    norm = compute_norm(tensors)
    return tensors if norm <= norm_max else scale(tensors, norm_max / norm)

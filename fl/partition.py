"""Splitting one data set over the peers, seeded, so that every peer computes the same split alone.

`iid`: a random split into equal parts. `dirichlet:ALPHA`: label skew as in Hsu et al. 2019 (arXiv 1909.06335),
per class a share per shard drawn from Dirichlet(ALPHA); a small ALPHA means shards of few classes.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

SHARD_SAMPLES_MIN: Final = 10  # a Dirichlet shard gets at least so many, where there are enough
Indices = NDArray[np.int64]


class PartitionError(ValueError):
    """A split that cannot be made; the message says which setting to change."""


def parse_scheme(scheme: str) -> float | None:
    """Return None for `iid`, ALPHA for `dirichlet:ALPHA`; raise `PartitionError` for anything else."""
    if scheme == "iid":
        return None
    name, _, text = scheme.partition(":")
    try:
        alpha = float(text)
    except ValueError:
        alpha = math.nan
    if name != "dirichlet" or not 0 < alpha < math.inf:
        raise PartitionError(f"partition {scheme!r} is unknown: use 'iid' or 'dirichlet:ALPHA' with ALPHA > 0")
    return alpha


def partition(labels: NDArray[np.integer], shards: int, scheme: str, seed: int) -> list[Indices]:
    """Return `shards` sorted arrays of indices into `labels` (shape (n,)): disjoint, and together all of them.

    `iid` shards differ in size by at most 1; no Dirichlet shard is below min(10, n // shards) samples.
    Raises `PartitionError`.
    """
    if not 1 <= shards <= len(labels):
        raise PartitionError(f"{len(labels)} samples cannot be split into {shards} shards: use 1 to {len(labels)}")
    alpha = parse_scheme(scheme)
    rng = np.random.Generator(np.random.PCG64(seed))
    if alpha is None:
        parts: list[Indices] = np.array_split(rng.permutation(len(labels)), shards)
    else:
        parts = _split_dirichlet(labels, shards, alpha, rng)
        _fill_up(parts, min(SHARD_SAMPLES_MIN, len(labels) // shards))
    return [np.sort(part) for part in parts]


def _split_dirichlet(labels: NDArray[np.integer], shards: int, alpha: float, rng: np.random.Generator) -> list[Indices]:
    pieces: list[list[Indices]] = [[] for _ in range(shards)]
    for label in np.unique(labels):
        indices = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(shards, alpha))
        # A tiny alpha can underflow to 0/0: such a class goes to one shard whole.
        if not np.isfinite(shares).all():
            shares = np.eye(shards)[rng.integers(shards)]
        cuts = (np.cumsum(shares)[:-1] * len(indices)).astype(np.int64).clip(0, len(indices))
        for piece, part in zip(pieces, np.split(indices, cuts), strict=True):
            piece.append(part)
    return [np.concatenate(piece) for piece in pieces]


def _fill_up(parts: list[Indices], samples_min: int) -> None:
    """Move samples from the largest shard to any that is too small; the largest always has some to spare."""
    for i in range(len(parts)):
        while (lacking := samples_min - len(parts[i])) > 0:
            largest = max(range(len(parts)), key=lambda j: (len(parts[j]), -j))
            moved = min(lacking, len(parts[largest]) - samples_min)
            parts[i] = np.concatenate([parts[i], parts[largest][:moved]])
            parts[largest] = parts[largest][moved:]

"""Federated averaging: w + sum N_i / N_S (w_i - w).

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data"
(arXiv 1602.05629), in the form of BlockFL (arXiv 1808.03949).
"""

from collections.abc import Sequence

import numpy as np

from fl.tensors import Tensors


def aggregate(model: Tensors, updates: Sequence[tuple[int, Tensors]]) -> Tensors:
    """Return f32(f64(model) + acc / sum N) where acc += f64(N_i) * f64(delta_i) in the given order (R7)."""
    total = np.float64(sum(weight for weight, _ in updates))
    result: Tensors = {}
    for name, old in model.items():
        acc = np.zeros(old.shape, np.float64)
        for weight, delta in updates:
            acc += np.float64(weight) * delta[name].astype(np.float64)
        with np.errstate(over="ignore", under="ignore"):  # the caller looks for infinities
            result[name] = (old.astype(np.float64) + acc / total).astype(np.float32)
    return result

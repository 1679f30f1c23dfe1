"""The two built-in networks, and the way between a torch module and named arrays.

`mlp`: one hidden layer. `cnn`: the FedAvg paper's (McMahan et al. 2017, arXiv 1602.05629), two 5x5 convolutions
of 32 and 64 channels, each followed by 2x2 max-pooling, a dense layer of 512; 1,663,370 parameters on 28x28.
"""

import math
from typing import Final

import numpy as np
import torch
from torch import nn

from fl.tensors import Tensors

MODELS: Final = ("mlp", "cnn")
CLASSES: Final = 10


def build_model(name: str, side: int, hidden: int, seed: int) -> nn.Module:
    """Return `mlp` (side*side-hidden-10) or `cnn` for images (n, 1, side, side); logits (n, 10).

    The initial parameters depend on the seed alone, on every machine.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(MODELS)}")
    module = _mlp(side, hidden) if name == "mlp" else _cnn(side)
    _initialise(module, seed)
    return module


def _mlp(side: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES))


def _cnn(side: int) -> nn.Module:
    pooled = side // 4
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),  # (n, 32, side/2, side/2)
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),  # (n, 64, side/4, side/4)
        nn.Flatten(), nn.Linear(64 * pooled * pooled, 512), nn.ReLU(), nn.Linear(512, CLASSES),
    )  # fmt: skip


def _initialise(module: nn.Module, seed: int) -> None:
    """Torch's own distribution, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), from numpy's PCG64: exact operations only."""
    rng = np.random.Generator(np.random.PCG64(seed))
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
            bound = 1 / math.sqrt(layer.weight[0].numel())
            for parameter in (layer.weight, layer.bias):
                values = rng.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32)
                parameter.data.copy_(torch.from_numpy(values))


def to_tensors(module: nn.Module) -> Tensors:
    """Return copies of the parameters and float buffers, by their state_dict names.

    Integer buffers (BatchNorm's step counter) stay behind. Raises `ValueError` for floats other than float32.
    """
    tensors: Tensors = {}
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            if value.dtype != torch.float32:
                raise ValueError(f"parameter {name!r} is {value.dtype}: a model on chain is float32")
            tensors[name] = value.detach().cpu().numpy().copy()
    return tensors


def load_tensors(module: nn.Module, tensors: Tensors) -> None:
    """Copy `tensors` into the module; names and shapes must be those of `to_tensors`."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.from_numpy(np.require(tensors[name], requirements="W")))

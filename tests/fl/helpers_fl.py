"""What the tests of fl/ share: small models, a task without any framework, IDX files."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl.codes import InvalidCode
from fl.task import Evaluation, Update
from fl.tensors import TensorError, Tensors


def make_model(seed: int = 0, scale: float = 1.0) -> Tensors:
    """Two float32 arrays of 700 and 7 values: three int8 blocks and a scalar-like tail."""
    rng = np.random.default_rng(seed)
    return {
        "weight": (rng.standard_normal((70, 10)) * scale).astype(np.float32),
        "bias": (rng.standard_normal(7) * scale).astype(np.float32),
    }


def code_of(error: BaseException) -> InvalidCode:
    assert isinstance(error, TensorError)
    return error.code


class PullTask:
    """Pulls the parameters towards 1; the score is minus the mean squared distance. Needs numpy only."""

    def __init__(self, speed: float = 0.5, size: int = 300) -> None:
        self.speed, self.size, self.evaluations = speed, size, 0

    def model(self) -> Tensors:
        return {"w": np.zeros(self.size, np.float32), "b": np.zeros((), np.float32)}

    def train(self, params: Tensors, round: int) -> Update:
        for array in params.values():
            array += np.float32(self.speed) * (1 - array)  # in place on purpose
        return Update(params, 10 + round, {"loss": 0.5})

    def evaluate(self, params: Tensors) -> Evaluation:
        self.evaluations += 1
        flat = np.concatenate([array.reshape(-1) for array in params.values()]).astype(np.float64)
        return Evaluation(-float(np.mean((flat - 1) ** 2)), {"accuracy": 0.5})


def write_idx(path: Path, array: NDArray[np.uint8], *, zipped: bool = False) -> None:
    data = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if zipped else data)


def write_fashion(folder: Path, train: int = 60, tests: int = 20, *, zipped: bool = True) -> None:
    """Write four IDX files: images whose rows of light say which class they are, so that they can be learned."""
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", tests)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 30, (count, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 4 : 2 * label + 6] = 255
        end = ".gz" if zipped else ""
        write_idx(folder / f"{part}-images-idx3-ubyte{end}", images, zipped=zipped)
        write_idx(folder / f"{part}-labels-idx1-ubyte{end}", labels, zipped=zipped)

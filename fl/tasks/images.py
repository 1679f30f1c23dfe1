"""What the built-in image tasks share: their settings, and the way from a data set to a `TorchTask`."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from fl.adapters import TorchTask
from fl.models import MODELS, build_model
from fl.partition import PartitionError, parse_scheme, partition
from fl.task import TaskError
from fl.training import Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """Settings of an image task; whatever is not given keeps its default. `shard` is this peer's, from 0."""

    shard: int = 0
    shards: int = 1
    partition: str = "iid"
    seed: int = 0
    model: str = "mlp"
    epochs: int = 1
    batch: int = 32
    lr: float = 0.05
    momentum: float = 0.9
    warmup: int = 1

    @classmethod
    def from_mapping(cls, task: str, settings: Mapping[str, object]) -> Self:
        """Check types, ranges and names; raise `TaskError` naming the setting and what it may be."""
        known = {f.name: f for f in fields(cls)}
        if unknown := sorted(settings.keys() - known.keys()):
            raise TaskError(f"task {task!r} has no setting {unknown[0]!r}; it has {', '.join(known)}")
        for name, value in settings.items():
            wanted = type(known[name].default)
            if wanted is float and type(value) is int:
                continue
            if type(value) is not wanted:
                raise TaskError(f"setting {name!r} must be {wanted.__name__}, not {type(value).__name__} ({value!r})")
        made = cls(**settings)  # type: ignore[arg-type]
        made.check()
        return made

    def check(self) -> None:
        """Raise `TaskError` for the first value out of its range."""
        _check_int("shards", self.shards, 1, 10_000)
        _check_int("shard", self.shard, 0, self.shards - 1)
        _check_int("seed", self.seed, 0, 2**63 - 1)
        _check_int("epochs", self.epochs, 1, 1000)
        _check_int("batch", self.batch, 1, 65_536)
        _check_int("warmup", self.warmup, 1, 1000)
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise TaskError(f"setting 'lr' must be a number above 0, not {self.lr!r}")
        if not 0 <= self.momentum < 1:
            raise TaskError(f"setting 'momentum' must be at least 0 and below 1, not {self.momentum!r}")
        if self.model not in MODELS:
            raise TaskError(f"setting 'model' must be one of {', '.join(MODELS)}, not {self.model!r}")
        try:
            parse_scheme(self.partition)
        except PartitionError as error:
            raise TaskError(f"setting 'partition': {error}") from error


def _check_int(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise TaskError(f"setting {name!r} must be from {low} to {high}, not {value}")


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Images (n, side, side) uint8 from 0 to `white`, and labels (n,) from 0 to 9. Each set is itself alone."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    white: int

    def take(self, indices: NDArray[np.int64] | slice) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return (images (n, 1, side, side) from 0 to 1, labels (n,)) as a network takes them."""
        inputs = self.pixels[indices][:, None].astype(np.float32)
        inputs /= np.float32(self.white)
        return inputs, self.labels[indices].astype(np.int64)


@functools.lru_cache(maxsize=8)
def to_samples(images: Images) -> Samples:
    """Return a whole data set as tensors, made once a process and shared with its forks; nobody writes to them."""
    return _to_samples(*images.take(slice(None)))


def _to_samples(inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> Samples:
    return Samples(torch.from_numpy(inputs), torch.from_numpy(labels))


def build_task(settings: ImageSettings, hidden: int, train: Images, scoring: Images, report: Images) -> TorchTask:
    """Return the task of one peer: its shard of `train`, and the two test sets that all peers share."""
    try:
        parts = partition(train.labels, settings.shards, settings.partition, settings.seed)
    except PartitionError as error:
        raise TaskError(f"setting 'shards': {error}") from error
    side = train.pixels.shape[1]
    return TorchTask(
        lambda: build_model(settings.model, side, hidden, settings.seed),
        _to_samples(*train.take(parts[settings.shard])),
        to_samples(scoring),
        report=to_samples(report),
        epochs=settings.epochs,
        batch=settings.batch,
        lr=settings.lr,
        momentum=settings.momentum,
        warmup=settings.warmup,
        seed=settings.seed,
        shard=settings.shard,
        shared_test_set=True,
    )

"""From what a data scientist already has to a Task: a torch module with its arrays or DataLoaders."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import nn

from fl.models import load_tensors, to_tensors
from fl.task import Evaluation, TaskError, Update
from fl.tensors import Array, Tensors
from fl.training import Batches, Samples, evaluate, make_seed, train

Data = tuple[Array, Array] | Batches | Samples  # (inputs (n, ...), labels (n,)), or a DataLoader


class TorchTask:
    """A classifier in torch as a Task: SGD on cross-entropy, score = minus the mean cross-entropy.

    `factory` makes the module; `train`, `test` (the scoring set) and `report` are (inputs, labels) arrays, copied
    as float32 and int64, or `Samples` or DataLoaders of such tensors, used as they are. `shared_test_set` says that
    `test` is the same on every peer (R3). The learning rate grows linearly over the first `warmup` rounds.
    """

    def __init__(
        self,
        factory: Callable[[], nn.Module],
        train: Data,
        test: Data,
        *,
        report: Data | None = None,
        epochs: int = 1,
        batch: int = 32,
        lr: float = 0.05,
        momentum: float = 0.9,
        warmup: int = 1,
        seed: int = 0,
        shard: int = 0,
        shared_test_set: bool = False,
    ) -> None:
        self._train, self._test = _to_samples(train, "train"), _to_samples(test, "test")
        self._report = None if report is None else _to_samples(report, "report")
        self._epochs, self._batch, self._lr, self._momentum = epochs, batch, lr, momentum
        self._warmup, self._seed, self._shard = warmup, seed, shard
        self._digest = _compute_digest(self._test) if shared_test_set else b""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._module = factory()
        self._initial = to_tensors(self._module)

    def model(self) -> Tensors:
        """Return the initial parameters, the same for the same seed."""
        return {name: array.copy() for name, array in self._initial.items()}

    def train(self, params: Tensors, round: int) -> Update:
        """Train for some epochs from `params`; the order of samples depends on (seed, shard, round) alone."""
        load_tensors(self._module, params)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(make_seed(self._seed, self._shard, round))  # dropout and DataLoaders draw from it
            lr = self._lr * min(1.0, (round + 1) / self._warmup)
            samples, loss = train(self._module, self._make_epochs(), lr, self._momentum)
        return Update(to_tensors(self._module), samples, {"loss": loss})

    def evaluate(self, params: Tensors) -> Evaluation:
        """Score `params` on the scoring set."""
        return self._evaluate(params, self._test)

    def report(self, params: Tensors) -> Evaluation:
        """Evaluate `params` on the report set, or on the scoring set where no other was given."""
        return self._evaluate(params, self._test if self._report is None else self._report)

    def test_set_digest(self) -> bytes:
        """Return the SHA-256 of the scoring set where it is shared, else b""."""
        return self._digest

    def warm_up(self) -> None:
        """Pay torch's first step and first evaluation now; the parameters are loaded anew by each call."""
        load_tensors(self._module, self._initial)
        first = [next(iter(_in_order(self._train)))]
        train(self._module, [first], self._lr, self._momentum)
        evaluate(self._module, first)

    def _evaluate(self, params: Tensors, data: Samples | Batches) -> Evaluation:
        load_tensors(self._module, params)
        return evaluate(self._module, _in_order(data))

    def _make_epochs(self) -> Iterator[Batches]:
        data = self._train
        for _ in range(self._epochs):
            yield data.shuffled(self._batch, torch.default_generator) if isinstance(data, Samples) else data


def _in_order(data: Samples | Batches) -> Batches:
    return data.batches() if isinstance(data, Samples) else data


def _to_samples(data: Data, name: str) -> Samples | Batches:
    """Arrays become tensors in memory; anything else is a DataLoader and stays what it is."""
    if isinstance(data, Samples):
        return data
    if not (isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], np.ndarray)):
        if isinstance(data, Iterable):
            return data
        raise TaskError(f"{name} must be a pair of arrays or a DataLoader, not {type(data).__name__}")
    inputs, labels = data
    if len(inputs) != len(labels) or len(labels) == 0 or labels.ndim != 1:
        raise TaskError(f"{name} needs as many labels as inputs, and at least one: {inputs.shape}, {labels.shape}")
    return Samples(torch.from_numpy(np.array(inputs, np.float32)), torch.from_numpy(np.array(labels, np.int64)))


def _compute_digest(data: Samples | Batches) -> bytes:
    if not isinstance(data, Samples):
        raise TaskError("shared_test_set needs the test set as arrays: the bytes of a DataLoader have no digest")
    return _digest_samples(data)


@functools.lru_cache(maxsize=8)
def _digest_samples(data: Samples) -> bytes:
    digest = hashlib.sha256(b"fedchain test set 1")
    digest.update(repr(tuple(data.inputs.shape)).encode())
    digest.update(np.ascontiguousarray(data.inputs.numpy(), "<f4").data)
    digest.update(np.ascontiguousarray(data.labels.numpy(), "<i8").data)
    return digest.digest()

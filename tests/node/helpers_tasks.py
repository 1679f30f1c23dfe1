"""A task of a few numbers in pure numpy, with switches for what foreign code does wrong."""

import errno
import os
import threading
from pathlib import Path

import numpy as np

from fl.task import Evaluation, Update
from fl.tensors import Tensors

SAMPLES = 64


class LinearTask:
    """Least squares on seeded data; `fault` says what `train` does instead of training.

    `fault` is "raise", "exit" (the process ends without a word), "hang" (for ever), "full-disk" or "". A file
    `marker`, where one is named, appears when training begins.
    """

    def __init__(self, seed: int = 0, shard: int = 0, fault: str = "", marker: str = "") -> None:
        generator = np.random.default_rng([seed, shard])
        self._inputs = generator.standard_normal((SAMPLES, 3))
        self._targets = self._inputs @ np.array([1.0, -2.0, 0.5])
        self._fault = fault
        self._marker = marker

    def model(self) -> Tensors:
        """Three zeros."""
        return {"w": np.zeros(3, np.float32)}

    def train(self, params: Tensors, round: int) -> Update:
        """One step of gradient descent; the metrics tell where and how it ran."""
        if self._marker:
            Path(self._marker).touch()
        if self._fault:
            _commit(self._fault)
        step = self._inputs.T @ (self._inputs @ params["w"] - self._targets) / SAMPLES
        where = {"pid": float(os.getpid()), "nice": float(os.nice(0)), "round": float(round)}
        return Update({"w": (params["w"] - 0.1 * step).astype(np.float32)}, SAMPLES, where)

    def evaluate(self, params: Tensors) -> Evaluation:
        """Minus the mean squared error."""
        error = self._inputs @ params["w"] - self._targets
        return Evaluation(-float(np.mean(error**2)))


def _commit(fault: str) -> None:
    if fault == "raise":
        raise ZeroDivisionError("a bug of the task")
    if fault == "exit":
        os._exit(3)
    if fault == "full-disk":
        raise OSError(errno.ENOSPC, "No space left on device")
    if fault == "hang":
        threading.Event().wait()
    raise ValueError(f"unknown fault {fault!r}")

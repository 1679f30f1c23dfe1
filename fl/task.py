"""What a data scientist brings: a task, one class with three methods (see OPERATOR, "Bring your own model").

This module knows no framework; `load_task` imports the module that a task needs when it is named.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, cast, runtime_checkable

import numpy as np

from fl.tensors import TensorError, Tensors, check_finite, check_schema, encode_tensors

SAMPLES_MAX: Final = 1 << 31
METRICS_MAX: Final = 64


class TaskError(Exception):
    """A task that cannot be loaded or that returned something unusable; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a local training made: the new parameters and how many samples they were trained on."""

    params: Tensors
    samples: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good parameters are: `score` (higher is better) judges updates, `metrics` are for people."""

    score: float
    metrics: dict[str, float] = field(default_factory=dict)


class Task(Protocol):
    """What is learned, on whose data."""

    def model(self) -> Tensors:
        """Return the initial parameters: named float32 arrays, the same on every call and every peer."""
        ...

    def train(self, params: Tensors, round: int) -> Update:
        """Train on this peer's own data, starting from `params`."""
        ...

    def evaluate(self, params: Tensors) -> Evaluation:
        """Score `params` on the scoring set (R3); a score that is not finite fails them."""
        ...


@runtime_checkable
class ReportingTask(Protocol):
    """A task with a second test set, for the reports that people read."""

    def report(self, params: Tensors) -> Evaluation:
        """Evaluate `params` on test data that neither training nor scoring ever sees."""
        ...


@runtime_checkable
class SharedTestTask(Protocol):
    """A task whose scoring set is the same on every peer, or may be."""

    def test_set_digest(self) -> bytes:
        """Return the SHA-256 of the shared scoring set (R3), or b"" where each peer has its own."""
        ...


@runtime_checkable
class WarmableTask(Protocol):
    """A task that can pay its framework's start-up costs early, before a worker is forked."""

    def warm_up(self) -> None:
        """Do one tiny training step and forget it."""
        ...


_BUILT_IN: Final = {"digits": "fl.tasks.digits:load", "fashion-mnist": "fl.tasks.fashion:load"}


def load_task(name: str, settings: Mapping[str, object]) -> Task:
    """Build the task `digits`, `fashion-mnist`, or `package.module:Class`, called with `settings` as keywords.

    Raises `TaskError` for an unknown name, an unknown setting, a bad value, or data that cannot be read.
    """
    factory = _find_factory(_BUILT_IN.get(name, name))
    try:
        task = factory(**settings)
    except TaskError:
        raise
    except Exception as error:  # foreign code: whatever it raises is its report
        given = ", ".join(sorted(settings)) or "none given"
        message = f"task {name!r} could not be built: {type(error).__name__}: {error}; check its settings ({given})"
        raise TaskError(message) from error
    for method in ("model", "train", "evaluate"):
        if not callable(getattr(task, method, None)):
            raise TaskError(f"task {name!r} has no method {method}(): see the Task protocol in fl/task.py")
    return cast(Task, task)


def _find_factory(target: str) -> Callable[..., object]:
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        known = ", ".join(_BUILT_IN)
        raise TaskError(f"unknown task {target!r}: use one of {known}, or 'package.module:Class' of your own")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        message = f"task module {module_name!r} cannot be imported: {error}; install it or put it on PYTHONPATH"
        raise TaskError(message) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise TaskError(f"module {module_name!r} has no class or function {attribute!r}")
    return cast(Callable[..., object], factory)


def check_task(task: Task) -> None:
    """Run each method of a task once and raise `TaskError` if anything that it returns is unusable.

    For whoever writes a task: trains a whole local round.
    """
    model = task.model()
    check_model(model)
    check_evaluation(task.evaluate(model), "evaluate")
    check_update(task.train({name: array.copy() for name, array in model.items()}, 0), model)
    if isinstance(task, ReportingTask):
        check_evaluation(task.report(model), "report")
    if encode_tensors(task.model()) != encode_tensors(model):
        raise TaskError("model() gave other parameters on its second call: seed their initialisation")


def check_model(params: Tensors) -> None:
    """Raise `TaskError` unless `params` is a model that can go on chain (B2)."""
    if not isinstance(params, dict) or not params:
        raise TaskError("model() must return a dict of at least one named array")
    for name, array in params.items():
        if not isinstance(name, str):
            raise TaskError(f"model() must name its arrays with str, not {type(name).__name__} ({name!r})")
        _check_array("model()", name, array)
    try:
        check_finite(params)
        encode_tensors(params)
    except TensorError as error:
        raise TaskError(f"model(): {error}") from error


def check_update(update: Update, model: Tensors) -> None:
    """Raise `TaskError` unless a local training returned parameters of the model's schema (R2)."""
    if not isinstance(update, Update) or not isinstance(update.params, dict):
        raise TaskError(f"train() must return an Update with a dict of arrays, not {type(update).__name__}")
    for name, array in update.params.items():
        _check_array("train()", str(name), array)
    try:
        check_schema(update.params, model)
    except TensorError as error:
        raise TaskError(f"train(): {error}; lower the learning rate if training diverged") from error
    if not _is_int(update.samples) or not 1 <= update.samples <= SAMPLES_MAX:
        raise TaskError(f"train(): samples must be an int from 1 to {SAMPLES_MAX}, not {update.samples!r}")
    _check_metrics("train()", update.metrics)


def check_evaluation(evaluation: Evaluation, method: str) -> None:
    """Raise `TaskError` unless `evaluate()` or `report()` returned a number; it may be NaN for bad parameters."""
    if not isinstance(evaluation, Evaluation):
        raise TaskError(f"{method}() must return an Evaluation, not {type(evaluation).__name__}")
    if not _is_number(evaluation.score):
        raise TaskError(f"{method}(): score must be a float, not {type(evaluation.score).__name__}")
    _check_metrics(f"{method}()", evaluation.metrics)


def _check_array(method: str, name: str, array: object) -> None:
    # numpy makes scalars of arrays without dimensions whenever it computes; they do as well.
    if not isinstance(array, np.ndarray | np.generic):
        raise TaskError(f"{method}: {name!r} must be a numpy array, not {type(array).__name__}")


def _check_metrics(method: str, metrics: object) -> None:
    if not isinstance(metrics, dict) or len(metrics) > METRICS_MAX:
        raise TaskError(f"{method}: metrics must be a dict of at most {METRICS_MAX} numbers")
    for name, value in metrics.items():
        if not isinstance(name, str) or not _is_number(value):
            raise TaskError(f"{method}: metric {name!r} must be a str with a float, not {type(value).__name__}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

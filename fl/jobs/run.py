"""The work itself: one function a job (R2, R3, R7), on a task and files.

Errors: `OSError` for a file that is missing or a full disk, `TensorError` for a damaged model file, `TaskError`
for a task that returns something unusable. An update that is invalid is no error but an answer.
"""

import hashlib
import math
import os
from pathlib import Path
from typing import Final

import numpy as np

from fl.aggregation import aggregate
from fl.attacks import apply_attack
from fl.codecs import CODECS, decode_delta, encode_delta, encoded_size_max
from fl.codes import InvalidCode
from fl.jobs.messages import (
    AggregateJob,
    AggregateResult,
    EvaluateJob,
    EvaluateResult,
    InitialModelJob,
    InitialModelResult,
    Job,
    Result,
    ScoreJob,
    ScoreResult,
    TrainJob,
    TrainResult,
)
from fl.norms import compute_norm
from fl.task import (
    Evaluation,
    ReportingTask,
    SharedTestTask,
    Task,
    TaskError,
    WarmableTask,
    check_evaluation,
    check_model,
    check_update,
)
from fl.tensors import TensorError, Tensors, check_finite, check_schema, decode_tensors, encode_tensors

MILLIONTHS: Final = 1_000_000
SCORE_MAX: Final = 1e9  # either way; keeps millionths far inside 64 bits
NORM_SLACK: Final = 1.01  # R3: a decoded delta may be 1 % longer than the bound


def run_job(task: Task, job: Job) -> Result:
    """Do one job and return its answer."""
    match job:
        case TrainJob():
            return _train(task, job)
        case ScoreJob():
            return _score(task, job)
        case AggregateJob():
            return _aggregate(job)
        case EvaluateJob():
            return _evaluate(task, job)
        case InitialModelJob():
            return _write_initial(task, job)


def warm_up(task: Task) -> None:
    """Pay the framework's start-up costs before workers are forked; a task without warm_up() evaluates once."""
    if isinstance(task, WarmableTask):
        task.warm_up()
    else:
        check_evaluation(task.evaluate(task.model()), "evaluate")


def _train(task: Task, job: TrainJob) -> TrainResult:
    """R2: train, take the delta, clip it, encode it."""
    model, _ = _read_model(job.model_path)
    update = task.train(_copy(model), job.round)
    check_update(update, model)
    delta = apply_attack(job.attack, {name: update.params[name] - model[name] for name in model})
    residual = _read_residual(job.residual_path, model)
    data, residual = encode_delta(job.codec, delta, residual, norm_max=job.update_norm_max)
    norm = compute_norm(decode_delta(job.codec, data, model))
    Path(job.update_path).write_bytes(data)
    if job.residual_path is not None and residual is not None:
        _write_whole(job.residual_path, encode_tensors(residual))
    return TrainResult(update.samples, _plain(update.metrics), norm)


def _score(task: Task, job: ScoreJob) -> ScoreResult:
    """R3: check the update, then evaluate the model with it and alone."""
    model, digest = _read_model(job.model_path)
    try:
        delta = _read_update(job, model)
        with np.errstate(over="ignore"):  # an infinity is refused by the next line
            candidate = {name: model[name] + delta[name] for name in model}
        check_finite(candidate)
    except TensorError as error:
        return ScoreResult(0, 0, int(error.code))
    evaluation = task.evaluate(candidate)
    check_evaluation(evaluation, "evaluate")
    if not math.isfinite(evaluation.score):
        return ScoreResult(0, 0, int(InvalidCode.NOT_FINITE))
    baseline = _evaluate_baseline(task, model, digest)
    return ScoreResult(_to_millionths(evaluation), baseline, int(InvalidCode.OK))


def _aggregate(job: AggregateJob) -> AggregateResult:
    """R7: the candidate model; an update that does not decode weighs 0 on every machine alike."""
    model, _ = _read_model(job.model_path)
    updates: list[tuple[int, Tensors]] = []
    for path, codec, weight in job.updates:
        data = Path(path).read_bytes()  # a missing file is this machine's trouble: it must not weigh 0
        try:
            updates.append((weight, decode_delta(codec, data, model)))
        except TensorError:
            continue
    candidate = aggregate(job.rule, model, updates)
    Path(job.output_path).write_bytes(encode_tensors(candidate))
    return AggregateResult(sum(weight > 0 for weight, _ in updates))


def _evaluate(task: Task, job: EvaluateJob) -> EvaluateResult:
    """A task without a report set reports on its scoring set."""
    model, _ = _read_model(job.model_path)
    evaluation = task.report(model) if job.report and isinstance(task, ReportingTask) else task.evaluate(model)
    check_evaluation(evaluation, "report" if job.report else "evaluate")
    return EvaluateResult(_to_millionths(evaluation), _plain(evaluation.metrics))


def _write_initial(task: Task, job: InitialModelJob) -> InitialModelResult:
    model = task.model()
    check_model(model)
    Path(job.output_path).write_bytes(encode_tensors(model))
    digest = task.test_set_digest() if isinstance(task, SharedTestTask) else b""
    if not isinstance(digest, bytes) or len(digest) not in (0, 32):
        raise TaskError("test_set_digest() must return 32 bytes (SHA-256), or b'' for a local test set")
    return InitialModelResult(digest)


def _read_model(path: str) -> tuple[Tensors, bytes]:
    """Return the model and the SHA-256 of its file."""
    data = Path(path).read_bytes()
    model = decode_tensors(data)
    check_finite(model)
    return model, hashlib.sha256(data).digest()


def _read_update(job: ScoreJob, model: Tensors) -> Tensors:
    """R3: codec, size, form, schema, finite, norm of the decoded delta, in this order."""
    if job.codec not in CODECS:
        raise TensorError(InvalidCode.CODEC, f"unknown codec {job.codec!r}")
    path = Path(job.update_path)
    size_bytes, allowed = path.stat().st_size, min(job.update_bytes_max, encoded_size_max(job.codec, model))
    if size_bytes > allowed:
        raise TensorError(InvalidCode.SIZE, f"update of {size_bytes} bytes; at most {allowed} are allowed")
    delta = decode_delta(job.codec, path.read_bytes(), model)
    norm = compute_norm(delta)
    if norm > job.update_norm_max * NORM_SLACK:
        raise TensorError(InvalidCode.NORM, f"decoded delta of length {norm}; at most {job.update_norm_max}")
    return delta


def _read_residual(path: str | None, model: Tensors) -> Tensors | None:
    """A residual is a help, not a record: one that is missing, torn or of another model is forgotten."""
    if path is None:
        return None
    try:
        residual = decode_tensors(Path(path).read_bytes())
        check_schema(residual, model)
    except (FileNotFoundError, TensorError):
        return None
    return residual


def _write_whole(path: str, data: bytes) -> None:
    """Replace a file at once, so that a kill leaves the old or the new one."""
    partial = f"{path}.partial"
    Path(partial).write_bytes(data)
    os.replace(partial, path)


_last_baseline: tuple[Task, bytes, int] | None = None


def _evaluate_baseline(task: Task, model: Tensors, digest: bytes) -> int:
    """Return the model's own score; a worker scores several updates of one round, so the last is kept."""
    global _last_baseline
    if _last_baseline is None or _last_baseline[0] is not task or _last_baseline[1] != digest:
        evaluation = task.evaluate(_copy(model))
        check_evaluation(evaluation, "evaluate")
        _last_baseline = (task, digest, _to_millionths(evaluation))
    return _last_baseline[2]


def _copy(model: Tensors) -> Tensors:
    """A task may work in place; its caller still needs the model."""
    return {name: array.copy() for name, array in model.items()}


def _plain(metrics: dict[str, float]) -> dict[str, float]:
    """numpy's float64 is a float, but not one that every serialiser takes."""
    return {name: float(value) for name, value in metrics.items()}


def _to_millionths(evaluation: Evaluation) -> int:
    """Return the score as an integer; floats never enter the chain (S1)."""
    if not math.isfinite(evaluation.score):
        raise TaskError(f"the score of the global model is {evaluation.score}: evaluate() must return a finite number")
    return round(max(-SCORE_MAX, min(evaluation.score, SCORE_MAX)) * MILLIONTHS)

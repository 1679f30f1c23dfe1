"""R2, R3, R7 as a worker runs them: files in, files out."""

import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from fl.aggregation import aggregate
from fl.codecs import decode_delta, encode_delta
from fl.codes import InvalidCode
from fl.jobs import (
    AggregateJob,
    AggregateResult,
    EvaluateJob,
    EvaluateResult,
    InitialModelJob,
    InitialModelResult,
    ScoreJob,
    ScoreResult,
    TrainJob,
    TrainResult,
    run_job,
    warm_up,
)
from fl.norms import compute_norm, scale
from fl.task import Evaluation, TaskError, Update, load_task
from fl.tensors import TensorError, Tensors, decode_tensors, encode_tensors
from tests.fl.helpers_fl import PullTask


class Bench:
    """One folder with the model of a task, and jobs on it."""

    def __init__(self, folder: Path, task: PullTask | None = None) -> None:
        self.folder = folder
        self.task = task or PullTask()
        self.model_path = str(folder / "model")
        run_job(self.task, InitialModelJob(self.model_path))
        self.model = decode_tensors(Path(self.model_path).read_bytes())

    def train(self, codec: str = "f32", **changes: object) -> TrainResult:
        job = TrainJob(self.model_path, str(self.folder / "update"), None, 0, codec, 100.0)
        return cast(TrainResult, run_job(self.task, replace(job, **changes)))  # type: ignore[arg-type]

    def read_delta(self, codec: str = "f32") -> Tensors:
        return decode_delta(codec, (self.folder / "update").read_bytes(), self.model)

    def write_delta(self, delta: Tensors) -> None:
        (self.folder / "update").write_bytes(encode_tensors(delta))

    def score(self, **changes: object) -> ScoreResult:
        job = ScoreJob(self.model_path, str(self.folder / "update"), "f32", 100.0, 1 << 20)
        return cast(ScoreResult, run_job(self.task, replace(job, **changes)))  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_initial_model_is_written_in_its_one_form(bench: Bench) -> None:
    assert encode_tensors(bench.model) == encode_tensors(bench.task.model())
    assert run_job(bench.task, InitialModelJob(bench.model_path)) == InitialModelResult(b"")


def test_the_digest_of_a_shared_scoring_set_is_returned(tmp_path: Path) -> None:
    result = run_job(load_task("digits", {}), InitialModelJob(str(tmp_path / "model")))
    assert isinstance(result, InitialModelResult)
    assert len(result.test_set_digest) == 32


def test_a_training_writes_the_delta_and_says_what_it_was(bench: Bench) -> None:
    result = bench.train(round=3)
    delta = bench.read_delta()
    assert result == TrainResult(13, {"loss": 0.5}, compute_norm(delta))
    assert all((array == 0.5).all() for array in delta.values())


@pytest.mark.parametrize("codec", ["f32", "int8"])
def test_a_long_delta_is_clipped_to_the_bound(bench: Bench, codec: str) -> None:
    result = bench.train(codec, update_norm_max=2.0)
    assert 1.9 < result.norm <= 2.0 * 1.0001
    assert bench.score(codec=codec, update_norm_max=2.0).code == 0


def test_an_attacker_sends_the_opposite_and_is_scored_down(bench: Bench) -> None:
    bench.train(attack="sign-flip")
    assert all((array == -2).all() for array in bench.read_delta().values())
    result = bench.score()
    assert result.code == 0
    assert result.value < result.baseline


class SlopeTask(PullTask):
    """Every value gets another push, so that int8 must round."""

    def train(self, params: Tensors, round: int) -> Update:
        pushed = {name: array + np.linspace(0.1, 0.3, array.size, dtype=np.float32).reshape(array.shape)
                  for name, array in params.items()}  # fmt: skip
        return Update(pushed, 5)


def test_what_int8_drops_is_kept_for_the_next_round(tmp_path: Path) -> None:
    bench, residual = Bench(tmp_path, SlopeTask()), tmp_path / "residual"
    delta = SlopeTask().train(bench.model, 0).params  # the model is all zeros
    data, left = encode_delta("int8", delta, None, norm_max=100.0)
    for _ in range(2):
        bench.train("int8", residual_path=str(residual))
        assert (tmp_path / "update").read_bytes() == data
        assert left is not None
        assert residual.read_bytes() == encode_tensors(left)
        data, left = encode_delta("int8", delta, left, norm_max=100.0)
    assert compute_norm(decode_tensors(residual.read_bytes())) > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "residual", "update"]


@pytest.mark.parametrize("content", [b"", b"torn", encode_tensors({"w": np.ones(2, np.float32)})])
def test_a_residual_that_is_damaged_or_of_another_model_is_forgotten(bench: Bench, content: bytes) -> None:
    residual = bench.folder / "residual"
    residual.write_bytes(content)
    bench.train("int8", residual_path=str(residual))
    fresh = (bench.folder / "update").read_bytes()
    bench.train("int8")
    assert (bench.folder / "update").read_bytes() == fresh


def test_a_lossless_codec_keeps_no_residual(bench: Bench) -> None:
    bench.train("f32", residual_path=str(bench.folder / "residual"))
    assert not (bench.folder / "residual").exists()


def test_a_good_update_is_scored_in_millionths(bench: Bench) -> None:
    bench.train()
    assert bench.score() == ScoreResult(value=-250_000, baseline=-1_000_000, code=0)


def test_the_baseline_is_evaluated_once_a_model(bench: Bench) -> None:
    bench.train()
    bench.score()
    before = bench.task.evaluations
    bench.score()
    assert bench.task.evaluations == before + 1
    Path(bench.model_path).write_bytes(encode_tensors({name: array + 1 for name, array in bench.model.items()}))
    assert bench.score().baseline == 0
    assert bench.task.evaluations == before + 3


def test_the_baseline_of_one_task_is_not_anothers(bench: Bench, tmp_path: Path) -> None:
    bench.train()
    bench.score()
    other = PullTask()
    bench.task = other
    bench.score()
    assert other.evaluations == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"w": np.ones(299, np.float32)}, InvalidCode.SCHEMA),
        ({"w": np.ones(301, np.float32)}, InvalidCode.SIZE),
        ({"w": np.ones(300, np.int32)}, InvalidCode.DTYPE),
        ({"w": np.full(300, np.nan, np.float32)}, InvalidCode.NOT_FINITE),
        ({"w": np.full(300, np.inf, np.float32)}, InvalidCode.NOT_FINITE),
        ({"w": np.full(300, 6, np.float32)}, InvalidCode.NORM),
    ],
)
def test_invalid_updates_get_their_code_and_no_evaluation(bench: Bench, change: Tensors, code: InvalidCode) -> None:
    bench.write_delta({**bench.model, **change})
    before = bench.task.evaluations
    assert bench.score() == ScoreResult(0, 0, code)
    assert bench.task.evaluations == before


def test_bytes_that_are_no_update_are_malformed(bench: Bench) -> None:
    bench.train()
    path = bench.folder / "update"
    path.write_bytes(path.read_bytes()[:-1])
    assert bench.score() == ScoreResult(0, 0, InvalidCode.MALFORMED)
    path.write_bytes(b"")
    assert bench.score().code == InvalidCode.MALFORMED


def test_an_update_above_the_byte_limit_is_refused_unread(bench: Bench) -> None:
    bench.train()
    assert bench.score(update_bytes_max=100).code == InvalidCode.SIZE
    (bench.folder / "update").write_bytes(bytes(1 << 20))
    assert bench.score(update_bytes_max=1 << 30).code == InvalidCode.SIZE


def test_an_unknown_codec_is_invalid(bench: Bench) -> None:
    bench.train()
    assert bench.score(codec="zip").code == InvalidCode.CODEC


def test_one_percent_of_slack_is_allowed_and_no_more(bench: Bench) -> None:
    bench.train()
    norm = compute_norm(bench.read_delta())
    assert bench.score(update_norm_max=norm / 1.009).code == 0
    assert bench.score(update_norm_max=norm / 1.011).code == InvalidCode.NORM


def test_an_update_that_overflows_the_model_is_invalid(bench: Bench) -> None:
    huge = {name: np.full(array.shape, 3e38, np.float32) for name, array in bench.model.items()}
    Path(bench.model_path).write_bytes(encode_tensors(huge))
    bench.write_delta(huge)
    assert bench.score(update_norm_max=math.inf).code == InvalidCode.NOT_FINITE


class NanTask(PullTask):
    def evaluate(self, params: Tensors) -> Evaluation:
        return Evaluation(math.nan if params["w"].any() else 0.0)


def test_an_update_that_makes_the_score_nan_is_invalid_and_a_nan_model_is_an_error(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NanTask())
    bench.train()
    assert bench.score() == ScoreResult(0, 0, InvalidCode.NOT_FINITE)
    Path(bench.model_path).write_bytes(encode_tensors({n: a + 1 for n, a in bench.model.items()}))
    with pytest.raises(TaskError, match="finite"):
        run_job(bench.task, EvaluateJob(bench.model_path, report=False))


def test_the_candidate_is_the_aggregate_in_the_given_order(bench: Bench) -> None:
    paths, updates = [], []
    for i, weight in enumerate((3, 162, 7)):
        delta = scale({name: array + 1 for name, array in bench.model.items()}, 0.1 * (i + 1))
        data, _ = encode_delta("int8", delta, None)
        path = bench.folder / f"update{i}"
        path.write_bytes(data)
        paths.append((str(path), "int8", weight))
        updates.append((weight, decode_delta("int8", data, bench.model)))
    output = bench.folder / "candidate"
    job = AggregateJob("fedavg", bench.model_path, tuple(paths), str(output))
    assert run_job(bench.task, job) == AggregateResult(3)
    assert output.read_bytes() == encode_tensors(aggregate("fedavg", bench.model, updates))


def test_an_update_that_does_not_decode_weighs_nothing(bench: Bench) -> None:
    bench.train()
    (bench.folder / "junk").write_bytes(b"junk")
    good, output = (str(bench.folder / "update"), "f32", 5), bench.folder / "candidate"
    junk = (str(bench.folder / "junk"), "f32", 1_000_000)
    outcomes = []
    for updates in ((good,), (junk, good), (good, (good[0], "zip", 9), (good[0], "f32", 0))):
        job = AggregateJob("fedavg", bench.model_path, updates, str(output))
        assert run_job(bench.task, job) == AggregateResult(1)
        outcomes.append(output.read_bytes())
    assert len(set(outcomes)) == 1
    assert run_job(bench.task, AggregateJob("fedavg", bench.model_path, (junk,), str(output))) == AggregateResult(0)
    assert output.read_bytes() == Path(bench.model_path).read_bytes()


def test_an_update_that_is_missing_is_an_error_of_this_machine(bench: Bench) -> None:
    job = AggregateJob("fedavg", bench.model_path, ((str(bench.folder / "gone"), "f32", 1),), "candidate")
    with pytest.raises(FileNotFoundError, match="gone"):
        run_job(bench.task, job)


def test_a_damaged_model_file_is_an_error(bench: Bench) -> None:
    Path(bench.model_path).write_bytes(b"junk")
    with pytest.raises(TensorError):
        run_job(bench.task, EvaluateJob(bench.model_path, report=False))


def test_evaluation_returns_millionths_and_metrics(bench: Bench) -> None:
    expected = EvaluateResult(-1_000_000, {"accuracy": 0.5})
    assert run_job(bench.task, EvaluateJob(bench.model_path, report=False)) == expected
    assert run_job(bench.task, EvaluateJob(bench.model_path, report=True)) == expected


def test_reports_come_from_the_report_set(tmp_path: Path) -> None:
    task = load_task("digits", {})
    run_job(task, InitialModelJob(str(tmp_path / "model")))
    scored, reported = (run_job(task, EvaluateJob(str(tmp_path / "model"), report=r)) for r in (False, True))
    assert scored != reported


class BadDigestTask(PullTask):
    def test_set_digest(self) -> bytes:
        return b"short"


def test_a_digest_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="32 bytes"):
        Bench(tmp_path, BadDigestTask())


def test_warming_up_trains_a_step_or_evaluates_once() -> None:
    task = PullTask()
    warm_up(task)
    assert task.evaluations == 1
    warm_up(load_task("digits", {}))


def test_training_in_place_does_not_change_the_model_that_the_delta_is_taken_from(bench: Bench) -> None:
    assert bench.train().norm > 0

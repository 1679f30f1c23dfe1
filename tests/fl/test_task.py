"""A task comes from outside: whatever is wrong with it is said clearly."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl.task import Evaluation, ReportingTask, SharedTestTask, TaskError, Update, check_task, load_task
from fl.tensors import Tensors
from tests.fl.helpers_fl import PullTask


def test_a_task_of_ones_own_is_called_with_its_settings() -> None:
    task = load_task("tests.fl.helpers_fl:PullTask", {"speed": 0.25})
    assert isinstance(task, PullTask)
    assert task.speed == 0.25


def test_a_task_without_extras_is_still_a_task() -> None:
    task = load_task("tests.fl.helpers_fl:PullTask", {})
    assert not isinstance(task, ReportingTask)
    assert not isinstance(task, SharedTestTask)
    check_task(task)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "digits, fashion-mnist"),
        ("", "digits, fashion-mnist"),
        ("my.module:", "unknown task"),
        ("no_such_package.tasks:Mine", "PYTHONPATH"),
        ("tests.fl.helpers_fl:Missing", "no class or function 'Missing'"),
        ("fl.tensors:SIZE_BYTES_MAX", "no class or function"),
        ("fl.tensors:TensorError", "could not be built"),
        ("collections:OrderedDict", "no method model"),
    ],
)
def test_names_that_are_not_tasks_are_refused(name: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_task(name, {})


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(TaskError, match="sped"):
        load_task("tests.fl.helpers_fl:PullTask", {"sped": 1})


def test_an_error_of_foreign_code_is_reported_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_task.py").write_text("class Mine:\n    def __init__(self):\n        raise KeyError('disk')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TaskError, match="KeyError: 'disk'"):
        load_task("broken_task:Mine", {})
    sys.modules.pop("broken_task")


class BadTask(PullTask):
    """Returns what it is told to in place of one method's answer."""

    def __init__(self, method: str, answer: Any) -> None:
        super().__init__()
        self.method, self.answer = method, answer

    def model(self) -> Tensors:
        return self.answer if self.method == "model" else super().model()

    def train(self, params: Tensors, round: int) -> Update:
        return self.answer if self.method == "train" else super().train(params, round)

    def evaluate(self, params: Tensors) -> Evaluation:
        return self.answer if self.method == "evaluate" else super().evaluate(params)


GOOD = {"w": np.ones(300, np.float32), "b": np.ones((), np.float32)}


@pytest.mark.parametrize(
    ("method", "answer", "message"),
    [
        ("model", {}, "at least one named array"),
        ("model", [np.ones(3, np.float32)], "dict of at least one"),
        ("model", {1: np.ones(3, np.float32)}, "name its arrays with str"),
        ("model", {"w": [1.0]}, "numpy array, not list"),
        ("model", {"w": np.ones(3)}, "float64, not float32"),
        ("model", {"w": np.full(3, np.nan, np.float32)}, "NaN"),
        ("model", {"w": np.ones(0, np.float32)}, "empty"),
        ("train", GOOD, "return an Update"),
        ("train", Update({"w": GOOD["w"]}, 1), "missing"),
        (
            "train",
            Update({**GOOD, "b": 1.0}, 1),  # type: ignore[dict-item]
            "numpy array, not float",
        ),
        ("train", Update({**GOOD, "w": GOOD["w"] * np.inf}, 1), "lower the learning rate"),
        ("train", Update(GOOD, 0), "samples must be"),
        ("train", Update(GOOD, True), "samples must be"),
        ("train", Update(GOOD, 1.5), "samples must be"),  # type: ignore[arg-type]
        ("train", Update(GOOD, 1, {"loss": "low"}), "metric 'loss'"),  # type: ignore[dict-item]
        ("train", Update(GOOD, 1, {str(i): 0.0 for i in range(65)}), "at most 64"),
        ("evaluate", 0.5, "return an Evaluation, not float"),
        ("evaluate", Evaluation("good"), "score must be a float"),  # type: ignore[arg-type]
        ("evaluate", Evaluation(0.5, {"accuracy": np.float32(1)}), "not float32"),  # type: ignore[dict-item]
    ],
)
def test_what_a_task_returns_is_checked(method: str, answer: object, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        check_task(BadTask(method, answer))


class RestlessTask(PullTask):
    def model(self) -> Tensors:
        self.size += 1
        return super().model()


def test_a_model_that_changes_from_call_to_call_is_refused() -> None:
    with pytest.raises(TaskError, match="seed their initialisation"):
        check_task(RestlessTask())


class ReportingPullTask(PullTask):
    def report(self, params: Tensors) -> Evaluation:
        return Evaluation("bad")  # type: ignore[arg-type]


def test_a_report_is_checked_too() -> None:
    with pytest.raises(TaskError, match="report"):
        check_task(ReportingPullTask())

"""A torch module and its data become a task without changing them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fl.adapters import TorchTask
from fl.task import ReportingTask, SharedTestTask, TaskError, WarmableTask, check_task
from fl.tensors import encode_tensors

RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((60, 4)).astype(np.float32)
LABELS = (INPUTS.sum(axis=1) > 0).astype(np.int64)
TRAIN, TEST, REPORT = ((INPUTS[i::3], LABELS[i::3]) for i in range(3))


def make_net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))


def make_task(**changes: Any) -> TorchTask:
    return TorchTask(make_net, TRAIN, TEST, **{"batch": 8, **changes})


def make_loader(data: tuple[np.ndarray, np.ndarray]) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.from_numpy(data[0]), torch.from_numpy(data[1])), batch_size=8, shuffle=True)


def test_arrays_make_a_whole_task() -> None:
    task = make_task(report=REPORT)
    check_task(task)
    assert isinstance(task, ReportingTask)
    assert isinstance(task, SharedTestTask)
    assert isinstance(task, WarmableTask)


def test_data_loaders_make_a_whole_task() -> None:
    task = TorchTask(make_net, make_loader(TRAIN), make_loader(TEST), epochs=2)
    check_task(task)
    task.warm_up()
    assert task.train(task.model(), 0).samples == 20
    first, again = (encode_tensors(task.train(task.model(), 3).params) for _ in range(2))
    assert first == again


def test_a_training_depends_on_params_seed_shard_and_round_alone() -> None:
    def bytes_of(round: int, **changes: Any) -> bytes:
        task = make_task(**changes)
        return encode_tensors(task.train(make_task().model(), round).params)

    torch.manual_seed(77)
    same = bytes_of(0)
    assert bytes_of(0) == same
    assert len({same, bytes_of(1), bytes_of(0, seed=1), bytes_of(0, shard=1)}) == 4


def test_the_learning_rate_grows_over_the_first_rounds() -> None:
    model = make_task().model()
    whole = make_task(lr=0.1)
    warming = make_task(lr=0.2, warmup=2)
    assert encode_tensors(warming.train(model, 0).params) == encode_tensors(whole.train(model, 0).params)
    assert encode_tensors(warming.train(model, 1).params) != encode_tensors(whole.train(model, 1).params)
    steady = make_task(lr=0.2)
    assert encode_tensors(warming.train(model, 5).params) == encode_tensors(steady.train(model, 5).params)


def test_a_training_is_not_changed_by_what_the_task_did_before() -> None:
    used, fresh = make_task(), make_task()
    used.warm_up()
    used.train(used.model(), 5)
    used.evaluate(used.model())
    assert encode_tensors(used.train(used.model(), 1).params) == encode_tensors(fresh.train(fresh.model(), 1).params)
    assert encode_tensors(used.model()) == encode_tensors(fresh.model())


def test_the_random_numbers_of_the_process_are_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    task = make_task()
    task.train(task.model(), 0)
    assert torch.rand(1) == expected


def test_scoring_and_reporting_use_their_own_sets() -> None:
    task = make_task(report=REPORT)
    model = task.train(task.model(), 0).params
    assert task.report(model).score != task.evaluate(model).score
    assert task.report(model) == make_task(report=REPORT).report(model)
    assert make_task().report(model) == make_task().evaluate(model)


def test_a_shared_test_set_has_a_digest_of_its_content() -> None:
    task = make_task(shared_test_set=True)
    other = TorchTask(make_net, TRAIN, (TEST[0], 1 - TEST[1]), shared_test_set=True)
    assert len(task.test_set_digest()) == 32
    assert task.test_set_digest() == make_task(shared_test_set=True, seed=9).test_set_digest()
    assert other.test_set_digest() != task.test_set_digest()
    assert make_task().test_set_digest() == b""


def test_a_shared_test_set_cannot_be_a_data_loader() -> None:
    with pytest.raises(TaskError, match="as arrays"):
        TorchTask(make_net, TRAIN, make_loader(TEST), shared_test_set=True)


@pytest.mark.parametrize("data", [(INPUTS, LABELS[:-1]), (INPUTS[:0], LABELS[:0]), (INPUTS, INPUTS), 7])
def test_data_that_do_not_fit_are_refused(data: Any) -> None:
    with pytest.raises(TaskError, match="train"):
        TorchTask(make_net, data, TEST)

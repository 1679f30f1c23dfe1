import numpy as np
import pytest

from fl.aggregation import aggregate
from fl.task import Task, TaskError, check_task, load_task
from fl.tasks.digits import load, read_digits
from fl.tensors import encode_tensors


def test_the_three_parts_are_of_the_announced_sizes_and_share_nothing() -> None:
    report, scoring, train = read_digits()
    assert [len(part.labels) for part in (report, scoring, train)] == [300, 200, 1297]
    assert all(part.pixels.shape[1:] == (8, 8) and part.pixels.max() == 16 for part in (report, scoring, train))


def test_digits_is_a_whole_task() -> None:
    check_task(load_task("digits", {"shards": 8, "shard": 7, "partition": "dirichlet:0.5"}))


def test_every_peer_starts_from_the_same_model_and_scores_on_the_same_images() -> None:
    tasks = [load(shard=shard, shards=8, seed=3) for shard in (0, 5)]
    assert encode_tensors(tasks[0].model()) == encode_tensors(tasks[1].model())
    assert tasks[0].test_set_digest() == tasks[1].test_set_digest() == load(seed=4).test_set_digest()
    assert encode_tensors(load(seed=4).model()) != encode_tensors(tasks[0].model())


def run_rounds(tasks: list[Task], rounds: int, trainers: int, seed: int) -> float:
    """Federated averaging in one process; return the accuracy on the report set."""
    model, rng = tasks[0].model(), np.random.default_rng(seed)
    for round in range(rounds):
        updates = []
        for i in rng.choice(len(tasks), trainers, replace=False):
            update = tasks[i].train(model, round)
            updates.append((update.samples, {name: update.params[name] - model[name] for name in model}))
        model = aggregate("fedavg", model, updates)
    return load().report(model).metrics["accuracy"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ten_rounds_of_four_trainers_reach_95_percent(seed: int) -> None:
    tasks: list[Task] = [load(shard=shard, shards=8, seed=seed) for shard in range(8)]
    assert run_rounds(tasks, rounds=10, trainers=4, seed=seed) >= 0.95


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 1}, "no setting 'epoch'; it has shard, shards"),
        ({"epochs": "3"}, "'epochs' must be int, not str"),
        ({"epochs": True}, "'epochs' must be int, not bool"),
        ({"epochs": 0}, "'epochs' must be from 1 to 1000"),
        ({"lr": 0}, "'lr' must be a number above 0"),
        ({"lr": float("nan")}, "'lr' must be"),
        ({"momentum": 1.0}, "'momentum' must be at least 0 and below 1"),
        ({"warmup": 0}, "'warmup' must be from 1 to 1000"),
        ({"batch": 0}, "'batch' must be from 1"),
        ({"seed": -1}, "'seed' must be from 0"),
        ({"model": "rnn"}, "'model' must be one of mlp, cnn"),
        ({"partition": "random"}, "'partition': partition 'random' is unknown"),
        ({"shard": 8, "shards": 8}, "'shard' must be from 0 to 7"),
        ({"shards": 2000}, "'shards': 1297 samples cannot be split into 2000"),
        ({"shards": 0}, "'shards' must be from 1"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_task("digits", settings)


def test_a_whole_number_is_a_float_too() -> None:
    assert load_task("digits", {"lr": 1, "momentum": 0, "model": "cnn"}) is not None

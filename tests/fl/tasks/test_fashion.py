import gzip
from pathlib import Path

import numpy as np
import pytest

from fl.task import TaskError, check_task, load_task
from fl.tasks.fashion import DATA_DEFAULT, FashionSettings, load, read_fashion
from fl.tasks.images import to_samples
from tests.fl.helpers_fl import write_fashion


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_fashion(tmp_path)
    return tmp_path


def load_small(folder: Path, **changes: object) -> object:
    return load_task("fashion-mnist", {"data": str(folder), "images": 40, "tests": 20, **changes})


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_fashion_is_a_whole_task(folder: Path, model: str) -> None:
    check_task(load_small(folder, shards=4, shard=3, model=model))  # type: ignore[arg-type]


def test_the_defaults_are_those_of_the_benchmark() -> None:
    settings = FashionSettings()
    assert (settings.images, settings.tests, settings.epochs, settings.batch) == (18_000, 2_000, 1, 32)
    assert (settings.lr, settings.momentum, settings.model) == (0.05, 0.9, "mlp")


def test_the_first_images_train_and_the_test_images_are_halved(folder: Path) -> None:
    report, scoring, train = read_fashion(str(folder), 40, 20)
    assert train.pixels.shape == (40, 28, 28)
    task = load(data=str(folder), images=40, tests=20, shards=4, shard=1)
    assert task.train(task.model(), 0).samples == 10
    assert report.pixels.shape == (10, 28, 28)
    inputs, labels = scoring.take(slice(None))
    assert inputs.shape == (10, 1, 28, 28)
    assert inputs.dtype == np.float32
    assert inputs.max() == 1.0
    assert labels.tolist() == list(range(10))


def test_training_learns(folder: Path) -> None:
    task = load(data=str(folder), images=60, tests=20, epochs=10, batch=8)
    before, after = task.report(task.model()), task.report(task.train(task.model(), 0).params)
    assert after.metrics["accuracy"] > 0.9
    assert after.score > before.score + 1


def test_plain_files_do_as_well(tmp_path: Path) -> None:
    write_fashion(tmp_path, zipped=False)
    check_task(load_small(tmp_path))  # type: ignore[arg-type]


def test_the_parsed_files_are_kept_in_memory(folder: Path) -> None:
    assert read_fashion(str(folder), 40, 20) is read_fashion(str(folder), 40, 20)


def test_tasks_of_one_process_share_the_tensors_of_the_test_sets(folder: Path) -> None:
    """Forked workers then share their memory, and need not make them again."""
    report, scoring, _ = read_fashion(str(folder), 40, 20)
    assert to_samples(scoring) is to_samples(scoring)
    assert to_samples(scoring) is not to_samples(report)
    assert to_samples(scoring).inputs.shape == (10, 1, 28, 28)


def test_a_missing_folder_says_where_the_data_come_from(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="apt install dataset-fashion-mnist"):
        load_small(tmp_path / "nowhere")


def test_a_missing_or_damaged_file_is_named(folder: Path) -> None:
    labels = folder / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(b"nonsense"))
    with pytest.raises(TaskError, match="train-labels-idx1-ubyte"):
        load_small(folder)
    labels.unlink()
    with pytest.raises(TaskError, match="neither train-labels-idx1-ubyte nor"):
        load_small(folder)


def test_files_of_something_else_are_refused(folder: Path) -> None:
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        (folder / name).write_bytes((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    with pytest.raises(TaskError, match="not Fashion-MNIST"):
        load_small(folder, images=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, "'images' >= 1"),
        ({"tests": 1}, "'tests' >= 2"),
        ({"images": 61}, "holds 60 items, 61 are wanted"),
        ({"data": 7}, "'data' must be str"),
        ({"shards": 41}, "40 samples cannot be split"),
        ({"epochs": -1}, "'epochs' must be"),
    ],
)
def test_bad_settings_are_named(folder: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_small(folder, **change)


@pytest.mark.skipif(not Path(DATA_DEFAULT).is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_files_are_read_by_default() -> None:
    task = load(shards=12, shard=11)
    update = task.train(task.model(), 0)
    assert update.samples == 1500
    assert task.report(update.params).metrics["accuracy"] > 0.5

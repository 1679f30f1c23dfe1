from pathlib import Path

import torch

from benchmarks import agreement, digits, floor, loop, sync
from benchmarks.floor import make_plan
from benchmarks.floor_process import average
from benchmarks.options import Options


def test_the_floor_averages_by_samples() -> None:
    states = [{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([5.0, 4.0])}]
    assert average(states, [3, 1])["w"].tolist() == [2.0, 1.0]


def test_the_plan_names_the_shards_that_the_chain_drew(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, [[0, 3], [1, 2]], lean=False)
    assert plan["rounds"] == [[0, 3], [1, 2]]
    assert plan["shards"] == floor.PEERS
    assert plan["settings"] == {**floor.SETTINGS, "lean": False}


def test_without_the_data_set_a_benchmark_says_so(tmp_path: Path) -> None:
    options = Options(tmp_path, tmp_path / "none")
    for benchmark in (floor, loop, sync):
        section = benchmark.run(options)
        assert section.figures == ()
        assert "dataset-fashion-mnist" in section.notes[0]


def test_every_benchmark_has_a_title() -> None:
    assert all(benchmark.TITLE for benchmark in (agreement, digits, floor, loop, sync))

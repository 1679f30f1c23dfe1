"""Every scenario of `scenarios/` leaves exactly the trace that its file says (A1, A2, A4, A6)."""

from pathlib import Path

import pytest

from tests.consensus.helpers_scenario import Scenario, parse

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_scenario_leaves_its_trace(path: Path) -> None:
    scenario = Scenario()
    for step in parse(path.read_text(encoding="utf-8")):
        assert scenario.run(step.command) == step.expected, f"{path.name}, line {step.line}: {step.command}"


def test_there_are_scenarios() -> None:
    assert len(FILES) >= 10


def test_a_scenario_without_an_expected_trace_is_refused() -> None:
    with pytest.raises(ValueError, match="followed by ----"):
        list(parse("wake\n\nwake\n"))

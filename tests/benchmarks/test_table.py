import io

import pytest
from rich.console import Console

from benchmarks.figures import Figure, Section, at_most
from benchmarks.table import figure_row, format_number, machine_line, print_report


@pytest.mark.parametrize(
    ("value", "text"), [(0.8456, "0.846"), (14.31, "14.3"), (1318.2, "1318"), (4.0, "4"), (-0.123, "-0.123")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert format_number(value) == text


def test_a_row_says_whether_the_target_is_met() -> None:
    assert figure_row(Figure("wall", 4.1, "s", at_most(3), (4.0, 4.2))) == (
        "wall",
        "4.1",
        "4 - 4.2",
        "s",
        "<= 3 MISSED",
    )
    assert figure_row(Figure("wall", 2.0, "s", at_most(3)))[4] == "<= 3 met"
    assert figure_row(Figure("sent", 9.5, "MB")) == ("sent", "9.5", "", "MB", "")


def test_the_machine_is_one_line() -> None:
    assert machine_line({"cores": 2, "python": "3.11.7"}) == "cores 2, python 3.11.7"


def test_the_report_shows_figures_notes_and_what_was_skipped() -> None:
    output = io.StringIO()
    sections = (
        Section("a", "first", (Figure("wall", 2.0, "s"),), ("measured twice",)),
        Section("b", "second", notes=("skipped: no data",)),
    )
    print_report(sections, {"cores": 2}, Console(file=output, width=120))
    text = output.getvalue()
    for wanted in ("Machine: cores 2", "first", "wall", "measured twice", "second: skipped: no data"):
        assert wanted in text

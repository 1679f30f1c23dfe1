"""The table at the end: one line a figure."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, Section


def format_number(value: float) -> str:
    """Three significant digits below 100, whole numbers from there on."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def figure_row(figure: Figure) -> tuple[str, str, str, str, str]:
    """Name, value, range, unit, target of a figure, as text."""
    span = "" if figure.range is None else f"{format_number(figure.range[0])} - {format_number(figure.range[1])}"
    target = ""
    if figure.target is not None:
        target = f"{figure.target} {'met' if figure.is_met else 'MISSED'}"
    return figure.name, format_number(figure.value), span, figure.unit, target


def make_table(section: Section) -> Table:
    """A section's figures."""
    table = Table(title=section.title, title_justify="left", caption=" ".join(section.notes), caption_justify="left")
    for name in ("figure", "value", "least - greatest", "unit", "target"):
        table.add_column(name, justify="right" if name in ("value", "least - greatest") else "left")
    for figure in section.figures:
        table.add_row(*figure_row(figure))
    return table


def machine_line(machine: Mapping[str, object]) -> str:
    """The machine in one line."""
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def print_report(sections: Sequence[Section], machine: Mapping[str, object], console: Console) -> None:
    """Everything, at the end."""
    console.print(f"Machine: {machine_line(machine)}", highlight=False)
    for section in sections:
        console.print()
        if section.figures:
            console.print(make_table(section))
        else:
            console.print(f"{section.title}: {'; '.join(section.notes)}", highlight=False)

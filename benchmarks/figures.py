"""What a benchmark reports: figures with units and targets, and what it was measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.stats import Spread, spread


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should reach."""

    sign: Literal["<=", ">="]
    bound: float

    def is_met(self, value: float) -> bool:
        """Whether `value` reaches it."""
        return value <= self.bound if self.sign == "<=" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; `range` where it is the median of several."""

    name: str
    value: float
    unit: str
    target: Target | None = None
    range: tuple[float, float] | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return None if self.target is None else self.target.is_met(self.value)

    def describe(self) -> dict[str, object]:
        """The figure as the JSON file has it."""
        found: dict[str, object] = {"name": self.name, "value": self.value, "unit": self.unit}
        if self.range is not None:
            found["least"], found["greatest"] = self.range
        if self.target is not None:
            found["target"], found["met"] = str(self.target), self.is_met
        return found


def at_most(bound: float) -> Target:
    """A target that small values reach."""
    return Target("<=", bound)


def at_least(bound: float) -> Target:
    """A target that great values reach."""
    return Target(">=", bound)


def middle(name: str, values: Sequence[float], unit: str, target: Target | None = None) -> Figure:
    """The median of `values` as a figure, with their range."""
    found: Spread = spread(values)
    return Figure(name, found.median, unit, target, (found.least, found.greatest))


@dataclass(frozen=True, slots=True)
class Section:
    """The outcome of one benchmark. `raw` is what was measured, run by run; `notes` say how, or why it was skipped."""

    name: str
    title: str
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    raw: Mapping[str, object] = field(default_factory=dict)

    def describe(self) -> dict[str, object]:
        """The section as the JSON file has it."""
        return {
            "title": self.title,
            "figures": [figure.describe() for figure in self.figures],
            "notes": list(self.notes),
            "raw": dict(self.raw),
        }


def describe_report(sections: Sequence[Section], machine: Mapping[str, object], quick: bool) -> dict[str, object]:
    """The whole JSON file."""
    return {
        "machine": dict(machine),
        "quick": quick,
        "sections": {section.name: section.describe() for section in sections},
    }

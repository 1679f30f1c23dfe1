"""Every rule of docs/protocol.md that is built is cited by code and by a test."""

from collections.abc import Iterable
from pathlib import Path

from tests.guards.helpers_guards import PACKAGES, ROOT, cited_rules, python_files, rules

PROTOCOL = ROOT / "docs" / "protocol.md"
RULES_PER_LETTER = {"H": 4, "B": 5, "R": 10, "A": 8, "S": 5, "Y": 2}


def listed() -> list[tuple[str, bool]]:
    """The rules of the protocol document as (id, planned)."""
    return list(rules(PROTOCOL.read_text(encoding="utf-8")))


def cited(paths: Iterable[Path]) -> set[str]:
    """Rules cited in the comments and strings of the files."""
    return {rule for path in paths for rule in cited_rules(path.read_text(encoding="utf-8"))}


def test_the_protocol_lists_each_rule_number_once_and_without_a_gap() -> None:
    expected = [f"{letter}{number}" for letter, count in RULES_PER_LETTER.items() for number in range(1, count + 1)]
    assert sorted(rule for rule, _ in listed()) == sorted(expected)


def test_every_built_rule_is_cited_by_code() -> None:
    built = {rule for rule, planned in listed() if not planned}
    assert sorted(built - cited(python_files(*PACKAGES))) == []


def test_every_built_rule_is_cited_by_a_test() -> None:
    built = {rule for rule, planned in listed() if not planned}
    tests = [path for path in python_files("tests") if "guards" not in path.parts]
    assert sorted(built - cited(tests)) == []


def test_a_rule_is_planned_by_its_mark_or_by_its_section() -> None:
    document = """
## A: agreement
- **A1** Built, and says (planned) later.
- **A7** (planned: issue 5) Evidence.
- A8 Built.
### Later
Status: planned
- **B5** Pruning.
## R: rounds
- **R8** (planned) Verdict.
- **R9** Election.
- not a rule
"""
    expected = [("A1", False), ("A7", True), ("A8", False), ("B5", True), ("R8", True), ("R9", False)]
    assert list(rules(document)) == expected


def test_a_rule_counts_as_cited_in_comments_and_strings_only() -> None:
    source = '"""Votes of `A5`."""\nH1 = 3  # R7, S2\nname = B1\n'
    assert cited_rules(source) == {"A5", "R7", "S2"}

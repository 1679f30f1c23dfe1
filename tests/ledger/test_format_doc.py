"""docs/format.md says what the code does: its field lists and its hex examples are compared with it."""

import re
from dataclasses import fields

import pytest

from ledger.codec import Record
from tests.guards.helpers_guards import ROOT
from tests.ledger.make_vectors import FOLDER
from tests.ledger.strategies_ledger import RECORDS

PAGE = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
ROWS = {row.split("|")[1].strip(): row.split("|")[-2] for row in PAGE.splitlines() if row.startswith("| ")}


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: str(cls.__name__))
def test_the_page_lists_the_fields_of_each_record_in_order(cls: type[Record]) -> None:
    # S5
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    assert re.findall(r"`(\w+)`", ROWS[cls.__name__]) == names


@pytest.mark.parametrize("cls", [cls for cls in RECORDS if cls.__name__.endswith("Body")])
def test_the_page_has_the_tags_of_bodies(cls: type[Record]) -> None:
    assert f"| {cls.__name__} | {cls.TAG} |" in PAGE


def test_every_hex_example_stands_in_a_vector() -> None:
    vectors = "\n".join(path.read_text() for path in sorted(FOLDER.glob("*.json")))
    examples = re.findall(r"^    ([0-9a-f]{32,})$", PAGE, re.MULTILINE)
    assert len(examples) > 10
    assert [example for example in examples if example not in vectors] == []

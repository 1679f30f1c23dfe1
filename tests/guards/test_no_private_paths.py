"""No file names a path of one machine, which nobody else has."""

import re
from pathlib import Path

import pytest

from tests.guards.helpers_guards import ROOT, project_files


def private_pattern(*folders: Path) -> re.Pattern[str]:
    """Matches a path below one of `folders`; `fl/home/x` or a web address does not match."""
    names = "|".join(re.escape(str(folder)) for folder in folders if folder != Path("/"))
    return re.compile(rf"(?:^|[^\w.])(?:{names})/")


# This checkout, wherever it lies, and whoever's home it is in.
PRIVATE = private_pattern(ROOT, Path.home())


def private_lines(path: Path, pattern: re.Pattern[str]) -> list[str]:
    """`file:line` of each line of a text file with a private path; a binary file has none."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return []
    return [f"{path}:{number}" for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]


def test_no_file_of_the_project_names_a_private_path() -> None:
    files = project_files()
    if not files:
        pytest.skip("not a git checkout")
    assert [line for path in files for line in private_lines(path, PRIVATE)] == []


def test_a_private_path_is_found_with_its_line(tmp_path: Path) -> None:
    folder = Path("/somebody/here")
    page = tmp_path / "page.md"
    page.write_text(f"fine: fl{folder}/x and https://a.org{folder}/\nsee `{folder}/main`\n", encoding="utf-8")
    assert private_lines(page, private_pattern(folder)) == [f"{page}:2"]


def test_a_binary_file_is_passed_over(tmp_path: Path) -> None:
    blob = tmp_path / "model.bin"
    blob.write_bytes(b"\xff\xfe\x00")
    assert private_lines(blob, PRIVATE) == []

"""No file over 500 lines, no function over 70."""

from tests.guards.helpers_guards import PACKAGES, ROOT, oversized_functions, python_files

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
SOURCES = python_files(*PACKAGES, "tests", "benchmarks", "scripts", "examples")


def test_no_file_is_longer_than_500_lines() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    too_long = [f"{path.relative_to(ROOT)}: {count}" for path, count in lengths.items() if count > FILE_LINES_MAX]
    assert too_long == []


def test_no_function_is_longer_than_70_lines() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}: {name} has {count} lines"
        for path in SOURCES
        for name, count in oversized_functions(path.read_text(encoding="utf-8"), FUNCTION_LINES_MAX)
    ]
    assert too_long == []


def test_the_length_of_a_function_counts_its_own_lines() -> None:
    source = "class A:\n    async def long(self):\n        a = 1\n        return a\n\n    def short(self): pass\n"
    assert oversized_functions(source, 2) == [("long", 3)]

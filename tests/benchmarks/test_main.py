import pytest

from benchmarks.__main__ import NAMES, parse


def test_all_benchmarks_run_by_default() -> None:
    found = parse([])
    assert (found.names, found.quick, found.repeat, found.json) == ([], False, 3, None)


def test_some_may_be_chosen() -> None:
    assert parse(["floor", "sync", "--quick"]).names == ["floor", "sync"]


@pytest.mark.parametrize("arguments", [["speed"], ["--repeat", "0"]])
def test_a_wrong_choice_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert "--repeat" in (told := capsys.readouterr().err) or all(name in told for name in NAMES)

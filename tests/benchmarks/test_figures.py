import json

from benchmarks.figures import Figure, Section, at_least, at_most, describe_report, middle


def test_a_target_is_met_from_its_bound_on() -> None:
    assert at_most(3.0).is_met(3.0)
    assert not at_most(3.0).is_met(3.01)
    assert at_least(0.95).is_met(0.95)
    assert not at_least(0.95).is_met(0.94)
    assert str(at_most(50)) == "<= 50"


def test_a_figure_without_a_target_is_neither_met_nor_missed() -> None:
    assert Figure("sent", 9.5, "MB").is_met is None
    assert Figure("wall", 4.1, "s", at_most(3)).is_met is False


def test_the_middle_of_several_runs_keeps_their_range() -> None:
    found = middle("wall", [3.0, 1.0, 2.0], "s", at_most(2))
    assert found == Figure("wall", 2.0, "s", at_most(2), (1.0, 3.0))
    assert found.describe() == {
        "name": "wall",
        "value": 2.0,
        "unit": "s",
        "least": 1.0,
        "greatest": 3.0,
        "target": "<= 2",
        "met": True,
    }


def test_a_report_is_json_with_the_machine_and_every_section() -> None:
    sections = (
        Section("digits", "digits run", (Figure("accuracy", 0.96, "", at_least(0.95)),), raw={"seeds": [0, 1]}),
        Section("floor", "floor run", notes=("skipped: no data",)),
    )
    found = json.loads(json.dumps(describe_report(sections, {"cores": 2}, quick=True)))
    assert found["machine"] == {"cores": 2}
    assert found["quick"] is True
    assert found["sections"]["digits"]["figures"][0]["met"] is True
    assert found["sections"]["digits"]["raw"] == {"seeds": [0, 1]}
    assert found["sections"]["floor"] == {"title": "floor run", "figures": [], "notes": ["skipped: no data"], "raw": {}}

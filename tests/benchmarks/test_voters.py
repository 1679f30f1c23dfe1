from pathlib import Path

import pytest

from benchmarks.voters import VoterResult, make_plan, read_result, summarise, write_result


def test_a_result_counts_what_comes_after_the_warm_up(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    times_s = [0.0, 5.0, 5.5, 6.5, 9.0]  # the first two batches warm up, the fifth comes after the last that counts
    write_result(path, times_s, (2, 4), 0.3, {"proposal": [400, 420, 410], "vote": []})
    assert read_result(path) == VoterResult((0.5, 1.0), 0.15, 410, 0)
    assert list(tmp_path.iterdir()) == [path]


def test_voters_are_summarised_together() -> None:
    results = [VoterResult((0.001, 0.002), 0.004, 0, 0), VoterResult((0.003, 0.1), 0.002, 400, 200)]
    found = summarise(results)
    assert (found.p50_ms, found.p99_ms) == (2.5, 100.0)
    assert found.prompt_p50_ms == 51.0  # of 2 and 100 ms: a close and a model batch take turns
    assert found.cpu_ms == pytest.approx(3.0)


@pytest.mark.parametrize(("voters", "committee"), [(4, 3), (7, 4), (10, 4)])
def test_rounds_close_at_once_and_nobody_is_sent_away(voters: int, committee: int, tmp_path: Path) -> None:
    params = make_plan(tmp_path, voters, rounds=200).make_params(shared_test_set=False)
    assert (params.committee_size, params.round_length, params.round_deadline_ms) == (committee, 2, 1)
    assert params.absent_after * 2 > 2 * 200
    assert params.beacon_links >= 200

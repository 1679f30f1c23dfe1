"""The rules of a consortium: each bound is checked and named."""

from typing import Any

import pytest
from pydantic import ValidationError

from ledger.params import DAY_MS, Params
from tests.ledger.helpers_ledger import make_params


def errors_of(**overrides: Any) -> str:
    """What the validation says of these values."""
    with pytest.raises(ValidationError) as caught:
        make_params(**overrides)
    return str(caught.value)


def test_the_defaults_are_the_ones_of_the_design() -> None:
    params = Params(round_length=5, rounds_max=10, committee_size=4, batch_max=4)
    assert (params.voters, params.election, params.acceptance) == ("members", "draw", "relative")
    assert (params.weight, params.aggregation, params.test_set) == ("samples", "fedavg", "shared")
    assert params.codecs == ("f32", "int8")
    assert params.absent_after == 3  # R6
    assert params.verdict is False


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("round_length", (1, 0, -1, 1001)),
        ("rounds_max", (0, 10_000_001)),
        ("committee_size", (0, 32)),
        ("batch_max", (0, 1001)),
        ("score_tolerance", (-1, 10**12 + 1)),
        ("score_threshold", (-(10**12) - 1, 10**12 + 1)),
        ("samples_max", (0, 2**40 + 1)),
        ("updates_min", (0, 1001)),
        ("update_norm_max", (0, 10**15 + 1)),
        ("update_bytes_max", (0, 2**32 + 1)),
        ("beacon_links", (0, 100_001)),
        ("absent_after", (0, 1001)),
        ("round_deadline_ms", (0, -5, 30 * DAY_MS + 1)),
        ("grace_ms", (0,)),
        ("batch_wait_ms", (0,)),
        ("fetch_deadline_ms", (0,)),
        ("timeout_propose_ms", (0,)),
        ("timeout_vote_ms", (0,)),
        ("timeout_step_ms", (0,)),
        ("timeout_max_ms", (0,)),
    ],
)
def test_a_number_out_of_its_bounds_is_refused_by_name(field: str, values: tuple[int, ...]) -> None:
    for value in values:
        message = errors_of(**{field: value})
        assert field in message
        assert "greater than or equal" in message or "less than or equal" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("voters", "everyone"),
        ("election", "stake"),
        ("acceptance", "maybe"),
        ("weight", "stake"),
        ("aggregation", "median"),
        ("test_set", "none"),
        ("codecs", ("f64",)),
        ("codecs", ()),
        ("verdict", True),
    ],
)
def test_a_policy_that_is_not_built_is_refused_by_name(field: str, value: object) -> None:
    assert field in errors_of(**{field: value})


@pytest.mark.parametrize("value", [4.0, "4", True, None, [4]])
def test_a_wrong_type_is_refused_and_never_converted(value: object) -> None:
    message = errors_of(committee_size=value)
    assert "committee_size" in message
    assert "valid integer" in message


def test_an_unknown_rule_is_refused() -> None:
    assert "comittee_size" in errors_of(comittee_size=4)


def test_a_missing_rule_is_refused() -> None:
    with pytest.raises(ValidationError, match="round_length"):
        Params(rounds_max=1, committee_size=1, batch_max=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"round_length": 6, "batch_max": 4}, r"batch_max 4 must be at least round_length - 1 = 5 \(R5\)"),
        ({"rounds_max": 20, "beacon_links": 19}, r"beacon_links 19 must be at least rounds_max = 20 \(R9\)"),
        ({"score_min": 0, "score_max": 0}, r"score_min must be below score_max \(R3\)"),
        ({"codecs": ("f32", "f32")}, "codecs lists one twice"),
        ({"round_length": 3, "updates_min": 3}, r"updates_min exceeds the update slots of a round \(R7\)"),
    ],
)
def test_rules_that_do_not_fit_together_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_params(**overrides)


def test_rules_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_params().committee_size = 9

"""R7: the same bytes on every machine, checked against floats of plain Python."""

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fl.aggregation import RULES, aggregate
from fl.codes import InvalidCode
from fl.tensors import TensorError, Tensors, encode_tensors
from tests.fl.helpers_fl import code_of, make_model

VALUES = hnp.arrays(np.float32, 5, elements=st.floats(-(2.0**50), 2.0**50, width=32))
UPDATES = st.lists(st.tuples(st.integers(0, 10_000), VALUES), max_size=6)


def round_to_float32(value: float) -> float:
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    return float(rounded)


def average_in_plain_python(model: list[float], updates: list[tuple[int, list[float]]]) -> list[float]:
    """Python's float is IEEE double; nothing here is shared with the rule under test."""
    used = [(weight, values) for weight, values in updates if weight]
    if not used:
        return model
    result = []
    for i, old in enumerate(model):
        acc = 0.0
        for weight, values in used:
            acc += float(weight) * values[i]
        result.append(round_to_float32(old + acc / float(sum(weight for weight, _ in used))))
    return result


@settings(max_examples=80, deadline=None)
@given(VALUES, UPDATES)
def test_fedavg_has_the_bits_of_plain_python(model: np.ndarray, updates: list[tuple[int, np.ndarray]]) -> None:
    found = aggregate("fedavg", {"x": model}, [(weight, {"x": delta}) for weight, delta in updates])["x"]
    expected = average_in_plain_python(model.tolist(), [(weight, delta.tolist()) for weight, delta in updates])
    assert found.dtype == np.float32
    assert struct.pack("<5f", *found.tolist()) == struct.pack("<5f", *expected)


def test_a_real_sized_model_has_the_bits_of_plain_python() -> None:
    model = make_model()
    updates = [(n, make_model(n, 0.01)) for n in (162, 7, 1500)]
    found = aggregate("fedavg", model, updates)
    for name in model:
        deltas = [(n, delta[name].reshape(-1).tolist()) for n, delta in updates]
        expected = average_in_plain_python(model[name].reshape(-1).tolist(), deltas)
        assert found[name].reshape(-1).tolist() == expected


def test_the_order_is_the_blocks_order_and_is_followed() -> None:
    model: Tensors = {"x": np.zeros(1, np.float32)}
    big, small = np.array([1e16], np.float32), np.array([1.0], np.float32)
    updates = [(1, {"x": big}), (1, {"x": small}), (1, {"x": -big})]
    sums = {float(aggregate("fedavg", model, list(order))["x"][0]) for order in itertools.permutations(updates)}
    assert float(aggregate("fedavg", model, updates)["x"][0]) == 0.0
    assert len(sums) > 1


def test_without_updates_or_weights_the_model_is_unchanged() -> None:
    model = make_model()
    for updates in ([], [(0, make_model(1))]):
        assert encode_tensors(aggregate("fedavg", model, updates)) == encode_tensors(model)


def test_a_single_update_is_added_whole_whatever_its_weight() -> None:
    model, delta = make_model(), make_model(1)
    expected = (model["bias"].astype(np.float64) + delta["bias"].astype(np.float64)).astype(np.float32)
    assert aggregate("fedavg", model, [(3, delta)])["bias"].tolist() == expected.tolist()


def test_the_inputs_are_left_alone() -> None:
    model, delta = make_model(), make_model(1)
    aggregate("fedavg", model, [(2, delta)])
    assert encode_tensors(model) == encode_tensors(make_model())
    assert encode_tensors(delta) == encode_tensors(make_model(1))


@pytest.mark.parametrize("weights", [[-1], [3, -1], [1 << 53], [1 << 52, 1 << 52]])
def test_weights_that_are_negative_or_not_exact_are_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="weights"):
        aggregate("fedavg", make_model(), [(weight, make_model(1)) for weight in weights])


def test_an_unknown_rule_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="fedavg"):
        aggregate("best-guess", make_model(), [])
    assert tuple(RULES) == ("fedavg",)


def test_deltas_that_break_the_schema_are_refused() -> None:
    model = make_model()
    with pytest.raises(TensorError) as caught:
        aggregate("fedavg", model, [(1, {"bias": model["bias"]})])
    assert code_of(caught.value) == InvalidCode.SCHEMA


def test_an_update_that_takes_the_model_out_of_float32_has_no_part() -> None:
    """R7: colluding scorers may accept it; then every machine must still derive the same candidate."""
    model, good = make_model(), make_model(1)
    full = {name: np.full(array.shape, 3e38, np.float32) for name, array in model.items()}
    assert encode_tensors(aggregate("fedavg", full, [(1, full)])) == encode_tensors(full)
    mixed = aggregate("fedavg", full, [(1, full), (1, good)])
    assert encode_tensors(mixed) == encode_tensors(aggregate("fedavg", full, [(1, good)]))


def test_a_result_that_only_rounding_takes_out_of_float32_keeps_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """R7: one more guard, whatever a rule computes."""
    model = make_model()
    infinite = {name: np.full(array.shape, np.inf, np.float32) for name, array in model.items()}
    monkeypatch.setitem(RULES, "fedavg", lambda model, updates: infinite)
    assert encode_tensors(aggregate("fedavg", model, [(1, make_model(1))])) == encode_tensors(model)

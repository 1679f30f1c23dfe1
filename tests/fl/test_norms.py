"""R2: clipping."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.norms import clip, compute_norm, scale
from tests.fl.helpers_fl import make_model


def test_the_norm_is_that_of_all_arrays_together() -> None:
    assert compute_norm({"a": np.array([3, 0], np.float32), "b": np.array([[4]], np.float32)}) == 5
    assert compute_norm({}) == 0


def test_the_norm_of_huge_values_does_not_overflow() -> None:
    assert compute_norm({"a": np.full(4, 3e38, np.float32)}) == pytest.approx(6e38)


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 5))
def test_clipping_keeps_the_direction_and_bounds_the_length(norm_max: float, seed: int) -> None:
    delta = make_model(seed)
    clipped = clip(delta, norm_max)
    assert compute_norm(clipped) <= norm_max * (1 + 1e-5)
    factor = min(1, norm_max / compute_norm(delta))
    np.testing.assert_allclose(clipped["bias"], delta["bias"] * factor, rtol=1e-5)
    assert all(array.dtype == np.float32 for array in clipped.values())


def test_a_short_delta_is_left_as_it_is() -> None:
    delta = make_model()
    assert clip(delta, math.inf) is delta


def test_scaling_multiplies_each_value() -> None:
    assert scale({"a": np.array([1, -2], np.float32)}, -4.0)["a"].tolist() == [-4, 8]

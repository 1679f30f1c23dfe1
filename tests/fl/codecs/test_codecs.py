"""B2, R2, R3: deltas as bytes and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fl.codecs import CODECS, decode_delta, encode_delta, encoded_size_max
from fl.codecs.int8 import BLOCK_VALUES
from fl.codes import InvalidCode
from fl.norms import compute_norm
from fl.tensors import TensorError, Tensors, decode_tensors, encode_tensors
from tests.fl.helpers_fl import code_of, make_model

VALUES = st.floats(-(2.0**100), 2.0**100, width=32)
DELTAS = st.fixed_dictionaries(
    {"a": hnp.arrays(np.float32, 300, elements=VALUES), "b": hnp.arrays(np.float32, (), elements=VALUES)}
)


def refuse(codec: str, tensors: Tensors, code: InvalidCode) -> None:
    with pytest.raises(TensorError) as caught:
        decode_delta(codec, encode_tensors(tensors), make_model())
    assert code_of(caught.value) == code, str(caught.value)


def pack_int8(delta: Tensors) -> Tensors:
    return decode_tensors(encode_delta("int8", delta, None)[0])


@settings(max_examples=25, deadline=None)
@given(DELTAS)
def test_f32_is_lossless(delta: Tensors) -> None:
    data, residual = encode_delta("f32", delta, None)
    decoded = decode_delta("f32", data, delta)
    assert residual is None
    assert all(decoded[name].tobytes() == delta[name].tobytes() for name in delta)


@settings(max_examples=40, deadline=None)
@given(DELTAS)
def test_int8_is_within_half_a_level_and_the_residual_is_the_rest(delta: Tensors) -> None:
    data, residual = encode_delta("int8", delta, None)
    decoded = decode_delta("int8", data, delta)
    assert residual is not None
    for name, array in delta.items():
        np.testing.assert_array_equal(residual[name], array - decoded[name])
        for start in range(0, array.size, BLOCK_VALUES):
            block = slice(start, start + BLOCK_VALUES)
            level = float(np.abs(array.reshape(-1)[block]).max()) / 127
            assert np.abs(residual[name].reshape(-1)[block]).max() <= level * 0.5001 + 1e-44


@settings(max_examples=25, deadline=None)
@given(DELTAS, st.sampled_from(CODECS), st.floats(0.01, 100))
def test_with_a_bound_the_decoded_delta_stays_inside_it(delta: Tensors, codec: str, norm_max: float) -> None:
    data, _ = encode_delta(codec, delta, None, norm_max=norm_max)
    assert compute_norm(decode_delta(codec, data, delta)) <= norm_max * 1.0001


def test_rounding_that_lengthens_a_delta_is_shrunk_back() -> None:
    # One value of 127 levels, all others half-way between two: rounding alone lengthens this by 3 %.
    values = np.full(BLOCK_VALUES, 9.5001, np.float32)
    values[0] = 127
    delta = {"x": values}
    plain, _ = encode_delta("int8", delta, None)
    assert compute_norm(decode_delta("int8", plain, delta)) > compute_norm(delta) * 1.02
    bounded, _ = encode_delta("int8", delta, None, norm_max=compute_norm(delta))
    assert compute_norm(decode_delta("int8", bounded, delta)) <= compute_norm(delta) * 1.0001


def test_what_clipping_takes_off_does_not_come_back() -> None:
    delta = make_model(3)
    _, residual = encode_delta("int8", delta, None, norm_max=compute_norm(delta) / 10)
    assert residual is not None
    assert compute_norm(residual) < compute_norm(delta) / 500


def test_error_feedback_recovers_what_single_roundings_lose() -> None:
    # 0.3 of a level rounds to 0 for ever, unless the residual adds up.
    values = np.full(BLOCK_VALUES, 0.3, np.float32)
    values[0] = 127
    delta: Tensors = {"x": values}
    total = np.zeros(BLOCK_VALUES)
    residual: Tensors | None = None
    for _ in range(50):
        data, residual = encode_delta("int8", delta, residual)
        total += decode_delta("int8", data, delta)["x"]
    np.testing.assert_allclose(total / 50, values, atol=0.02)
    assert decode_delta("int8", encode_delta("int8", delta, None)[0], delta)["x"][1] == 0


def test_int8_decoding_is_one_float32_product_a_value() -> None:
    model = {"x": np.zeros(3, np.float32)}
    file: Tensors = {"q/x": np.array([1, -127, 100], np.int8), "s/x": np.array([0.1], np.float32)}
    expected = [np.float32(q) * np.float32(0.1) for q in (1, -127, 100)]
    assert decode_delta("int8", encode_tensors(file), model)["x"].tolist() == expected


@pytest.mark.parametrize("codec", CODECS)
def test_the_size_bound_is_the_size_of_every_update(codec: str) -> None:
    model = make_model()
    for seed in range(3):
        data, _ = encode_delta(codec, make_model(seed, 0.01), None)
        assert len(data) == encoded_size_max(codec, model)
    with pytest.raises(TensorError) as caught:
        decode_delta(codec, data + b"\0", model)
    assert code_of(caught.value) == InvalidCode.SIZE


def test_int8_takes_about_a_quarter_of_f32() -> None:
    model: Tensors = {"w": np.zeros((128, 784), np.float32)}
    assert encoded_size_max("int8", model) < 0.26 * encoded_size_max("f32", model)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_delta_that_is_not_finite_is_not_encoded(codec: str, bad: float) -> None:
    delta = make_model()
    delta["bias"][3] = bad
    with pytest.raises(TensorError) as caught:
        encode_delta(codec, delta, None)
    assert code_of(caught.value) == InvalidCode.NOT_FINITE


def test_f32_updates_that_do_not_fit_the_model_are_refused() -> None:
    delta = make_model()
    refuse("f32", {"weight": delta["weight"]}, InvalidCode.SCHEMA)
    refuse("f32", {**delta, "bias": np.zeros(6, np.float32)}, InvalidCode.SCHEMA)
    refuse("f32", {**delta, "bias": np.zeros(7, np.int32)}, InvalidCode.DTYPE)
    refuse("f32", {**delta, "bias": np.full(7, np.nan, np.float32)}, InvalidCode.NOT_FINITE)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"q/bias": np.zeros(6, np.int8)}, InvalidCode.SCHEMA),
        ({"s/weight": np.ones(2, np.float32)}, InvalidCode.SCHEMA),
        ({"q/bias": np.zeros(7, np.float32), "s/weight": np.ones(3, np.float32)}, InvalidCode.SIZE),
        ({"q/weight": np.zeros((10, 70), np.int8)}, InvalidCode.SCHEMA),
        ({"s/bias": np.zeros(1, np.int32)}, InvalidCode.DTYPE),
        ({"s/bias": np.full(1, np.inf, np.float32)}, InvalidCode.NOT_FINITE),
        ({"s/bias": np.full(1, -1, np.float32)}, InvalidCode.CODEC),
        ({"s/bias": np.full(1, -0.0, np.float32)}, InvalidCode.CODEC),
        ({"q/bias": np.full(7, -128, np.int8)}, InvalidCode.CODEC),
        ({"s/bias": np.full(1, 3e38, np.float32), "q/bias": np.full(7, 127, np.int8)}, InvalidCode.NOT_FINITE),
    ],
)
def test_int8_updates_that_no_encoder_makes_are_refused(change: Tensors, code: InvalidCode) -> None:
    refuse("int8", {**pack_int8(make_model()), **change}, code)


def test_int8_updates_with_other_names_or_dtypes_are_refused() -> None:
    packed = pack_int8(make_model())
    packed["s/other"] = packed.pop("s/bias")
    with pytest.raises(TensorError):
        decode_delta("int8", encode_tensors(packed), make_model())
    small = {"x": np.zeros(1, np.float32)}
    wide = {"q/x": np.zeros(1, np.float32), "s/x": np.zeros(1, np.float32)}
    with pytest.raises(TensorError):
        decode_delta("int8", encode_tensors(wide), small)


def test_an_unknown_codec_is_refused_by_name() -> None:
    with pytest.raises(TensorError, match="f32, int8") as caught:
        decode_delta("gzip", b"", make_model())
    assert code_of(caught.value) == InvalidCode.CODEC


def test_a_residual_of_another_model_is_refused() -> None:
    with pytest.raises(TensorError):
        encode_delta("int8", make_model(), {"bias": np.zeros(7, np.float32)})


def test_values_too_small_for_a_scale_become_zero_and_stay_in_the_residual() -> None:
    delta: Tensors = {"x": np.full(4, 1e-45, np.float32)}
    data, residual = encode_delta("int8", delta, None)
    assert residual is not None
    assert decode_delta("int8", data, delta)["x"].tolist() == [0, 0, 0, 0]
    assert residual["x"].tolist() == delta["x"].tolist()

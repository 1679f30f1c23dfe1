"""B2: named arrays, one byte form; R3: the schema."""

import json
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save

from fl.codes import InvalidCode
from fl.tensors import HEADER_BYTES_MAX, TensorError, Tensors, check_schema, decode_tensors, encode_tensors
from tests.fl.helpers_fl import code_of, make_model

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)
ARRAYS = st.sampled_from([np.float32, np.int8, np.int32]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, max_side=4))
)


def build(header: object, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def decode_or_code(data: bytes) -> InvalidCode:
    try:
        tensors = decode_tensors(data)
    except TensorError as error:
        return error.code
    assert encode_tensors(tensors) == data
    return InvalidCode.OK


def refuse(data: bytes, code: InvalidCode, **limits: int) -> None:
    with pytest.raises(TensorError) as caught:
        decode_tensors(data, **limits)
    assert code_of(caught.value) == code, str(caught.value)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(NAMES.filter(lambda name: name != "__metadata__"), ARRAYS, max_size=4))
def test_what_is_encoded_decodes_to_the_same_bits(tensors: Tensors) -> None:
    decoded = decode_tensors(encode_tensors(tensors))
    assert decoded.keys() == tensors.keys()
    for name, array in tensors.items():
        assert decoded[name].dtype == array.dtype
        assert decoded[name].shape == array.shape
        assert decoded[name].tobytes() == array.tobytes()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_changed_byte_gives_other_tensors_or_a_tensor_error(data: st.DataObject) -> None:
    good = encode_tensors(make_model())
    header_end = 8 + struct.unpack_from("<Q", good)[0]
    where = data.draw(st.integers(0, header_end + 20))
    bad = bytearray(good)
    bad[where] = data.draw(st.integers(0, 255).filter(lambda value: value != good[where]))
    codes = {InvalidCode.OK, InvalidCode.MALFORMED, InvalidCode.DTYPE, InvalidCode.SIZE}
    assert decode_or_code(bytes(bad)) in codes


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_a_tensor_error(data: bytes) -> None:
    with pytest.raises(TensorError):
        decode_tensors(data)


def test_the_byte_form_is_the_published_one() -> None:
    a, b = np.array([[0.5]], np.float32), np.array([1, -2], np.int8)
    header = (
        b'{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"b":{"dtype":"I8","shape":[2],"data_offsets":[4,6]}}'
    )
    expected = build(header, bytes.fromhex("0000003f01fe"))
    assert encode_tensors({"b": b, "a": a}) == encode_tensors({"a": a, "b": b}) == expected


def test_non_contiguous_and_big_endian_arrays_get_the_same_form() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert encode_tensors({"x": array.T}) == encode_tensors({"x": array.T.copy()})
    with pytest.raises(TensorError):
        encode_tensors({"x": array.astype(">f4")})


def test_a_file_of_the_library_itself_is_accepted() -> None:
    assert decode_tensors(save({"x": np.ones(3, np.float32)}))["x"].tolist() == [1, 1, 1]


def test_other_forms_of_the_same_arrays_are_refused() -> None:
    x = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    y = {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}
    eight = bytes(8)
    assert set(decode_tensors(build({"x": x, "y": y}, eight))) == {"x", "y"}
    others = {
        "metadata": save({"x": np.ones(2, np.float32)}, metadata={"a": "b"}),
        "empty metadata": build({"__metadata__": {}, "x": x}, bytes(4)),
        "spaces": build(json.dumps({"x": x}).encode(), bytes(4)),
        "padding": build(json.dumps({"x": x}, separators=(",", ":")).encode() + b" " * 8, bytes(4)),
        "other order": build({"y": y, "x": x}, eight),
        "swapped offsets": build({"x": y, "y": x}, eight),
        "other key order": build({"x": {"shape": [1], "dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)),
        "duplicate": build(b'{"x":' + json.dumps(x).encode() + b',"x":' + json.dumps(y).encode() + b"}", eight),
    }
    for form, data in others.items():
        with pytest.raises(TensorError) as caught:
            decode_tensors(data)
        assert code_of(caught.value) == InvalidCode.MALFORMED, form


@pytest.mark.parametrize("offsets", [[0, 8], [0, 3], [4, 8], [4, 0], [0, 2**63], [0, -4]])
def test_offsets_that_lie_are_refused(offsets: list[int]) -> None:
    refuse(build({"x": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}, bytes(4)), InvalidCode.MALFORMED)


@pytest.mark.parametrize("shape", [[2], [2**62, 4], [0], [0, 2**60], [-1], [1] * 9])
def test_shapes_that_lie_or_are_empty_are_refused(shape: list[int]) -> None:
    size = 0 if 0 in shape else 4
    header = {"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    refuse(build(header, bytes(size)), InvalidCode.MALFORMED)


def test_a_header_length_that_lies_is_refused_before_it_is_parsed() -> None:
    good = encode_tensors(make_model())
    refuse(struct.pack("<Q", HEADER_BYTES_MAX + 1) + good[8:], InvalidCode.SIZE)
    refuse(struct.pack("<Q", len(good)) + good[8:], InvalidCode.MALFORMED)
    refuse(b"", InvalidCode.MALFORMED)


def test_truncated_and_extended_files_are_refused() -> None:
    good = encode_tensors(make_model())
    refuse(good[:-1], InvalidCode.MALFORMED)
    refuse(good + b"\0", InvalidCode.MALFORMED)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint8, np.float16, np.bool_])
def test_other_dtypes_are_refused_both_ways(dtype: type) -> None:
    tensors: Tensors = {"x": np.ones(3, dtype)}
    refuse(save(tensors), InvalidCode.DTYPE)
    with pytest.raises(TensorError) as caught:
        encode_tensors(tensors)
    assert code_of(caught.value) == InvalidCode.DTYPE


def test_a_pickle_is_refused_and_never_run() -> None:
    refuse(pickle.dumps({"x": np.ones(3, np.float32)}), InvalidCode.SIZE)


def test_limits_on_bytes_and_tensors_are_enforced() -> None:
    data = encode_tensors(make_model())
    refuse(data, InvalidCode.SIZE, size_bytes_max=len(data) - 1)
    refuse(data, InvalidCode.SIZE, tensors_max=1)
    decode_tensors(data, size_bytes_max=len(data), tensors_max=2)


@pytest.mark.parametrize("name", ["", "n" * 201, "__metadata__"])
def test_names_out_of_bounds_are_not_encoded(name: str) -> None:
    with pytest.raises(TensorError):
        encode_tensors({name: np.ones(1, np.float32)})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"extra": np.ones(1, np.float32)}, InvalidCode.SCHEMA),
        ({"bias": np.ones(8, np.float32)}, InvalidCode.SCHEMA),
        ({"bias": np.ones(7, np.int32)}, InvalidCode.DTYPE),
        ({"bias": np.full(7, np.nan, np.float32)}, InvalidCode.NOT_FINITE),
        ({"bias": np.full(7, -np.inf, np.float32)}, InvalidCode.NOT_FINITE),
    ],
)
def test_the_schema_check_says_what_differs(change: Tensors, code: InvalidCode) -> None:
    model = make_model()
    with pytest.raises(TensorError, match=next(iter(change))) as caught:
        check_schema({**model, **change}, model)
    assert code_of(caught.value) == code


def test_a_missing_tensor_breaks_the_schema() -> None:
    model = make_model()
    check_schema(make_model(1), model)
    with pytest.raises(TensorError, match="missing"):
        check_schema({"bias": model["bias"]}, model)

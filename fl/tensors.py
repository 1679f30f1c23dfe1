"""Named arrays and their one byte form (B2): a safetensors file as the library itself writes it.

The format is https://github.com/huggingface/safetensors: a u64 header length, a JSON header, the raw arrays.
Many files hold the same arrays; the one that counts is what `safetensors.serialize` writes without metadata,
so a decoder encodes again and compares. Nothing is ever unpickled.
"""

import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save

from fl.codes import InvalidCode

Array = NDArray[Any]
Tensors = dict[str, Array]

SIZE_BYTES_MAX: Final = 1 << 30
HEADER_BYTES_MAX: Final = 1 << 20
TENSORS_MAX: Final = 4096
NAME_CHARS_MAX: Final = 200
RANK_MAX: Final = 8

_DTYPES: Final[dict[str, np.dtype[np.generic]]] = {
    "F32": np.dtype("<f4"),
    "I8": np.dtype("i1"),
    "I32": np.dtype("<i4"),
}
_ALLOWED: Final = frozenset(_DTYPES.values())


class TensorError(ValueError):
    """Bytes or arrays that break B2 or R3; `code` is what a scorer signs."""

    def __init__(self, code: InvalidCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def encode_tensors(tensors: Mapping[str, Array]) -> bytes:
    """Return the canonical safetensors bytes of float32, int8 and int32 arrays (B2).

    Raises `TensorError` for a name, rank, dtype or empty array that `decode_tensors` would refuse.
    """
    _check_count(len(tensors), TENSORS_MAX)
    for name, array in tensors.items():
        _check_entry(name, array.shape)
        if array.dtype not in _ALLOWED:
            raise TensorError(InvalidCode.DTYPE, f"tensor {name!r} is {array.dtype}; allowed are {_allowed_names()}")
    return save({name: np.asarray(array, order="C") for name, array in tensors.items()})


def decode_tensors(data: bytes, *, size_bytes_max: int = SIZE_BYTES_MAX, tensors_max: int = TENSORS_MAX) -> Tensors:
    """Read arrays from bytes of unknown origin; accept the canonical form only (B2).

    Raises `TensorError` (SIZE, MALFORMED, DTYPE) and nothing else.
    """
    if len(data) > size_bytes_max:
        raise TensorError(InvalidCode.SIZE, f"file of {len(data)} bytes; at most {size_bytes_max} are allowed")
    _check_header_length(data)
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise TensorError(InvalidCode.MALFORMED, f"not a safetensors file: {error}") from error
    _check_count(len(entries), tensors_max)
    tensors: Tensors = {}
    for name, entry in entries:
        _check_entry(name, tuple(entry["shape"]))
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            message = f"tensor {name!r} has dtype {entry['dtype']}; allowed are {_allowed_names()}"
            raise TensorError(InvalidCode.DTYPE, message)
        array = np.frombuffer(entry["data"], dtype=dtype).reshape(entry["shape"])
        tensors[name] = array
    # Metadata, duplicate keys, other orders, spaces: whatever a lenient reader forgives shows up here.
    if encode_tensors(tensors) != data:
        raise TensorError(InvalidCode.MALFORMED, "a safetensors file in another than the canonical form (B2)")
    return tensors


def check_schema(tensors: Mapping[str, Array], model: Mapping[str, Array]) -> None:
    """Raise `TensorError` unless `tensors` has the names and shapes of `model`, in finite float32 (R3)."""
    if tensors.keys() != model.keys():
        missing, extra = sorted(model.keys() - tensors.keys()), sorted(tensors.keys() - model.keys())
        raise TensorError(InvalidCode.SCHEMA, f"names differ from the model's: missing {missing}, extra {extra}")
    for name, array in tensors.items():
        if array.shape != model[name].shape:
            message = f"tensor {name!r} has shape {array.shape}; the model has {model[name].shape}"
            raise TensorError(InvalidCode.SCHEMA, message)
    check_finite(tensors)


def check_finite(tensors: Mapping[str, Array]) -> None:
    """Raise `TensorError` unless every array is float32 and free of NaN and infinity."""
    for name, array in tensors.items():
        if array.dtype != np.float32:
            raise TensorError(InvalidCode.DTYPE, f"tensor {name!r} is {array.dtype}, not float32")
        if not np.isfinite(array).all():
            raise TensorError(InvalidCode.NOT_FINITE, f"tensor {name!r} holds a NaN or an infinity")


def _allowed_names() -> str:
    return ", ".join(_DTYPES)


def _check_header_length(data: bytes) -> None:
    """A header length is a claim: bound it before the library parses that much JSON."""
    if len(data) < 8:
        raise TensorError(InvalidCode.MALFORMED, f"{len(data)} bytes are too few for a safetensors file")
    (header_bytes,) = struct.unpack_from("<Q", data)
    if header_bytes > HEADER_BYTES_MAX:
        message = f"safetensors header of {header_bytes} bytes; at most {HEADER_BYTES_MAX} are allowed"
        raise TensorError(InvalidCode.SIZE, message)


def _check_count(count: int, tensors_max: int) -> None:
    if count > tensors_max:
        raise TensorError(InvalidCode.SIZE, f"{count} tensors; at most {tensors_max} are allowed")


def _check_entry(name: str, shape: tuple[int, ...]) -> None:
    if not 1 <= len(name) <= NAME_CHARS_MAX:
        message = f"tensor name of {len(name)} characters; it must have 1 to {NAME_CHARS_MAX}"
        raise TensorError(InvalidCode.MALFORMED, message)
    if name == "__metadata__":
        raise TensorError(InvalidCode.MALFORMED, "a tensor may not be called '__metadata__'")
    if len(shape) > RANK_MAX:
        raise TensorError(InvalidCode.MALFORMED, f"tensor {name!r} has rank {len(shape)}; at most {RANK_MAX}")
    if 0 in shape:
        raise TensorError(InvalidCode.MALFORMED, f"tensor {name!r} is empty (shape {shape})")

"""How a delta becomes bytes: one codec a file, named in the offer (B2).

Decoding is part of the aggregate that every machine must compute alike (R7), so a decoder uses elementwise
float32 operations only. Every codec's bytes are a canonical safetensors file (see `fl.tensors`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from fl.codecs import f32, int8
from fl.codes import InvalidCode
from fl.norms import clip, compute_norm, scale
from fl.tensors import TensorError, Tensors, check_finite, check_schema, decode_tensors, encode_tensors


@dataclass(frozen=True, slots=True)
class _Codec:
    pack: Callable[[Tensors], Tensors]  # delta -> the arrays of the file
    unpack: Callable[[Tensors, Tensors], Tensors]  # (arrays of the file, model) -> delta; raises TensorError
    lossy: bool


_CODECS: Final[dict[str, _Codec]] = {
    "f32": _Codec(f32.pack, f32.unpack, lossy=False),
    "int8": _Codec(int8.pack, int8.unpack, lossy=True),
}
CODECS: Final[tuple[str, ...]] = tuple(_CODECS)


def encode_delta(
    codec: str, delta: Tensors, residual: Tensors | None, *, norm_max: float | None = None
) -> tuple[bytes, Tensors | None]:
    """Encode a float32 delta; return its bytes and the residual to add to the next one (None if lossless).

    Error feedback (Seide et al. 2014; Karimireddy et al. 2019, arXiv 1901.09847): what a lossy codec drops
    this time is added next time. With `norm_max` the *decoded* delta is no longer than that (R2, R3),
    residual and rounding included. Raises `TensorError` for an unknown codec or a delta that is not finite.
    """
    chosen = _get_codec(codec)
    check_finite(delta)
    wanted = delta if residual is None else _add(delta, residual)
    sent, packed, decoded = _pack_within(chosen, wanted, norm_max)
    # What clipping took off is gone, as R2 means it: only what rounding lost comes back.
    left = {name: sent[name] - decoded[name] for name in sent} if chosen.lossy else None
    return encode_tensors(packed), left


def decode_delta(codec: str, data: bytes, model: Tensors) -> Tensors:
    """Decode bytes of unknown origin to a finite float32 delta of the model's schema (R3, R7).

    Raises `TensorError` with the code that a scorer signs.
    """
    chosen = _get_codec(codec)
    packed = decode_tensors(data, size_bytes_max=encoded_size_max(codec, model), tensors_max=2 * len(model))
    delta = chosen.unpack(packed, model)
    check_schema(delta, model)
    return delta


def encoded_size_max(codec: str, model: Tensors) -> int:
    """Return the size in bytes of any update of this model: it depends on names and shapes only."""
    zeros = {name: np.zeros(array.shape, np.float32) for name, array in model.items()}
    return len(encode_tensors(_get_codec(codec).pack(zeros)))


def _get_codec(codec: str) -> _Codec:
    chosen = _CODECS.get(codec)
    if chosen is None:
        raise TensorError(InvalidCode.CODEC, f"unknown codec {codec!r}; known are {', '.join(CODECS)}")
    return chosen


def _add(delta: Tensors, residual: Tensors) -> Tensors:
    check_schema(residual, delta)
    return {name: delta[name] + residual[name] for name in delta}


def _pack_within(codec: _Codec, wanted: Tensors, norm_max: float | None) -> tuple[Tensors, Tensors, Tensors]:
    """Return (clipped, packed, decoded); rounding can lengthen a delta, so shrink once more where it did."""
    clipped = wanted if norm_max is None else clip(wanted, norm_max)
    packed = codec.pack(clipped)
    decoded = codec.unpack(packed, wanted)
    norm = compute_norm(decoded)
    if norm_max is not None and norm > norm_max:
        clipped = scale(clipped, norm_max / norm)
        packed = codec.pack(clipped)
        decoded = codec.unpack(packed, wanted)
    return clipped, packed, decoded

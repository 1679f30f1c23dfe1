"""Golden vectors (R7): does this machine compute the bytes that every other machine computes?

A processor that flushes subnormal numbers to zero, a numpy that fuses multiply and add, a big-endian slip: each
would fork the chain at the next model block. The check costs a few milliseconds at start-up.
"""

import hashlib
from typing import Final

import numpy as np

from fl.aggregation.rules import RULES, aggregate
from fl.codecs import CODECS, decode_delta, encode_delta
from fl.tensors import Tensors, encode_tensors

# (bits of the old value, [(weight, bits of the delta)], bits of the new value), all float32.
# 1 + (3 * 0.1 + 5 * -0.3) / 8; a subnormal kept; a tie at the last bit; a big weight beside a small one.
SMALL: Final = (
    (0x3F800000, ((3, 0x3DCCCCCD), (5, 0xBE99999A)), 0x3F599999),
    (0x00000001, ((1, 0x00000003), (1, 0x00000001)), 0x00000003),
    (0x3F800000, ((1, 0x33800000), (1, 0x33800000)), 0x3F800000),
    (0xC1200000, ((1, 0x41200000), (1000000, 0xB8D1B717)), 0xC120005E),
)
# SHA-256 of the aggregate of `_build_tensors` deltas, through each codec, for each rule.
DIGESTS: Final = {
    ("fedavg", "f32"): "70c20bc3f30937fb59713c4362c6b04e03f6b7bfa4c84713239d9b6d7d32c824",
    ("fedavg", "int8"): "4bf727347d98fcfaba5fa20bd1955b28211c6df0c7739a81c6d6a272ee4b9d30",
}
_SHAPES: Final = {"a.weight": (37, 11), "a.bias": (37,), "b": (3, 5, 7, 2), "scalar": ()}
_WEIGHTS: Final = (162, 1500, 1, 977, 65536)


class GoldenVectorError(RuntimeError):
    """This machine would not agree with the others: it must not take part."""


def check_golden_vectors() -> None:
    """Raise `GoldenVectorError` if decoding or aggregating gives other bytes than the published vectors (R7)."""
    for old, updates, expected in SMALL:
        found = compute_small(old, updates)
        if found != expected:
            raise _failed(f"fedavg of {old:#010x} and {updates}", f"{expected:#010x}", f"{found:#010x}")
    for rule in RULES:
        for codec in CODECS:
            digest = compute_digest(rule, codec)
            if digest != DIGESTS[rule, codec]:
                raise _failed(f"rule {rule}, codec {codec}", DIGESTS[rule, codec], digest)


def compute_small(old: int, updates: tuple[tuple[int, int], ...]) -> int:
    """Return the float32 bits of fedavg over one value; all values are given as float32 bits."""
    deltas = [(weight, {"x": from_bits(delta)}) for weight, delta in updates]
    new = aggregate("fedavg", {"x": from_bits(old)}, deltas)["x"]
    return int(new.view(np.uint32)[0])


def compute_digest(rule: str, codec: str) -> str:
    """Return the hex SHA-256 of the aggregate of five fixed updates that went through a codec."""
    model = _build_tensors(seed=0)
    updates = []
    for i, weight in enumerate(_WEIGHTS):
        data, _ = encode_delta(codec, _build_tensors(seed=i + 1), None)
        updates.append((weight, decode_delta(codec, data, model)))
    return hashlib.sha256(encode_tensors(aggregate(rule, model, updates))).hexdigest()


def _build_tensors(seed: int) -> Tensors:
    """Return float32 values made by integers only: the minimal standard generator, over 2**24 and exact."""
    state = 48271 * (seed + 1)
    tensors: Tensors = {}
    for name, shape in _SHAPES.items():
        values = []
        for _ in range(int(np.prod(shape))):
            state = state * 48271 % 0x7FFFFFFF
            values.append((state >> 6) - (1 << 24))
        tensors[name] = (np.array(values, np.float32) / np.float32(1 << 24)).reshape(shape)
    return tensors


def from_bits(bits: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return one float32 from its bits."""
    return np.array([bits], np.uint32).view(np.float32)


def _failed(what: str, expected: str, found: str) -> GoldenVectorError:
    return GoldenVectorError(
        f"golden vector failed: {what} gives {found}, published is {expected}; this machine would compute other "
        "models than its peers: use the pinned numpy and safetensors, and a processor mode that keeps subnormals"
    )

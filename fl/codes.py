"""Why an update or a model file is refused (R3: INVALID(code))."""

from enum import IntEnum


class InvalidCode(IntEnum):
    """The code that a scorer signs for an update that it refuses (R3); the numbers never change."""

    OK = 0
    MALFORMED = 1  # not a safetensors file in its one byte form (B2)
    SCHEMA = 2  # names or shapes differ from the model's
    DTYPE = 3  # a dtype that this place does not allow
    NOT_FINITE = 4  # a NaN or an infinity
    NORM = 5  # the decoded delta is longer than `update_norm_max` and the slack
    SIZE = 6  # more bytes or tensors than allowed
    CODEC = 7  # an unknown codec, or bytes that its encoder never makes
    SEAL = 8  # the offer's maker did not have the bytes (B4)

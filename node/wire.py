"""Frames: what travels over a control connection. A frame is the canonical array [version, tag, field, field, ...]."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, get_args

from consensus.events import Message
from ledger.codec import CodecError, Record, Text, from_plain, pack, to_plain, unpack
from ledger.types import Hash, Height, Key

PROTOCOL_VERSION = 1
FRAME_BYTES_MAX = 16 << 20
REASON_CHARS_MAX = 300


class WireError(ValueError):
    """A frame that no correct peer sends (A8)."""


@dataclass(frozen=True, slots=True)
class Hello(Record):
    """The first frame of each side: which chain, who, and its tip's height."""

    TAG: ClassVar[int] = 16
    chain: Hash
    member: Key
    height: Height


@dataclass(frozen=True, slots=True)
class Goodbye(Record):
    """I refuse this connection, and why; the sender closes it after this frame."""

    TAG: ClassVar[int] = 17
    reason: Annotated[str, Text(REASON_CHARS_MAX)]


Frame = Message | Hello | Goodbye
_TYPES: dict[int, type[Record]] = {cls.TAG: cls for cls in get_args(Frame)}
GOODBYE_HEAD = pack([PROTOCOL_VERSION, Goodbye.TAG, ""])[:3]


def encode(message: Frame) -> bytes:
    """The frame of a message; raises `CodecError` when one of its fields is out of bounds."""
    return pack([PROTOCOL_VERSION, message.TAG, *to_plain(message)])


def goodbye(reason: str) -> bytes:
    """A `Goodbye` frame with whatever of `reason` fits and can be printed."""
    text = "".join(char if char.isprintable() else " " for char in reason[:REASON_CHARS_MAX])
    return encode(Goodbye(text))


def decode(frame: bytes, frame_bytes_max: int = FRAME_BYTES_MAX) -> Frame:
    """The message of a frame; raises `WireError`, and nothing else, whatever the bytes are (A8, S5)."""
    if len(frame) > frame_bytes_max:
        raise WireError(f"a frame of {len(frame)} bytes; at most {frame_bytes_max} are allowed")
    try:
        return _decode(frame)
    except CodecError as error:
        raise WireError(str(error)) from error
    except MemoryError as error:
        raise WireError("a frame that claims more items than memory holds") from error


def _decode(frame: bytes) -> Frame:
    plain = unpack(frame)
    if len(plain) < 2:
        raise WireError("a frame without version and tag")
    version, tag, *fields = plain
    if type(version) is not int or version != PROTOCOL_VERSION:
        raise WireError(f"protocol version {str(version)[:20]}; this peer speaks {PROTOCOL_VERSION}")
    cls = _TYPES.get(tag) if type(tag) is int else None
    if cls is None:
        raise WireError(f"unknown message tag {str(tag)[:20]}")
    message = from_plain(cls, fields, cls.__name__)
    if pack(plain) != frame:  # S5: from_plain has shown that `plain` has the types of the one canonical form
        raise WireError(f"{cls.__name__}: not the canonical encoding (S5)")
    return message  # type: ignore[return-value]

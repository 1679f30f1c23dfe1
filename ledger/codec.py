"""Canonical bytes (S5): msgpack arrays in field order, one encoding for each value, anything else is refused.

A wire type is a frozen dataclass that derives from `Record`. The annotation of each field says what may stand there,
bounds included, so a decoder never trusts a size, a count or an index from outside (S1)::

    @dataclass(frozen=True, slots=True)
    class Offer(Record):
        round: Annotated[int, Int(0, ROUND_MAX)]
        blob: Annotated[bytes, Bytes(32)]

`decode` rebuilds the value, encodes it again and compares: what is not the one canonical form is refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args, get_origin, get_type_hints

import msgpack

DEPTH_MAX = 12
ITEMS_MAX = 32_768
U64_MAX = 2**64 - 1


class CodecError(ValueError):
    """Bytes or values that are not the canonical form of the type they claim to be."""


@dataclass(frozen=True, slots=True)
class Int:
    """An integer in [low, high]; never a bool."""

    low: int = 0
    high: int = U64_MAX

    def check(self, value: object, where: str) -> Any:
        if type(value) is not int or not self.low <= value <= self.high:
            raise CodecError(f"{where}: expected an integer from {self.low} to {self.high}, got {_short(value)}")
        return value


@dataclass(frozen=True, slots=True)
class Bytes:
    """A byte string of `size` bytes, or of `low`..`size` bytes when `low` is given."""

    size: int
    low: int | None = None

    def check(self, value: object, where: str) -> Any:
        low = self.size if self.low is None else self.low
        if type(value) is not bytes or not low <= len(value) <= self.size:
            raise CodecError(f"{where}: expected {low}..{self.size} bytes, got {_short(value)}")
        return value


@dataclass(frozen=True, slots=True)
class MaybeBytes:
    """A byte string of `size` bytes, or an empty one where there is nothing to name."""

    size: int

    def check(self, value: object, where: str) -> Any:
        if type(value) is not bytes or len(value) not in (0, self.size):
            raise CodecError(f"{where}: expected 0 or {self.size} bytes, got {_short(value)}")
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """A UTF-8 string of at most `size` characters, all of them printable."""

    size: int

    def check(self, value: object, where: str) -> Any:
        if type(value) is not str or len(value) > self.size or not value.isprintable():
            raise CodecError(f"{where}: expected printable text of at most {self.size} characters, got {_short(value)}")
        return value


@dataclass(frozen=True, slots=True)
class Items:
    """At most `most` items (and at least `least`), each of the element type of the annotated tuple."""

    most: int
    least: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most <= ITEMS_MAX:
            raise TypeError(f"a list has at most {ITEMS_MAX} items")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several records, told apart by their TAG: encoded as [TAG, field, field, ...]."""

    types: tuple[type["Record"], ...]


def _short(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:40] + '...'}"


class Record:
    """Base of all wire types. `TAG` tells members of a `Choice` apart; `DOMAIN` separates signatures and hashes."""

    __slots__ = ()
    TAG: ClassVar[int] = 0
    DOMAIN: ClassVar[str] = ""

    def encode(self) -> bytes:
        """The canonical bytes; raises `CodecError` when a field is out of its bounds."""
        packed: bytes = msgpack.packb(to_plain(self), use_bin_type=True)
        return packed

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The value whose canonical bytes are `data`; raises `CodecError` for anything else."""
        value = from_plain(cls, unpack(data), cls.__name__)
        if value.encode() != data:
            raise CodecError(f"{cls.__name__}: not the canonical encoding (S5)")
        return value


R = TypeVar("R", bound=Record)
Check = Callable[[object, str], Any]
Layout = tuple[tuple[str, Check | None, Any, Any], ...]


def unpack(data: bytes) -> Any:
    """Plain msgpack values of `data`, an array. Trailing bytes, maps and extension types with content, and any array
    that claims more than `ITEMS_MAX` items are refused here; other types that no record has, by its fields' rules."""
    if len(data) > 0 and data[0] not in _ARRAY_HEADS:
        raise CodecError("not a msgpack array")
    size = len(data)
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            max_str_len=size,
            max_bin_len=size,
            max_array_len=min(size, ITEMS_MAX),
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise CodecError(f"not canonical msgpack: {str(error)[:80] or type(error).__name__}") from error


_ARRAY_HEADS = frozenset([*range(0x90, 0xA0), 0xDC, 0xDD])


def pack(values: Sequence[object]) -> bytes:
    """Canonical bytes of a plain list of integers, strings, bytes and lists."""
    packed: bytes = msgpack.packb(values, use_bin_type=True)
    return packed


_LAYOUTS: dict[type[Record], Layout] = {}


def _layout(cls: type[Record]) -> Layout:
    """(field name, check, rule, element type) of each field in order; the check is None unless the field is a plain
    value, which most are; the rule is None for a nested record."""
    layout = _LAYOUTS.get(cls)
    if layout is None:
        hints = get_type_hints(cls, include_extras=True)
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        layout = tuple((name, _leaf_check(hints[name]), *_rule(hints[name])) for name in names)
        _LAYOUTS[cls] = layout
    return layout


def _leaf_check(hint: Any) -> Check | None:
    check: Check | None = getattr(_rule(hint)[0], "check", None)
    return check


def _rule(hint: Any) -> tuple[Any, Any]:
    if get_origin(hint) is Annotated:
        base, rule, *_ = get_args(hint)
        if isinstance(rule, Items):
            return rule, _rule(get_args(base)[0])
        return rule, None
    if isinstance(hint, type) and issubclass(hint, Record):
        return None, hint
    raise TypeError(f"a wire field needs Annotated[...] or a Record type, not {hint!r}")


def to_plain(record: Record) -> list[Any]:
    """The record as plain lists; every field is checked against its annotation on the way."""
    return [
        _plain(getattr(record, name), rule, element, name) if check is None else check(getattr(record, name), name)
        for name, check, rule, element in _layout(type(record))
    ]


def _plain(value: Any, rule: Any, element: Any, where: str) -> Any:
    if rule is None:
        if type(value) is not element:
            raise CodecError(f"{where}: expected {element.__name__}, got {_short(value)}")
        return to_plain(value)
    if isinstance(rule, Items):
        if type(value) is not tuple or not rule.least <= len(value) <= rule.most:
            raise CodecError(f"{where}: expected {rule.least}..{rule.most} items")
        inner, nested = element
        return [_plain(item, inner, nested, where) for item in value]
    if isinstance(rule, Choice):
        if type(value) not in rule.types:
            raise CodecError(f"{where}: {type(value).__name__} may not stand here")
        return [value.TAG, *to_plain(value)]
    return rule.check(value, where)


def from_plain(cls: type[R], plain: Any, where: str, depth: int = 0) -> R:
    """The record that plain lists describe; raises `CodecError` naming the field that is wrong."""
    layout = _layout(cls)
    if depth > DEPTH_MAX or type(plain) is not list or len(plain) != len(layout):
        raise CodecError(f"{where}: expected an array of {len(layout)} fields")
    values = [
        _value(item, rule, element, f"{where}.{name}", depth) if check is None else check(item, f"{where}.{name}")
        for item, (name, check, rule, element) in zip(plain, layout, strict=True)
    ]
    return cls(*values)


def _value(plain: Any, rule: Any, element: Any, where: str, depth: int) -> Any:
    if rule is None:
        return from_plain(element, plain, where, depth + 1)
    if isinstance(rule, Items):
        if type(plain) is not list or not rule.least <= len(plain) <= rule.most:
            raise CodecError(f"{where}: expected an array of {rule.least}..{rule.most} items")
        inner, nested = element
        return tuple(_value(item, inner, nested, where, depth + 1) for item in plain)
    if isinstance(rule, Choice):
        if type(plain) is list and plain:
            for cls in rule.types:
                if type(plain[0]) is int and plain[0] == cls.TAG:
                    return from_plain(cls, plain[1:], where, depth + 1)
        raise CodecError(f"{where}: unknown kind {_short(plain[0] if type(plain) is list and plain else plain)}")
    return rule.check(plain, where)

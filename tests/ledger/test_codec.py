"""Canonical bytes (S5): one encoding for each value, and nothing but `CodecError` for anything else (S1)."""

import struct
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.codec import (
    DEPTH_MAX,
    ITEMS_MAX,
    U64_MAX,
    Bytes,
    Choice,
    CodecError,
    Int,
    Items,
    Record,
    Text,
    from_plain,
    pack,
    to_plain,
    unpack,
)
from ledger.types import FinalBatch
from tests.ledger.helpers_ledger import ChainBuilder
from tests.ledger.strategies_ledger import RECORDS, any_record


@dataclass(frozen=True, slots=True)
class Leaf(Record):
    TAG: ClassVar[int] = 7
    count: Annotated[int, Int(0, 9)]


@dataclass(frozen=True, slots=True)
class Other(Record):
    TAG: ClassVar[int] = 8
    text: Annotated[str, Text(4)]


@dataclass(frozen=True, slots=True)
class Sample(Record):
    number: Annotated[int, Int(-5, U64_MAX)]
    raw: Annotated[bytes, Bytes(4, 2)]
    text: Annotated[str, Text(5)]
    leaves: Annotated[tuple[Leaf, ...], Items(3, 1)]
    one: Annotated[Leaf | Other, Choice((Leaf, Other))]
    inner: Leaf


SAMPLE = Sample(300, b"ab", "abc", (Leaf(1), Leaf(2)), Other("x"), Leaf(3))
SAMPLE_PLAIN: list[Any] = [300, b"ab", "abc", [[1], [2]], [8, "x"], [3]]


def sample_with(**changes: Any) -> bytes:
    """Packed fields of SAMPLE with some replaced by anything."""
    names = ["number", "raw", "text", "leaves", "one", "inner"]
    return pack([changes.get(name, value) for name, value in zip(names, SAMPLE_PLAIN, strict=True)])


# ------------------------------------------------------------------------------------------------ round trips


def test_a_record_is_the_array_of_its_fields_in_order() -> None:
    assert to_plain(SAMPLE) == SAMPLE_PLAIN
    assert SAMPLE.encode() == pack(SAMPLE_PLAIN)
    assert SAMPLE.encode().hex() == "96cd012cc4026162a361626392910191029208a1789103"


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: str(cls.__name__))
def test_every_wire_type_is_covered_by_a_strategy(cls: type[Record]) -> None:
    assert issubclass(cls, Record)


@given(any_record())
@settings(max_examples=300)
def test_every_record_survives_a_round_trip(record: Record) -> None:
    data = record.encode()
    again = type(record).decode(data)
    assert again == record
    assert again.encode() == data


def test_a_real_final_batch_survives_a_round_trip() -> None:
    batch, _ = ChainBuilder(n=5, c=2).full_round()
    assert FinalBatch.decode(batch.encode()) == batch


# ------------------------------------------------------------------------------------------------- canonicity


@given(any_record(), st.data())
@settings(max_examples=300)
def test_a_mutated_encoding_is_refused_or_is_another_value_in_its_own_canonical_form(
    record: Record, data: st.DataObject
) -> None:
    # S5: whatever decodes is the canonical form of what it decodes to.
    raw = bytearray(record.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "insert", "delete"])):
            case "flip":
                raw[at] ^= data.draw(st.integers(1, 255))
            case "insert":
                raw.insert(at, data.draw(st.integers(0, 255)))
            case _ if len(raw) > 1:
                del raw[at]
    mutated = bytes(raw)
    try:
        decoded = type(record).decode(mutated)
    except CodecError:
        return
    assert decoded.encode() == mutated
    assert (decoded == record) == (mutated == record.encode())


@given(st.sampled_from(RECORDS), st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bytes_raise_nothing_but_codec_error(cls: type[Record], data: bytes) -> None:
    try:
        decoded = cls.decode(data)
    except CodecError:
        return
    assert decoded.encode() == data


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_random_arrays_raise_nothing_but_codec_error(data: bytes) -> None:
    for head in (b"\x96", b"\xdc\x00\x06"):
        with pytest.raises(CodecError):
            Sample.decode(head + b"\x05\xa0" + data)  # the second field is a text, not bytes


def wide_int(value: int) -> list[bytes]:
    """Every msgpack form that holds this integer (the shortest one among them)."""
    forms = [("B", b"\xcc"), (">H", b"\xcd"), (">I", b"\xce"), (">Q", b"\xcf")]
    signed = [("b", b"\xd0"), (">h", b"\xd1"), (">i", b"\xd2"), (">q", b"\xd3")]
    found = []
    for form, head in forms + signed:
        try:
            found.append(head + struct.pack(form, value))
        except struct.error:
            continue
    return found


def long_bytes(value: bytes) -> list[bytes]:
    size = len(value)
    return [b"\xc5" + struct.pack(">H", size) + value, b"\xc6" + struct.pack(">I", size) + value]


def long_text(value: str) -> list[bytes]:
    raw = value.encode()
    lengths = [
        b"\xd9" + bytes([len(raw)]),
        b"\xda" + struct.pack(">H", len(raw)),
        b"\xdb" + struct.pack(">I", len(raw)),
    ]
    return [head + raw for head in lengths]


def long_arrays(items: list[bytes]) -> list[bytes]:
    size, joined = len(items), b"".join(items)
    return [b"\xdc" + struct.pack(">H", size) + joined, b"\xdd" + struct.pack(">I", size) + joined]


def loose_forms(plain: Any) -> list[bytes]:
    """Every way to write `plain` with exactly one value in a longer form than the canonical one."""
    if isinstance(plain, int):
        return [form for form in wide_int(plain) if form != msgpack.packb(plain)]
    if isinstance(plain, bytes):
        return long_bytes(plain)
    if isinstance(plain, str):
        return [form for form in long_text(plain) if form != msgpack.packb(plain)]
    strict = [msgpack.packb(item) for item in plain]
    found = long_arrays(strict)
    for at, item in enumerate(plain):
        head = bytes([0x90 + len(plain)])
        found += [head + b"".join(strict[:at]) + loose + b"".join(strict[at + 1 :]) for loose in loose_forms(item)]
    return found


def test_every_longer_form_of_the_same_value_is_refused() -> None:
    loose = loose_forms(SAMPLE_PLAIN)
    assert len(loose) > 40
    for data in loose:
        assert msgpack.unpackb(data) == SAMPLE_PLAIN
        with pytest.raises(CodecError, match="canonical"):
            Sample.decode(data)


def test_trailing_and_missing_bytes_are_refused() -> None:
    data = SAMPLE.encode()
    for wrong in (b"", data + b"\x00", data + data, *(data[:size] for size in range(len(data)))):
        with pytest.raises(CodecError):
            Sample.decode(wrong)


# ----------------------------------------------------------------------------------------------- wrong values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": -6}, "Sample.number: expected an integer from -5 to"),
        ({"number": True}, "Sample.number: expected an integer"),
        ({"number": 1.0}, "Sample.number: expected an integer"),
        ({"number": None}, "Sample.number: expected an integer"),
        ({"number": "1"}, "Sample.number: expected an integer"),
        ({"raw": b"a"}, r"Sample.raw: expected 2\.\.4 bytes"),
        ({"raw": b"abcde"}, r"Sample.raw: expected 2\.\.4 bytes"),
        ({"raw": "ab"}, r"Sample.raw: expected 2\.\.4 bytes"),
        ({"text": "abcdef"}, "Sample.text: expected printable text of at most 5"),
        ({"text": "a\n"}, "Sample.text: expected printable text"),
        ({"text": b"abc"}, "Sample.text: expected printable text"),
        ({"leaves": []}, r"Sample.leaves: expected an array of 1\.\.3 items"),
        ({"leaves": [[1]] * 4}, r"Sample.leaves: expected an array of 1\.\.3 items"),
        ({"leaves": 5}, r"Sample.leaves: expected an array of 1\.\.3 items"),
        ({"leaves": [[10]]}, "Sample.leaves.count: expected an integer from 0 to 9"),
        ({"leaves": [[1, 2]]}, "Sample.leaves: expected an array of 1 fields"),
        ({"one": [9, 1]}, "Sample.one: unknown kind int 9"),
        ({"one": []}, "Sample.one: unknown kind"),
        ({"one": 8}, "Sample.one: unknown kind"),
        ({"one": [True, 1]}, "Sample.one: unknown kind"),
        ({"one": [8, 1]}, "Sample.one.text: expected printable text"),
        ({"inner": []}, "Sample.inner: expected an array of 1 fields"),
        ({"inner": 3}, "Sample.inner: expected an array of 1 fields"),
    ],
)
def test_a_wrong_field_is_named_with_what_it_must_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CodecError, match=message):
        Sample.decode(sample_with(**changes))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Sample(-6, b"ab", "", (Leaf(1),), Leaf(1), Leaf(1)), "number"),
        (Sample(True, b"ab", "", (Leaf(1),), Leaf(1), Leaf(1)), "number"),
        (Sample(1, b"", "", (Leaf(1),), Leaf(1), Leaf(1)), "raw"),
        (Sample(1, bytearray(b"ab"), "", (Leaf(1),), Leaf(1), Leaf(1)), "raw"),  # type: ignore[arg-type]
        (Sample(1, b"ab", "\ud800", (Leaf(1),), Leaf(1), Leaf(1)), "text"),
        (Sample(1, b"ab", "", (), Leaf(1), Leaf(1)), "leaves"),
        (Sample(1, b"ab", "", [Leaf(1)], Leaf(1), Leaf(1)), "leaves"),  # type: ignore[arg-type]
        (Sample(1, b"ab", "", (Other("x"),), Leaf(1), Leaf(1)), "leaves"),  # type: ignore[arg-type]
        (Sample(1, b"ab", "", (Leaf(1),), SAMPLE, Leaf(1)), "Sample may not stand here"),  # type: ignore[arg-type]
        (Sample(1, b"ab", "", (Leaf(1),), Leaf(1), Other("x")), "inner"),  # type: ignore[arg-type]
        (Sample(1, b"ab", "", (Leaf(1),), Leaf(11), Leaf(1)), "count"),
    ],
)
def test_a_value_out_of_its_bounds_is_never_written(record: Sample, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        record.encode()


def test_the_bounds_themselves_are_allowed() -> None:
    for number in (-5, 0, U64_MAX):
        sample = Sample(number, b"abcd", "äöü", (Leaf(0), Leaf(9), Leaf(9)), Leaf(9), Leaf(0))
        assert Sample.decode(sample.encode()) == sample


def test_a_long_wrong_value_is_shortened_in_the_message() -> None:
    with pytest.raises(CodecError) as caught:
        Sample.decode(sample_with(text="x" * 10_000))
    assert len(str(caught.value)) < 200


# ----------------------------------------------------------------------------------------- what msgpack allows


@pytest.mark.parametrize(
    "data",
    [
        b"\xc0",  # nil
        b"\x05",  # an integer
        b"\x80",  # a map
        b"\xa1a",  # a text
        b"\xc7\x01\x05a",  # an extension type
        b"\xc1",  # never used
        b"\x91\x81\x01\x01",  # a map with an entry
        b"\x91\xd4\x01\x01",  # an extension type with content
        b"\x91\xc1",
        b"\x91\xa1\xff",  # not UTF-8
        b"\x92\x01",  # too short
        b"\x91\x01\x01",  # too long
        b"\xdd\xff\xff\xff\xff",  # claims 2**32 - 1 items
        b"\x91\xc6\xff\xff\xff\xff",  # claims 4 GiB of bytes
        b"\x91\xdb\xff\xff\xff\xff",
    ],
)
def test_what_is_no_array_of_plain_values_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        unpack(data)


@pytest.mark.parametrize("value", [None, 1.5, {}, True, False])
def test_types_that_no_record_has_stand_in_no_field(value: object) -> None:
    for name in ("number", "raw", "text", "leaves", "one", "inner"):
        with pytest.raises(CodecError, match=name):
            Sample.decode(sample_with(**{name: value}))


def test_an_array_that_claims_too_many_items_costs_nothing() -> None:
    # S1: each nested array would reserve its claimed size before a single item is read.
    size = 1 << 20
    nested = (b"\xdd" + struct.pack(">I", size)) * 400
    with pytest.raises(CodecError, match="max_array_len"):
        unpack(nested + bytes(size))


def test_a_list_type_longer_than_any_frame_cannot_be_declared() -> None:
    assert Items(ITEMS_MAX).most == ITEMS_MAX
    for most, least in ((ITEMS_MAX + 1, 0), (1, 2), (1, -1)):
        with pytest.raises(TypeError, match="items"):
            Items(most, least)


@pytest.mark.parametrize("depth", [5, 100, 600, 5_000, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    with pytest.raises(CodecError):
        Sample.decode(b"\x91" * depth + b"\x90")


def test_the_depth_of_records_is_bounded() -> None:
    with pytest.raises(CodecError, match="array of 1 fields"):
        from_plain(Leaf, [1], "Leaf", DEPTH_MAX + 1)
    assert from_plain(Leaf, [1], "Leaf", DEPTH_MAX) == Leaf(1)


def test_a_field_without_a_rule_is_a_mistake_of_the_programmer() -> None:
    @dataclass(frozen=True, slots=True)
    class Loose(Record):
        number: int

    with pytest.raises(TypeError, match="a wire field needs Annotated"):
        Loose(1).encode()


def test_pack_writes_plain_lists_canonically() -> None:
    assert pack([1, "a", b"b", [2]]) == b"\x94\x01\xa1a\xc4\x01b\x91\x02"
    assert unpack(pack([1, "a", b"b", [2]])) == [1, "a", b"b", [2]]

"""Frames: one canonical form for each message (S5), and `WireError` for everything else (A8)."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.events import Have
from ledger.codec import CodecError, pack
from ledger.types import (
    PREVOTE,
    BlobRef,
    Block,
    EmptyBody,
    Header,
    Offer,
    Present,
    Proposal,
    ProposedBatch,
    Score,
    Vote,
)
from node.wire import GOODBYE_HEAD, REASON_CHARS_MAX, Frame, Goodbye, Hello, WireError, decode, encode, goodbye

HASH, KEY = b"h" * 32, b"k" * 32
HEADER = Header(1, HASH, 5, 2, 1, HASH, 1_700_000_000_000, KEY, HASH, HASH, HASH, HASH)
FRAMES: list[Frame] = [
    Offer(HASH, 3, KEY, HASH, BlobRef(HASH, 1000), HASH, 1500, "int8", HASH),
    Score(HASH, 3, HASH, KEY, -123_456, -234_567, 0),
    Present(HASH, 3, KEY),
    Vote(HASH, 12, 0, PREVOTE, 15, HASH, KEY),
    ProposedBatch(Proposal(HASH, 5, 0, 0, 5, HASH, KEY), (Block(HEADER, EmptyBody(())),)),
    Have(11, 2, (b"12345678", b"abcdefgh")),
    Hello(HASH, KEY, 42),
    Goodbye("another chain"),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_every_message_comes_back_as_it_was(frame: Frame) -> None:
    data = encode(frame)
    assert decode(data) == frame
    assert encode(decode(data)) == data


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_every_truncated_or_lengthened_frame_is_refused(frame: Frame) -> None:
    data = encode(frame)
    for end in range(len(data)):
        with pytest.raises(WireError):
            decode(data[:end])
    with pytest.raises(WireError):
        decode(data + b"\x00")


def test_all_tags_differ() -> None:
    assert len({frame.TAG for frame in FRAMES}) == len(FRAMES)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "not"),
        (b"\xc1", "not a msgpack array"),
        (b"hello", "not a msgpack array"),
        (b"\x80", "not a msgpack array"),
        (b"\x90", "without version"),
        (pack([1]), "without version"),
        (pack([2, 17, "x"]), "version 2; this peer speaks 1"),
        (pack(["1", 17, "x"]), "version"),
        (msgpack.packb([True, 17, "x"]), "version"),
        (pack([1, 99, "x"]), "unknown message tag 99"),
        (pack([1, [17], "x"]), "unknown message tag"),
        (pack([1, 5, HASH]), "unknown message tag 5"),
        (pack([1, 17]), "1 fields"),
        (pack([1, 17, "x", "y"]), "1 fields"),
        (pack([1, 17, b"x"]), "expected printable text"),
        (pack([1, 17, "line\nbreak"]), "expected printable text"),
        (b"\x93\x01\x11\xd9\x01x", "not the canonical encoding"),
        (b"\x93\xcc\x01\x11\xa1x", "not the canonical encoding"),
        (b"\xdc\x00\x03\x01\x11\xa1x", "not the canonical encoding"),
        (b"\x93\x01\x11\xa1\xff", "not canonical msgpack"),
        (b"\x93\x01\x11\xcb" + bytes(8), "expected printable text"),
        (b"\x93\x01\x11\xc7\x01\x05x", "not canonical msgpack"),
        (b"\xdd\xff\xff\xff\xff", "not canonical msgpack"),
        (b"\x91" * 5000, "not canonical msgpack"),
    ],
)
def test_what_no_correct_peer_sends_is_refused_with_the_reason(data: bytes, what: str) -> None:
    with pytest.raises(WireError, match=what):
        decode(data)


def test_a_frame_above_the_limit_is_not_even_looked_at() -> None:
    data = encode(Goodbye("x" * 100))
    assert decode(data, len(data))
    with pytest.raises(WireError, match="at most"):
        decode(data, len(data) - 1)


def test_a_field_out_of_bounds_is_refused_on_both_sides() -> None:
    with pytest.raises(CodecError):
        encode(Hello(b"short", KEY, 0))
    with pytest.raises(WireError, match=r"Hello\.chain"):
        decode(pack([1, Hello.TAG, b"short", KEY, 0]))


def test_a_goodbye_always_fits_whatever_the_reason() -> None:
    frame = decode(goodbye("two\nlines " + "x" * 1000))
    assert isinstance(frame, Goodbye)
    assert frame.reason.startswith("two lines xxx")
    assert len(frame.reason) == REASON_CHARS_MAX
    assert goodbye("any").startswith(GOODBYE_HEAD)
    assert not encode(Hello(HASH, KEY, 0)).startswith(GOODBYE_HEAD)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_decode_to_their_own_canonical_message_or_raise_wire_error(data: bytes) -> None:
    try:
        frame = decode(data)
    except WireError:
        return
    assert encode(frame) == data


@settings(max_examples=200)
@given(st.sampled_from(FRAMES), st.data())
def test_a_changed_byte_gives_another_message_or_wire_error(frame: Frame, data: st.DataObject) -> None:
    good = encode(frame)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    try:
        changed = decode(bad)
    except WireError:
        return
    assert changed != frame
    assert encode(changed) == bad

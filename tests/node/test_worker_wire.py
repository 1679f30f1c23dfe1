"""Frames between a peer and its workers."""

import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node import worker_wire
from node.worker_wire import (
    FRAME_BYTES_MAX,
    LENGTH,
    SETTINGS_BYTES_MAX,
    FrameError,
    decode_body,
    decode_hello,
    decode_settings,
    encode_frame,
    encode_hello,
    encode_settings,
    receive_frame,
    send_frame,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def send_raw(data: bytes) -> object:
    """Return what a reader makes of `data` and the end of the connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        return receive_frame(theirs)


@given(st.lists(JSON, max_size=4))
@settings(max_examples=50)
def test_a_frame_arrives_as_it_was_sent(values: list[object]) -> None:
    assert send_raw(encode_frame("job", *values)) == ["job", *values]


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
@settings(max_examples=50)
def test_a_hello_carries_the_task_and_its_settings(task_settings: dict[str, object]) -> None:
    assert decode_hello(decode_body(encode_hello("digits", task_settings)[4:])) == ("digits", task_settings)


def test_a_frame_larger_than_the_sockets_buffer_arrives_whole() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        data = b"x" * 3_000_000
        sender = threading.Thread(target=send_frame, args=(ours, "job", data))
        sender.start()
        assert receive_frame(theirs) == ["job", data]
        sender.join()


def test_a_connection_that_ends_between_two_frames_is_no_error() -> None:
    assert send_raw(b"") is None


@pytest.mark.parametrize("cut", [1, 3, 5, -1])
def test_a_connection_that_ends_within_a_frame_is_an_error(cut: int) -> None:
    with pytest.raises(FrameError, match="connection ended after"):
        send_raw(encode_frame("job", "abc")[:cut])


@pytest.mark.parametrize("size_bytes", [0, FRAME_BYTES_MAX + 1, 2**32 - 1])
def test_a_length_that_no_frame_has_is_refused_before_anything_is_read(size_bytes: int) -> None:
    with pytest.raises(FrameError, match="allowed"):
        send_raw(LENGTH.pack(size_bytes))


def test_a_frame_that_would_be_too_long_is_not_sent() -> None:
    with pytest.raises(FrameError, match="allowed"):
        encode_frame("job", b"x" * FRAME_BYTES_MAX)


@pytest.mark.parametrize("body", [b"\xc1", b"\x93\x01", b"\x90", b"\x91\x01", b"\xa1a", b"\x91\xa1\xff"])
def test_a_body_that_is_no_array_beginning_with_its_kind_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        decode_body(body)


@given(st.binary(max_size=64))
@settings(max_examples=200)
def test_whatever_the_bytes_a_body_is_a_frame_or_a_frame_error(body: bytes) -> None:
    try:
        frame = decode_body(body)
    except FrameError:
        return
    assert isinstance(frame[0], str)


@pytest.mark.parametrize("frame", [["job", 1], ["hello", 1, "t"], ["hello", "1", "t", "{}"], ["hello", 1, 2, "{}"]])
def test_only_a_hello_is_a_hello(frame: list[object]) -> None:
    with pytest.raises(FrameError, match="expected a hello"):
        decode_hello(frame)


def test_another_version_is_named() -> None:
    with pytest.raises(FrameError, match="worker protocol 9"):
        decode_hello(["hello", 9, "digits", "{}"])


@pytest.mark.parametrize("text", ["[1]", "3", "{", "null"])
def test_settings_are_a_json_object(text: str) -> None:
    with pytest.raises(FrameError, match="JSON"):
        decode_settings(text)


@pytest.mark.parametrize("value", [float("nan"), b"x", object(), "x" * SETTINGS_BYTES_MAX])
def test_settings_that_json_does_not_hold_are_refused(value: object) -> None:
    with pytest.raises(FrameError, match="settings"):
        encode_settings({"a": value})


def test_the_documented_limits_are_those_of_the_module() -> None:
    assert worker_wire.NICE_DEFAULT >= 0
    assert worker_wire.WORKERS_MAX_DEFAULT >= 31  # as many as there may be voters

"""The queue before the core: bounded by sender, and what this machine reports is never dropped (A8)."""

import pytest

from consensus.events import Fired, GossipTimer, PeerUp
from node.inbox import Frame, Inbox

LOUD, QUIET = b"l" * 32, b"q" * 32


def offer(inbox: Inbox, member: bytes, size_bytes: int = 10) -> bool:
    return inbox.put_frame(member, bytes(size_bytes))


def test_events_come_out_in_the_order_in_which_they_came_in() -> None:
    inbox = Inbox()
    inbox.put(PeerUp(LOUD))
    inbox.put_frame(LOUD, b"one")
    inbox.put(Fired(GossipTimer()))
    inbox.put_frame(QUIET, b"two")
    assert len(inbox) == 4
    assert [inbox.pop() for _ in range(4)] == [
        PeerUp(LOUD),
        Frame(LOUD, b"one"),
        Fired(GossipTimer()),
        Frame(QUIET, b"two"),
    ]
    assert not inbox


def test_a_flood_of_frames_is_cut_at_the_limit_and_counted() -> None:
    inbox = Inbox(frames_max=3)
    assert [offer(inbox, LOUD) for _ in range(5)] == [True, True, True, False, False]
    assert inbox.dropped == 2
    assert len(inbox) == 3


def test_a_flood_of_bytes_is_cut_at_the_limit() -> None:
    inbox = Inbox(bytes_max=25)
    assert [offer(inbox, LOUD, 10) for _ in range(3)] == [True, True, False]
    assert offer(inbox, LOUD, 5)


def test_one_large_frame_fits_where_nothing_of_its_sender_waits() -> None:
    inbox = Inbox(bytes_max=25)
    assert offer(inbox, LOUD, 1_000)
    assert not offer(inbox, LOUD, 1)


def test_a_flood_of_one_member_leaves_the_others_their_room() -> None:
    inbox = Inbox(frames_max=2)
    for _ in range(5):
        offer(inbox, LOUD)
    assert offer(inbox, QUIET)


def test_own_events_always_have_room() -> None:
    inbox = Inbox(frames_max=1, bytes_max=1)
    offer(inbox, LOUD)
    for _ in range(10):
        inbox.put(Fired(GossipTimer()))
    assert len(inbox) == 11
    assert inbox.dropped == 0


def test_what_was_taken_frees_its_room() -> None:
    inbox = Inbox(frames_max=2, bytes_max=20)
    for number in range(50):
        data = number.to_bytes(10, "big")
        assert inbox.put_frame(LOUD, data)
        assert inbox.pop() == Frame(LOUD, data)
    assert inbox.dropped == 0


def test_an_empty_inbox_has_nothing_to_take() -> None:
    with pytest.raises(IndexError):
        Inbox().pop()

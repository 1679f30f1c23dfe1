"""Messages between peers have one byte form (S5), and their limits are part of it."""

import pytest

from consensus.events import HAVE_IDS_MAX, ID_PREFIX_BYTES, Have, PeerUp, RoundTimer, ViewTimer
from ledger.codec import CodecError

ID = bytes(ID_PREFIX_BYTES)


def test_have_survives_its_bytes() -> None:
    have = Have(12, 3, (ID, b"\xff" * ID_PREFIX_BYTES))
    assert Have.decode(have.encode()) == have


def test_have_with_too_many_or_too_short_ids_has_no_bytes() -> None:
    """A8."""
    with pytest.raises(CodecError):
        Have(0, 0, (ID,) * (HAVE_IDS_MAX + 1)).encode()
    with pytest.raises(CodecError):
        Have(0, 0, (ID[:-1],)).encode()


def test_have_with_a_negative_height_has_no_bytes() -> None:
    with pytest.raises(CodecError):
        Have(-1, 0, ()).encode()


def test_timers_of_the_same_name_replace_each_other() -> None:
    """A shell keys them by value."""
    assert len({ViewTimer(5, 0, "propose"), ViewTimer(5, 0, "propose"), ViewTimer(5, 1, "propose")}) == 2
    assert len({RoundTimer(1, "deadline"), RoundTimer(1, "fetch"), RoundTimer(1, "fetch")}) == 2


def test_events_are_values() -> None:
    assert PeerUp(b"a") == PeerUp(b"a")

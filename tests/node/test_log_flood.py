"""A flood of warnings that another peer causes is held back (A8), on a clock of the test's own."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.log_flood import FloodFilter, RateLimiter, get_fields


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_record(level: int, message: str, source: str | None, fields: dict[str, object] | None) -> logging.LogRecord:
    record = logging.LogRecord("node.x", level, "x.py", 1, "%s", (message,), None)
    if fields is not None:
        record.fields, record.source = fields, source
    return record


def test_a_burst_passes_and_the_rest_is_held_back(clock: Clock) -> None:
    limiter = RateLimiter(burst=3, refill_per_s=1, clock=clock)
    assert [limiter.allow(("m", "a")) for _ in range(5)] == [0, 0, 0, None, None]


def test_the_next_that_passes_says_how_many_were_held_back(clock: Clock) -> None:
    limiter = RateLimiter(burst=1, refill_per_s=0.5, clock=clock)
    assert [limiter.allow(("m", "a")) for _ in range(4)] == [0, None, None, None]
    clock.now_s = 2
    assert limiter.allow(("m", "a")) == 3
    clock.now_s = 4
    assert limiter.allow(("m", "a")) == 0


def test_one_source_does_not_use_up_another_ones_budget(clock: Clock) -> None:
    limiter = RateLimiter(burst=1, refill_per_s=1, clock=clock)
    assert limiter.allow(("m", "a")) == 0
    assert limiter.allow(("m", "a")) is None
    assert limiter.allow(("m", "b")) == 0


def test_the_table_of_sources_is_bounded_and_forgets_the_oldest(clock: Clock) -> None:
    limiter = RateLimiter(burst=1, refill_per_s=0, sources_max=2, clock=clock)
    for source in "abc":
        assert limiter.allow(("m", source)) == 0
    assert limiter.allow(("m", "b")) is None
    assert limiter.allow(("m", "a")) == 0  # forgotten, so new again


@given(st.lists(st.floats(0, 10), max_size=60), st.integers(1, 5), st.floats(0, 4))
@settings(max_examples=60)
def test_never_more_than_the_burst_and_the_refill_pass(gaps_s: list[float], burst: int, refill_per_s: float) -> None:
    clock = Clock()
    limiter = RateLimiter(burst, refill_per_s, clock=clock)
    passed = 0
    for gap_s in gaps_s:
        clock.now_s += gap_s
        passed += limiter.allow(("m", "a")) is not None
    assert passed <= burst + sum(gaps_s) * refill_per_s + 1e-6


def test_warnings_of_one_source_are_limited_and_the_count_is_told(clock: Clock) -> None:
    flood = FloodFilter(RateLimiter(1, 1, clock=clock), RateLimiter(100, 100, clock=clock))
    assert flood.filter(make_record(logging.WARNING, "bad frame", "peer-1", {}))
    assert not flood.filter(make_record(logging.WARNING, "bad frame", "peer-1", {}))
    clock.now_s = 1
    record = make_record(logging.WARNING, "bad frame", "peer-1", {"size": 3})
    assert flood.filter(record)
    assert get_fields(record) == {"size": 3, "suppressed": 1}


def test_many_made_up_sources_share_a_budget(clock: Clock) -> None:
    flood = FloodFilter(RateLimiter(5, 0, clock=clock), RateLimiter(10, 0, clock=clock))
    passed = sum(flood.filter(make_record(logging.WARNING, "bad frame", f"peer-{n}", {})) for n in range(1000))
    assert passed == 10


def test_what_we_say_of_ourselves_is_never_held_back(clock: Clock) -> None:
    flood = FloodFilter(RateLimiter(1, 0, clock=clock), RateLimiter(1, 0, clock=clock))
    assert all(flood.filter(make_record(logging.ERROR, "disk full", None, {})) for _ in range(50))
    assert all(flood.filter(make_record(logging.INFO, "final", None, {})) for _ in range(50))


def test_a_peer_that_comes_and_goes_all_the_time_does_not_fill_the_log(clock: Clock) -> None:
    """A8: what another peer makes us say is limited at every level."""
    flood = FloodFilter(RateLimiter(3, 0, clock=clock), RateLimiter(100, 0, clock=clock))
    passed = sum(flood.filter(make_record(logging.INFO, "peer connected", "peer-1", {})) for _ in range(50))
    assert passed == 3


def test_a_library_is_limited_by_its_message_template(clock: Clock) -> None:
    flood = FloodFilter(RateLimiter(2, 0, clock=clock), RateLimiter(100, 0, clock=clock))
    passed = sum(flood.filter(make_record(logging.WARNING, f"socket {n}", None, None)) for n in range(30))
    assert passed == 2

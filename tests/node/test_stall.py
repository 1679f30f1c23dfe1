"""The heartbeat that measures how long the loop stood still, on a clock and a scheduler of the test's own."""

import asyncio
from collections.abc import Callable

import pytest

from node.stall import StallMeter, read_core_wait


class ManualLoop:
    """A scheduler that runs its one callback when told; wall clock and wait for a core in seconds."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.waited_s = 5.0
        self.callback: Callable[[], None] | None = None
        self.delay_s = 0.0

    def call_later(self, delay: float, callback: Callable[[], None], /) -> "ManualLoop":
        self.delay_s, self.callback = delay, callback
        return self

    def cancel(self) -> None:
        self.callback = None

    def beat_after(self, wall_ms: float, waited_ms: float = 0.0) -> None:
        self.now_s += wall_ms / 1000
        self.waited_s += waited_ms / 1000
        callback, self.callback = self.callback, None
        assert callback is not None
        callback()


@pytest.fixture
def loop() -> ManualLoop:
    return ManualLoop()


@pytest.fixture
def meter(loop: ManualLoop) -> StallMeter:
    meter = StallMeter(0.01, clock=lambda: loop.now_s, waited=lambda: loop.waited_s)
    meter.start(loop)
    return meter


def test_the_longest_gap_between_two_beats_is_kept(meter: StallMeter, loop: ManualLoop) -> None:
    for wall_ms in (10, 73, 11):
        loop.beat_after(wall_ms)
    assert meter.max_ms == pytest.approx(73)
    assert loop.delay_s == 0.01


def test_own_time_is_kept_apart_from_time_in_which_others_had_the_cores(meter: StallMeter, loop: ManualLoop) -> None:
    loop.beat_after(80, waited_ms=68)
    loop.beat_after(30, waited_ms=5)
    snapshot = meter.snapshot()
    assert snapshot.max_ms == pytest.approx(80)
    assert snapshot.own_max_ms == pytest.approx(25)


def test_the_kernel_tells_how_long_a_thread_waited_for_a_core() -> None:
    first = read_core_wait()
    assert 0 <= first <= read_core_wait()


def test_gaps_over_the_limit_are_counted(meter: StallMeter, loop: ManualLoop) -> None:
    for wall_ms in (10, 51, 49, 200):
        loop.beat_after(wall_ms)
    assert (meter.snapshot().over_limit, meter.snapshot().beats) == (2, 4)


def test_a_stopped_meter_keeps_its_figures_and_beats_no_more(meter: StallMeter, loop: ManualLoop) -> None:
    loop.beat_after(20)
    meter.stop()
    assert loop.callback is None
    assert meter.max_ms == pytest.approx(20)


def test_a_reset_forgets_start_up(meter: StallMeter, loop: ManualLoop) -> None:
    loop.beat_after(500)
    meter.reset()
    loop.beat_after(12)
    assert meter.snapshot().max_ms == pytest.approx(12)
    assert meter.snapshot().over_limit == 0


def test_time_between_stop_and_start_is_no_stall(meter: StallMeter, loop: ManualLoop) -> None:
    meter.stop()
    loop.now_s += 60
    meter.start(loop)
    loop.beat_after(10)
    assert meter.max_ms == pytest.approx(10)


def test_an_interval_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="interval_s"):
        StallMeter(0)


async def test_it_beats_on_the_running_loop() -> None:
    meter = StallMeter(0.0001)
    meter.start()
    while meter.snapshot().beats < 3:  # noqa: ASYNC110 - the meter tells nobody
        await asyncio.sleep(0)
    meter.stop()
    assert meter.max_ms > 0

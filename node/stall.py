"""How long the event loop of a peer stood still (the limit is 50 ms, ARCHITECTURE.md)."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

INTERVAL_S_DEFAULT: Final = 0.01
STALL_LIMIT_MS: Final = 50.0


class Handle(Protocol):
    """What a scheduler returns for a callback that it will run."""

    def cancel(self) -> None:
        """Forget the callback."""
        ...


class Scheduler(Protocol):
    """The one method of an event loop that the meter uses."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Handle:
        """Run `callback` after `delay` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class StallSnapshot:
    """What the meter saw so far, in milliseconds."""

    max_ms: float  # longest wall time between two beats, the interval itself included
    own_max_ms: float  # the same without the time in which the thread was ready to run and waited for a core
    over_limit: int  # gaps of more than STALL_LIMIT_MS
    beats: int


def read_core_wait() -> float:
    """Seconds for which the calling thread was ready to run and waited for a core, from the Linux kernel's schedstat;
    always 0 where there is none."""
    try:
        with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:
            return int(file.read(128).split()[1]) / 1e9
    except OSError:
        return 0.0


class StallMeter:
    """A heartbeat on the loop, compared with a monotonic clock.

    The interval is not subtracted: a stall begins anywhere between two beats, and a figure too high by one
    interval is better than one too low. The wall figure also counts the time in which the thread was ready and
    other processes had the cores (many peers on one machine); the own figure leaves that out, and counts all that
    this process itself did: callbacks, waits for the disk, waits for other threads.
    """

    def __init__(
        self,
        interval_s: float = INTERVAL_S_DEFAULT,
        clock: Callable[[], float] = time.monotonic,
        waited: Callable[[], float] = read_core_wait,
    ) -> None:
        """`waited` tells how many seconds the loop's thread has waited for a core since it began."""
        if interval_s <= 0:
            raise ValueError(f"interval_s must be above 0, not {interval_s}")
        self._interval_s = interval_s
        self._clock = clock
        self._waited = waited
        self._scheduler: Scheduler | None = None
        self._handle: Handle | None = None
        self._last_s = self._last_waited_s = 0.0
        self._max_ms = self._own_max_ms = 0.0
        self._over_limit = self._beats = 0

    @property
    def max_ms(self) -> float:
        """Longest wall time between two beats."""
        return self._max_ms

    def start(self, scheduler: Scheduler | None = None) -> None:
        """Beat on `scheduler`, by default the running loop; must be called in its thread."""
        self.stop()
        self._scheduler = asyncio.get_running_loop() if scheduler is None else scheduler
        self._last_s, self._last_waited_s = self._clock(), self._waited()
        self._handle = self._scheduler.call_later(self._interval_s, self._beat)

    def stop(self) -> None:
        """Beat no more; what was measured stays."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._scheduler = None

    def snapshot(self) -> StallSnapshot:
        """Return what was measured since the meter was made or reset."""
        return StallSnapshot(self._max_ms, self._own_max_ms, self._over_limit, self._beats)

    def reset(self) -> None:
        """Forget the maxima, for a measurement that begins after start-up."""
        self._max_ms = self._own_max_ms = 0.0
        self._over_limit = self._beats = 0

    def _beat(self) -> None:
        if self._scheduler is None:
            return
        now_s, waited_s = self._clock(), self._waited()
        gap_ms = (now_s - self._last_s) * 1000
        self._max_ms = max(self._max_ms, gap_ms)
        self._own_max_ms = max(self._own_max_ms, gap_ms - (waited_s - self._last_waited_s) * 1000)
        self._over_limit += gap_ms > STALL_LIMIT_MS
        self._beats += 1
        self._last_s, self._last_waited_s = now_s, waited_s
        self._handle = self._scheduler.call_later(self._interval_s, self._beat)

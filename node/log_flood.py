"""Limits on what a faulty peer can make this one log (A8): a flood fills neither the disk nor the screen."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

BURST_DEFAULT: Final = 20
REFILL_PER_S_DEFAULT: Final = 1.0
SOURCES_MAX: Final = 1024


def get_fields(record: logging.LogRecord) -> Mapping[str, object] | None:
    """Return the structured fields of a record that a `Log` made; None for a library's own."""
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, Mapping) else None


@dataclass(slots=True)
class _Budget:
    tokens: float
    at_s: float
    suppressed: int = 0


class RateLimiter:
    """A token bucket for each key, for the `sources_max` keys used last; the oldest key is forgotten."""

    def __init__(
        self,
        burst: int = BURST_DEFAULT,
        refill_per_s: float = REFILL_PER_S_DEFAULT,
        sources_max: int = SOURCES_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst = burst
        self._refill_per_s = refill_per_s
        self._sources_max = sources_max
        self._clock = clock
        self._budgets: OrderedDict[tuple[str, str], _Budget] = OrderedDict()

    def allow(self, key: tuple[str, str]) -> int | None:
        """Return how many were held back since the last one that passed, or None if this one is held back."""
        now_s = self._clock()
        budget = self._budgets.pop(key, None) or _Budget(float(self._burst), now_s)
        self._budgets[key] = budget
        if len(self._budgets) > self._sources_max:
            self._budgets.popitem(last=False)
        budget.tokens = min(float(self._burst), budget.tokens + (now_s - budget.at_s) * self._refill_per_s)
        budget.at_s = now_s
        if budget.tokens < 1:
            budget.suppressed += 1
            return None
        budget.tokens -= 1
        suppressed, budget.suppressed = budget.suppressed, 0
        return suppressed


class FloodFilter(logging.Filter):
    """Holds back repeated warnings and errors, and whatever else another peer makes us say: ours by (message,
    source), a library's by its message template.

    Many sources together share a second budget, so that making up names doesn't help a flooder.
    """

    def __init__(self, each: RateLimiter | None = None, together: RateLimiter | None = None) -> None:
        super().__init__()
        self._each = RateLimiter() if each is None else each
        self._together = RateLimiter(10 * BURST_DEFAULT, 10 * REFILL_PER_S_DEFAULT) if together is None else together

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written; the next one that passes says how many weren't."""
        fields = get_fields(record)
        source = getattr(record, "source", None)
        if record.levelno < logging.WARNING and source is None:
            return True
        if fields is not None and source is None:
            return True  # our own doing: never hidden
        template = record.getMessage() if fields is not None else str(record.msg)
        suppressed = self._each.allow((template, str(source)))
        shared = self._together.allow((record.name, template)) if suppressed is not None else None
        if suppressed is None or shared is None:
            return False
        if suppressed + shared:
            record.fields = {**(fields or {}), "suppressed": suppressed + shared}
        return True

"""What a peer's fault costs the peer (A8): a score that decays, a ban at the threshold, and a bucket against floods."""

from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]


class TokenBucket:
    """`rate_per_s` on average, `burst_max` at once; seconds come from `clock`."""

    def __init__(self, rate_per_s: float, burst_max: float, clock: Clock) -> None:
        self._rate_per_s = rate_per_s
        self._burst_max = burst_max
        self._clock = clock
        self._tokens = burst_max
        self._at = clock()

    def take(self, amount: float) -> bool:
        """Whether `amount` may pass now; if not, nothing is taken."""
        now = self._clock()
        self._tokens = min(self._burst_max, self._tokens + (now - self._at) * self._rate_per_s)
        self._at = now
        if amount > self._tokens:
            return False
        self._tokens -= amount
        return True


@dataclass(slots=True)
class _Record:
    score: float
    at: float
    banned_until: float = 0.0


class FaultBook:
    """The fault score of each member: one point a fault, one point less every `decay_s`; `faults_max` is a ban."""

    def __init__(self, faults_max: int, decay_s: float, ban_s: float, clock: Clock) -> None:
        self._faults_max = faults_max
        self._decay_s = decay_s
        self._ban_s = ban_s
        self._clock = clock
        self._records: dict[bytes, _Record] = {}

    def add(self, member: bytes) -> bool:
        """Count one fault of a member (one of the chain's: their number is limited); True when that banned it."""
        now = self._clock()
        record = self._records.setdefault(member, _Record(0.0, now))
        record.score = max(0.0, record.score - (now - record.at) / self._decay_s) + 1
        record.at = now
        # What has decayed since the last whole point does not spare anybody: the n-th fault in a row bans.
        if record.score <= self._faults_max - 1 or now < record.banned_until:
            return False
        record.score = 0.0
        record.banned_until = now + self._ban_s
        return True

    def banned_for_s(self, member: bytes) -> float:
        """Seconds until the member's ban ends; 0 when it is not banned."""
        record = self._records.get(member)
        return max(0.0, record.banned_until - self._clock()) if record else 0.0

"""What this peer remembers for people: the last rounds as they became final, and whose faults were how many."""

import time
from collections import Counter, deque

from consensus.events import Commit
from ledger.chain import Chain
from ledger.heights import model_height
from ledger.state import NONE, REJECTED, State
from ledger.types import ModelBody
from node.logs import get_log

ROUNDS_MAX = 64
FAULT_KINDS_MAX = 32
FAULT_CHARS_MAX = 60

log = get_log(__name__)


class History:
    """Fed with every commit; kept in memory, bounded."""

    def __init__(self, chain: Chain) -> None:
        self._state: State = chain.state
        self._k = chain.params.round_length
        self._since = time.monotonic()
        self.rounds: deque[dict[str, object]] = deque(maxlen=ROUNDS_MAX)
        self.faults: Counter[str] = Counter()

    def faulted(self, reason: str) -> None:
        """A peer's fault, counted by the rule that it broke (A8)."""
        kind = reason.rsplit(": ", 1)[-1][:FAULT_CHARS_MAX]
        if kind in self.faults or len(self.faults) < FAULT_KINDS_MAX:
            self.faults[kind] += 1

    def note(self, commit: Commit) -> None:
        """A batch became final; a model block ends its round."""
        before, self._state = self._state, commit.state
        body = commit.batch.blocks[-1].body
        if not isinstance(body, ModelBody):
            return
        now = time.monotonic()
        listed = [item.outcome for item in before.listed]
        line: dict[str, object] = {
            "round": before.round.round,
            "height": model_height(self._k, before.round.round),
            "model": body.model.blob.hex(),
            "committee": [member.hex() for member in before.round.committee],
            "offered": len(before.updates) + sum(outcome != NONE for outcome in listed),
            "accepted": len(before.updates),
            "rejected": sum(outcome == REJECTED for outcome in listed),
            "empty": self._k - 1 - len(before.updates),
            "seconds": round(now - self._since, 3),
        }
        self._since = now
        self.rounds.append(line)
        shown = {name: line[name] for name in ("round", "height", "offered", "accepted", "rejected", "seconds")}
        log.info("model final", **shown)

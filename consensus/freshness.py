"""What only I can say of a fresh proposal (A3): my clock and my blobs. Asked at L22 alone; None means "not yet"."""

from collections.abc import Sequence

from consensus.drafting import Candidates, RoundClock, is_unchanged
from consensus.pool import RoundPool
from ledger.endorsement import REJECTED, get_outcome
from ledger.params import Params
from ledger.state import State
from ledger.transition import get_listed_scores
from ledger.types import Block, EmptyBody, ModelBody, Score

CLOCK_AHEAD_MAX_MS = 10_000


class FreshCheck:
    """The voter's own view, put together for one question."""

    def __init__(
        self,
        params: Params,
        state: State,
        pool: RoundPool,
        clock: RoundClock,
        candidates: Candidates,
        now_ms: int,
        wall_ms: int,
    ) -> None:
        self.params, self.state, self.pool, self.clock = params, state, pool, clock
        self.candidates, self.now_ms, self.wall_ms = candidates, now_ms, wall_ms

    def answer(self, blocks: Sequence[Block]) -> bool | None:
        """True: I prevote it; False: I prevote nil; None: hold it until I know, or until timeoutPropose."""
        if blocks[-1].header.time_ms > self.wall_ms + CLOCK_AHEAD_MAX_MS:
            return False
        body = blocks[-1].body
        if isinstance(body, ModelBody):
            return self._model(body)
        return self._close(blocks) if isinstance(body, EmptyBody) else True

    def _is_old(self, since_ms: int) -> bool:
        return self.now_ms - since_ms > self.params.grace_ms

    def _omits(self, scores: Sequence[Score], listed: Sequence[Score]) -> bool:
        """Whether a score that I have held for longer than `grace` is not listed (R6)."""
        known = {(score.offer, score.scorer) for score in listed}
        return any(
            self._is_old(self.pool.held_since(score)) and (score.offer, score.scorer) not in known for score in scores
        )

    def _close(self, blocks: Sequence[Block]) -> bool | None:
        close = next(block.body for block in blocks if isinstance(block.body, EmptyBody))
        if self.state.round.closed or not isinstance(close, EmptyBody):
            return True
        for item in close.unfilled:
            offer = self.pool.offers.get(item.trainer)
            if offer is None:
                continue
            if not item.offer and self._is_old(self.pool.held_since(offer)):
                return False
            if item.offer and self._omits(self.pool.scores_of(item.offer[0].id()), item.scores):
                return False
        passed = self.clock.has_passed(self.clock.opened_ms, self.params.round_deadline_ms, self.now_ms)
        return True if passed or self._is_decided_by(close) else None

    def _is_decided_by(self, close: EmptyBody) -> bool:
        """Whether the batch itself shows that every drawn trainer is accepted or rejected (R6). It is valid: the close
        lists all that are not accepted. Asked after every event, so nothing is applied again (A8)."""
        seats = len(self.state.round.committee)
        outcomes = (get_outcome(self.params, item.scores, seats) for item in close.unfilled)
        return bool(self.state.round.trainers) and all(outcome == REJECTED for outcome in outcomes)

    def _model(self, body: ModelBody) -> bool | None:
        late = self.pool.late_scores(get_listed_scores(self.state), self.state.round.committee)
        if self._omits(late, body.late):
            return False
        if body.missing:
            refs = {update.height: update.update for update in self.state.updates}
            if any(refs[height] in self.candidates.held for height in body.missing):
                return False  # R7: I hold what is called missing
            if not self.clock.has_passed(self.clock.slots_final_ms, self.params.fetch_deadline_ms, self.now_ms):
                return None
        if is_unchanged(self.params, self.state, body.missing):
            return True  # the transition has compared it with the old model
        candidate = self.candidates.models.get(body.missing)
        return None if candidate is None else candidate == body.model

"""What this member owes the open round: an update, scores, the candidate model, a word that it is back (R2, R3, R7)."""

from collections.abc import Iterator, Sequence

from consensus.drafting import Candidates, RoundClock, get_missing, is_unchanged, open_slots
from consensus.events import Aggregate, AggregateInput, Effect, Evaluate, Persist, Train
from consensus.pool import RoundMessage, RoundPool
from consensus.signer import Signer
from ledger.params import Params
from ledger.state import ABSENT, State, is_finished
from ledger.types import BlobRef


class RoundWork:
    """All that is kept of the open round beside the chain, and what was asked of the workers already."""

    def __init__(self, params: Params, signer: Signer, beacon: Sequence[bytes]) -> None:
        self.params, self.signer, self.beacon = params, signer, beacon
        self.pool = RoundPool(params)
        self.clock = RoundClock()
        self.candidates = Candidates()
        self._training = False
        self._scoring: set[bytes] = set()
        self._aggregating: set[tuple[int, ...]] = set()
        self.batch_timer_set = False

    @property
    def me(self) -> bytes:
        return self.signer.public

    def ask(self, state: State, now_ms: int) -> Iterator[Effect]:
        """Work to start now; each piece is asked for once."""
        if is_finished(self.params, state):
            return
        yield from self._ask_training(state)
        yield from self._ask_scores(state)
        yield from self._ask_candidate(state, now_ms)

    def _ask_training(self, state: State) -> Iterator[Effect]:
        due = self.me in state.round.trainers and open_slots(self.params, state) > 0 and not state.round.closed
        if due and not self._training and self.me not in self.pool.offers:
            self._training = True
            yield Train(state.round.round, state.round.model)

    def _ask_scores(self, state: State) -> Iterator[Effect]:
        if self.me not in state.round.committee:
            return
        for offer in self.pool.offers.values():
            id = offer.id()
            if id not in self._scoring and self.me not in self.pool.scores.get(id, {}):
                self._scoring.add(id)
                yield Evaluate(state.round.round, offer, state.round.model)

    def _ask_candidate(self, state: State, now_ms: int) -> Iterator[Effect]:
        """The aggregate of the final slots; after `fetch_deadline` also without what cannot be had (R7)."""
        if open_slots(self.params, state) > 0:
            return
        yield from self.ask_aggregate(state, ())
        late = self.clock.has_passed(self.clock.slots_final_ms, self.params.fetch_deadline_ms, now_ms)
        if late and () not in self.candidates.models:
            yield from self.ask_aggregate(state, get_missing(state, self.candidates))

    def ask_aggregate(self, state: State, missing: tuple[int, ...]) -> Iterator[Effect]:
        """Ask for one candidate, unless it is the old model or was asked for."""
        if missing in self._aggregating or is_unchanged(self.params, state, missing):
            return
        self._aggregating.add(missing)
        yield make_aggregate(state, missing)

    # ---------------------------------------------------------------------------------------------- signed results

    def make_offer(
        self, state: State, update: BlobRef, seal: bytes, samples: int, codec: str
    ) -> tuple[list[Effect], RoundMessage | None]:
        """My offer, persisted before it is spoken (A5, R2); the reveal is beacon link L-1-t (R9)."""
        round = state.round
        reveal = self.beacon[self.params.beacon_links - 1 - round.round]
        samples = min(samples, self.params.samples_max)
        base = round.model.blob
        message, record = self.signer.offer(state.chain, round.round, base, update, seal, samples, codec, reveal)
        return ([Persist(record)] if record else []), message

    def make_score(
        self, state: State, offer: bytes, value: int, baseline: int, code: int
    ) -> tuple[list[Effect], RoundMessage | None]:
        """My score of one offer, within the range that genesis allows (R3)."""
        low, high = self.params.score_min, self.params.score_max
        if not code:
            value, baseline = min(max(value, low), high), min(max(baseline, low), high)
        message, record = self.signer.score(state.chain, state.round.round, offer, value, baseline, code)
        return ([Persist(record)] if record else []), message

    def make_present(self, state: State) -> tuple[list[Effect], RoundMessage | None]:
        """Where the chain calls me absent: I am back (R6)."""
        mine = state.member(self.me)
        if mine is None or mine.status != ABSENT or self.me in self.pool.presents or is_finished(self.params, state):
            return [], None
        message, record = self.signer.present(state.chain, state.round.round)
        return ([Persist(record)] if record else []), message


def make_aggregate(state: State, missing: tuple[int, ...]) -> Aggregate:
    """The order to compute the candidate of the open round without the updates at heights `missing` (R7)."""
    inputs = tuple(
        AggregateInput(update.height, update.trainer, update.update, update.codec, update.weight)
        for update in state.updates
    )
    holders = (*state.round.committee, *(update.trainer for update in state.updates))
    return Aggregate(state.round.round, state.round.model, inputs, missing, holders)

"""The round's offers, scores and presents as this peer holds them, and since when (R2, R3, R6). Bounded: one offer a
trainer, one score a (committee member, offer), one present a member."""

from ledger.endorsement import ACCEPTED, REJECTED, UNDECIDED, get_outcome
from ledger.params import Params
from ledger.state import State
from ledger.transition import check_offer, check_present, check_score, get_listed_scores
from ledger.types import Offer, Present, Score

RoundMessage = Offer | Score | Present
ORPHANS_FACTOR = 2


class RoundPool:
    """What is known of one round beside the chain. `add` verifies before it keeps."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.offers: dict[bytes, Offer] = {}
        self.scores: dict[bytes, dict[bytes, Score]] = {}
        self.presents: dict[bytes, Present] = {}
        self.seen_ms: dict[bytes, int] = {}
        self.decided_ms: dict[bytes, int] = {}
        self._outcomes: dict[bytes, str] = {}

    def add(self, state: State, message: RoundMessage, now_ms: int) -> bool:
        """Keep a message of the open round; False when it is known or there is no room for it. Raises `InvalidMessage`
        when it does not stand, which is its sender's fault (A8)."""
        if message.id() in self.seen_ms:
            return False
        if isinstance(message, Offer):
            return self._add_offer(state, message, now_ms)
        if isinstance(message, Score):
            return self._add_score(state, message, now_ms)
        check_present(state, message)
        self.presents[message.member] = message
        self.seen_ms[message.id()] = now_ms
        return True

    def _add_offer(self, state: State, offer: Offer, now_ms: int) -> bool:
        if offer.trainer in self.offers:
            return False
        check_offer(self.params, state, offer)
        self.offers[offer.trainer] = offer
        self.seen_ms[offer.id()] = now_ms
        self._note_outcome(state, offer.id(), now_ms)
        return True

    def _add_score(self, state: State, score: Score, now_ms: int) -> bool:
        held = self.scores.get(score.offer, {})
        if score.scorer in held:
            return False
        check_score(self.params, state, score)
        if not self._is_known(state, score.offer) and not self._has_room(score.scorer):
            return False
        self.scores.setdefault(score.offer, {})[score.scorer] = score
        self.seen_ms[score.id()] = now_ms
        self._note_outcome(state, score.offer, now_ms)
        return True

    def _is_known(self, state: State, offer: bytes) -> bool:
        """Whether this offer is held or on chain. There is always room for its scores: else a scorer could fill some
        voters with scores of nothing, and then give the others one that those must not omit and cannot list (R6)."""
        return any(held.id() == offer for held in self.offers.values()) or offer in get_listed_scores(state)

    def _has_room(self, scorer: bytes) -> bool:
        return sum(scorer in scores for scores in self.scores.values()) < ORPHANS_FACTOR * self.params.round_length

    def _note_outcome(self, state: State, offer: bytes, now_ms: int) -> None:
        outcome = get_outcome(self.params, self.scores_of(offer), len(state.round.committee))
        if outcome == ACCEPTED:
            self.decided_ms.setdefault(offer, now_ms)
        self._outcomes[offer] = outcome

    def scores_of(self, offer: bytes) -> tuple[Score, ...]:
        """The scores of an offer, in order of scorer key."""
        held = self.scores.get(offer, {})
        return tuple(held[scorer] for scorer in sorted(held))

    def get_outcome(self, offer: bytes) -> str:
        """R4 over all scores that are held."""
        return self._outcomes.get(offer, UNDECIDED)

    def get_accepted(self, state: State) -> list[Offer]:
        """Accepted offers that are not on chain yet, in order of trainer key."""
        on_chain = {update.trainer for update in state.updates}
        waiting = [self.offers[trainer] for trainer in sorted(self.offers) if trainer not in on_chain]
        return [offer for offer in waiting if self.get_outcome(offer.id()) == ACCEPTED]

    def is_decided(self, state: State) -> bool:
        """Whether every drawn trainer is accepted or rejected (R6). A round without trainers waits for its deadline:
        otherwise empty rounds would follow each other as fast as the voters can vote."""
        on_chain = {update.trainer for update in state.updates}
        left = [trainer for trainer in state.round.trainers if trainer not in on_chain]
        offers = [self.offers.get(trainer) for trainer in left]
        decided = all(offer and self.get_outcome(offer.id()) in (ACCEPTED, REJECTED) for offer in offers)
        return decided and bool(state.round.trainers)

    def held_since(self, message: RoundMessage) -> int:
        """When this message came, on this machine's monotonic clock in ms."""
        return self.seen_ms[message.id()]

    def late_scores(self, listed: dict[bytes, int], committee: tuple[bytes, ...]) -> list[Score]:
        """Scores held for offers on chain that the chain does not list yet, by (offer, scorer) (R6)."""
        late: list[Score] = []
        for offer in sorted(listed):
            unlisted = (
                score for score in self.scores_of(offer) if not listed[offer] >> committee.index(score.scorer) & 1
            )
            late.extend(unlisted)
        return late

    def messages(self) -> list[RoundMessage]:
        """All that is held, to be sent again."""
        scores = [score for held in self.scores.values() for score in held.values()]
        return [*self.offers.values(), *scores, *self.presents.values()]

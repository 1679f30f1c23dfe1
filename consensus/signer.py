"""The member key and its promises (A5): the only module that signs votes, proposals, offers, scores and presents.

Pure: a new signature comes with a record. The shell appends the record to the signer's log and syncs it before the
message leaves this machine; if it cannot, it stops. Asked again, or after a restart, the stored message is returned.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consensus.actions import STEPS, Batch, Resume, SaveLock, batch_value
from ledger.codec import Choice, Int, Items, Record
from ledger.keys import public_bytes
from ledger.types import (
    MEMBERS_MAX,
    SLOTS_MAX,
    BlobRef,
    Block,
    Height,
    Key,
    Offer,
    Present,
    Proposal,
    ProposedBatch,
    Score,
    ViewRound,
    Vote,
)

NO_INSTANCE = -1
NO_ROUND = -1


class SignerError(Exception):
    """The signer's log is not one that this key may sign on."""


@dataclass(frozen=True, slots=True)
class Identity(Record):
    """First record of a log: the member key whose promises follow."""

    TAG: ClassVar[int] = 1
    public: Key


@dataclass(frozen=True, slots=True)
class SignedVote(Record):
    TAG: ClassVar[int] = 2
    vote: Vote


@dataclass(frozen=True, slots=True)
class SignedProposal(Record):
    TAG: ClassVar[int] = 3
    batch: ProposedBatch


@dataclass(frozen=True, slots=True)
class SignedOffer(Record):
    TAG: ClassVar[int] = 4
    offer: Offer


@dataclass(frozen=True, slots=True)
class SignedScore(Record):
    TAG: ClassVar[int] = 5
    score: Score


@dataclass(frozen=True, slots=True)
class SignedPresent(Record):
    TAG: ClassVar[int] = 6
    present: Present


@dataclass(frozen=True, slots=True)
class LockSaved(Record):
    """Lock and valid value of an instance (A4), and the prevotes that made the value valid: without them nobody else
    could let go of an older lock (L28). Rounds are stored plus 1, 0 for none; a valid value of the locked round is the
    locked one and not stored twice."""

    TAG: ClassVar[int] = 7
    instance: Height
    locked_round_plus1: ViewRound
    locked: Annotated[tuple[Block, ...], Items(SLOTS_MAX)]
    valid_round_plus1: ViewRound
    valid: Annotated[tuple[Block, ...], Items(SLOTS_MAX)]
    polka: Annotated[tuple[Vote, ...], Items(MEMBERS_MAX)]

    @property
    def valid_blocks(self) -> Batch | None:
        """The valid value, None before there is one."""
        same = self.valid_round_plus1 == self.locked_round_plus1
        return (self.locked if same else self.valid) or None


@dataclass(frozen=True, slots=True)
class Floor(Record):
    """Nothing new is signed below this: no vote or proposal of an instance below `instance`, no offer, score or present
    of a learning round below `round`."""

    TAG: ClassVar[int] = 8
    instance: Annotated[int, Int()]
    round: Annotated[int, Int()]


WalRecord = Identity | SignedVote | SignedProposal | SignedOffer | SignedScore | SignedPresent | LockSaved | Floor
RECORD_TYPES = (Identity, SignedVote, SignedProposal, SignedOffer, SignedScore, SignedPresent, LockSaved, Floor)


@dataclass(frozen=True, slots=True)
class WalEntry(Record):
    """One entry of the signer's log, as it is written."""

    record: Annotated[WalRecord, Choice(RECORD_TYPES)]


Place = tuple[int, int]
R = TypeVar("R", bound=Record)


class SignerState:
    """Every promise that the member key is bound by: of the highest instance all votes and proposals and the last
    lock, and the offers, scores and presents at or above the floor."""

    def __init__(self, public: bytes) -> None:
        self.public = public
        self.floor = Floor(0, 0)
        self.instance = NO_INSTANCE
        self.votes: dict[Place, Vote] = {}
        self.batches: dict[int, ProposedBatch] = {}
        self.lock: LockSaved | None = None
        self.offers: dict[int, Offer] = {}
        self.scores: dict[tuple[int, bytes], Score] = {}
        self.presents: dict[int, Present] = {}

    @classmethod
    def replay(cls, records: Iterable[Record]) -> "SignerState":
        """The state that a log's records describe; raises `SignerError` when it does not begin with an identity or
        holds another key's promises."""
        records = iter(records)
        first = next(records, None)
        if not isinstance(first, Identity):
            raise SignerError(
                "the signer's log does not begin with its key: restore the log that belongs to this key, "
                "or make a new key and its log together with `keys new`"
            )
        state = cls(first.public)
        for record in records:
            state.apply(record)
        return state

    @property
    def top(self) -> Place:
        """The highest (round, step) signed in `instance`; a proposal stands at step 0, before the round's votes."""
        return max([*self.votes, *((round, 0) for round in self.batches)], default=(NO_ROUND, 0))

    def apply(self, record: Record) -> None:
        """Take one record into account. What is signed twice keeps its first content, and no instance comes back."""
        match record:
            case SignedVote(vote):
                self._of_key(vote.voter)
                if self._open(vote.instance):
                    self.votes.setdefault((vote.round, vote.step), vote)
            case SignedProposal(batch):
                self._of_key(batch.proposal.proposer)
                if self._open(batch.proposal.instance):
                    self.batches.setdefault(batch.proposal.round, batch)
            case LockSaved(instance):
                if self._open(instance):
                    self.lock = record
            case SignedOffer(offer):
                self._of_key(offer.trainer)
                self.offers.setdefault(offer.round, offer)
            case SignedScore(score):
                self._of_key(score.scorer)
                self.scores.setdefault((score.round, score.offer), score)
            case SignedPresent(present):
                self._of_key(present.member)
                self.presents.setdefault(present.round, present)
            case Floor(instance, round):
                self.floor = Floor(max(instance, self.floor.instance), max(round, self.floor.round))
            case Identity(public):
                self._of_key(public)
            case _:
                raise SignerError(f"the signer's log holds a {type(record).__name__}, which is none of its records")

    def check_chain(self, chain: bytes) -> None:
        """Raise `SignerError` where a promise was made on another chain: places are counted from 0 on each, so the
        promises of one would answer for the other."""
        chains = {vote.chain for vote in self.votes.values()}
        chains |= {batch.proposal.chain for batch in self.batches.values()}
        chains |= {offer.chain for offer in self.offers.values()} | {score.chain for score in self.scores.values()}
        chains |= {present.chain for present in self.presents.values()}
        for other in sorted(chains - {chain}):
            raise SignerError(
                f"this key has signed on chain {other.hex()[:16]}, genesis.json founds {chain.hex()[:16]}: "
                "restore the genesis.json of that chain, or make new keys with `keys new` for this one (A5)"
            )

    def may_sign(self, instance: int, round: int, step: int) -> bool:
        """Whether a new vote (or, with step 0, a proposal) may be signed here: only above all that was signed (A5)."""
        if instance < self.floor.instance or instance < self.instance:
            return False
        return instance > self.instance or (round, step) > self.top

    def snapshot(self, keep_rounds_from: int) -> list[WalRecord]:
        """A short log that keeps every promise: the highest instance in full, offers, scores and presents of learning
        rounds from `keep_rounds_from` on, and a floor below which nothing is signed."""
        floor = Floor(max(self.floor.instance, self.instance, 0), max(self.floor.round, keep_rounds_from))
        low = floor.round
        votes = [SignedVote(self.votes[place]) for place in sorted(self.votes)]
        batches = [SignedProposal(self.batches[round]) for round in sorted(self.batches)]
        offers = [SignedOffer(self.offers[round]) for round in sorted(self.offers) if round >= low]
        scores = [SignedScore(self.scores[place]) for place in sorted(self.scores) if place[0] >= low]
        presents = [SignedPresent(self.presents[round]) for round in sorted(self.presents) if round >= low]
        lock = [] if self.lock is None else [self.lock]
        return [Identity(self.public), floor, *votes, *batches, *lock, *offers, *scores, *presents]

    def _of_key(self, author: bytes) -> None:
        if author != self.public:
            raise SignerError(
                f"the signer's log of {self.public.hex()[:16]} holds a promise of {author.hex()[:16]}: "
                "two logs were mixed; restore the log that belongs to this key"
            )

    def _open(self, instance: int) -> bool:
        """Whether records of `instance` count; a higher one than all before replaces what was kept."""
        if instance > self.instance:
            self.instance = instance
            self.votes, self.batches, self.lock = {}, {}, None
        return instance == self.instance


class Signer:
    """Signs for one member and never contradicts itself. Each method returns (message, record): a record of None goes
    with a stored message, (None, None) is a refusal."""

    def __init__(self, key: Ed25519PrivateKey, state: SignerState) -> None:
        public = public_bytes(key)
        if public != state.public:
            raise SignerError(
                f"the key {public.hex()[:16]} and the signer's log of {state.public.hex()[:16]} do not belong "
                "together: restore the log that was made with this key"
            )
        self._key = key
        self._state = state

    @property
    def public(self) -> bytes:
        """The member key."""
        return self._state.public

    def vote(
        self, chain: bytes, instance: int, round: int, step: int, last_height: int, last_hash: bytes
    ) -> tuple[Vote | None, SignedVote | None]:
        """A prevote or precommit; raises `CodecError` for fields out of bounds."""
        if instance == self._state.instance and (stored := self._state.votes.get((round, step))):
            return stored, None
        if not self._state.may_sign(instance, round, step):
            return None, None
        vote = Vote(chain, instance, round, step, last_height, last_hash, self.public).signed(self._key)
        return vote, self._promise(SignedVote(vote))

    def proposal(
        self, chain: bytes, instance: int, round: int, valid_round: int, blocks: Batch
    ) -> tuple[ProposedBatch | None, SignedProposal | None]:
        """A proposal of `blocks`; `valid_round` -1 is a fresh one. Raises `CodecError` for fields out of bounds."""
        if instance == self._state.instance and (stored := self._state.batches.get(round)):
            return stored, None
        if not blocks or not self._state.may_sign(instance, round, STEPS.index("propose")):
            return None, None
        last = batch_value(blocks)
        proposal = Proposal(chain, instance, round, valid_round + 1, *last, self.public).signed(self._key)
        batch = ProposedBatch(proposal, blocks)
        return batch, self._promise(SignedProposal(batch))

    def offer(
        self,
        chain: bytes,
        round: int,
        base: bytes,
        update: BlobRef,
        seal: bytes,
        samples: int,
        codec: str,
        reveal: bytes,
    ) -> tuple[Offer | None, SignedOffer | None]:
        """My one offer of a learning round (R2)."""
        stored = self._state.offers.get(round)
        if stored is not None or round < self._state.floor.round:
            return stored, None
        offer = Offer(chain, round, self.public, base, update, seal, samples, codec, reveal).signed(self._key)
        return offer, self._promise(SignedOffer(offer))

    def score(
        self, chain: bytes, round: int, offer: bytes, value: int, baseline: int, code: int
    ) -> tuple[Score | None, SignedScore | None]:
        """My one score of an offer (R3)."""
        stored = self._state.scores.get((round, offer))
        if stored is not None or round < self._state.floor.round:
            return stored, None
        score = Score(chain, round, offer, self.public, value, baseline, code).signed(self._key)
        return score, self._promise(SignedScore(score))

    def present(self, chain: bytes, round: int) -> tuple[Present | None, SignedPresent | None]:
        """I am back (R6)."""
        stored = self._state.presents.get(round)
        if stored is not None or round < self._state.floor.round:
            return stored, None
        present = Present(chain, round, self.public).signed(self._key)
        return present, self._promise(SignedPresent(present))

    def promises(self, round: int) -> list[Offer | Score | Present]:
        """What was signed for this learning round, to be spoken again after a restart."""
        kept = [self._state.offers.get(round), self._state.presents.get(round)]
        scores = [score for (at, _), score in self._state.scores.items() if at == round]
        return [message for message in kept if message is not None] + scores

    def save_lock(self, instance: int, lock: SaveLock) -> LockSaved | None:
        """The record of a lock, to be on disk before the vote that follows from it; None for an instance gone by."""
        if instance < self._state.instance:
            return None
        locked = lock.locked_blocks or ()
        valid = () if lock.valid_round == lock.locked_round else lock.valid_blocks or ()
        rounds = (lock.locked_round + 1, lock.valid_round + 1)
        return self._promise(LockSaved(instance, rounds[0], locked, rounds[1], valid, lock.polka))

    def saw_own(self, message: Vote | ProposedBatch) -> bool:
        """Whether this message, whose signature of mine stands, is one that my state does not know and should: then
        the state is a restored copy, or another machine signs with my key (A5)."""
        signed = message.proposal if isinstance(message, ProposedBatch) else message
        if signed.author() != self.public or signed.instance < max(self._state.instance, self._state.floor.instance):
            return False
        if signed.instance > self._state.instance:
            return True
        if isinstance(signed, Vote):
            vote = self._state.votes.get((signed.round, signed.step))
            return vote is None or vote.id() != signed.id()
        batch = self._state.batches.get(signed.round)
        return batch is None or batch.proposal.id() != signed.id()

    def mute(self, instance: int, below_round: int = 0) -> Floor | None:
        """From now on sign nothing new up to `instance`, nor for learning rounds below `below_round` (A5); the record
        makes that outlast a restart. None if it is so already."""
        before = self._state.floor
        self._state.apply(Floor(instance + 1, below_round))
        return None if self._state.floor == before else self._state.floor

    def is_mute(self, instance: int) -> bool:
        """Whether nothing new is signed in `instance`."""
        return instance < max(self._state.floor.instance, self._state.instance)

    def resume(self, instance: int) -> Resume | None:
        """Where agreement on `instance` goes on after a restart; None if nothing was signed there."""
        state = self._state
        if instance != state.instance:
            return None
        lock = state.lock or LockSaved(instance, 0, (), 0, (), ())
        round, step = max(state.top, (lock.locked_round_plus1 - 1, 0), (lock.valid_round_plus1 - 1, 0))
        return Resume(
            round=round,
            step=STEPS[step],
            locked_round=lock.locked_round_plus1 - 1,
            locked_blocks=lock.locked or None,
            valid_round=lock.valid_round_plus1 - 1,
            valid_blocks=lock.valid_blocks,
            votes=(*(state.votes[place] for place in sorted(state.votes)), *lock.polka),
            proposals=tuple(state.batches[round] for round in sorted(state.batches)),
        )

    def compact(self, keep_rounds_from: int) -> list[WalRecord]:
        """Forget what `SignerState.snapshot` leaves out; the records that replace the whole log, at once or not at
        all."""
        records = self._state.snapshot(keep_rounds_from)
        self._state = SignerState.replay(records)
        return records

    def _promise(self, record: R) -> R:
        self._state.apply(record)
        return record

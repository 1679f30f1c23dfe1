"""Builders that tests of every room share: deterministic keys, a genesis, signed messages, and whole final rounds.

`ChainBuilder` is a consortium in memory that never disagrees: it makes real blocks with real signatures, scores and
certificates, one batch after another, so that a test can start from any final state it likes.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.blobs import blob_ref, make_seal
from ledger.certificate import make_certificate
from ledger.chain import Chain
from ledger.endorsement import get_value, get_weight
from ledger.genesis import Genesis, GenesisMember, GenesisModel
from ledger.heights import first_height
from ledger.keys import beacon_chain, public_bytes
from ledger.params import Params
from ledger.state import State, get_voters
from ledger.store import MemoryStore, Store
from ledger.transition import make_block
from ledger.types import (
    NO_SIGNATURE,
    BlobRef,
    Block,
    Body,
    Certificate,
    EmptyBody,
    FinalBatch,
    ModelBody,
    Offer,
    Present,
    Score,
    Signed,
    Unfilled,
    UpdateBody,
)

GENESIS_TIME_MS = 1_700_000_000_000
BLOCK_MS = 1_000
PASSING, FAILING = (-100_000, -200_000), (-900_000, -200_000)

S = TypeVar("S", bound=Signed)


@lru_cache(maxsize=256)
def member_key(index: int) -> Ed25519PrivateKey:
    """The member key of organisation `index`: the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"member {index}".encode()).digest())


@lru_cache(maxsize=256)
def beacon_of(index: int, links: int) -> tuple[bytes, ...]:
    """Links 0..`links` of the beacon chain of organisation `index` (R9)."""
    return tuple(beacon_chain(member_key(index), links, b"tests"))


def make_params(**overrides: Any) -> Params:
    """Rules of a small consortium: k = 4, c = 1, 8 rounds; every field can be overridden."""
    given: dict[str, Any] = {"round_length": 4, "rounds_max": 8, "committee_size": 1, "beacon_links": 16} | overrides
    given.setdefault("batch_max", max(1, given["round_length"] - 1))
    return Params(**given)


def make_member(index: int, links: int) -> GenesisMember:
    """Founding organisation `index`, with a certificate that only looks like one."""
    return GenesisMember(
        name=f"peer-{index}",
        organisation=f"Organisation {index}",
        member_key=public_bytes(member_key(index)),
        certificate=hashlib.sha256(f"certificate {index}".encode()).digest() * 3,
        endpoint=f"127.0.0.1:{26_000 + index}",
        beacon_tip=beacon_of(index, links)[links],
    )


def make_document(n: int = 4, initial_model: bytes = b"initial model", **overrides: Any) -> Genesis:
    """The genesis document of `n` members; `overrides` are params."""
    params = make_params(**overrides)
    ref = blob_ref(initial_model)
    digest = hashlib.sha256(b"test set").digest() if params.test_set == "shared" else b""
    return Genesis(
        chain="test chain",
        time_ms=GENESIS_TIME_MS,
        params=params,
        model=GenesisModel(blob=ref.blob, size=ref.size, task="digits", test_set_digest=digest),
        members=tuple(make_member(index, params.beacon_links) for index in range(n)),
    )


class ChainBuilder:
    """A consortium of `n` members with all keys in one hand.

    `c`, `k`, `voters` and `election` are the genesis rules' usual names; other keyword arguments are params too.
    Messages come signed (`offer`, `score`, `present`), bodies and blocks come ready for the present state, and
    `append` makes a batch final. `full_round` plays a whole round.
    """

    def __init__(
        self,
        n: int = 4,
        c: int = 1,
        k: int = 4,
        voters: str = "members",
        election: str = "draw",
        store: Store | None = None,
        **params: Any,
    ) -> None:
        rules: dict[str, Any] = {
            "committee_size": c,
            "round_length": k,
            "voters": voters,
            "election": election,
        } | params
        self.genesis: Genesis = make_document(n, **rules)
        self.params: Params = self.genesis.params
        self.indices: dict[bytes, int] = {public_bytes(member_key(index)): index for index in range(n)}
        self.store: Store = MemoryStore() if store is None else store
        self.chain = Chain(self.genesis, self.store)

    # ------------------------------------------------------------------------------------------ what is there

    @property
    def state(self) -> State:
        """The state after the last final block."""
        return self.chain.state

    @property
    def committee(self) -> tuple[bytes, ...]:
        """The sitting committee, in the order of the draw."""
        return self.state.round.committee

    @property
    def trainers(self) -> tuple[bytes, ...]:
        """The open round's trainers, in order of key."""
        return self.state.round.trainers

    def key(self, member: bytes) -> Ed25519PrivateKey:
        """The private key of `member`."""
        return member_key(self.indices[member])

    def sign(self, message: S) -> S:
        """`message` with the signature of its author."""
        return message.signed(self.key(message.author()))

    def reveal(self, member: bytes, round: int) -> bytes:
        """The beacon link that an offer of `member` in `round` reveals (R9)."""
        links = self.params.beacon_links
        return beacon_of(self.indices[member], links)[links - 1 - round]

    # ----------------------------------------------------------------------------------------------- messages

    def offer(self, trainer: bytes, **changes: Any) -> Offer:
        """A signed offer of `trainer` for the open round; `changes` replace fields before it is signed (R2)."""
        round = self.state.round
        update = f"update {round.round} {self.indices[trainer]}".encode()
        samples = 100 + self.indices[trainer]
        offer = Offer(
            self.state.chain,
            round.round,
            trainer,
            round.model.blob,
            blob_ref(update),
            make_seal(trainer, update),
            samples,
            self.params.codecs[0],
            self.reveal(trainer, round.round),
        )
        return replace(offer, **changes).signed(self.key(trainer))

    def score(
        self, offer: Offer, scorer: bytes, values: tuple[int, int] = PASSING, code: int = 0, **changes: Any
    ) -> Score:
        """A signed score: `values` are (value, baseline) in millionths, or INVALID(`code`) (R3)."""
        value, baseline = (0, 0) if code else values
        score = Score(self.state.chain, offer.round, offer.id(), scorer, value, baseline, code)
        return replace(score, **changes).signed(self.key(scorer))

    def scores(
        self, offer: Offer, values: tuple[int, int] = PASSING, scorers: Iterable[bytes] | None = None
    ) -> tuple[Score, ...]:
        """Scores of the whole committee, or of `scorers`, in order of key."""
        chosen = self.committee if scorers is None else scorers
        return tuple(self.score(offer, scorer, values) for scorer in sorted(chosen))

    def present(self, member: bytes, **changes: Any) -> Present:
        """A signed word of an absent member that it is back (R6)."""
        present = Present(self.state.chain, self.state.round.round, member, NO_SIGNATURE)
        return replace(present, **changes).signed(self.key(member))

    # ------------------------------------------------------------------------------------------------- bodies

    def update_body(self, offer: Offer, scores: Sequence[Score] | None = None, **changes: Any) -> UpdateBody:
        """The update block's body for an offer, with the scores of the whole committee unless given (R4)."""
        listed = self.scores(offer) if scores is None else tuple(scores)
        value, weight = get_value(self.params, listed), get_weight(self.params, offer, listed)
        return replace(UpdateBody(offer, listed, value, weight), **changes)

    def unfilled(self, trainer: bytes, offer: Offer | None = None, scores: Iterable[Score] = ()) -> Unfilled:
        """What the close says of a trainer without an accepted update (R6)."""
        return Unfilled(trainer, () if offer is None else (offer,), tuple(scores))

    def rejected(self, trainer: bytes) -> Unfilled:
        """A trainer whose offer the whole committee fails."""
        offer = self.offer(trainer)
        return self.unfilled(trainer, offer, self.scores(offer, FAILING))

    def close_body(self, unfilled: Iterable[Unfilled] = ()) -> EmptyBody:
        """The round's first empty block: trainers in order of key (R6)."""
        return EmptyBody(tuple(sorted(unfilled, key=lambda item: item.trainer)))

    def close_body_of_all(self) -> EmptyBody:
        """A close of a round in which no trainer came."""
        return self.close_body([self.unfilled(trainer) for trainer in self.trainers])

    def model_body(self, model: BlobRef | None = None, **changes: Any) -> ModelBody:
        """The model block's body; the model is invented where the round has updates enough, else it stays (R7)."""
        if model is None:
            enough = len(self.state.updates) >= self.params.updates_min
            model = blob_ref(f"model {self.state.round.round}".encode()) if enough else self.state.round.model
        return replace(ModelBody(model, (), (), ()), **changes)

    # ----------------------------------------------------------------------------------------- blocks, batches

    def blocks(self, *bodies: Body, proposer: bytes | None = None) -> tuple[tuple[Block, ...], State]:
        """Consecutive blocks with these bodies after the present state, and the state after them."""
        made, state = [], self.state
        for body in bodies:
            by = self.committee[0] if proposer is None else proposer
            block, state = make_block(self.params, state, by, state.time_ms + BLOCK_MS, body)
            made.append(block)
        return tuple(made), state

    def certificate(
        self, blocks: Sequence[Block], round: int = 0, signers: Iterable[bytes] | None = None
    ) -> Certificate:
        """The certificate of a batch on the present state, signed by all voters or by `signers` (A1)."""
        chosen = get_voters(self.params, self.state) if signers is None else tuple(signers)
        unsigned = make_certificate(blocks, round, dict.fromkeys(chosen, NO_SIGNATURE))
        votes = {item.voter: self.sign(unsigned.vote_of(item.voter, NO_SIGNATURE)) for item in unsigned.precommits}
        return make_certificate(blocks, round, {voter: vote.signature for voter, vote in votes.items()})

    def batch(self, *bodies: Body) -> FinalBatch:
        """A certified batch on the present state, not yet part of the chain."""
        blocks, _ = self.blocks(*bodies)
        return FinalBatch(blocks, self.certificate(blocks))

    def append(self, *bodies: Body) -> FinalBatch:
        """Make a batch with these bodies final."""
        batch = self.batch(*bodies)
        self.chain.import_batch(batch)
        return batch

    # ------------------------------------------------------------------------------------------------- rounds

    def fill_slots(
        self, accept: Iterable[bytes] | None = None, reject: Iterable[bytes] = (), silent: Iterable[bytes] = ()
    ) -> list[Body]:
        """The bodies that fill the open round's slots: the updates of `accept`, then, where slots are left, the close.

        `accept` defaults to every trainer not named otherwise; with `accept` given, the others are silent (R6).
        """
        rejected, quiet = set(reject), set(silent)
        others = [trainer for trainer in self.trainers if trainer not in rejected | quiet]
        accepted = others if accept is None else list(accept)
        bodies: list[Body] = [self.update_body(self.offer(trainer)) for trainer in accepted]
        left = [trainer for trainer in self.trainers if trainer not in accepted]
        listed = [self.rejected(item) if item in rejected else self.unfilled(item) for item in left]
        open_slots = self.params.round_length - 1 - len(bodies)
        if open_slots:
            bodies += [self.close_body(listed), *[EmptyBody(())] * (open_slots - 1)]
        return bodies

    def full_round(
        self,
        accept: Iterable[bytes] | None = None,
        reject: Iterable[bytes] = (),
        silent: Iterable[bytes] = (),
        late: Iterable[Score] = (),
        present: Iterable[bytes] = (),
        model: BlobRef | None = None,
    ) -> tuple[FinalBatch, FinalBatch]:
        """Play the open round to its end: the batch of its slots, and the batch of its model block."""
        if self.state.height + 1 != first_height(self.params.round_length, self.state.round.round):
            raise ValueError("full_round starts where no slot of the open round is filled")
        slots = self.append(*self.fill_slots(accept, reject, silent))
        back = tuple(self.present(member) for member in sorted(present))
        scores = tuple(sorted(late, key=lambda score: (score.offer, score.scorer)))
        return slots, self.append(self.model_body(model, late=scores, present=back))


def play(builder: ChainBuilder, rounds: int) -> ChainBuilder:
    """`builder` after some rounds in which every drawn trainer is accepted."""
    for _ in range(rounds):
        builder.full_round()
    return builder


def accept_any_model(state: State, block: Block) -> str | None:
    """The audit's `check_round` for chains whose models are invented names."""
    return None


CheckRound = Callable[[State, Block], str | None]

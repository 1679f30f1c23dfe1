"""The wire types of the chain: offers, scores, blocks, votes and certificates (R2, R3, S3, A1).

Field order is the byte order (S5). Values that count something say so in their name; scores and norms are integer
millionths. A record that somebody signs ends with its signature, which covers the domain and all fields before it.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, ClassVar, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.codec import U64_MAX, Bytes, Choice, Int, Items, MaybeBytes, Record, Text, pack, to_plain
from ledger.keys import HASH_BYTES, KEY_BYTES, SIGNATURE_BYTES, digest, verify

VERSION = 1
MEMBERS_MAX = 1000
COMMITTEE_MAX = 31
SLOTS_MAX = 1000
ROUND_MAX = 10_000_000
ENDPOINT_CHARS_MAX = 200
SCORE_ABS_MAX = 10**12
IDS_CACHE_MAX = 4096
NO_HASH = b""
NO_LINK = bytes(HASH_BYTES)
NO_SIGNATURE = bytes(SIGNATURE_BYTES)

Hash = Annotated[bytes, Bytes(HASH_BYTES)]
MaybeHash = Annotated[bytes, MaybeBytes(HASH_BYTES)]
Key = Annotated[bytes, Bytes(KEY_BYTES)]
Signature = Annotated[bytes, Bytes(SIGNATURE_BYTES)]
Height = Annotated[int, Int(0, ROUND_MAX * SLOTS_MAX)]
Round = Annotated[int, Int(0, ROUND_MAX)]
ViewRound = Annotated[int, Int(0, 1_000_000)]
Millis = Annotated[int, Int(0, 2**48)]
Millionths = Annotated[int, Int(-SCORE_ABS_MAX, SCORE_ABS_MAX)]
Count = Annotated[int, Int(0, U64_MAX)]


class Signed(Record):
    """A record whose last field is the signature of its author."""

    __slots__ = ()
    signature: Signature

    def author(self) -> bytes:
        """The member key that must have signed this."""
        raise NotImplementedError

    def signing_bytes(self) -> bytes:
        """The domain and every field but the signature, as one canonical array."""
        return pack([self.DOMAIN, *to_plain(self)[:-1]])

    def id(self) -> bytes:
        """SHA-256 of the signing bytes: the same content has one id, whatever its signature."""
        return _signed_id(self)

    def signed(self, key: Ed25519PrivateKey) -> Self:
        """This record with the signature of `key` (use the signer for everything that A5 names)."""
        return replace(self, signature=key.sign(self.signing_bytes()))  # type: ignore[type-var]

    def is_signed(self) -> bool:
        """Whether the author's signature stands (RFC 8032)."""
        return verify(self.author(), self.signature, self.signing_bytes())


@lru_cache(maxsize=IDS_CACHE_MAX)
def _signed_id(message: Signed) -> bytes:
    return digest(message.DOMAIN, message.signing_bytes())


@dataclass(frozen=True, slots=True)
class BlobRef(Record):
    """A blob's id and size in bytes (B1)."""

    blob: Hash
    size: Annotated[int, Int(0, 2**40)]


@dataclass(frozen=True, slots=True)
class Offer(Signed):
    """A trainer's offer of one update (R2); `seal` shows that it has the update's bytes: scorers check it (B4, R3), not
    the ledger, which has no blobs. `reveal` is its beacon link of the round (R9)."""

    DOMAIN: ClassVar[str] = "offer"
    TAG: ClassVar[int] = 1
    chain: Hash
    round: Round
    trainer: Key
    base: Hash
    update: BlobRef
    seal: Hash
    samples: Annotated[int, Int(1, 2**40)]
    codec: Annotated[str, Text(32)]
    reveal: Hash
    signature: Signature = NO_SIGNATURE

    def author(self) -> bytes:
        return self.trainer


@dataclass(frozen=True, slots=True)
class Score(Signed):
    """A committee member's judgement of one offer (R3): the score with the update applied and without it, in
    millionths, or INVALID when `code` > 0 (then both are 0). It says too: I hold the blob."""

    DOMAIN: ClassVar[str] = "score"
    TAG: ClassVar[int] = 2
    chain: Hash
    round: Round
    offer: Hash
    scorer: Key
    value: Millionths
    baseline: Millionths
    code: Annotated[int, Int(0, 255)]
    signature: Signature = NO_SIGNATURE

    def author(self) -> bytes:
        return self.scorer


@dataclass(frozen=True, slots=True)
class Present(Signed):
    """An absent member says in `round` that it is back (R6)."""

    DOMAIN: ClassVar[str] = "present"
    TAG: ClassVar[int] = 3
    chain: Hash
    round: Round
    member: Key
    signature: Signature = NO_SIGNATURE

    def author(self) -> bytes:
        return self.member


@dataclass(frozen=True, slots=True)
class UpdateBody(Record):
    """One accepted update with the scores that endorse it, in order of scorer key; `value` is their lower median and
    `weight` its weight score (R4)."""

    TAG: ClassVar[int] = 1
    offer: Offer
    scores: Annotated[tuple[Score, ...], Items(COMMITTEE_MAX, 1)]
    value: Millionths
    weight: Count


@dataclass(frozen=True, slots=True)
class Unfilled(Record):
    """A drawn trainer without an accepted update: its offer and the scores it got, or no offer at all (`none`, R6)."""

    trainer: Key
    offer: Annotated[tuple[Offer, ...], Items(1)]
    scores: Annotated[tuple[Score, ...], Items(COMMITTEE_MAX)]


@dataclass(frozen=True, slots=True)
class EmptyBody(Record):
    """A slot that its round closed without filling (H4). The first one of a round is the close: it lists the unfilled
    trainers in order of key (R6)."""

    TAG: ClassVar[int] = 2
    unfilled: Annotated[tuple[Unfilled, ...], Items(SLOTS_MAX)]


@dataclass(frozen=True, slots=True)
class ModelBody(Record):
    """The model that the round produces; heights of accepted updates whose blob is missing (R7); scores that came late
    for the round's offers, by (offer, scorer), and members that are present again, in order of key (R6)."""

    TAG: ClassVar[int] = 3
    model: BlobRef
    missing: Annotated[tuple[Height, ...], Items(SLOTS_MAX)]
    late: Annotated[tuple[Score, ...], Items(SLOTS_MAX * COMMITTEE_MAX)]
    present: Annotated[tuple[Present, ...], Items(MEMBERS_MAX)]


type_names = {UpdateBody.TAG: "update", EmptyBody.TAG: "empty", ModelBody.TAG: "model"}
Body = UpdateBody | EmptyBody | ModelBody
BodyField = Annotated[Body, Choice((UpdateBody, EmptyBody, ModelBody))]


@dataclass(frozen=True, slots=True)
class Header(Record):
    """S3. `voters` and `committee` are the hashes of those who serve the *next* block."""

    DOMAIN: ClassVar[str] = "header"
    version: Annotated[int, Int(VERSION, VERSION)]
    chain: Hash
    height: Height
    kind: Annotated[int, Int(UpdateBody.TAG, ModelBody.TAG)]
    round: Round
    parent: Hash
    time_ms: Millis
    proposer: Key
    body_root: Hash
    state_root: Hash
    voters: Hash
    committee: Hash

    def id(self) -> bytes:
        """The block's hash: SHA-256 over the domain and the canonical header."""
        return _header_id(self)


@lru_cache(maxsize=IDS_CACHE_MAX)
def _header_id(header: Header) -> bytes:
    return digest(header.DOMAIN, header.encode())


def body_root(body: Body) -> bytes:
    """SHA-256 over the kind and the canonical body."""
    return digest("body", bytes([body.TAG]), body.encode())


def keys_hash(domain: str, keys: tuple[bytes, ...]) -> bytes:
    """Hash of a list of member keys in its order: the header's `voters` and `committee` (S3)."""
    return digest(domain, *keys)


@dataclass(frozen=True, slots=True)
class Block(Record):
    """A header and the body it commits to."""

    header: Header
    body: BodyField

    @property
    def height(self) -> int:
        return self.header.height


@dataclass(frozen=True, slots=True)
class Vote(Signed):
    """A prevote or precommit (A1). Nil has an empty `last_hash` and `last_height` 0."""

    DOMAIN: ClassVar[str] = "vote"
    TAG: ClassVar[int] = 4
    chain: Hash
    instance: Height
    round: ViewRound
    step: Annotated[int, Int(1, 2)]
    last_height: Height
    last_hash: MaybeHash
    voter: Key
    signature: Signature = NO_SIGNATURE

    def author(self) -> bytes:
        return self.voter

    @property
    def is_nil(self) -> bool:
        return self.last_hash == NO_HASH


PREVOTE = 1
PRECOMMIT = 2


@dataclass(frozen=True, slots=True)
class Proposal(Signed):
    """A batch of 1.. consecutive blocks proposed in `round` of the instance (A1). `valid_round` + 1 is stored, so that
    "none" (-1 in Algorithm 1) is 0. The blocks themselves travel with it in `ProposedBatch`."""

    DOMAIN: ClassVar[str] = "proposal"
    TAG: ClassVar[int] = 5
    chain: Hash
    instance: Height
    round: ViewRound
    valid_round_plus1: ViewRound
    last_height: Height
    last_hash: Hash
    proposer: Key
    signature: Signature = NO_SIGNATURE

    def author(self) -> bytes:
        return self.proposer

    @property
    def valid_round(self) -> int:
        return self.valid_round_plus1 - 1


Blocks = Annotated[tuple[Block, ...], Items(SLOTS_MAX, 1)]


@dataclass(frozen=True, slots=True)
class ProposedBatch(Record):
    """A proposal and the blocks it proposes, as they travel."""

    TAG: ClassVar[int] = 6
    proposal: Proposal
    blocks: Blocks


@dataclass(frozen=True, slots=True)
class VoterSignature(Record):
    """One voter's precommit signature inside a certificate."""

    voter: Key
    signature: Signature


@dataclass(frozen=True, slots=True)
class Certificate(Record):
    """Precommits of more than 2/3 of the voters, by key: all blocks from `instance` to `last_height` are final (A1)."""

    chain: Hash
    instance: Height
    round: ViewRound
    last_height: Height
    last_hash: Hash
    precommits: Annotated[tuple[VoterSignature, ...], Items(MEMBERS_MAX, 1)]

    def vote_of(self, voter: bytes, signature: bytes) -> Vote:
        """The precommit that `voter` signed."""
        step = PRECOMMIT
        return Vote(self.chain, self.instance, self.round, step, self.last_height, self.last_hash, voter, signature)


@dataclass(frozen=True, slots=True)
class FinalBatch(Record):
    """A final batch with its certificate: the unit of the store and of sync (Y1)."""

    blocks: Blocks
    certificate: Certificate

"""Members, blocks, proposals and votes for tests of agreement and signer: real keys and real signatures."""

from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consensus.actions import Batch, Timeouts, batch_value
from consensus.quorum import NIL, Value
from ledger.keys import digest, public_bytes
from ledger.types import Block, EmptyBody, Header, Proposal, ProposedBatch, Vote, body_root

CHAIN = digest("test-chain")
INSTANCE = 5
TIMEOUTS = Timeouts(propose_ms=3000, vote_ms=1000, step_ms=500, max_ms=5000)
ANY_HASH = digest("test-any")


@cache
def key(index: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(digest("test-key", bytes([index])))


@cache
def member(index: int) -> bytes:
    return public_bytes(key(index))


def members(count: int) -> tuple[bytes, ...]:
    return tuple(member(index) for index in range(count))


@cache
def batch(name: str, size: int = 1, instance: int = INSTANCE) -> Batch:
    """Consecutive empty blocks; another name, other bytes."""
    body = EmptyBody(())
    blocks: list[Block] = []
    for height in range(instance, instance + size):
        parent = blocks[-1].header.id() if blocks else digest("test-parent")
        state = digest("test-state", name.encode())
        places = (CHAIN, height, body.TAG, 0, parent, 0, member(0), body_root(body), state, ANY_HASH, ANY_HASH)
        blocks.append(Block(Header(1, *places), body))
    return tuple(blocks)


def value(name: str) -> Value:
    """What votes for the batch `name` say; '-' is nil."""
    return NIL if name == "-" else batch_value(batch(name))


@cache
def vote(index: int, round: int, step: int, name: str = "-") -> Vote:
    return Vote(CHAIN, INSTANCE, round, step, *value(name), member(index)).signed(key(index))


@cache
def proposal(index: int, round: int, name: str, valid_round: int = -1, size: int = 1) -> ProposedBatch:
    blocks = batch(name, size)
    fields = (CHAIN, INSTANCE, round, valid_round + 1, *batch_value(blocks), member(index))
    return ProposedBatch(Proposal(*fields).signed(key(index)), blocks)

"""What goes between the agreement on one instance and the core around it: timeouts, the actions that it asks for, and
where a restarted voter goes on (A1, A5, A6)."""

from dataclasses import dataclass
from itertools import pairwise

from consensus.quorum import Value, value_of
from ledger.types import Block, Certificate, Proposal, ProposedBatch, Vote, body_root

STEPS = ("propose", "prevote", "precommit")
PROPOSE = 0

Batch = tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """A6: the timeout of round r is min(base + r * step, max)."""

    propose_ms: int
    vote_ms: int
    step_ms: int
    max_ms: int

    def after_ms(self, step: int, round: int) -> int:
        """How long to wait in `step` of `round`."""
        base_ms = self.propose_ms if step == PROPOSE else self.vote_ms
        return min(base_ms + round * self.step_ms, self.max_ms)


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a restarted voter goes on (A5): the highest round that it signed in, the last step signed there ('propose',
    'prevote' or 'precommit'), its lock and valid value with their rounds (-1: none), what it signed, and the prevotes
    that made the value valid."""

    round: int
    step: str
    locked_round: int = -1
    locked_blocks: Batch | None = None
    valid_round: int = -1
    valid_blocks: Batch | None = None
    votes: tuple[Vote, ...] = ()
    proposals: tuple[ProposedBatch, ...] = ()


@dataclass(frozen=True, slots=True)
class SignVote:
    """Sign a prevote or precommit, send it, and hand it back to `vote`. Nil is height 0 and an empty hash."""

    round: int
    step: int
    last_height: int
    last_hash: bytes


@dataclass(frozen=True, slots=True)
class SignProposal:
    """Sign a proposal, send it, and hand it back to `proposal`. A re-proposal keeps the bytes (A1)."""

    round: int
    valid_round: int
    blocks: Batch


@dataclass(frozen=True, slots=True)
class WantBatch:
    """L18 getValue(): I am the proposer of `round` and have no valid value. Answer with `propose`, now or later."""

    round: int


@dataclass(frozen=True, slots=True)
class AskFresh:
    """What only I can say of a fresh proposal, my clock and my blobs (A3). Answer with `fresh`."""

    round: int
    blocks: Batch


@dataclass(frozen=True, slots=True)
class SetTimeout:
    """Call `timeout(step, round)` after `after_ms`."""

    step: str
    round: int
    after_ms: int


@dataclass(frozen=True, slots=True)
class SaveLock:
    """Lock and valid value have changed: on disk before the next vote leaves (A5). Rounds of -1 go with None.

    `polka` are the prevotes of `valid_round` for the valid value. They are saved with it: a restart that lost them
    would hide the lock for good (A4), as nobody could follow it without the polka (L28).
    """

    locked_round: int
    locked_blocks: Batch | None
    valid_round: int
    valid_blocks: Batch | None
    polka: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class Decide:
    """The batch is final (L49); the certificate's precommits stand by voter key."""

    blocks: Batch
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two signed messages of one author for one slot: evidence (A7). Reported once a slot."""

    first: Vote | Proposal
    second: Vote | Proposal


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message that just came in is malformed: who sent it is to blame (A8)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Disputed:
    """More than 2/3 precommitted a batch that this machine finds invalid: halt, "faulty machine, or more than a third
    lied" (A3)."""

    round: int
    blocks: Batch


Action = (
    SignVote | SignProposal | WantBatch | AskFresh | SetTimeout | SaveLock | Decide | Conflict | Rejected | Disputed
)


def batch_value(blocks: Batch) -> Value:
    """What votes for this batch name: height and hash of its last block."""
    return blocks[-1].height, blocks[-1].header.id()


def flaw(batch: ProposedBatch, instance: int) -> str | None:
    """Why the blocks are not the bytes that the proposal names, or None. The proposal's signature covers the last hash
    alone, so heights, parents and body roots must lead from it to every byte: else a relay could spoil a good value."""
    blocks = batch.blocks
    if not blocks or batch_value(blocks) != value_of(batch.proposal):
        return "the proposal does not name the last block of its batch"
    if any(block.height != instance + index for index, block in enumerate(blocks)):
        return "the batch's heights do not follow from its instance"
    if any(after.header.parent != before.header.id() for before, after in pairwise(blocks)):
        return "a block of the batch does not name the one before it as its parent"
    if any(block.header.body_root != body_root(block.body) for block in blocks):
        return "a header of the batch does not name its body"
    return None

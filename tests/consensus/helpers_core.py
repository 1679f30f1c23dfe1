"""One core (or one voting) on a chain of which the test has all keys: the other members say what the test wants."""

from collections.abc import Sequence
from typing import TypeVar

from consensus.core import Core
from consensus.events import Commit, Effect, Event, Message, PeerUp, Persist, Received, Send, Started
from consensus.signer import Identity, Signer, SignerState
from ledger.codec import Record
from ledger.types import BlobRef, Block, Body, Proposal, ProposedBatch, Vote
from tests.ledger.helpers_ledger import ChainBuilder, beacon_of

E = TypeVar("E")
WALL_MS = 1_800_000_000_000


def signer_of(chain: ChainBuilder, me: bytes, log: Sequence[Record] = ()) -> Signer:
    return Signer(chain.key(me), SignerState.replay([Identity(me), *log]))


def vote(
    chain: ChainBuilder, voter: bytes, step: int, blocks: Sequence[Block] = (), round: int = 0, instance: int = 0
) -> Vote:
    """A signed vote for a batch, or for nil, in the chain's open instance or another."""
    instance = instance or chain.state.height + 1
    last = (blocks[-1].height, blocks[-1].header.id()) if blocks else (0, b"")
    return chain.sign(Vote(chain.state.chain, instance, round, step, *last, voter))


def proposal(
    chain: ChainBuilder, proposer: bytes, blocks: tuple[Block, ...], round: int = 0, instance: int = 0
) -> ProposedBatch:
    """A signed fresh proposal of a batch."""
    last = blocks[-1]
    instance = instance or chain.state.height + 1
    made = Proposal(chain.state.chain, instance, round, 0, last.height, last.header.id(), proposer)
    return ProposedBatch(chain.sign(made), blocks)


def of_type(effects: Sequence[Effect], kind: type[E]) -> list[E]:
    """The effects of one type, in order."""
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects: Sequence[Effect], kind: type[E]) -> list[E]:
    """The messages of one type that are sent, in order."""
    return [effect.message for effect in effects if isinstance(effect, Send) and isinstance(effect.message, kind)]


class Bench:
    """A core, the log of its signer, and the time. What it commits, the chain of the test commits."""

    def __init__(
        self,
        chain: ChainBuilder,
        me: bytes,
        log: Sequence[Record] = (),
        held: Sequence[BlobRef] = (),
        obliged: dict[int, BlobRef] | None = None,
    ) -> None:
        self.chain, self.me, self.now_ms = chain, me, 0
        self.log: list[Record] = list(log)
        links = beacon_of(chain.indices[me], chain.params.beacon_links)
        signer = signer_of(chain, me, log)
        self.core = Core(chain.params, chain.state, signer, links, held=held, obliged=obliged, gossip_ms=1_000)

    @property
    def others(self) -> list[bytes]:
        return [member for member in self.chain.indices if member != self.me]

    def step(self, event: Event, after_ms: int = 0) -> list[Effect]:
        """One step, `after_ms` later than the one before."""
        self.now_ms += after_ms
        effects = self.core.step(event, self.now_ms, WALL_MS + self.now_ms)
        self.log += [effect.record for effect in effects if isinstance(effect, Persist)]
        for effect in effects:
            if isinstance(effect, Commit):
                self.chain.chain.commit(effect.batch, effect.state)
        return effects

    def hear(self, message: Message, sender: bytes | None = None) -> list[Effect]:
        return self.step(Received(sender or self.others[0], message))

    def start(self, up: Sequence[bytes] | None = None) -> list[Effect]:
        """Started, and these members (all others by default) are connected."""
        effects = self.step(Started())
        for member in self.others if up is None else up:
            effects += self.step(PeerUp(member))
        return effects

    def vote(self) -> None:
        """The peers have shown no votes that were forgotten: from now on vote (A5)."""
        self.core.voting.end_probe()

    def batch(self, *bodies: Body) -> tuple[Block, ...]:
        return self.chain.blocks(*bodies)[0]

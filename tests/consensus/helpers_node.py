"""One member of the cluster: a production core on a disk that survives crashes, doing one effect after another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consensus import events as ev
from consensus.core import Core
from consensus.signer import Identity, Signer, SignerState
from ledger.chain import Chain
from ledger.codec import Record
from ledger.keys import digest, public_bytes
from ledger.state import State
from ledger.store import MemoryStore
from ledger.types import BlobRef, ModelBody, Offer, ProposedBatch, Score, Signed, UpdateBody
from tests.ledger.helpers_ledger import beacon_of, member_key

if TYPE_CHECKING:
    from tests.consensus.helpers_cluster import Cluster

SAMPLES = 100
CODEC = "f32"
SEAL = bytes(32)  # the blobs are made up, so nobody checks it
WALL_MS = 1_700_000_000_000
GOSSIP_MS = 200
RESTART_MS = 50


def blob(*parts: object) -> BlobRef:
    """A made-up blob."""
    return BlobRef(digest("test-blob", repr(parts).encode()), 1000)


def blob_of_model(round: int, base: BlobRef, weights: Sequence[tuple[BlobRef, int]]) -> BlobRef:
    """The made-up aggregate (R7): a function of base, updates and weights alone."""
    return blob("model", round, base, list(weights))


@dataclass
class Disk:
    """What survives a crash: the chain store and the signer's log."""

    store: MemoryStore
    log: list[Record] = field(default_factory=list)


@dataclass
class Plan:
    """How the members behave: network delays in ms, and what the workers answer."""

    delay_ms: tuple[int, int] = (1, 20)
    train_ms: tuple[int, int] = (20, 200)
    score_ms: tuple[int, int] = (5, 60)
    derive_ms: int = 15
    slow_ms: Callable[[bytes], int] = lambda member: 0
    loss: float = 0.0
    trains: Callable[[bytes, int], bool] = lambda member, round: True
    score: Callable[[bytes, Offer], tuple[int, int, int] | None] = lambda member, offer: (-1_000_000, -1_100_000, 0)
    serves: Callable[[bytes, bytes], bool] = lambda holder, asker: True
    scores_blind: Callable[[bytes], bool] = lambda member: False
    derives: Callable[[bytes, int, BlobRef], BlobRef] = lambda member, round, model: model


class Node:
    """One member: a core that can crash and come back with what its disk holds. With `crash_at` n it crashes before its
    n-th effect, and comes back."""

    def __init__(self, cluster: "Cluster", index: int) -> None:
        self.cluster, self.index, self.key = cluster, index, member_key(index)
        self.me = public_bytes(self.key)
        self.disk = Disk(MemoryStore(), [Identity(self.me)])
        self.core: Core | None = None
        self._chain: Chain | None = None
        self.life = 0
        self.halted: str | None = None
        self.faults: list[tuple[bytes, str]] = []
        self.sent: list[ev.Message] = []
        self.syncs: list[bytes] = []
        self.held: set[bytes] = set()
        self.promised: set[bytes] = set()
        self.effects_done = 0
        self.crashes = 0
        self.crash_at: int | None = None
        self.disk_first = False

    @property
    def chain(self) -> Chain:
        return self._chain or Chain(self.cluster.genesis, self.disk.store)

    @property
    def state(self) -> State:
        return self.chain.state

    @property
    def height(self) -> int:
        return self._chain.state.height if self._chain else 0

    @property
    def running(self) -> Core:
        """The core; fails where the node is down."""
        assert self.core is not None
        return self.core

    def start(self) -> None:
        cluster = self.cluster
        self.life += 1
        self._chain = Chain(cluster.genesis, self.disk.store)
        signer = Signer(self.key, SignerState.replay(self.disk.log))
        links = beacon_of(self.index, cluster.params.beacon_links)
        owed = self.obligations()
        targets = {order.round: self._final_model(order.round) for order in owed}
        held = [update.update for update in self.state.updates if update.update.blob in self.held]
        self.core = Core(
            cluster.params, self.state, signer, links, held=held, obliged=targets, gossip_ms=cluster.gossip_ms
        )
        self.handle(ev.Started())
        for order in owed:
            cluster.later(1, self, order)
        for other in cluster.alive():
            if other is not self and cluster.linked(self.me, other.me):
                cluster.later(1, self, ev.PeerUp(other.me))
                cluster.later(1, other, ev.PeerUp(self.me))

    def obligations(self) -> list[ev.Aggregate]:
        """Models on chain that are not on this disk (A3), oldest first."""
        owed: list[ev.Aggregate] = []
        k = self.cluster.params.round_length
        for round in range(self.state.round.round - 1, -1, -1):
            if self._final_model(round).blob in self.held | {self.cluster.genesis.model.blob}:
                break
            inputs = []
            for height in range(k * round + 1, k * (round + 1)):
                block = self.chain.store.block(height)
                if block is not None and isinstance(body := block.body, UpdateBody):
                    offer = body.offer
                    inputs.append(ev.AggregateInput(height, offer.trainer, offer.update, offer.codec, body.weight))
            holders = tuple(item.trainer for item in inputs)
            missing = self._model_body(k * (round + 1)).missing
            if len(inputs) - len(missing) < self.cluster.params.updates_min:
                continue  # the model stayed: it is the one of the round before
            owed.append(ev.Aggregate(round, self._model_body(k * round).model, tuple(inputs), missing, holders))
        return owed[::-1]

    def _model_body(self, height: int) -> ModelBody:
        block = self.chain.store.block(height)
        assert block is not None
        assert isinstance(block.body, ModelBody)
        return block.body

    def _final_model(self, round: int) -> BlobRef:
        return self._model_body(self.cluster.params.round_length * (round + 1)).model

    def crash(self) -> None:
        self.core = None
        self.life += 1
        for other in self.cluster.alive():
            self.cluster.later(1, other, ev.PeerDown(self.me))

    def handle(self, event: ev.Event) -> None:
        effects = self.running.step(event, self.cluster.now_ms, WALL_MS + self.cluster.now_ms)
        if self.disk_first:  # as the shell does it: a promise or commit may be done earlier than its turn
            effects = sorted(effects, key=lambda effect: not isinstance(effect, ev.Persist | ev.Commit))
        for effect in effects:
            if self.effects_done == self.crash_at:
                self.crash_at = None
                self.crashes += 1
                self.crash()
                self.cluster.restart_later(self.me, RESTART_MS)
                return
            self.effects_done += 1
            self.perform(effect)

    def perform(self, effect: ev.Effect) -> None:
        cluster = self.cluster
        match effect:
            case ev.Persist(record):
                self.disk.log.append(record)
                self.promised.update(_ids_in(record))
            case ev.Commit(batch, state):
                self.chain.commit(batch, state)
                cluster.on_commit(self, batch)
            case ev.Send(message, to):
                self._send(message, to)
            case ev.SetTimer(timer, after_ms):
                cluster.timer(self, timer, after_ms)
            case ev.Train(round, model):
                self._train(round, model)
            case ev.Evaluate(round, offer, _):
                self._evaluate(round, offer)
            case ev.Aggregate():
                cluster.aggregate(self, effect)
            case ev.SyncFrom(member, height):
                self.syncs.append(member)
                cluster.sync(self, cluster.nodes[member], height)
            case ev.Fault(member, reason):
                self.faults.append((member, reason))
            case ev.Halt(reason):
                self.halted = reason
            case ev.RoundEnded():
                pass

    def _send(self, message: ev.Message, to: bytes | None) -> None:
        signed = message.proposal if isinstance(message, ProposedBatch) else message
        if isinstance(signed, Signed) and signed.author() == self.me:
            assert signed.id() in self.promised, f"spoken before it was on disk (A5): {signed}"
        if isinstance(message, Offer):
            assert message.trainer != self.me or message.update.blob in self.held, "offered before it was held (B3)"
        self.sent.append(message)
        for other in self.cluster.nodes.values():
            if other is not self and to in (None, other.me):
                self.cluster.deliver(self, other, message)

    def _train(self, round: int, model: BlobRef) -> None:
        cluster = self.cluster
        if cluster.plan.trains(self.me, round):
            update = blob("update", round, self.me, model)
            self.held.add(update.blob)
            wait = cluster.random.randint(*cluster.plan.train_ms)
            cluster.later(wait, self, ev.Trained(round, update, SEAL, SAMPLES, CODEC))

    def _evaluate(self, round: int, offer: Offer) -> None:
        cluster = self.cluster
        verdict = cluster.plan.score(self.me, offer)
        wait = cluster.random.randint(*cluster.plan.score_ms) + cluster.plan.slow_ms(self.me)
        if cluster.fetch(self, offer.update.blob):
            cluster.later(wait, self, ev.Held((offer.update,)))
        if verdict is not None and (offer.update.blob in self.held or cluster.plan.scores_blind(self.me)):
            cluster.later(wait, self, ev.Scored(round, offer.id(), *verdict))


def _ids_in(record: Record) -> list[bytes]:
    """The ids of what a record of the signer's log promises."""
    found = [getattr(record, name, None) for name in ("vote", "offer", "score", "present")]
    batch = getattr(record, "batch", None)
    signed = [*found, batch.proposal if isinstance(batch, ProposedBatch) else None]
    return [item.id() for item in signed if isinstance(item, Signed)]


def own_messages(node: Node) -> list[Signed]:
    """All that this node ever sent under its own name."""
    signed = [message.proposal if isinstance(message, ProposedBatch) else message for message in node.sent]
    return [item for item in signed if isinstance(item, Signed) and item.author() == node.me]


def scores_sent(node: Node) -> list[Score]:
    return [item for item in own_messages(node) if isinstance(item, Score)]

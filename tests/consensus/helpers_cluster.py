"""A cluster of cores on virtual time: the production `Core`, `Signer` and `MemoryStore`; network, disk, clock and workers
are ours. One seed, one history."""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consensus import events as ev
from consensus.core import Core
from consensus.signer import Identity, Signer, SignerState
from ledger.chain import Chain
from ledger.genesis import Genesis
from ledger.keys import beacon_chain, digest, public_bytes
from ledger.store import MemoryStore
from ledger.types import BlobRef, FinalBatch, Offer

SAMPLES = 100
CODEC = "f32"
RETRY_MS = 200
WALL_MS = 1_700_000_000_000


def blob(*parts: object) -> BlobRef:
    """A made-up blob."""
    return BlobRef(digest("test-blob", repr(parts).encode()), 1000)


@dataclass
class Disk:
    """What survives a crash: the chain store and the signer's log."""

    store: MemoryStore
    log: list = field(default_factory=list)


@dataclass
class Plan:
    """How the members behave: network delays in ms, and what the workers answer."""

    delay_ms: tuple[int, int] = (1, 20)
    train_ms: tuple[int, int] = (20, 200)
    score_ms: tuple[int, int] = (5, 60)
    loss: float = 0.0
    trains: Callable[[bytes, int], bool] = lambda member, round: True
    score: Callable[[bytes, Offer], tuple[int, int, int] | None] = lambda member, offer: (-1_000_000, -1_100_000, 0)
    serves: Callable[[bytes, bytes], bool] = lambda holder, asker: True
    scores_blind: Callable[[bytes], bool] = lambda member: False


class Node:
    """One member: a core that can crash and come back with what its disk holds."""

    def __init__(self, cluster: "Cluster", key: Ed25519PrivateKey) -> None:
        self.cluster, self.key, self.me = cluster, key, public_bytes(key)
        self.disk = Disk(MemoryStore(), [Identity(self.me)])
        self.core: Core | None = None
        self.chain: Chain | None = None
        self.life = 0
        self.halted: str | None = None
        self.faults: list[str] = []
        self.sent: list[object] = []
        self.held: set[bytes] = set()

    def start(self) -> None:
        cluster = self.cluster
        self.life += 1
        self.chain = Chain(cluster.genesis, self.disk.store)
        signer = Signer(self.key, SignerState.replay(self.disk.log))
        links = beacon_chain(self.key, cluster.genesis.params.beacon_links, cluster.genesis.chain.encode())
        self.core = Core(
            cluster.genesis.params, self.chain.state, signer, links, held=tuple(self.held), gossip_ms=200
        )
        self.handle(ev.Started())
        for other in cluster.nodes.values():
            if other is not self and other.core is not None and cluster.linked(self.me, other.me):
                cluster.later(1, self, ev.PeerUp(other.me))
                cluster.later(1, other, ev.PeerUp(self.me))

    def crash(self) -> None:
        self.core, self.chain = None, None
        self.life += 1
        for other in self.cluster.nodes.values():
            if other.core is not None:
                self.cluster.later(1, other, ev.PeerDown(self.me))

    def handle(self, event: ev.Event) -> None:
        assert self.core is not None
        now = self.cluster.now_ms
        for effect in self.core.step(event, now, WALL_MS + now):
            self.perform(effect)

    def perform(self, effect: ev.Effect) -> None:
        cluster = self.cluster
        match effect:
            case ev.Persist(record):
                self.disk.log.append(record)
            case ev.Commit(batch, state):
                assert self.chain is not None
                self.chain.commit(batch, state)
                cluster.on_commit(self, batch)
            case ev.Send(message, to):
                self.sent.append(message)
                for other in cluster.nodes.values():
                    if other is not self and to in (None, other.me):
                        cluster.deliver(self, other, message)
            case ev.SetTimer(timer, after_ms):
                cluster.timer(self, timer, after_ms)
            case ev.Train(round, model):
                if cluster.plan.trains(self.me, round):
                    update = blob("update", round, self.me, model)
                    self.held.add(update.blob)
                    wait = cluster.random.randint(*cluster.plan.train_ms)
                    cluster.later(wait, self, ev.Trained(round, update, SAMPLES, CODEC))
            case ev.Evaluate(round, offer, _):
                verdict = cluster.plan.score(self.me, offer)
                wait = cluster.random.randint(*cluster.plan.score_ms)
                if cluster.fetch(self, offer.update.blob):
                    cluster.later(wait, self, ev.Held((offer.update.blob,)))
                if verdict is not None and (offer.update.blob in self.held or cluster.plan.scores_blind(self.me)):
                    cluster.later(wait, self, ev.Scored(round, offer.id(), *verdict))
            case ev.Aggregate():
                cluster.aggregate(self, effect)
            case ev.SyncFrom(member, height):
                cluster.sync(self, cluster.nodes[member], height)
            case ev.Fault(_, reason):
                self.faults.append(reason)
            case ev.Halt(reason):
                self.halted = reason
            case ev.RoundEnded():
                pass


class Cluster:
    """n members on one virtual clock."""

    def __init__(self, genesis: Genesis, keys: Iterable[Ed25519PrivateKey], seed: int = 0, plan: Plan | None = None):
        self.genesis, self.plan, self.random = genesis, plan or Plan(), random.Random(seed)
        self.now_ms = 0
        self._queue: list[tuple[int, int, Node, int, ev.Event | ev.Aggregate]] = []
        self._order = itertools.count()
        self._timers: dict[tuple[bytes, ev.Timer], int] = {}
        self._cut: set[frozenset[bytes]] = set()
        self.final: dict[int, bytes] = {}
        self.nodes = {node.me: node for node in (Node(self, key) for key in keys)}

    def start(self, *members: bytes) -> None:
        for member in members or tuple(self.nodes):
            self.nodes[member].start()

    def later(self, after_ms: int, node: Node, event: ev.Event | ev.Aggregate) -> None:
        heapq.heappush(self._queue, (self.now_ms + after_ms, next(self._order), node, node.life, event))

    def timer(self, node: Node, timer: ev.Timer, after_ms: int) -> None:
        number = next(self._order)
        self._timers[node.me, timer] = number
        heapq.heappush(self._queue, (self.now_ms + after_ms, number, node, node.life, ev.Fired(timer)))

    def linked(self, one: bytes, other: bytes) -> bool:
        return frozenset((one, other)) not in self._cut

    def cut(self, ones: Iterable[bytes], others: Iterable[bytes]) -> None:
        for one, other in itertools.product(list(ones), list(others)):
            if one != other:
                self._cut.add(frozenset((one, other)))
                for me, peer in ((one, other), (other, one)):
                    if self.nodes[me].core is not None:
                        self.later(1, self.nodes[me], ev.PeerDown(peer))

    def heal(self) -> None:
        cut, self._cut = self._cut, set()
        for pair in sorted(sorted(pair) for pair in cut):
            one, other = pair
            if self.nodes[one].core is not None and self.nodes[other].core is not None:
                self.later(1, self.nodes[one], ev.PeerUp(other))
                self.later(1, self.nodes[other], ev.PeerUp(one))

    def deliver(self, sender: Node, receiver: Node, message: ev.Message) -> None:
        if receiver.core is None or not self.linked(sender.me, receiver.me) or self.random.random() < self.plan.loss:
            return
        self.later(self.random.randint(*self.plan.delay_ms), receiver, ev.Received(sender.me, message))

    def aggregate(self, node: Node, order: ev.Aggregate) -> None:
        """Fetch what can be had, then derive the model; try again while something is withheld."""
        wanted = [item for item in order.updates if item.height not in order.missing]
        held = [item.update.blob for item in wanted if self.fetch(node, item.update.blob)]
        self.later(10, node, ev.Held(tuple(held)))
        if len(held) < len(wanted):
            self.later(RETRY_MS, node, order)
            return
        weights = [(item.update, item.weight) for item in wanted]
        self.later(15, node, ev.Aggregated(order.round, order.missing, blob("model", order.round, order.model, weights)))

    def fetch(self, node: Node, wanted: bytes) -> bool:
        """Whether the node has the blob now: its own, or from a live, linked holder that serves it."""
        holders = (other for other in self.alive() if wanted in other.held and self.linked(node.me, other.me))
        if wanted in node.held or any(self.plan.serves(other.me, node.me) for other in holders):
            node.held.add(wanted)
        return wanted in node.held

    def sync(self, node: Node, server: Node, height: int) -> None:
        wait = self.random.randint(*self.plan.delay_ms)
        if server.chain is not None and self.linked(node.me, server.me):
            for batch in itertools.islice(server.chain.batches(height), 20):
                wait += 1
                self.later(wait, node, ev.Synced(server.me, batch))
        self.later(wait + 1, node, ev.SyncEnded(server.me))

    def on_commit(self, node: Node, batch: FinalBatch) -> None:
        """Agreement: no two members ever make different blocks final."""
        for block in batch.blocks:
            known = self.final.setdefault(block.height, block.header.id())
            assert known == block.header.id(), f"two blocks are final at #{block.height}"

    def run(self, until: Callable[["Cluster"], bool], limit_ms: int = 600_000) -> int:
        """Run until the condition holds; virtual ms that it took. Fails when the limit passes first."""
        begun = self.now_ms
        while not until(self):
            assert self._queue, "nothing will ever happen again"
            at, number, node, life, event = heapq.heappop(self._queue)
            assert at - begun <= limit_ms, f"not reached within {limit_ms} virtual ms"
            self.now_ms = max(self.now_ms, at)
            if isinstance(event, ev.Fired) and self._timers.get((node.me, event.timer)) != number:
                continue
            if node.core is None or node.life != life:
                continue
            if isinstance(event, ev.Aggregate):
                self.aggregate(node, event)
            else:
                node.handle(event)
        return self.now_ms - begun

    def alive(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.core is not None]

    def heights(self) -> list[int]:
        return [node.core.state.height for node in self.alive() if node.core is not None]

    def run_to_height(self, height: int, limit_ms: int = 600_000) -> int:
        return self.run(lambda cluster: min(cluster.heights()) >= height, limit_ms)

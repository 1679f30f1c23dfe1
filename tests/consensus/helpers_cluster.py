"""A cluster of cores on virtual time: the production `Core`, `Signer` and `Chain`; network, disk, clock and workers are
ours. One seed, one history. `helpers_check` says what must hold of every history."""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

from consensus import events as ev
from ledger.types import FinalBatch
from tests.consensus.helpers_node import GOSSIP_MS, Disk, Node, Plan, blob, blob_of_model
from tests.ledger.helpers_ledger import make_document

__all__ = ["Cluster", "Disk", "Node", "Plan", "blob"]

RETRY_MS = 200
SYNC_BATCHES_MAX = 20
FAST = {
    "round_deadline_ms": 5_000,
    "grace_ms": 300,
    "batch_wait_ms": 400,
    "fetch_deadline_ms": 2_000,
    "timeout_propose_ms": 500,
    "timeout_vote_ms": 250,
    "timeout_step_ms": 100,
    "timeout_max_ms": 3_000,
}


class Cluster:
    """`n` members on one virtual clock, with a committee of `c` and rounds of `k` blocks; other names are params."""

    def __init__(self, n: int, c: int, k: int, seed: int = 0, plan: Plan | None = None, **params: Any) -> None:
        rules: dict[str, Any] = {"committee_size": c, "round_length": k, "rounds_max": 40, "beacon_links": 40}
        self.genesis = make_document(n, **(rules | FAST | params))
        self.params = self.genesis.params
        self.plan, self.random = plan or Plan(), random.Random(seed)
        self.gossip_ms = GOSSIP_MS
        self.now_ms = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._timers: dict[tuple[bytes, ev.Timer], int] = {}
        self._cut: set[frozenset[bytes]] = set()
        self.final: dict[int, bytes] = {}
        self.served: dict[bytes, Callable[[int], list[FinalBatch]]] = {}
        self.nodes = {node.me: node for node in (Node(self, index) for index in range(n))}

    # ------------------------------------------------------------------------------------------------- who is who

    @property
    def members(self) -> list[bytes]:
        return list(self.nodes)

    @property
    def committee(self) -> tuple[bytes, ...]:
        """The committee of the round that is open at the highest node."""
        return self.tallest().state.round.committee

    @property
    def trainers(self) -> tuple[bytes, ...]:
        return self.tallest().state.round.trainers

    def alive(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.core is not None]

    def tallest(self) -> Node:
        return max(self.nodes.values(), key=lambda node: node.height)

    def heights(self) -> list[int]:
        return [node.height for node in self.alive()]

    # ------------------------------------------------------------------------------------------ life, links, time

    def start(self, *members: bytes) -> None:
        for member in members or tuple(self.nodes):
            self.nodes[member].start()

    def crash(self, *members: bytes) -> None:
        for member in members:
            self.nodes[member].crash()

    def restart_later(self, member: bytes, after_ms: int) -> None:
        """Start a node that is down, unless it was started before."""
        node = self.nodes[member]
        self.at(after_ms, lambda: None if node.core is not None else node.start())

    def at(self, after_ms: int, action: Callable[[], None]) -> int:
        """Do this once the time has come; its number."""
        number = next(self._order)
        heapq.heappush(self._queue, (self.now_ms + after_ms, number, action))
        return number

    def later(self, after_ms: int, node: Node, event: ev.Event | ev.Aggregate) -> None:
        """Hand an event to a node, unless it has crashed by then."""
        life = node.life

        def arrive() -> None:
            if node.core is not None and node.life == life:
                if isinstance(event, ev.Aggregate):
                    self.aggregate(node, event)
                else:
                    node.handle(event)

        self.at(after_ms, arrive)

    def timer(self, node: Node, timer: ev.Timer, after_ms: int) -> None:
        life = node.life

        def fire() -> None:
            if node.core is not None and node.life == life and self._timers[node.me, timer] == number:
                node.handle(ev.Fired(timer))

        number = self._timers[node.me, timer] = self.at(after_ms, fire)

    def linked(self, one: bytes, other: bytes) -> bool:
        return frozenset((one, other)) not in self._cut

    def cut(self, ones: Iterable[bytes], others: Iterable[bytes]) -> None:
        for one, other in itertools.product(list(ones), list(others)):
            if one != other:
                self._cut.add(frozenset((one, other)))
                for me, peer in ((one, other), (other, one)):
                    self.later(1, self.nodes[me], ev.PeerDown(peer))

    def heal(self) -> None:
        cut, self._cut = self._cut, set()
        for one, other in sorted(tuple(sorted(pair)) for pair in cut):
            if self.nodes[one].core is not None and self.nodes[other].core is not None:
                self.later(1, self.nodes[one], ev.PeerUp(other))
                self.later(1, self.nodes[other], ev.PeerUp(one))

    # ---------------------------------------------------------------------------------- what the effects lead to

    def deliver(self, sender: Node, receiver: Node, message: ev.Message) -> None:
        if receiver.core is None or not self.linked(sender.me, receiver.me) or self.random.random() < self.plan.loss:
            return
        self.later(self.random.randint(*self.plan.delay_ms), receiver, ev.Received(sender.me, message))

    def aggregate(self, node: Node, order: ev.Aggregate) -> None:
        """Fetch what can be had, then derive the model; try again while something is withheld."""
        wanted = [item for item in order.updates if item.height not in order.missing]
        held = [item.update for item in wanted if self.fetch(node, item.update.blob)]
        self.later(10, node, ev.Held(tuple(held)))
        if len(held) < len(wanted):
            self.later(RETRY_MS, node, order)
            return
        weights = [(item.update, item.weight) for item in wanted]
        model = self.plan.derives(node.me, order.round, blob_of_model(order.round, order.model, weights))
        life = node.life

        def derived() -> None:
            if node.core is not None and node.life == life:
                node.held.add(model.blob)
                node.handle(ev.Aggregated(order.round, order.missing, model))

        self.at(self.plan.derive_ms, derived)

    def fetch(self, node: Node, wanted: bytes) -> bool:
        """Whether the node has the blob now: its own, or from a live, linked holder that serves it."""
        holders = (other for other in self.alive() if wanted in other.held and self.linked(node.me, other.me))
        if wanted in node.held or any(self.plan.serves(other.me, node.me) for other in holders):
            node.held.add(wanted)
        return wanted in node.held

    def sync(self, node: Node, server: Node, height: int) -> None:
        """Serve final batches (Y1), or what the member in `served` serves instead."""
        wait = self.random.randint(*self.plan.delay_ms)
        batches: list[FinalBatch] = []
        if server.me in self.served:
            batches = self.served[server.me](height)
        elif server.core is not None and self.linked(node.me, server.me):
            batches = list(itertools.islice(server.chain.batches(height), SYNC_BATCHES_MAX))
        for batch in batches:
            wait += 1
            self.later(wait, node, ev.Synced(server.me, batch))
        self.later(wait + 1, node, ev.SyncEnded(server.me))

    def on_commit(self, node: Node, batch: FinalBatch) -> None:
        """Agreement: no two members ever make different blocks final."""
        for block in batch.blocks:
            known = self.final.setdefault(block.height, block.header.id())
            assert known == block.header.id(), f"two blocks are final at #{block.height}"

    # ------------------------------------------------------------------------------------------------------- run

    def run(self, until: Callable[["Cluster"], bool], limit_ms: int = 600_000) -> int:
        """Run until the condition holds; virtual ms that it took. Fails when the limit passes first."""
        begun = self.now_ms
        while not until(self):
            assert self._queue, "nothing will ever happen again"
            assert self._queue[0][0] - begun <= limit_ms, f"not reached within {limit_ms} virtual ms"
            at, _, action = heapq.heappop(self._queue)
            self.now_ms = max(self.now_ms, at)
            action()
        return self.now_ms - begun

    def run_for(self, duration_ms: int) -> None:
        """Let this much virtual time pass."""
        end: list[bool] = []
        self.at(duration_ms, lambda: end.append(True))
        self.run(lambda cluster: bool(end), duration_ms)

    def run_to_height(self, height: int, limit_ms: int = 600_000) -> int:
        """Run until all that are alive, at least one, have this height."""
        return self.run(lambda cluster: min(cluster.heights(), default=-1) >= height, limit_ms)

    def run_to_round(self, round: int, limit_ms: int = 600_000) -> int:
        """Run until `round` is open everywhere (H2)."""
        return self.run_to_height(self.params.round_length * round, limit_ms)

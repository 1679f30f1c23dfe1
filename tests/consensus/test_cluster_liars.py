"""Networks on virtual time with members that lie: about heights, batches, models, or by sheer number of messages."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from consensus import events as ev
from ledger.types import PRECOMMIT, PREVOTE, FinalBatch, ModelBody, Offer, Vote
from tests.consensus.helpers_check import check
from tests.consensus.helpers_cluster import Cluster
from tests.consensus.helpers_node import Node, blob
from tests.ledger.helpers_ledger import beacon_of

FLOOD = 3_000


def behind(seed: int = 0) -> tuple[Cluster, Node, bytes]:
    """Eight members, two rounds long; one of them, and one who will lie, have not started yet."""
    cluster = Cluster(8, 4, 5, seed)
    late, liar = cluster.trainers[:2]
    cluster.start(*(member for member in cluster.members if member not in (late, liar)))
    cluster.run_to_round(2)
    return cluster, cluster.nodes[late], liar


def claim(cluster: Cluster, node: Node, liar: bytes, height: int, every_ms: int = 200) -> None:
    """The liar is connected to the node and says again and again how high it is."""
    if node.core is not None and cluster.nodes[liar].core is None:
        cluster.later(0, node, ev.Received(liar, ev.Have(height, 0, ())))
        cluster.at(every_ms, lambda: claim(cluster, node, liar, height, every_ms))


def batches(cluster: Cluster, spoil: Callable[[FinalBatch], FinalBatch]) -> Callable[[int], list[FinalBatch]]:
    """Serves the true chain with every batch spoilt."""

    def serve(height: int) -> list[FinalBatch]:
        return [spoil(batch) for batch in list(cluster.tallest().chain.batches(height))[:3]]

    return serve


def without_quorum(batch: FinalBatch) -> FinalBatch:
    """A certificate of 5 of 8 voters."""
    return replace(batch, certificate=replace(batch.certificate, precommits=batch.certificate.precommits[:5]))


def signed_by_nobody(batch: FinalBatch) -> FinalBatch:
    first = replace(batch.certificate.precommits[0], signature=bytes(64))
    rest = batch.certificate.precommits[1:]
    return replace(batch, certificate=replace(batch.certificate, precommits=(first, *rest)))


def of_other_blocks(batch: FinalBatch) -> FinalBatch:
    block = batch.blocks[-1]
    other = replace(block, header=replace(block.header, time_ms=block.header.time_ms + 1))
    return replace(batch, blocks=(*batch.blocks[:-1], other))


@pytest.mark.parametrize("seed", range(2))
def test_a_peer_that_lies_about_its_height_costs_one_try_each_turn(seed: int) -> None:
    """Y1: claims are hints; who has nothing to serve is asked last the next time."""
    cluster, node, liar = behind(seed)
    node.start()
    node.handle(ev.PeerUp(liar))
    claim(cluster, node, liar, 10**6)
    took_ms = cluster.run(lambda cluster: node.height >= 10)
    assert took_ms < 3_000
    assert node.syncs.count(liar) <= 2
    cluster.run_to_round(4)
    check(cluster)


@pytest.mark.parametrize("spoil", [without_quorum, signed_by_nobody, of_other_blocks])
def test_a_peer_that_serves_a_batch_that_is_not_final_is_at_fault_and_costs_one_try(
    spoil: Callable[[FinalBatch], FinalBatch],
) -> None:
    """Y1, A8: nothing of it is followed; the next one that is asked is honest."""
    cluster, node, liar = behind()
    cluster.served[liar] = batches(cluster, spoil)
    cluster.cut([node.me], [member for member in cluster.members if member != liar])
    node.start()
    node.handle(ev.PeerUp(liar))
    claim(cluster, node, liar, 10**6, every_ms=60_000)
    cluster.run(lambda cluster: bool(node.faults), 5_000)
    assert node.height == 0
    cluster.heal()
    assert node.faults[0][0] == liar
    assert "not final" in node.faults[0][1]
    cluster.run(lambda cluster: node.height >= 10)
    assert node.syncs.count(liar) == 1
    cluster.run_to_round(4)
    check(cluster, liars=[liar])


def test_who_is_out_of_step_when_served_ignores_batches_that_it_has() -> None:
    """Y1: a batch below or beyond the next height is neither a fault nor followed."""
    cluster, node, _ = behind()
    node.start()
    cluster.run(lambda cluster: node.height >= 10)
    chain = cluster.tallest().chain
    height = node.height
    for batch in list(chain.batches()):
        if batch.blocks[0].height != height + 1:
            node.handle(ev.Synced(cluster.tallest().me, batch))
    assert node.height == height
    check(cluster)


def test_a_machine_that_derives_another_model_halts_and_the_others_go_on() -> None:
    """A3: its own answer to the fresh proposal is no; the certificate then proves it faulty."""
    cluster = Cluster(8, 4, 5)
    faulty = cluster.nodes[cluster.trainers[0]]
    cluster.plan.derives = lambda member, round, model: blob("wrong") if member == faulty.me else model
    cluster.start()
    cluster.run(lambda cluster: faulty.halted is not None)
    assert "a faulty machine, or more than a third of the voters lied" in str(faulty.halted)
    faulty.crash()
    faulty.halted = None
    cluster.run_to_round(4)
    check(cluster)


def test_a_machine_that_finds_a_final_model_wrong_only_later_halts_too() -> None:
    """A3: it was away when the model became final; the certificate obliges it to derive it, then it compares."""
    cluster, late, _ = behind()
    cluster.plan.derives = lambda member, round, model: blob("wrong") if member == late.me else model
    late.start()
    cluster.run(lambda cluster: late.halted is not None)
    assert "round 0" in str(late.halted)
    late.crash()
    late.halted = None
    check(cluster)


def test_a_halted_core_does_nothing_more() -> None:
    """A8: a broken invariant stops the node."""
    cluster = Cluster(4, 1, 4)
    node = cluster.nodes[cluster.trainers[0]]
    cluster.plan.derives = lambda member, round, model: blob("wrong") if member == node.me else model
    cluster.start()
    cluster.run(lambda cluster: node.halted is not None)
    assert node.running.halted
    assert node.running.step(ev.Fired(ev.GossipTimer()), 10**6, 10**12) == []


def test_honest_votes_keep_a_wrong_candidate_from_becoming_final() -> None:
    """A3, R7: two of eight derive the same wrong model, one of them is the first proposer; theirs gets no polka."""
    cluster = Cluster(8, 4, 5)
    wrong = {cluster.committee[5 % 4], cluster.trainers[0]}  # A2: C[(h + r) mod c] proposes the model block #5
    cluster.plan.derives = lambda member, round, model: blob("wrong") if member in wrong else model
    cluster.start()
    cluster.run(lambda cluster: all(cluster.nodes[member].halted is not None for member in wrong))
    for member in wrong:
        cluster.nodes[member].crash()
        cluster.nodes[member].halted = None
    cluster.run_to_round(1)
    block = cluster.tallest().chain.store.block(5)
    assert block is not None
    assert isinstance(block.body, ModelBody)
    assert block.body.model.blob != blob("wrong").blob
    check(cluster)


def test_a_flood_of_early_votes_is_bounded_and_changes_nothing() -> None:
    """A8: votes of instances to come are kept up to a limit; the flooder alone is poorer for it."""
    cluster = Cluster(5, 1, 4)
    flooder = cluster.nodes[cluster.trainers[0]]
    victim = cluster.nodes[cluster.committee[0]]
    cluster.start()
    cluster.run_for(20)
    for number in range(FLOOD):
        step = PREVOTE + number % 2
        vote = Vote(cluster.genesis.chain_id, 2 + number % 50, number // 2, step, 0, b"", flooder.me)
        cluster.later(1 + number % 500, victim, ev.Received(flooder.me, vote))
    cluster.run_to_round(3, 30_000)
    assert all(member == flooder.me for member, _ in victim.faults)  # unsigned, as was found when their turn came
    check(cluster, liars=[flooder.me])


def test_an_equivocating_voter_stops_nothing() -> None:
    """A4, A7: one of five votes for nil and for the value in every instance; conflicts are counted, not fatal."""
    cluster = Cluster(5, 1, 4)
    liar = cluster.nodes[cluster.trainers[0]]
    cluster.start()

    def equivocate() -> None:
        chain, instance = cluster.genesis.chain_id, cluster.tallest().height + 1
        for step in (PREVOTE, PRECOMMIT):
            vote = Vote(chain, instance, 0, step, 0, b"", liar.me).signed(liar.key)
            for node in cluster.nodes.values():
                if node is not liar:
                    cluster.later(cluster.random.randint(1, 20), node, ev.Received(liar.me, vote))
        cluster.at(50, equivocate)

    equivocate()
    cluster.run_to_round(3, 60_000)
    assert any(node.running.voting.conflicts for node in cluster.alive()) or cluster.tallest().height >= 12
    check(cluster)


def test_a_trainer_that_offers_two_updates_gets_at_most_one_accepted() -> None:
    """R2, A7: half of the members see one offer first, half the other; the round ends at its deadline at the latest."""
    cluster = Cluster(8, 4, 5)
    liar = cluster.nodes[cluster.trainers[0]]
    cluster.start(*(member for member in cluster.members if member != liar.me))
    state = cluster.tallest().state
    for number, member in enumerate(cluster.members):
        update = blob("two-faced", number % 2)
        reveal = beacon_of(liar.index, cluster.params.beacon_links)[cluster.params.beacon_links - 1]
        base, seal = state.round.model.blob, bytes(32)
        offer = Offer(state.chain, 0, liar.me, base, update, seal, 10, "f32", reveal).signed(liar.key)
        cluster.nodes[member].held.add(update.blob)
        if member != liar.me:
            cluster.later(5, cluster.nodes[member], ev.Received(liar.me, offer))
    cluster.run_to_round(2, 60_000)
    check(cluster)

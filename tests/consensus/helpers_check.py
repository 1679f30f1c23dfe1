"""What must hold of every history of a cluster, whatever happened in it."""

from collections.abc import Collection

from ledger.certificate import check_certificate
from ledger.chain import Finding, audit
from ledger.heights import is_model_height, round_of
from ledger.state import State, get_voters
from ledger.types import Block, ModelBody, Offer, Present, Proposal, Score, Signed, Vote
from tests.consensus.helpers_cluster import Cluster
from tests.consensus.helpers_node import Node, blob_of_model, own_messages


def check(cluster: Cluster, liars: Collection[bytes] = (), doubles: Collection[bytes] = ()) -> None:
    """Agreement, heights, certificates, states, models, promises; nobody halted, no honest member was blamed.

    `liars` are members whom a test makes lie: faults of theirs are as they should be. `doubles` may have signed twice.
    """
    states = check_chain(cluster)
    for node in cluster.nodes.values():
        assert node.halted is None, node.halted
        assert [fault for fault in node.faults if fault[0] not in liars] == []
        check_copy(cluster, node, states)
        if node.me not in doubles:
            check_promises(node)


def check_chain(cluster: Cluster) -> dict[int, State]:
    """Re-derive the longest chain from genesis, models included; the states at the ends of its batches."""

    def model_differs(state: State, block: Block) -> str | None:
        """R7: the final model is the aggregate of what was accepted and is not missing."""
        if block.height == 0 or not isinstance(body := block.body, ModelBody):
            return None
        used = [(item.update, item.weight) for item in state.updates if item.height not in body.missing]
        enough = len(used) >= cluster.params.updates_min
        model = blob_of_model(state.round.round, state.round.model, used) if enough else state.round.model
        return None if body.model == model else "the model is not the aggregate"

    states = {0: Node(cluster, 0).state}
    for found in audit(cluster.genesis, cluster.tallest().disk.store, model_differs):
        assert not isinstance(found, Finding), f"#{found.height}: {found.reason}"
        states[found.height] = found
    return states


def check_copy(cluster: Cluster, node: Node, states: dict[int, State]) -> None:
    """The node's own chain: the law of heights (H1, H2, H4), each certificate against the voters of its time (A1)."""
    k, chain = cluster.params.round_length, node.chain
    for batch in chain.batches():
        before = states[batch.blocks[0].height - 1]
        check_certificate(batch.certificate, batch.blocks, get_voters(cluster.params, before))
        for block in batch.blocks:
            assert block.header.id() == cluster.final[block.height]
            assert isinstance(block.body, ModelBody) == is_model_height(k, block.height)
            assert block.header.round == round_of(k, block.height)
    assert chain.state == states[chain.state.height]
    if node.core is not None:
        assert node.core.state == chain.state


def slot_of(message: Signed) -> tuple[object, ...]:
    """The place that its author may fill once (A5)."""
    match message:
        case Vote():
            return ("vote", message.instance, message.round, message.step)
        case Proposal():
            return ("proposal", message.instance, message.round)
        case Offer() | Present():
            return (type(message).__name__, message.round)
        case Score():
            return ("score", message.round, message.offer)
        case _:
            raise AssertionError(f"what is a {type(message).__name__}?")


def contradictions(node: Node) -> list[tuple[object, ...]]:
    """Places that this node filled twice, differently, in all that it ever sent."""
    filled: dict[tuple[object, ...], bytes] = {}
    return [
        slot_of(message)
        for message in own_messages(node)
        if filled.setdefault(slot_of(message), message.id()) != message.id()
    ]


def check_promises(node: Node) -> None:
    """A5: nothing was ever signed twice differently, over all lives of the node."""
    assert contradictions(node) == []

"""Networks on virtual time whose members are killed between any two effects, or come back with an old copy of their
disk (A5, Y2)."""

import copy
import random
from collections.abc import Callable

import pytest

from consensus.signer import Floor, LockSaved, SignedProposal, SignedVote
from ledger.codec import Record
from ledger.types import Vote
from tests.consensus.helpers_check import check
from tests.consensus.helpers_cluster import Cluster
from tests.consensus.helpers_node import Disk, Node, own_messages


def small(seed: int = 0) -> Cluster:
    return Cluster(4, 1, 4, seed)


def effects_of(choose: Callable[[Cluster], bytes], rounds: int) -> int:
    """How many effects this member has in a history without a crash."""
    cluster = small()
    victim = choose(cluster)
    cluster.start()
    cluster.run_to_round(rounds)
    return cluster.nodes[victim].effects_done


ROLES: dict[str, Callable[[Cluster], bytes]] = {
    "proposer": lambda cluster: cluster.committee[0],
    "trainer": lambda cluster: cluster.trainers[0],
}


@pytest.mark.parametrize("disk_first", [False, True])
@pytest.mark.parametrize("role", ROLES)
def test_a_kill_between_any_two_effects_loses_and_contradicts_nothing(role: str, disk_first: bool) -> None:
    """A5, Y2: promise on disk and not yet sent, commit done and the next timer not set: every boundary of a round."""
    choose = ROLES[role]
    for boundary in range(effects_of(choose, 1) + 1):
        cluster = small()
        node = cluster.nodes[choose(cluster)]
        node.crash_at, node.disk_first = boundary, disk_first
        cluster.start()
        cluster.run_to_round(2, 60_000)
        assert node.crashes == 1, f"boundary {boundary} was never reached"
        check(cluster)


@pytest.mark.parametrize("seed", range(4))
def test_everybody_may_be_killed_between_effects_again_and_again(seed: int) -> None:
    """A5: agreement and liveness hold when every member crashes every few dozen effects for a while."""
    cluster, dice = Cluster(4, 1, 4, seed, rounds_max=200, beacon_links=200), random.Random(seed)
    cluster.start()

    def arm() -> None:
        for node in cluster.alive():
            node.disk_first = dice.random() < 0.5
            node.crash_at = node.effects_done + dice.randint(0, 60)
        if cluster.now_ms < 10_000:
            cluster.at(dice.randint(100, 1_500), arm)

    arm()
    cluster.run_for(10_000)
    assert sum(node.crashes for node in cluster.nodes.values()) > 20
    cluster.run_to_height(cluster.tallest().height + 3, 60_000)
    check(cluster)


def open_votes(node: Node) -> list[Vote]:
    """The votes of this node in the instance that is open at it."""
    instance = node.height + 1
    return [item for item in own_messages(node) if isinstance(item, Vote) and item.instance == instance]


def instance_of(record: Record) -> int | None:
    """The instance that a record of the signer's log is about."""
    match record:
        case SignedVote(vote):
            return vote.instance
        case SignedProposal(batch):
            return batch.proposal.instance
        case LockSaved(instance):
            return instance
        case _:
            return None


def stall(cluster: Cluster) -> Node:
    """Kill a trainer; once another has voted in the open instance kill the last but one voter that could decide it."""
    never, other, third = cluster.trainers
    cluster.crash(never)
    cluster.run(lambda cluster: bool(open_votes(cluster.nodes[third])))
    cluster.crash(other)
    cluster.run_for(1_000)
    assert open_votes(cluster.nodes[third])
    return cluster.nodes[third]


def finish(cluster: Cluster, node: Node, instance: int, silent_from: int) -> None:
    """Bring all members back: the open instance is decided without the muted one, which signs from the next on."""
    cluster.run_for(2_000)
    new = [item for item in own_messages(node)[silent_from:] if isinstance(item, Vote) and item.instance == instance]
    assert {vote.id() for vote in new} <= {vote.id() for vote in own_messages(node)[:silent_from]}  # echoes at most
    assert any(isinstance(record, Floor) and record.instance == instance + 1 for record in node.disk.log)
    for member in cluster.members:
        cluster.restart_later(member, 1)
    cluster.run_to_height(instance + 8, 60_000)
    later = [item.instance for item in own_messages(node)[silent_from:] if isinstance(item, Vote)]
    assert max(later) > instance
    check(cluster)


@pytest.mark.parametrize("kept", range(3))
@pytest.mark.parametrize("seed", range(2))
def test_a_restored_copy_of_a_signers_log_is_muted_for_the_open_instance(seed: int, kept: int) -> None:
    """A5: the peers show it its own forgotten votes; it signs again from the next instance on."""
    cluster = small(seed)
    cluster.start()
    cluster.run_to_round(1)
    node = stall(cluster)
    node.crash()
    instance = node.height + 1
    mine = [at for at, record in enumerate(node.disk.log) if instance_of(record) == instance]
    node.disk.log = node.disk.log[: mine[min(kept, len(mine) - 1)]]
    sent = len(own_messages(node))
    node.start()
    finish(cluster, node, instance, sent)


@pytest.mark.parametrize("gossip_ms", [200, 300, 500])
@pytest.mark.parametrize("seed", range(2))
def test_a_restored_copy_of_a_whole_disk_is_muted_once_it_has_synced(seed: int, gossip_ms: int) -> None:
    """A5: what it forgot is asked for in the instance that is open, not in the one of the copy; however slow gossip is
    against `grace`."""
    cluster = small(seed)
    cluster.start()
    cluster.run_to_round(1)
    early = {member: copy.deepcopy(node.disk) for member, node in cluster.nodes.items()}
    cluster.run_to_round(2)
    node = stall(cluster)
    node.crash()
    instance = node.height + 1
    node.disk = early[node.me]
    sent = len(own_messages(node))
    cluster.gossip_ms = gossip_ms
    node.start()
    finish(cluster, node, instance, sent)


def test_an_empty_data_folder_with_the_right_log_is_synced_anew_and_signs_on() -> None:
    """A5, Y1: the log lies beside the key, so that the chain may be deleted."""
    cluster = small()
    node = cluster.nodes[cluster.trainers[0]]
    cluster.start()
    cluster.run_to_round(3)
    node.crash()
    node.disk = Disk(type(node.disk.store)(), node.disk.log)
    node.held.clear()
    node.start()
    cluster.run_to_round(6, 60_000)
    assert not any(isinstance(record, Floor) for record in node.disk.log)
    check(cluster)

"""Committees of a real network equal a recomputation that shares no code with it (issue's item 1; R9)."""

import pytest

from node.home import Home
from tests.integration.conftest import MakeNetwork
from tests.integration.helpers_independent import (
    COMMITTEE_HASH,
    EMPTY,
    KIND,
    MODEL,
    PARENT,
    ROUND,
    SCORER,
    TRAINER,
    UPDATE,
    h,
    read_genesis,
    read_raw_blocks,
    redraw,
)

pytestmark = pytest.mark.integration

PEERS, C, K, ROUNDS = 12, 4, 5, 6


def test_committees_and_trainers_of_twelve_peers_follow_from_the_reveals_on_chain(network: MakeNetwork) -> None:
    """R9, S3: every header commits to the committee that an outsider draws; H1: with k = 5, four of eight train."""
    net = network(peers=PEERS, committee=C, round_length=K, rounds=ROUNDS)
    net.start()
    net.wait_height(K * ROUNDS)
    shown = net.await_status(0)["last_rounds"]
    assert net.stop() == [0] * PEERS
    home = Home(net.home(7))
    founders = read_genesis(home.genesis)
    blocks = list(read_raw_blocks(home.chain))
    assert len(blocks) == K * ROUNDS + 1
    ids = [h("header", _packed(header)) for header, _ in blocks]
    assert [header[PARENT] for header, _ in blocks[1:]] == ids[:-1]
    assert all(header[1] == founders.chain_id for header, _ in blocks)

    rounds = [[body for _, body in blocks[K * t + 1 : K * (t + 1) + 1]] for t in range(ROUNDS)]
    drawn = redraw(founders, rounds)
    assert len({tuple(item.committee) for item in drawn}) > 1
    for number, (item, bodies) in enumerate(zip(drawn, rounds, strict=False)):
        opening = blocks[K * number][0]
        assert opening[KIND] == MODEL
        assert opening[COMMITTEE_HASH] == h("committee", *item.committee)
        assert blocks[K * number + 1][0][ROUND] is not None
        listed = {body[1][TRAINER] for body in bodies if body[0] == UPDATE}
        listed |= {line[0] for body in bodies if body[0] == EMPTY for line in body[1]}
        assert listed == item.trainers
        scorers = {score[SCORER] for body in bodies if body[0] == UPDATE for score in body[2]}
        assert scorers <= set(item.committee)
        assert shown[number]["committee"] == [member.hex() for member in item.committee]
    assert blocks[K * ROUNDS][0][COMMITTEE_HASH] == h("committee", *drawn[ROUNDS].committee)


def _packed(header: list[object]) -> bytes:
    import msgpack

    packed: bytes = msgpack.packb(header, use_bin_type=True)
    return packed

"""The limits of the network side fit the chain: what it can need passes, and not much more (A8)."""

import pytest

from consensus.events import HAVE_IDS_MAX, ID_PREFIX_BYTES, Have
from ledger.params import VOTERS_MAX
from ledger.types import ROUND_MAX, SLOTS_MAX, Body, EmptyBody, Offer, Score
from node import wire
from node.limits import MIB, SIGNED_BYTES_MAX, Limits, fitted
from tests.consensus.helpers_core import proposal
from tests.ledger.helpers_ledger import PASSING, ChainBuilder


def largest(chain: ChainBuilder) -> list[list[Body]]:
    """Batches that list every offer with every score of the round: as accepted, and as unfilled."""
    offers = [chain.offer(trainer) for trainer in chain.trainers]
    updates: list[Body] = [chain.update_body(offer, chain.scores(offer)) for offer in offers]
    fails = [chain.unfilled(offer.trainer, offer, failing(chain, offer)) for offer in offers]
    rest = chain.params.round_length - 2
    padding: list[Body] = [chain.close_body(), *[EmptyBody(())] * (rest - len(updates))]
    return [updates + padding[: rest + 1 - len(updates)], [chain.close_body(fails), *[EmptyBody(())] * rest]]


def failing(chain: ChainBuilder, offer: Offer) -> list[Score]:
    return [chain.score(offer, scorer, code=255) for scorer in sorted(chain.committee)]


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 4), (8, 4, 5), (31, 7, 31), (31, 15, 40)])
def test_the_largest_batches_of_a_round_fit_into_a_frame(n: int, c: int, k: int) -> None:
    chain = ChainBuilder(n, c, k)
    frame_bytes_max = fitted(Limits(), chain.params).frame_bytes_max
    for bodies in largest(chain):
        blocks, _ = chain.blocks(*bodies)
        assert len(wire.encode(proposal(chain, chain.committee[0], blocks))) < frame_bytes_max


def test_the_longest_have_fits_into_a_frame() -> None:
    chain = ChainBuilder(4, 1, 2)
    ids = tuple(number.to_bytes(ID_PREFIX_BYTES, "big") for number in range(HAVE_IDS_MAX))
    have = Have(ROUND_MAX * SLOTS_MAX, 1_000_000, ids)
    assert len(wire.encode(have)) < fitted(Limits(), chain.params).frame_bytes_max


def test_a_frame_has_no_room_for_much_more_than_a_round_needs() -> None:
    """A8: a batch of 16 MiB would cost its receiver half a second and, decoded and kept, its memory."""
    chain = ChainBuilder(31, 7, 31)
    assert fitted(Limits(), chain.params).frame_bytes_max < MIB // 2
    assert fitted(Limits(frame_bytes_max=100_000), chain.params).frame_bytes_max == 100_000


def test_no_signed_record_is_longer_than_is_reckoned() -> None:
    chain = ChainBuilder(VOTERS_MAX, 7, 31)
    offer = chain.offer(chain.trainers[0])
    blocks, _ = chain.blocks(*chain.fill_slots())
    score = chain.score(offer, chain.committee[0], PASSING)
    for record in (offer, score, blocks[0].header):
        assert len(record.encode()) + 40 < SIGNED_BYTES_MAX

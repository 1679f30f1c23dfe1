"""Offers (R2), scores (R3), presents (R6) and update blocks (R4): what stands in the open round, what is refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ledger.blobs import blob_ref
from ledger.state import Accepted
from ledger.transition import InvalidBlock, InvalidMessage, check_offer, check_present, check_score
from ledger.types import NO_SIGNATURE, BlobRef, Offer, Present, Score, UpdateBody
from tests.ledger.helpers_ledger import FAILING, PASSING, ChainBuilder, play

BUILDER = ChainBuilder(n=8, c=3, k=5, codecs=("int8",), samples_max=1_000, update_bytes_max=500)
TRAINER = BUILDER.trainers[0]
OFFER = BUILDER.offer(TRAINER)
SCORER = BUILDER.committee[0]
SCORE = BUILDER.score(OFFER, SCORER)
OUTSIDER = next(key for key in BUILDER.indices if key not in (*BUILDER.trainers, *BUILDER.committee))


def refuse_offer(offer: Offer, message: str, builder: ChainBuilder = BUILDER) -> None:
    with pytest.raises(InvalidMessage, match=message):
        check_offer(builder.params, builder.state, offer)


def refuse_score(score: Score, message: str) -> None:
    with pytest.raises(InvalidMessage, match=message):
        check_score(BUILDER.params, BUILDER.state, score)


def refuse_body(body: UpdateBody, message: str, builder: ChainBuilder = BUILDER) -> None:
    with pytest.raises(InvalidBlock, match=message):
        builder.blocks(body)


# -------------------------------------------------------------------------------------------------- offers (R2)


def test_each_drawn_trainer_may_offer() -> None:
    for trainer in BUILDER.trainers:
        check_offer(BUILDER.params, BUILDER.state, BUILDER.offer(trainer))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chain": bytes(32)}, "another chain or round"),
        ({"round": 1}, "for round 1: another chain or round"),
        ({"base": bytes(32)}, r"trained from another model \(R2\)"),
        ({"update": BlobRef(bytes(32), 0)}, "0 bytes, allowed are 500"),
        ({"update": BlobRef(bytes(32), 501)}, r"501 bytes, allowed are 500 \(update_bytes_max\)"),
        ({"samples": 1_001}, r"1001 samples, the cap is 1000 \(samples_max\)"),
        ({"codec": "f32"}, r"codec 'f32' is not one of int8 \(B2\)"),
        ({"codec": ""}, "codec '' is not one of"),
        ({"reveal": bytes(32)}, r"its beacon link does not lead to the tip on chain \(R9\)"),
    ],
)
def test_an_offer_with_a_wrong_field_is_refused(changes: dict[str, Any], message: str) -> None:
    refuse_offer(BUILDER.offer(TRAINER, **changes), message)


def test_the_bounds_of_an_offer_are_allowed() -> None:
    for size, samples in ((1, 1), (500, 1_000)):
        offer = BUILDER.offer(TRAINER, update=BlobRef(bytes(32), size), samples=samples)
        check_offer(BUILDER.params, BUILDER.state, offer)


def test_the_ledger_takes_any_seal() -> None:
    # B4: it has no blobs; who scores the offer has one, and checks
    check_offer(BUILDER.params, BUILDER.state, BUILDER.offer(TRAINER, seal=bytes(32)))


def test_who_was_not_drawn_may_not_offer() -> None:
    # R2, R9: the committee does not train, nor do those whom the draw left out
    for member in (*BUILDER.committee, OUTSIDER):
        refuse_offer(BUILDER.offer(member), r"not a drawn trainer of the round \(R2\)")


def test_a_stranger_may_not_offer() -> None:
    refuse_offer(replace(OFFER, trainer=bytes(32)), "not a drawn trainer")


@pytest.mark.parametrize("signature", [NO_SIGNATURE, b"\x01" * 64, SCORE.signature])
def test_an_offer_with_a_bad_signature_is_refused(signature: bytes) -> None:
    refuse_offer(replace(OFFER, signature=signature), "bad signature")


def test_an_offer_signed_by_another_member_is_refused() -> None:
    refuse_offer(OFFER.signed(BUILDER.key(SCORER)), "bad signature")


def test_an_unsigned_offer_costs_no_beacon_hashes() -> None:
    # the signature is asked first: a stranger must not make this machine hash a whole chain
    refuse_offer(replace(OFFER, reveal=bytes(32)), "bad signature")


def test_each_round_reveals_the_link_before_the_last_one_revealed() -> None:
    # R9: an offer of round t reveals link L - 1 - t, and the chain keeps the newest
    builder = play(ChainBuilder(n=5, c=1, k=4, rounds_max=8), 3)
    links = builder.params.beacon_links
    for trainer in builder.trainers:
        offer = builder.offer(trainer)
        check_offer(builder.params, builder.state, offer)
        assert offer.reveal == builder.reveal(trainer, 3)
        for other in (2, 4):
            refuse_offer(builder.offer(trainer, reveal=builder.reveal(trainer, other)), "beacon link", builder)
    for member in builder.state.members:
        assert links - 3 <= member.beacon_index <= links


# -------------------------------------------------------------------------------------------------- scores (R3)


def test_each_member_of_the_committee_may_score() -> None:
    for scorer in BUILDER.committee:
        for values in (PASSING, FAILING, (BUILDER.params.score_min, BUILDER.params.score_max)):
            check_score(BUILDER.params, BUILDER.state, BUILDER.score(OFFER, scorer, values))
        check_score(BUILDER.params, BUILDER.state, BUILDER.score(OFFER, scorer, code=5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chain": bytes(32)}, "another chain or round"),
        ({"round": 1}, "another chain or round"),
        ({"value": BUILDER.params.score_max + 1}, r"outside -100000000\.\.0 millionths \(R3\)"),
        ({"value": BUILDER.params.score_min - 1}, "outside"),
        ({"baseline": BUILDER.params.score_max + 1}, "outside"),
        ({"baseline": BUILDER.params.score_min - 1}, "outside"),
        ({"code": 3, "value": -1, "baseline": 0}, "outside"),
        ({"code": 3, "value": 0, "baseline": -1}, "outside"),
    ],
)
def test_a_score_with_a_wrong_field_is_refused(changes: dict[str, Any], message: str) -> None:
    refuse_score(BUILDER.score(OFFER, SCORER, **changes), message)


def test_who_is_not_on_the_committee_may_not_score() -> None:
    for member in (TRAINER, OUTSIDER):
        refuse_score(BUILDER.score(OFFER, member), r"not on the committee \(R3\)")


def test_a_score_with_a_bad_signature_is_refused() -> None:
    refuse_score(replace(SCORE, signature=NO_SIGNATURE), "bad signature")
    refuse_score(replace(SCORE, value=-100_001), "bad signature")
    refuse_score(SCORE.signed(BUILDER.key(BUILDER.committee[1])), "bad signature")


# ------------------------------------------------------------------------------------------------- presents (R6)


@pytest.fixture(scope="module")
def away() -> tuple[ChainBuilder, bytes]:
    """A chain on which one member has become absent, and that member."""
    builder = ChainBuilder(n=4, c=1, k=4, absent_after=1)
    silent = builder.trainers[0]
    builder.full_round(silent=[silent])
    return builder, silent


def test_an_absent_member_may_say_that_it_is_back(away: tuple[ChainBuilder, bytes]) -> None:
    builder, member = away
    check_present(builder.state, builder.present(member))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda item: replace(item, chain=bytes(32)), "another chain or round"),
        (lambda item: replace(item, round=0), "another chain or round"),
        (lambda item: replace(item, member=bytes(32)), r"not an absent member \(R6\)"),
        (lambda item: replace(item, signature=NO_SIGNATURE), "bad signature"),
    ],
)
def test_a_wrong_present_is_refused(
    away: tuple[ChainBuilder, bytes], change: Callable[[Present], Present], message: str
) -> None:
    builder, member = away
    with pytest.raises(InvalidMessage, match=message):
        check_present(builder.state, change(builder.present(member)))


def test_a_member_that_is_active_needs_no_present() -> None:
    with pytest.raises(InvalidMessage, match="not an absent member"):
        check_present(BUILDER.state, BUILDER.present(TRAINER))


# -------------------------------------------------------------------------------------------- update blocks (R4)


def test_an_accepted_update_is_kept_with_its_value_weight_and_scorers() -> None:
    # R4; R6: bit i says that the i-th committee member's score is listed
    builder = ChainBuilder(n=8, c=4, k=5)
    trainer = builder.trainers[1]
    offer = builder.offer(trainer, samples=77)
    scorers = [builder.committee[at] for at in (0, 1, 3)]
    scores = [builder.score(offer, scorer, (-100_000 - at, -200_000)) for at, scorer in enumerate(sorted(scorers))]
    _, after = builder.blocks(builder.update_body(offer, scores))
    assert after.updates == (Accepted(1, trainer, offer.id(), offer.update, "f32", -100_001, 77, offer.reveal, 0b1011),)


def test_samples_above_the_cap_never_reach_the_weight() -> None:
    offer = BUILDER.offer(TRAINER, samples=1_001)
    refuse_body(BUILDER.update_body(offer), "the cap is 1000")


def test_an_update_is_refused_for_what_is_wrong_with_its_offer() -> None:
    refuse_body(BUILDER.update_body(BUILDER.offer(TRAINER, round=1)), "another chain or round")
    refuse_body(BUILDER.update_body(replace(OFFER, signature=NO_SIGNATURE)), "bad signature")


def test_an_update_is_refused_for_what_is_wrong_with_one_score() -> None:
    good = BUILDER.scores(OFFER)
    bad = replace(good[1], signature=NO_SIGNATURE)
    refuse_body(BUILDER.update_body(OFFER, [good[0], bad, good[2]]), "score of .*: bad signature")
    outsider = BUILDER.score(OFFER, OUTSIDER)
    listed = sorted([*good, outsider], key=lambda score: score.scorer)
    refuse_body(BUILDER.update_body(OFFER, listed), "not on the committee")


def test_scores_out_of_order_or_twice_are_refused() -> None:
    # S5: one form only
    scores = BUILDER.scores(OFFER)
    message = r"scores must be listed once each, in order of the scorer's key \(S5\)"
    refuse_body(BUILDER.update_body(OFFER, scores[::-1]), message)
    refuse_body(BUILDER.update_body(OFFER, (scores[0], scores[0], scores[2])), message)


def test_a_score_for_another_offer_is_refused() -> None:
    other = BUILDER.offer(BUILDER.trainers[1])
    refuse_body(BUILDER.update_body(OFFER, BUILDER.scores(other)), r"a score is for another offer \(R3\)")


def test_a_score_does_not_move_to_the_trainers_second_offer() -> None:
    second = BUILDER.offer(TRAINER, update=blob_ref(b"another update"))
    refuse_body(BUILDER.update_body(second, BUILDER.scores(OFFER)), "a score is for another offer")


@pytest.mark.parametrize("passes", [0, 1, 2])
def test_scores_that_do_not_accept_make_no_update_block(passes: int) -> None:
    # R4: c = 3 needs all three scores listed and two of them passing
    scorers = sorted(BUILDER.committee)
    too_few = [BUILDER.score(OFFER, scorer) for scorer in scorers[:passes]]
    message = r"the listed scores do not accept the update \(R4\)"
    if too_few:
        refuse_body(BUILDER.update_body(OFFER, too_few), message)
    failing = [BUILDER.score(OFFER, scorer, FAILING) for scorer in scorers[passes:]]
    if passes < 2:
        refuse_body(BUILDER.update_body(OFFER, [*too_few, *failing]), message)


def test_two_of_three_passes_accept_with_the_third_listed() -> None:
    scorers = sorted(BUILDER.committee)
    scores = [BUILDER.score(OFFER, scorers[0], code=2), *(BUILDER.score(OFFER, scorer) for scorer in scorers[1:])]
    _, after = BUILDER.blocks(BUILDER.update_body(OFFER, scores))
    assert after.updates[0].value == PASSING[0]


@pytest.mark.parametrize("changes", [{"value": -99_999}, {"weight": 101}, {"weight": 0}])
def test_a_value_or_weight_that_the_scores_do_not_give_is_refused(changes: dict[str, Any]) -> None:
    body = replace(BUILDER.update_body(OFFER), **changes)
    refuse_body(body, r"value or weight score is not the one that the scores give \(R4\)")


def test_a_trainer_has_one_update_a_round() -> None:
    # R2
    builder = ChainBuilder(n=8, c=3, k=5)
    trainer = builder.trainers[0]
    builder.append(builder.update_body(builder.offer(trainer)))
    again = builder.offer(trainer, update=blob_ref(b"another update"))
    refuse_body(builder.update_body(again), r"has an accepted update in this round already \(R2\)", builder)


def test_no_update_follows_the_close() -> None:
    # R6
    builder = ChainBuilder(n=8, c=3, k=5)
    late = builder.trainers[-1]
    close = builder.close_body_of_all()
    with pytest.raises(InvalidBlock, match=r"an update after the round's close \(R6\)"):
        builder.blocks(close, builder.update_body(builder.offer(late)))

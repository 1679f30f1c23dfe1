"""The close (R6) and the model block (R7): what they must list, and what they may not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ledger.blobs import blob_ref
from ledger.state import NONE, REJECTED, UNDECIDED, Listed
from ledger.transition import InvalidBlock, get_listed_scores
from ledger.types import NO_HASH, NO_LINK, NO_SIGNATURE, Body, EmptyBody, ModelBody, Score, Unfilled
from tests.ledger.helpers_ledger import FAILING, ChainBuilder


@pytest.fixture
def builder() -> ChainBuilder:
    """A fresh chain of 8 with a committee of 3 and 4 slots."""
    return ChainBuilder(n=8, c=3, k=5)


def refuse(builder: ChainBuilder, message: str, *bodies: Body) -> None:
    with pytest.raises(InvalidBlock, match=message):
        builder.blocks(*bodies)


def all_silent(builder: ChainBuilder) -> list[Unfilled]:
    return [builder.unfilled(trainer) for trainer in builder.trainers]


def with_first(builder: ChainBuilder, item: Unfilled) -> EmptyBody:
    """A close in which the first trainer is listed by `item` and the others are silent."""
    return EmptyBody((item, *all_silent(builder)[1:]))


# ------------------------------------------------------------------------------------------------ the close (R6)


def test_the_close_lists_every_trainer_without_an_accepted_update(builder: ChainBuilder) -> None:
    first, second, third, fourth = builder.trainers
    undecided = builder.offer(third)
    close = builder.close_body(
        [
            builder.rejected(second),
            builder.unfilled(third, undecided, [builder.score(undecided, min(builder.committee))]),
            builder.unfilled(fourth),
        ]
    )
    _, after = builder.blocks(builder.update_body(builder.offer(first)), close)
    place = builder.committee.index(min(builder.committee))
    assert after.listed == (
        Listed(second, REJECTED, builder.offer(second).id(), builder.reveal(second, 0), 0b111),
        Listed(third, UNDECIDED, undecided.id(), undecided.reveal, 1 << place),
        Listed(fourth, NONE, NO_HASH, NO_LINK, 0),
    )
    assert after.round.closed == 1


def test_an_offer_without_any_score_is_undecided(builder: ChainBuilder) -> None:
    first = builder.trainers[0]
    _, after = builder.blocks(with_first(builder, builder.unfilled(first, builder.offer(first))))
    assert (after.listed[0].outcome, after.listed[0].scorers) == (UNDECIDED, 0)


def test_later_empty_blocks_list_nothing(builder: ChainBuilder) -> None:
    close = builder.close_body_of_all()
    _, closed = builder.blocks(close)
    _, after = builder.blocks(close, EmptyBody(()), EmptyBody(()))
    assert replace(after, height=0, last_hash=bytes(32), time_ms=0) == replace(
        closed, height=0, last_hash=bytes(32), time_ms=0
    )
    refuse(builder, r"only the first empty block of a round lists anything \(R6\)", close, close)


def test_a_close_where_every_trainer_is_accepted_lists_nobody() -> None:
    builder = ChainBuilder(n=3, c=1, k=5)
    updates = [builder.update_body(builder.offer(trainer)) for trainer in builder.trainers]
    _, after = builder.blocks(*updates, EmptyBody(()), EmptyBody(()))
    assert (after.listed, after.round.closed) == ((), 1)


def test_a_trainer_left_out_added_or_out_of_order_is_refused(builder: ChainBuilder) -> None:
    listed = all_silent(builder)
    outsider = builder.unfilled(builder.committee[0])
    message = r"the close must list each trainer without an accepted update, in order of key \(R6\)"
    wrong: list[Sequence[Unfilled]] = [
        [],
        listed[1:],
        listed[:-1],
        listed[::-1],
        [*listed, outsider],
        [listed[0], *listed],
    ]
    for items in wrong:
        refuse(builder, message, EmptyBody(tuple(items)))
    accepted = builder.update_body(builder.offer(builder.trainers[0]))
    refuse(builder, message, accepted, EmptyBody(tuple(listed)))


def test_scores_without_their_offer_are_refused(builder: ChainBuilder) -> None:
    first = builder.trainers[0]
    item = builder.unfilled(first, None, builder.scores(builder.offer(first)))
    refuse(builder, r"scores are listed without their offer \(R6\)", with_first(builder, item))


def test_an_offer_of_another_trainer_is_refused(builder: ChainBuilder) -> None:
    first, second, *_ = builder.trainers
    item = builder.unfilled(first, builder.offer(second))
    refuse(builder, r"the close lists an offer of another trainer \(R6\)", with_first(builder, item))


def test_a_listed_offer_is_checked_like_any_other(builder: ChainBuilder) -> None:
    first = builder.trainers[0]
    for offer, message in (
        (builder.offer(first, round=1), "another chain or round"),
        (builder.offer(first, reveal=bytes(32)), r"beacon link .* \(R9\)"),
        (replace(builder.offer(first), signature=NO_SIGNATURE), "bad signature"),
    ):
        refuse(builder, message, with_first(builder, builder.unfilled(first, offer)))


def test_listed_scores_are_checked_like_any_others(builder: ChainBuilder) -> None:
    first, second, *_ = builder.trainers
    offer, other = builder.offer(first), builder.offer(second)
    scores = builder.scores(offer, FAILING)
    wrong: list[tuple[Sequence[Score], str]] = [
        (scores[::-1], "in order of the scorer's key"),
        (builder.scores(other, FAILING), "for another offer"),
        ([replace(scores[0], signature=NO_SIGNATURE)], "bad signature"),
        ([builder.score(offer, second, FAILING)], "not on the committee"),
    ]
    for listed, message in wrong:
        refuse(builder, message, with_first(builder, builder.unfilled(first, offer, listed)))


def test_an_accepted_offer_cannot_be_hidden_in_the_close(builder: ChainBuilder) -> None:
    first = builder.trainers[0]
    offer = builder.offer(first)
    item = builder.unfilled(first, offer, builder.scores(offer))
    message = r"the close lists an offer that its scores accept: it belongs in an update block \(R6\)"
    refuse(builder, message, with_first(builder, item))


# ------------------------------------------------------------------------------------------ the model block (R7)


def slots_filled(builder: ChainBuilder) -> ChainBuilder:
    """`builder` with two updates accepted, one trainer rejected, one silent."""
    first, second, third, _ = builder.trainers
    builder.append(*builder.fill_slots(accept=[first, second], reject=[third]))
    return builder


def test_the_model_block_opens_the_next_round_from_its_model(builder: ChainBuilder) -> None:
    slots_filled(builder)
    model = blob_ref(b"the new model")
    builder.append(builder.model_body(model))
    opened = builder.state.round
    assert (opened.round, opened.model, opened.closed) == (1, model, 0)
    assert (builder.state.updates, builder.state.listed) == ((), ())


def test_missing_updates_are_named_by_height_in_order(builder: ChainBuilder) -> None:
    slots_filled(builder)
    right: list[tuple[int, ...]] = [(), (1,), (2,), (1, 2)]
    wrong: list[tuple[int, ...]] = [(2, 1), (1, 1), (3,), (0,), (5,), (1, 2, 3)]
    for missing in right:
        model = builder.state.round.model if len(missing) == 2 else None
        builder.blocks(builder.model_body(model, missing=missing))
    message = r"`missing` must list heights of the round's accepted updates, in order \(R7\)"
    for missing in wrong:
        refuse(builder, message, builder.model_body(missing=missing))


def test_with_too_few_updates_the_model_stays() -> None:
    # R7
    builder = slots_filled(ChainBuilder(n=8, c=3, k=5, updates_min=2))
    old, new = builder.state.round.model, blob_ref(b"made of one update")
    builder.blocks(builder.model_body(new))
    message = r"fewer than updates_min accepted updates: the model stays as it was \(R7\)"
    refuse(builder, message, builder.model_body(new, missing=(1,)))
    refuse(builder, message, builder.model_body(replace(old, size=old.size + 1), missing=(1,)))
    builder.blocks(builder.model_body(old, missing=(1,)))


def test_a_round_without_updates_keeps_its_model_and_its_heights(builder: ChainBuilder) -> None:
    # H4, R7
    old = builder.state.round.model
    builder.full_round(accept=[])
    assert (builder.state.height, builder.state.round.model) == (5, old)
    builder.append(*builder.fill_slots(accept=[]))
    refuse(builder, "fewer than updates_min", builder.model_body(blob_ref(b"out of nothing")))


# ------------------------------------------------------------------------------------------- late scores (R6)


def late_case(builder: ChainBuilder) -> tuple[ChainBuilder, Score, Score]:
    """Slots filled with one score left out for an accepted and for a rejected offer, and those two scores."""
    first, second, *_ = builder.trainers
    scorers = sorted(builder.committee)
    accepted, rejected = builder.offer(first), builder.offer(second)
    late = (builder.score(accepted, scorers[2]), builder.score(rejected, scorers[2], FAILING))
    body = builder.update_body(accepted, builder.scores(accepted))
    unfilled = builder.unfilled(second, rejected, builder.scores(rejected, FAILING, scorers[:2]))
    rest = [builder.unfilled(trainer) for trainer in builder.trainers[2:]]
    builder.append(body, builder.close_body([unfilled, *rest]), EmptyBody(()), EmptyBody(()))
    return builder, *late


def test_a_late_score_counts_for_its_scorers_attendance(builder: ChainBuilder) -> None:
    builder, _, late = late_case(builder)
    before = get_listed_scores(builder.state)
    assert before[late.offer].bit_count() == 2
    builder.blocks(builder.model_body(late=(late,)))


def test_a_late_score_for_a_score_that_is_listed_is_refused(builder: ChainBuilder) -> None:
    builder, listed, _ = late_case(builder)
    message = r"a late score is for an offer that is not listed, or is listed already \(R6\)"
    refuse(builder, message, builder.model_body(late=(listed,)))


def test_a_late_score_for_an_unknown_offer_is_refused(builder: ChainBuilder) -> None:
    builder, _, late = late_case(builder)
    silent = builder.offer(builder.trainers[2])
    refuse(builder, "an offer that is not listed", builder.model_body(late=(builder.score(silent, late.scorer),)))
    nothing = builder.sign(replace(late, offer=bytes(32)))
    refuse(builder, "an offer that is not listed", builder.model_body(late=(nothing,)))


def test_late_scores_out_of_order_or_twice_are_refused() -> None:
    builder = ChainBuilder(n=8, c=4, k=5)
    scorers = sorted(builder.committee)
    offer = builder.offer(builder.trainers[0])
    item = builder.unfilled(offer.trainer, offer, builder.scores(offer, FAILING, scorers[:2]))
    rest = [builder.unfilled(trainer) for trainer in builder.trainers[1:]]
    builder.append(builder.close_body([item, *rest]), *[EmptyBody(())] * 3)
    first, second = (builder.score(offer, scorer) for scorer in scorers[2:])
    message = r"late scores must be listed once each, by \(offer, scorer\) \(S5\)"
    refuse(builder, message, builder.model_body(late=(second, first)))
    refuse(builder, message, builder.model_body(late=(first, first)))
    builder.blocks(builder.model_body(late=(first, second)))


def test_a_late_score_is_checked_like_any_other(builder: ChainBuilder) -> None:
    builder, _, late = late_case(builder)
    refuse(builder, "bad signature", builder.model_body(late=(replace(late, signature=NO_SIGNATURE),)))
    offer = builder.offer(builder.trainers[1])
    stranger = builder.score(offer, builder.trainers[0], FAILING)
    refuse(builder, "not on the committee", builder.model_body(late=(stranger,)))


# ------------------------------------------------------------------------------------------------ presents (R6)


def test_presents_are_listed_once_each_in_order_of_key() -> None:
    builder = ChainBuilder(n=6, c=1, k=6, absent_after=1)
    silent = builder.trainers[:3]
    builder.full_round(silent=silent)
    builder.append(*builder.fill_slots())
    presents = tuple(builder.present(member) for member in sorted(silent))
    message = r"`present` must be in order of key, each member once \(R6\)"
    refuse(builder, message, builder.model_body(present=presents[::-1]))
    refuse(builder, message, builder.model_body(present=(presents[0], presents[0])))
    builder.blocks(builder.model_body(present=presents))


def test_a_present_is_checked_where_it_is_listed(builder: ChainBuilder) -> None:
    slots_filled(builder)
    present = builder.present(builder.trainers[0])
    refuse(builder, "not an absent member", builder.model_body(present=(present,)))


def test_a_model_body_is_nothing_but_its_lists(builder: ChainBuilder) -> None:
    slots_filled(builder)
    body = builder.model_body()
    assert ModelBody.decode(body.encode()) == body == ModelBody(body.model, (), (), ())

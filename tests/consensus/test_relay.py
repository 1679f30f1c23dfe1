"""Anti-entropy, early messages and claims of height: everything bounded by sender (A4, A8, Y1)."""

from consensus.events import HAVE_IDS_MAX, ID_PREFIX_BYTES, Have
from consensus.relay import (
    ANSWERS_MAX,
    LATER_BATCHES_MAX,
    LATER_MAX,
    REPLY_MAX,
    Answers,
    Heights,
    Later,
    get_lacking,
    make_have,
    short_id,
)
from ledger.types import PREVOTE
from tests.consensus.helpers_agreement import member, proposal, vote
from tests.ledger.helpers_ledger import ChainBuilder


def test_a_short_id_is_the_beginning_of_the_signed_id() -> None:
    found, batch = vote(0, 0, PREVOTE), proposal(0, 0, "A")
    assert short_id(found) == found.id()[:ID_PREFIX_BYTES]
    assert short_id(batch) == batch.proposal.id()[:ID_PREFIX_BYTES]


def test_have_names_height_round_and_each_message_once_in_order() -> None:
    votes = [vote(index, 0, PREVOTE) for index in range(4)]
    have = make_have(7, 3, [*votes, votes[0]])
    assert (have.height, have.view_round) == (7, 3)
    assert list(have.ids) == sorted(short_id(item) for item in votes)


def test_have_is_bounded_and_can_be_encoded() -> None:
    """A8: S5 lets no longer list pass."""
    builder = ChainBuilder(8, 4, 5)
    offer = builder.offer(builder.trainers[0])
    scores = [builder.score(offer, builder.committee[0], (-number, 0)) for number in range(50)]
    have = make_have(1, 0, (score for score in scores * (HAVE_IDS_MAX // 25)))
    assert len(have.ids) == 50
    assert Have.decode(have.encode()) == have


def test_what_the_other_lacks_is_all_but_what_it_names() -> None:
    """A4: votes and proposals are sent again."""
    votes = [vote(index, 0, PREVOTE) for index in range(4)]
    have = make_have(4, 0, votes[:2])
    assert list(get_lacking(have, votes)) == votes[2:]
    assert list(get_lacking(make_have(4, 0, votes), votes)) == []


def test_one_answer_is_bounded() -> None:
    """A8: a peer that says it has nothing gets so much and no more; the rest comes with its next word."""
    votes = [vote(0, number, PREVOTE) for number in range(REPLY_MAX + 5)]
    assert list(get_lacking(make_have(4, 0, ()), votes)) == votes[:REPLY_MAX]


def test_early_messages_are_given_back_once_with_their_senders() -> None:
    later = Later()
    later.keep(b"a", vote(0, 0, PREVOTE))
    later.keep(b"b", vote(1, 0, PREVOTE))
    assert later.take() == [(b"a", vote(0, 0, PREVOTE)), (b"b", vote(1, 0, PREVOTE))]
    assert later.take() == []


def test_a_senders_early_messages_are_bounded_and_the_newest_stay() -> None:
    """A8: a flood pushes out the flooder's own messages and nobody else's."""
    later = Later()
    flood = [vote(0, number, PREVOTE) for number in range(LATER_MAX + 10)]
    later.keep(b"honest", vote(1, 0, PREVOTE))
    for message in flood:
        later.keep(b"flooder", message)
    kept = later.take()
    assert [message for sender, message in kept if sender == b"flooder"] == flood[10:]
    assert [message for sender, message in kept if sender == b"honest"] == [vote(1, 0, PREVOTE)]


def test_early_proposals_have_little_room_and_take_none_from_votes() -> None:
    """A8: each may be a whole batch of blocks."""
    later = Later()
    batches = [proposal(0, number, "A") for number in range(LATER_BATCHES_MAX + 3)]
    later.keep(b"a", vote(0, 0, PREVOTE))
    for batch in batches:
        later.keep(b"a", batch)
    kept = [message for _, message in later.take()]
    assert kept == [vote(0, 0, PREVOTE), *batches[3:]]


def test_who_is_gone_keeps_no_place() -> None:
    later = Later()
    later.keep(b"a", vote(0, 0, PREVOTE))
    later.keep(b"a", proposal(0, 0, "A"))
    later.forget(b"a")
    later.forget(b"never seen")
    assert later.take() == []


def test_only_higher_claims_are_worth_a_sync() -> None:
    """Y1."""
    heights = Heights()
    heights.note(member(0), 5, 5, 100)
    assert heights.pick(5) is None
    assert heights.behind_since_ms is None
    heights.note(member(1), 6, 5, 200)
    assert heights.pick(5) == member(1)
    assert heights.behind_since_ms == 200


def test_claims_count_since_the_first_of_them() -> None:
    heights = Heights()
    heights.note(member(0), 6, 5, 100)
    heights.note(member(1), 9, 5, 300)
    assert heights.behind_since_ms == 100
    assert heights.credible() == 9
    assert heights.known() == {member(0), member(1)}


def test_those_who_claim_more_take_turns() -> None:
    """Y1: one liar or dead peer costs one try, however high its claim."""
    heights = Heights()
    for index in range(3):
        heights.note(member(index), 10**6 if index == 0 else 9, 5, 0)
    first = [heights.pick(5) for _ in range(3)]
    assert sorted(first, key=str) == sorted((member(0), member(1), member(2)), key=str)
    assert [heights.pick(5) for _ in range(3)] == first


def test_who_has_served_what_it_had_must_claim_again_and_then_comes_last() -> None:
    heights = Heights()
    heights.note(member(0), 9, 5, 0)
    heights.note(member(1), 9, 5, 0)
    first = heights.pick(5)
    assert first is not None
    heights.forget(first)
    other = heights.pick(5)
    assert other != first
    heights.note(first, 9, 5, 10)
    assert heights.pick(5) == first
    assert heights.pick(5) == other


def test_a_claim_that_was_met_ends_being_behind() -> None:
    heights = Heights()
    heights.note(member(0), 9, 5, 70)
    heights.moved(8)
    assert heights.behind_since_ms == 70
    heights.moved(9)
    assert heights.behind_since_ms is None
    assert heights.credible() == 9


def test_without_claims_the_credible_height_is_none() -> None:
    assert Heights().credible() == 0


def test_a_few_liars_do_not_make_me_look_behind() -> None:
    """A8: what more than a third of the others claim counts."""
    heights = Heights()
    for index in range(6):
        heights.note(member(index), 10**6 if index < 2 else 7, 5, 0)
    assert heights.credible() == 7
    heights.note(member(2), 10**6, 5, 0)
    assert heights.credible() == 10**6


def test_a_member_is_answered_so_often_in_a_window_and_the_others_all_the_same() -> None:
    """A8: a flood of `Have` makes nobody send all that it holds again and again."""
    answers = Answers(1_000)
    assert [answers.allow(member(0), 100) for _ in range(ANSWERS_MAX + 2)] == [True] * ANSWERS_MAX + [False] * 2
    assert answers.allow(member(1), 100)
    assert not answers.allow(member(0), 1_099)
    assert answers.allow(member(0), 1_100)

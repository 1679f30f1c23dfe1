"""Counting votes: how many are enough (A1), and what is kept of them (A4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.quorum import ROUND_AHEAD_MAX, ROUND_BEHIND_MAX, Slot, VoteBook, has_honest
from ledger.certificate import is_quorum
from ledger.types import PRECOMMIT, PREVOTE, Vote
from tests.consensus.helpers_agreement import member, members, value, vote

NAMES = ("A", "B", "C", "-")


@given(st.integers(1, 1000))
def test_two_quorums_share_an_honest_voter(total: int) -> None:
    quorum = next(count for count in range(total + 1) if is_quorum(count, total))
    honest = next(count for count in range(total + 1) if has_honest(count, total))
    faulty = (total - 1) // 3
    assert faulty < honest <= total - faulty
    assert 2 * quorum - total > faulty
    assert total - faulty >= quorum, "the honest voters alone are a quorum"


@pytest.mark.parametrize(("total", "quorum"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (31, 21)])
def test_a_quorum_is_more_than_two_thirds(total: int, quorum: int) -> None:
    assert [is_quorum(count, total) for count in (quorum - 1, quorum)] == [False, True]


def test_the_first_vote_of_a_voter_stands_and_its_contradiction_is_told_once() -> None:  # A7
    slot = Slot(4)
    assert slot.add(vote(0, 0, PREVOTE, "A")) is None
    assert slot.add(vote(0, 0, PREVOTE, "A")) is None
    assert slot.add(vote(0, 0, PREVOTE, "B")) == vote(0, 0, PREVOTE, "A")
    assert slot.add(vote(0, 0, PREVOTE, "C")) is None
    assert list(slot) == [vote(0, 0, PREVOTE, "A")]
    assert slot.senders == {member(0)}


def test_a_second_vote_counts_where_honest_voters_stand() -> None:  # A4
    slot = Slot(4)
    slot.add(vote(0, 0, PREVOTE, "-"))
    for index in (1, 2):
        slot.add(vote(index, 0, PREVOTE, "A"))
    assert slot.quorum is None
    assert slot.wants(vote(0, 0, PREVOTE, "A"))
    slot.add(vote(0, 0, PREVOTE, "A"))
    assert slot.quorum == value("A")
    assert not slot.wants(vote(0, 0, PREVOTE, "A"))
    assert len(slot.senders) == 3


votes = st.builds(
    vote, st.integers(0, 6), st.integers(0, 60), st.sampled_from((PREVOTE, PRECOMMIT)), st.sampled_from(NAMES)
)


@given(st.lists(votes, max_size=80))
def test_a_vote_that_is_not_wanted_changes_nothing(sent: list[Vote]) -> None:
    book = VoteBook(members(7), member(6))
    for one in sent:
        wanted, before = book.wants(one), list(book)
        told = book.add(one)
        assert wanted or (told is None and list(book) == before)
        assert not book.wants(one)


@given(st.lists(votes, max_size=80))
def test_honest_voters_are_counted_once_and_no_slot_holds_more_than_three_votes_of_a_voter(sent: list[Vote]) -> None:
    book = VoteBook(members(7), member(6))
    for one in sent:
        book.add(one)
    held = list(book)
    for one in held:
        same = [other for other in held if (other.voter, other.round, other.step) == (one.voter, one.round, one.step)]
        assert len(same) <= 3
        assert len({other.last_hash for other in same}) == len(same)


@given(st.lists(votes, max_size=60), st.integers(0, 70))
def test_moving_on_keeps_the_near_rounds_and_those_asked_for(sent: list[Vote], to: int) -> None:
    book = VoteBook(members(7), member(6))
    for one in sent:
        book.add(one)
    before = list(book)
    book.advance(to, {3})
    after = list(book)
    for one in before:
        near = to - ROUND_BEHIND_MAX <= one.round <= to + ROUND_AHEAD_MAX
        assert (one in after) == (near or one.round == 3 or one.round > to + ROUND_AHEAD_MAX)


def test_far_rounds_keep_the_latest_of_each_voter() -> None:
    book = VoteBook(members(4), member(3))
    for round in (50, 70, 60):
        book.add(vote(0, round, PREVOTE))
    book.add(vote(0, 70, PRECOMMIT))
    assert list(book) == [vote(0, 70, PREVOTE), vote(0, 70, PRECOMMIT)]
    assert not book.wants(vote(0, 60, PREVOTE))
    book.advance(65, ())
    assert book.slot(70, PREVOTE).senders == {member(0)}


def test_the_round_to_skip_to_is_one_that_more_than_a_third_has_reached() -> None:  # L55
    book = VoteBook(members(7), member(6))
    for index, round in ((0, 9), (1, 7)):
        book.add(vote(index, round, PREVOTE))
    assert book.skip_round() == -1
    book.hear(member(2), 5)
    book.hear(member(0), 3)
    book.hear(member(30), 100)
    assert book.skip_round() == 5


def test_who_has_gone_on_counts_as_past_a_step() -> None:  # L34, L47
    book = VoteBook(members(4), member(3))
    book.add(vote(0, 0, PREVOTE))
    book.add(vote(1, 0, PRECOMMIT))
    assert not book.is_passed(0, PREVOTE)
    book.hear(member(2), 1)
    assert book.is_passed(0, PREVOTE)
    assert not book.is_passed(0, PRECOMMIT)


def test_quorums_are_listed_by_round() -> None:
    book = VoteBook(members(4), member(3))
    for round, name in ((2, "-"), (0, "A")):
        for index in (0, 1, 2):
            book.add(vote(index, round, PRECOMMIT, name))
    assert book.quorums(PRECOMMIT) == [(0, value("A")), (2, value("-"))]
    assert book.quorums(PREVOTE) == []

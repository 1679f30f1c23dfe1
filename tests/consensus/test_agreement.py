"""What the scenarios do not show of agreement: what it refuses, what it wants, and what it holds (A1, A4, A6, A8)."""

from dataclasses import replace

import pytest

from consensus.actions import (
    AskFresh,
    Batch,
    Conflict,
    Decide,
    Rejected,
    Resume,
    SaveLock,
    SetTimeout,
    SignProposal,
    SignVote,
    Timeouts,
    WantBatch,
    flaw,
)
from consensus.agreement import Agreement
from consensus.quorum import ROUND_AHEAD_MAX, ROUND_BEHIND_MAX
from ledger.types import PRECOMMIT, PREVOTE, EmptyBody, ProposedBatch, Unfilled
from tests.consensus.helpers_agreement import (
    ANY_HASH,
    CHAIN,
    INSTANCE,
    TIMEOUTS,
    batch,
    member,
    members,
    proposal,
    vote,
)


def make(me: int = 3, *, resume: Resume | None = None, asked: list[Batch] | None = None) -> Agreement:
    """An agreement of four voters; the batches that its `valid` is asked about go to `asked`."""
    asked = [] if asked is None else asked

    def valid(blocks: Batch) -> bool:
        asked.append(blocks)
        return blocks[-1] != batch("X")[-1]

    return Agreement(
        chain=CHAIN,
        instance=INSTANCE,
        voters=members(4),
        proposer_of=lambda round: member(round % 4),
        me=member(me),
        may_vote=True,
        timeouts=TIMEOUTS,
        valid=valid,
        resume=resume,
    )


def locked_on_a() -> Agreement:
    """Member 3 after it locked A in round 0 and precommitted it."""
    agreement = make()
    agreement.proposal(proposal(0, 0, "A"))
    agreement.fresh(batch("A")[-1].header.id(), True)
    for index in (3, 0, 1):
        agreement.vote(vote(index, 0, PREVOTE, "A"))
    assert agreement.locked_round == 0
    return agreement


def test_timeouts_grow_by_round_and_are_capped() -> None:  # A6
    assert [TIMEOUTS.after_ms(0, round) for round in (0, 1, 4, 5, 900)] == [3000, 3500, 5000, 5000, 5000]
    assert Timeouts(10, 20, 5, 1000).after_ms(PRECOMMIT, 2) == 30


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chain": ANY_HASH}, "chain or instance"),
        ({"instance": INSTANCE + 1}, "chain or instance"),
        ({"voter": member(9)}, "not a voter"),
        ({"last_hash": b""}, "not of its instance"),
        ({"last_height": INSTANCE - 1}, "not of its instance"),
    ],
)
def test_a_vote_that_no_honest_voter_signs_is_rejected_and_not_wanted(changes: dict[str, object], reason: str) -> None:
    agreement = make()
    bad = replace(vote(0, 0, PREVOTE, "A"), **changes)  # type: ignore[arg-type]
    (rejected,) = agreement.vote(bad)
    assert isinstance(rejected, Rejected)
    assert reason in rejected.reason
    assert not agreement.wants(bad)
    assert list(agreement.messages()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chain": ANY_HASH}, "chain or instance"),
        ({"instance": INSTANCE + 1}, "chain or instance"),
        ({"proposer": member(1)}, "not the proposer"),
        ({"valid_round_plus1": 1}, "not before its round"),
        ({"last_hash": ANY_HASH}, "does not name the last block"),
        ({"last_height": INSTANCE + 1}, "does not name the last block"),
    ],
)
def test_a_proposal_that_no_honest_proposer_signs_is_rejected(changes: dict[str, object], reason: str) -> None:
    agreement = make()
    good = proposal(0, 0, "A")
    bad = replace(good, proposal=replace(good.proposal, **changes))  # type: ignore[arg-type]
    (rejected,) = agreement.proposal(bad)
    assert isinstance(rejected, Rejected)
    assert reason in rejected.reason
    assert not agreement.started


def test_a_relay_cannot_change_a_byte_under_a_proposal() -> None:  # A8
    good = proposal(0, 0, "A", size=3)
    first, second, third = good.blocks
    other = batch("B", 3)
    body = EmptyBody((Unfilled(member(1), (), ()),))
    spoiled = [
        ((first, third), "heights"),
        ((other[0], second, third), "parent"),
        ((replace(first, body=body), second, third), "body"),
        ((first, second), "last block"),
        ((), "last block"),
        ((third,), "heights"),
    ]
    assert flaw(good, INSTANCE) is None
    for blocks, reason in spoiled:
        agreement = make()
        (rejected,) = agreement.proposal(ProposedBatch(good.proposal, blocks))
        assert isinstance(rejected, Rejected)
        assert reason in rejected.reason
        assert agreement.proposal(good), "the good batch is still taken"


def test_validity_is_asked_once_for_a_value() -> None:
    asked: list[Batch] = []
    agreement = make(asked=asked)
    agreement.proposal(proposal(0, 0, "A"))
    agreement.fresh(batch("A")[-1].header.id(), True)
    for index in (0, 1, 2):
        agreement.vote(vote(index, 0, PREVOTE, "A"))
        agreement.vote(vote(index, 0, PRECOMMIT, "A"))
    assert agreement.decided is not None
    assert asked == [batch("A")]


def test_the_lock_is_saved_before_the_precommit_is_signed() -> None:  # A5
    agreement = make()
    agreement.proposal(proposal(0, 0, "A"))
    agreement.fresh(batch("A")[-1].header.id(), True)
    actions = [action for index in (0, 1, 2) for action in agreement.vote(vote(index, 0, PREVOTE, "A"))]
    polka = tuple(vote(index, 0, PREVOTE, "A") for index in (0, 1, 2))
    precommit = SignVote(0, PRECOMMIT, INSTANCE, batch("A")[-1].header.id())
    assert actions == [SaveLock(0, batch("A"), 0, batch("A"), polka), precommit]


def test_a_batch_of_many_blocks_is_named_by_its_last_one() -> None:  # A1
    agreement = make()
    (_, asked) = agreement.proposal(proposal(0, 0, "A", size=3))
    assert asked == AskFresh(0, batch("A", 3))
    last = batch("A", 3)[-1]
    assert agreement.fresh(last.header.id(), True) == [SignVote(0, PREVOTE, INSTANCE + 2, last.header.id())]


def test_the_certificate_holds_the_precommits_by_voter_key() -> None:  # A1
    agreement = make()
    agreement.proposal(proposal(0, 0, "A"))
    actions = [action for index in (2, 0, 1) for action in agreement.vote(vote(index, 0, PRECOMMIT, "A"))]
    decide = actions[-1]
    assert isinstance(decide, Decide)
    certificate = decide.certificate
    assert [one.voter for one in certificate.precommits] == sorted(members(3))
    assert all(certificate.vote_of(one.voter, one.signature).is_signed() for one in certificate.precommits)


def test_prevotes_of_a_quorum_for_different_heights_of_one_hash_are_no_polka() -> None:
    agreement = make()
    agreement.proposal(proposal(0, 0, "A"))
    agreement.timeout("propose", 0)
    for index in (0, 1):
        agreement.vote(vote(index, 0, PREVOTE, "A"))
    agreement.vote(replace(vote(2, 0, PREVOTE, "A"), last_height=INSTANCE + 1))
    assert agreement.locked_round == -1
    assert agreement.valid_round == -1


def test_after_the_decision_nothing_is_wanted_and_nothing_happens() -> None:
    agreement = make()
    agreement.proposal(proposal(0, 0, "A"))
    for index in (0, 1, 2):
        agreement.vote(vote(index, 0, PRECOMMIT, "A"))
    late = vote(3, 0, PRECOMMIT, "A")
    assert not agreement.wants(late)
    inputs = (agreement.vote(late), agreement.timeout("propose", 0), agreement.wake(), agreement.set_may_vote(False))
    assert inputs == ([], [], [], [])
    assert agreement.propose(batch("B")) == agreement.fresh(ANY_HASH, True) == []
    assert len(list(agreement.messages())) == 4


def test_nothing_ticks_for_a_voter_with_no_reason_to_start() -> None:  # A2
    agreement = make(0)
    assert agreement.begin() == []
    assert agreement.timeout("propose", 0) == []
    assert agreement.propose(batch("A")) == []
    assert agreement.vote(vote(1, 0, PREVOTE)) == []
    assert not agreement.started


def test_a_proposal_is_owed_once_and_only_in_my_round() -> None:
    agreement = make(0)
    assert agreement.wake() == [WantBatch(0), SetTimeout("propose", 0, 3000)]
    assert agreement.wake() == agreement.set_may_vote(True) == []
    assert agreement.propose(batch("A")) == [SignProposal(0, -1, batch("A"))]
    assert agreement.propose(batch("B")) == []
    other = make(1)
    other.wake()
    assert other.propose(batch("A")) == []


def test_a_member_that_is_no_voter_can_never_vote() -> None:
    agreement = make(9)
    assert agreement.wake() == []
    assert agreement.set_may_vote(True) == []
    assert agreement.proposal(proposal(0, 0, "A")) == []
    assert not agreement.may_vote


def test_a_lock_is_not_hidden_however_many_rounds_pass() -> None:  # A4
    agreement = locked_on_a()
    for round in range(3 * ROUND_BEHIND_MAX):
        agreement.timeout("precommit", round)
    held = list(agreement.messages())
    assert [vote(index, 0, PREVOTE, "A") in held for index in (3, 0, 1)] == [True] * 3


def test_votes_of_a_forgotten_round_count_again_when_a_proposal_names_it() -> None:  # A4, L28
    agreement = make()
    agreement.wake()
    agreement.vote(vote(3, 0, PREVOTE, "A"))
    far = ROUND_BEHIND_MAX + 5
    for round in range(far):
        agreement.timeout("precommit", round)
    assert not agreement.wants(vote(0, 0, PREVOTE, "A"))
    assert list(agreement.messages()) == []
    agreement.proposal(proposal(far % 4, far, "A", 0))
    assert agreement.wants(vote(0, 0, PREVOTE, "A"))
    assert vote(3, 0, PREVOTE, "A") in list(agreement.messages())
    actions = [action for index in (0, 1) for action in agreement.vote(vote(index, 0, PREVOTE, "A"))]
    assert SignVote(far, PREVOTE, INSTANCE, batch("A")[-1].header.id()) in actions


def test_what_liars_send_takes_bounded_memory() -> None:
    agreement = make()
    agreement.wake()
    for round in [*range(0, 400), *range(5000, 4900, -1)]:
        for name in "ABCD-":
            for step in (PREVOTE, PRECOMMIT):
                agreement.vote(vote(0, round, step, name))
            if round % 4 == 0 and name != "-":
                agreement.proposal(proposal(0, round, name))
    window = ROUND_AHEAD_MAX + 1
    assert agreement.round == 0
    assert len(list(agreement.messages())) <= 2 * window + 2 + window


def test_a_resumed_voter_that_saved_its_lock_but_not_its_precommit_signs_it_now() -> None:  # A5
    polka = tuple(vote(index, 0, PREVOTE, "A") for index in (0, 1, 3))
    resumed = make(resume=Resume(0, "prevote", 0, batch("A"), 0, batch("A"), polka))
    actions = resumed.begin()
    precommit = SignVote(0, PRECOMMIT, INSTANCE, batch("A")[-1].header.id())
    assert actions == [SetTimeout("prevote", 0, 1000), precommit]
    assert resumed.locked_round == 0


def test_a_resumed_proposer_proposes_its_valid_value() -> None:  # A5
    polka = tuple(vote(index, 0, PREVOTE, "A") for index in (0, 1, 3))
    resumed = make(resume=Resume(3, "propose", 0, batch("A"), 0, batch("A"), polka))
    assert resumed.begin() == [SignProposal(3, 0, batch("A")), SetTimeout("propose", 3, 4500)]


def test_a_resumed_voter_starts_with_whatever_comes_first() -> None:
    resumed = make(resume=Resume(2, "precommit"))
    assert resumed.vote(vote(0, 0, PREVOTE)) == [SetTimeout("precommit", 2, 2000)]
    assert resumed.begin() == []


def test_a_voter_that_is_silent_for_a_while_keeps_its_lock_and_moves_it_by_the_rules_after_that() -> None:  # A4
    agreement = locked_on_a()
    agreement.set_may_vote(False)
    for index in (0, 1, 2):
        agreement.vote(vote(index, 1, PREVOTE, "B"))
    agreement.proposal(proposal(1, 1, "B"))
    assert (agreement.round, agreement.locked_round, agreement.valid_round) == (1, 0, 0)
    actions = agreement.set_may_vote(True)
    assert actions[1] == SignVote(1, PREVOTE, 0, b""), "still locked on A"
    assert (agreement.locked_round, agreement.locked_blocks) == (1, batch("B"))


def test_conflicting_proposals_are_reported_once_with_what_was_signed() -> None:  # A7
    agreement = make()
    agreement.proposal(proposal(0, 0, "A"))
    assert agreement.wants(proposal(0, 0, "B"))
    conflicts = [action for name in "BC" for action in agreement.proposal(proposal(0, 0, name))]
    assert conflicts == [Conflict(proposal(0, 0, "A").proposal, proposal(0, 0, "B").proposal)]
    assert not agreement.wants(proposal(0, 0, "D"))
    assert conflicts[0].first.is_signed()  # type: ignore[union-attr]


def test_one_value_with_two_valid_rounds_is_a_conflict_too() -> None:  # A7
    agreement = make()
    agreement.proposal(proposal(2, 2, "A", 0))
    (conflict, *_) = agreement.proposal(proposal(2, 2, "A", 1))
    assert isinstance(conflict, Conflict)
    assert not agreement.wants(proposal(2, 2, "A", 1))

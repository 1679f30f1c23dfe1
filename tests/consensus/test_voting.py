"""From agreement's actions to effects, and own messages back in (A1 to A5)."""

from dataclasses import replace

import pytest

from consensus.events import Effect, Fault, Halt, Persist, Send, SetTimer, ViewTimer
from consensus.signer import Floor, LockSaved, SignedProposal, SignedVote
from consensus.voting import STATES_MAX, Voting
from ledger.certificate import check_certificate
from ledger.state import get_voters
from ledger.types import PRECOMMIT, PREVOTE, Block, ProposedBatch, Vote
from tests.consensus.helpers_core import of_type, proposal, sent, signer_of, vote
from tests.ledger.helpers_ledger import ChainBuilder


class Booth:
    """The voting of one of four members (c = 1, k = 4); its first trainer unless said otherwise."""

    def __init__(self, me: bytes | None = None, probing: bool = False, voters: str = "members") -> None:
        self.chain = ChainBuilder(4, 1, 4, voters)
        self.me = me or self.chain.trainers[0]
        self.voting = Voting(self.chain.params, self.chain.state, signer_of(self.chain, self.me))
        self.voting.begin()
        if not probing:
            self.voting.end_probe()

    @property
    def others(self) -> list[bytes]:
        return [member for member in self.chain.indices if member != self.me]

    @property
    def blocks(self) -> tuple[Block, ...]:
        return self.chain.blocks(*self.chain.fill_slots())[0]

    def hear(self, message: Vote | ProposedBatch, learning_round: int = 0) -> list[Effect]:
        self.voting.out = []
        self.voting.receive(self.others[0], message, learning_round)
        return self.voting.out

    def answer(self, ok: bool = True, blocks: tuple[Block, ...] | None = None) -> list[Effect]:
        self.voting.out = []
        self.voting.answer((blocks or self.blocks)[-1].header.id(), ok)
        return self.voting.out

    def propose(self) -> list[Effect]:
        return self.hear(proposal(self.chain, self.chain.committee[0], self.blocks))


@pytest.mark.parametrize(
    ("n", "c", "k", "voters"), [(8, 4, 5, "members"), (5, 1, 3, "members"), (8, 4, 5, "committee")]
)
def test_the_proposers_are_first_the_committee_in_turn_and_then_all_voters(n: int, c: int, k: int, voters: str) -> None:
    """A2: C[(h + r) mod c] for r < c, then Voters[(h + r) mod n]."""
    chain = ChainBuilder(n, c, k, voters=voters)
    chain.append(*chain.fill_slots())
    voting = Voting(chain.params, chain.state, signer_of(chain, chain.trainers[0]))
    seats, all_voters = chain.committee, get_voters(chain.params, chain.state)
    blocks, _ = chain.blocks(chain.model_body())
    for round in range(2 * c + 2):
        pool = seats if round < c else all_voters
        expected = pool[(k + round) % len(pool)]
        wanted = [m for m in chain.indices if voting.agreement.wants(proposal(chain, m, blocks, round))]
        assert wanted == [expected]


def test_a_fresh_proposal_is_asked_about_then_prevoted_and_written_before_it_is_sent() -> None:
    """A3, A5."""
    booth = Booth()
    assert sent(booth.propose(), Vote) == []
    assert booth.voting.asked == {booth.blocks[-1].header.id(): booth.blocks}
    effects = booth.answer()
    (prevote,) = sent(effects, Vote)
    assert (prevote.step, prevote.last_hash) == (PREVOTE, booth.blocks[-1].header.id())
    assert effects.index(Persist(SignedVote(prevote))) < effects.index(Send(prevote))
    assert booth.voting.asked == {}
    assert booth.answer() == []


def test_a_fresh_proposal_that_the_voters_own_view_refuses_gets_a_nil_prevote() -> None:
    """A3, L22."""
    booth = Booth()
    booth.propose()
    (prevote,) = sent(booth.answer(ok=False), Vote)
    assert prevote.is_nil


def test_a_batch_whose_transition_fails_gets_a_nil_prevote_and_no_question() -> None:
    """A3, S1: valid(v) comes before freshness."""
    booth = Booth()
    *rest, last = booth.blocks
    spoilt = (*rest, replace(last, header=replace(last.header, state_root=bytes(32))))
    # it starts nothing (A2): only the timers that others' messages start lead to a vote
    for voter in booth.others[1:]:
        booth.hear(vote(booth.chain, voter, PREVOTE))
    effects = booth.hear(proposal(booth.chain, booth.chain.committee[0], spoilt))
    assert booth.voting.asked == {}
    assert all(prevote.is_nil for prevote in sent(effects, Vote))
    assert len(sent(effects, Vote)) == 2  # nil prevote; with it nil has a polka, so a nil precommit


def lock(booth: Booth) -> list[Effect]:
    booth.propose()
    booth.answer()
    booth.hear(vote(booth.chain, booth.others[0], PREVOTE, booth.blocks))
    return booth.hear(vote(booth.chain, booth.others[1], PREVOTE, booth.blocks))


def test_a_lock_is_written_before_the_precommit_leaves() -> None:
    """A4, A5."""
    booth = Booth()
    effects = lock(booth)
    (saved,) = [effect for effect in of_type(effects, Persist) if isinstance(effect.record, LockSaved)]
    (precommit,) = sent(effects, Vote)
    assert precommit.step == PRECOMMIT
    order = [effects.index(item) for item in (saved, Persist(SignedVote(precommit)), Send(precommit))]
    assert order == sorted(order)


def test_a_decision_carries_its_certificate_and_the_state_after_it() -> None:
    """A1, L49."""
    booth = Booth()
    lock(booth)
    assert booth.voting.take_decision() is None
    for voter in booth.others[:2]:
        booth.hear(vote(booth.chain, voter, PRECOMMIT, booth.blocks))
    decision = booth.voting.take_decision()
    assert decision is not None
    batch, state = decision
    assert batch.blocks == booth.blocks
    check_certificate(batch.certificate, batch.blocks, get_voters(booth.chain.params, booth.chain.state))
    assert state == booth.chain.chain.import_batch(batch)
    assert booth.voting.take_decision() is None
    booth.voting.advance(state)
    assert booth.voting.instance == 4


def test_the_proposer_owes_a_batch_once_and_writes_its_proposal_before_it_is_sent() -> None:
    """A5, L14 to L19."""
    booth = Booth(me=ChainBuilder(4, 1, 4).committee[0])
    booth.voting.out = []
    assert not booth.voting.owes_batch
    booth.voting.wake()
    assert booth.voting.owes_batch
    assert of_type(booth.voting.out, SetTimer) == [SetTimer(ViewTimer(1, 0, "propose"), 2_000)]
    booth.voting.propose(booth.blocks)
    assert not booth.voting.owes_batch
    (made,) = sent(booth.voting.out, ProposedBatch)
    assert booth.voting.out.index(Persist(SignedProposal(made))) < booth.voting.out.index(Send(made))
    assert booth.voting.asked  # its own freshness is asked too
    booth.voting.out = []
    booth.voting.propose(booth.blocks)
    assert booth.voting.out == []


def test_a_batch_is_owed_only_in_the_round_that_asked_for_it() -> None:
    """L18: who comes too late with its batch has lost its turn."""
    booth = Booth(me=ChainBuilder(4, 1, 4).committee[0])
    booth.voting.wake()
    for voter in booth.others[:2]:
        booth.hear(vote(booth.chain, voter, PREVOTE, round=3))
    assert booth.voting.agreement.round == 3
    assert not booth.voting.owes_batch


def test_who_is_being_shown_its_votes_does_not_vote_but_follows() -> None:
    """A5."""
    booth = Booth(probing=True)
    booth.propose()
    for step in (PREVOTE, PRECOMMIT):
        for voter in booth.others:
            assert sent(booth.hear(vote(booth.chain, voter, step, booth.blocks)), Vote) == []
    decision = booth.voting.take_decision()
    assert decision is not None
    assert len(decision[0].certificate.precommits) == 3


def test_after_the_probe_it_takes_up_what_it_heard() -> None:
    """A5."""
    booth = Booth(probing=True)
    booth.propose()
    booth.voting.out = []
    booth.voting.end_probe()
    assert booth.voting.asked
    assert len(sent(booth.answer(), Vote)) == 1


def test_an_unknown_vote_of_ones_own_mutes_for_this_instance_and_the_log_says_so() -> None:
    """A5: a restored copy; from the next instance on it signs again, and so after a restart."""
    booth = Booth()
    forgotten = vote(booth.chain, booth.me, PREVOTE)
    effects = booth.hear(forgotten, learning_round=0)
    assert of_type(effects, Persist) == [Persist(Floor(2, 1))]
    booth.propose()
    assert sent(booth.answer(), Vote) == []
    restarted = Voting(booth.chain.params, booth.chain.state, signer_of(booth.chain, booth.me, [Floor(2, 1)]))
    restarted.end_probe()
    assert not restarted.agreement.may_vote
    _, state = booth.chain.blocks(*booth.chain.fill_slots())
    restarted.advance(state)
    assert restarted.agreement.may_vote


def test_an_unknown_vote_of_ones_own_for_an_older_instance_means_nothing() -> None:
    booth = Booth()
    booth.chain.append(*booth.chain.fill_slots())
    booth.voting.advance(booth.chain.state)
    assert booth.hear(vote(booth.chain, booth.me, PREVOTE, instance=1)) == []
    assert booth.voting.agreement.may_vote


def test_ones_own_known_vote_coming_back_changes_nothing() -> None:
    """A5."""
    booth = Booth()
    booth.propose()
    (mine,) = sent(booth.answer(), Vote)
    assert booth.hear(mine) == []
    assert booth.voting.agreement.may_vote


def test_a_bad_signature_is_its_senders_fault_and_counts_for_nothing() -> None:
    """A8: for votes and proposals alike."""
    booth = Booth()
    ballot = vote(booth.chain, booth.others[1], PREVOTE)
    made = proposal(booth.chain, booth.chain.committee[0], booth.blocks)
    forged = replace(made, proposal=replace(made.proposal, signature=bytes(64)))
    assert booth.hear(replace(ballot, signature=bytes(64))) == [Fault(booth.others[0], "bad signature on a vote")]
    assert booth.hear(forged) == [Fault(booth.others[0], "bad signature on a proposal")]
    assert list(booth.voting.agreement.messages()) == []
    booth.hear(ballot)
    assert list(booth.voting.agreement.messages()) == [ballot]


def test_a_proposal_with_other_bytes_than_it_signs_is_a_fault() -> None:
    """A1, A8: a relay cannot spoil a good value."""
    booth = Booth()
    made = proposal(booth.chain, booth.chain.committee[0], booth.blocks)
    (fault,) = booth.hear(replace(made, blocks=booth.blocks[1:]))
    assert isinstance(fault, Fault)
    assert fault.member == booth.others[0]
    assert booth.hear(made) != []


def test_what_nobody_wants_is_passed_over_before_its_signature_is_checked() -> None:
    """A8: strangers and wrong proposers cost no work, and an honest relay of them no fault."""
    booth = Booth()
    stranger = ChainBuilder(5, 1, 4)
    alien = next(member for member in stranger.indices if member not in booth.chain.indices)
    assert booth.hear(replace(vote(booth.chain, booth.others[0], PREVOTE), voter=alien)) == []
    assert booth.hear(proposal(booth.chain, booth.chain.trainers[1], booth.blocks)) == []


def test_contradicting_votes_are_counted() -> None:
    """A7 is planned; that there were any is known."""
    booth = Booth()
    booth.propose()
    booth.hear(vote(booth.chain, booth.others[0], PREVOTE))
    booth.hear(vote(booth.chain, booth.others[0], PREVOTE, booth.blocks))
    assert booth.voting.conflicts == 1


def test_a_timer_of_another_instance_means_nothing() -> None:
    """A6: only this instance's timers tick."""
    booth = Booth()
    booth.propose()
    booth.voting.out = []
    booth.voting.fire(ViewTimer(2, 0, "propose"))
    assert booth.voting.out == []
    booth.voting.fire(ViewTimer(1, 0, "propose"))
    (prevote,) = sent(booth.voting.out, Vote)
    assert prevote.is_nil


def test_a_certificate_of_an_invalid_batch_halts() -> None:
    """A3: more than 2/3 precommitted what this machine finds invalid."""
    booth = Booth()
    *rest, last = booth.blocks
    spoilt = (*rest, replace(last, header=replace(last.header, state_root=bytes(32))))
    booth.hear(proposal(booth.chain, booth.chain.committee[0], spoilt))
    effects = [effect for voter in booth.others for effect in booth.hear(vote(booth.chain, voter, PRECOMMIT, spoilt))]
    (halt,) = of_type(effects, Halt)
    assert "a faulty machine, or more than a third of the voters lied" in halt.reason
    assert booth.voting.take_decision() is None


def test_who_is_no_voter_follows_and_never_signs() -> None:
    """A1: with voters = "committee" the trainers only watch."""
    booth = Booth(voters="committee")
    booth.propose()
    booth.hear(vote(booth.chain, booth.chain.committee[0], PREVOTE, booth.blocks))
    booth.hear(vote(booth.chain, booth.chain.committee[0], PRECOMMIT, booth.blocks))
    assert booth.voting.take_decision() is not None
    assert booth.voting.asked == {}


def test_a_restart_goes_on_where_the_log_says() -> None:
    """A5, Y2: the highest round signed, the lock, and the votes themselves."""
    booth = Booth()
    log = [effect.record for effect in of_type([*booth.propose(), *booth.answer()], Persist)]
    for voter in booth.others[:2]:
        log += [e.record for e in of_type(booth.hear(vote(booth.chain, voter, PREVOTE, booth.blocks)), Persist)]
    again = Voting(booth.chain.params, booth.chain.state, signer_of(booth.chain, booth.me, log))
    again.begin()
    again.end_probe()
    assert again.agreement.step == "precommit"
    assert again.agreement.locked_blocks == booth.blocks
    assert sent(again.out, Vote) == []
    assert {item.voter for item in again.agreement.messages() if isinstance(item, Vote)} == {
        booth.me,
        *booth.others[:2],
    }


def test_what_the_signer_refuses_is_silence() -> None:
    """A5: the signer has the last word, whatever agreement wants."""
    booth = Booth()
    booth.voting.signer.mute(1)
    booth.propose()
    assert booth.answer() == []


def test_states_of_proposed_batches_are_bounded_and_derived_again_where_one_was_forgotten() -> None:
    """A8, L49: a locked batch may be decided long after more than `STATES_MAX` others were looked at."""
    booth = Booth()
    lock(booth)
    voters = get_voters(booth.chain.params, booth.chain.state)
    (first, *_), _ = booth.chain.blocks(*booth.chain.fill_slots()[:1])
    for round in range(1, 2 * STATES_MAX):
        for voter in booth.others[:2]:
            booth.hear(vote(booth.chain, voter, PREVOTE, round=round))
        proposer = voters[(1 + round) % len(voters)]
        if proposer != booth.me:
            later = replace(first, header=replace(first.header, time_ms=first.header.time_ms + round))
            booth.hear(proposal(booth.chain, proposer, (later,), round))
    assert len(booth.voting._states) == STATES_MAX
    for voter in booth.others[:2]:
        booth.hear(vote(booth.chain, voter, PRECOMMIT, booth.blocks))
    decision = booth.voting.take_decision()
    assert decision is not None
    assert decision[1] == booth.chain.chain.import_batch(decision[0])

"""The core, one event at a time: work, models, proposals and commits."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consensus.events import (
    Aggregate,
    Aggregated,
    Commit,
    Effect,
    Fired,
    GossipTimer,
    Halt,
    Held,
    Persist,
    RoundEnded,
    RoundTimer,
    Scored,
    Send,
    SetTimer,
    Started,
    Synced,
    Timer,
    Train,
    Trained,
    ViewTimer,
)
from consensus.signer import SignedOffer
from ledger.blobs import blob_ref
from ledger.types import PRECOMMIT, PREVOTE, EmptyBody, Offer, Present, ProposedBatch, Score, Vote
from tests.consensus.helpers_core import Bench, of_type, proposal, sent, vote
from tests.ledger.helpers_ledger import ChainBuilder

MODEL = blob_ref(b"model 0")
SEAL = b"s" * 32


def trainer(chain: ChainBuilder | None = None) -> Bench:
    """The first trainer of 4 members, c = 1, k = 4."""
    chain = chain or ChainBuilder(4, 1, 4)
    return Bench(chain, chain.trainers[0])


def scorer(chain: ChainBuilder | None = None) -> Bench:
    chain = chain or ChainBuilder(4, 1, 4)
    return Bench(chain, chain.committee[0])


def fill(bench: Bench) -> None:
    """The slots of the round become final, as the bench syncs them."""
    bench.step(Synced(bench.others[0], bench.chain.batch(*bench.chain.fill_slots())))


def timers(effects: Sequence[Effect], timer: Timer) -> list[int]:
    """After how many ms `timer` is set, each time."""
    return [effect.after_ms for effect in of_type(effects, SetTimer) if effect.timer == timer]


# ------------------------------------------------------------------------------------------------------------ work


def test_my_offer_is_written_kept_and_sent_in_this_order() -> None:
    """R2, A5: and not trained for again after a restart, which sends the same."""
    bench = trainer()
    assert of_type(bench.start(), Train) == [Train(0, bench.chain.state.round.model)]
    effects = bench.step(Trained(0, blob_ref(b"mine"), SEAL, 5, "f32"), 100)
    (offer,) = sent(effects, Offer)
    assert offer.seal == SEAL  # B4
    assert effects.index(Persist(SignedOffer(offer))) < effects.index(Send(offer))
    again = Bench(bench.chain, bench.me, bench.log)
    assert of_type(again.start(), Train) == []
    assert again.core.work.pool.messages() == [offer]
    (repeated,) = sent(again.step(Trained(0, blob_ref(b"another"), SEAL, 9, "int8")), Offer)
    assert repeated == offer


def test_promises_of_a_round_that_is_synced_again_are_kept() -> None:
    """A5: the chain was deleted, the log was not; what was offered in the round is offered again, not trained again."""
    chain = ChainBuilder(5, 1, 4)
    chain.full_round(model=MODEL)
    me = chain.trainers[0]
    before = Bench(chain, me)
    before.start()
    (offer,) = sent(before.step(Trained(1, blob_ref(b"mine"), SEAL, 5, "f32")), Offer)
    again = Bench(ChainBuilder(5, 1, 4), me, before.log)
    again.start()
    slots, model = chain.chain.batches()
    again.step(Synced(again.others[0], slots))
    again.core.work.candidates.models[()] = MODEL
    assert of_type(again.step(Synced(again.others[0], model)), Train) == []
    assert again.core.work.pool.messages() == [offer]


def test_work_for_a_round_gone_by_is_of_no_use() -> None:
    bench = trainer()
    bench.start()
    offer = bench.chain.offer(bench.chain.trainers[1])
    assert bench.step(Trained(1, blob_ref(b"mine"), SEAL, 5, "f32")) == []
    assert bench.step(Scored(1, offer.id(), -1, -1, 0)) == []


def test_my_score_is_written_kept_and_sent() -> None:
    """R3, A5."""
    bench = scorer()
    bench.start()
    offer = bench.chain.offer(bench.chain.trainers[0])
    bench.hear(offer)
    effects = bench.step(Scored(0, offer.id(), -5, -6, 0))
    (score,) = sent(effects, Score)
    assert [type(effect) for effect in effects[:2]] == [Persist, Send]
    assert (score.value, score.baseline, score.scorer) == (-5, -6, bench.me)
    assert bench.core.work.pool.get_accepted(bench.core.state) == [offer]


def test_an_own_message_that_breaks_the_rules_halts_this_machine() -> None:
    """A8: a worker gave what no honest machine gives."""
    bench = trainer()
    bench.start()
    huge = replace(blob_ref(b"mine"), size=bench.chain.params.update_bytes_max + 1)
    (halt,) = of_type(bench.step(Trained(0, huge, SEAL, 5, "f32")), Halt)
    assert "this machine made a message that breaks the rules" in halt.reason
    assert bench.core.halted
    assert bench.step(Fired(GossipTimer())) == []


def test_an_absent_member_says_that_it_is_back() -> None:
    """R6."""
    chain = ChainBuilder(4, 1, 4, absent_after=1)
    silent = chain.trainers[0]
    chain.full_round(silent=[silent])
    effects = Bench(chain, silent).start()
    (present,) = sent(effects, Present)
    assert (present.member, present.round) == (silent, 1)


def test_accepted_updates_wait_on_a_timer_for_batch_wait_which_is_set_once() -> None:
    """R5."""
    bench = scorer()
    bench.start()
    bench.vote()
    timer = RoundTimer(0, "batch")
    offers = [bench.chain.offer(item) for item in bench.chain.trainers[:2]]
    set_at = []
    for offer in offers:
        bench.hear(offer)
        set_at += timers(bench.step(Scored(0, offer.id(), -5, -6, 0), 300), timer)
    assert set_at == [bench.chain.params.batch_wait_ms]
    assert sent(bench.step(Fired(timer), bench.chain.params.batch_wait_ms - 301), ProposedBatch) == []
    (made,) = sent(bench.step(Fired(timer), 1), ProposedBatch)
    assert len(made.blocks) == 2


def test_the_slots_final_start_the_fetch_clock_and_the_aggregate() -> None:
    """R7: also at a start in the middle of the round."""
    bench = trainer()
    bench.start()
    effects = bench.step(Synced(bench.others[0], bench.chain.batch(*bench.chain.fill_slots())), 40)
    assert timers(effects, RoundTimer(0, "fetch")) == [bench.chain.params.fetch_deadline_ms]
    assert bench.core.work.clock.slots_final_ms == 40
    assert len(of_type(effects, Aggregate)) == 1
    again = Bench(bench.chain, bench.me, bench.log)
    effects = again.start()
    assert timers(effects, RoundTimer(0, "fetch")) == [bench.chain.params.fetch_deadline_ms]
    assert len(of_type(effects, Aggregate)) == 1


def test_blobs_on_disk_are_known_from_the_start_and_as_they_come() -> None:
    """R7: what is held is never called missing."""
    bench = Bench(ChainBuilder(4, 1, 4), ChainBuilder(4, 1, 4).trainers[0], held=[blob_ref(b"a")])
    bench.step(Held((blob_ref(b"b"),)))
    assert bench.core.work.candidates.held == {blob_ref(b"a"), blob_ref(b"b")}


# ------------------------------------------------------------------------------------------- models and obligations


def end_round(bench: Bench) -> list[Effect]:
    return bench.step(Synced(bench.others[0], bench.chain.batch(bench.chain.model_body(MODEL))))


def test_a_final_model_that_equals_the_own_candidate_ends_the_round() -> None:
    """A3, R1: the next round's work starts in the same step."""
    bench = trainer(ChainBuilder(5, 1, 4))
    bench.start()
    fill(bench)
    bench.step(Aggregated(0, (), MODEL))
    effects = end_round(bench)
    assert of_type(effects, RoundEnded) == [RoundEnded(0)]
    assert of_type(effects, Halt) == []
    assert bench.core.is_ready
    assert bench.core.work.pool.messages() == []


def test_a_final_model_that_differs_from_the_own_candidate_halts() -> None:
    """A3."""
    bench = trainer()
    bench.start()
    fill(bench)
    bench.step(Aggregated(0, (), blob_ref(b"what this machine derives")))
    (halt,) = of_type(end_round(bench), Halt)
    assert "round 0" in halt.reason


@pytest.mark.parametrize("honest", [True, False])
def test_a_final_model_that_was_not_derived_yet_is_an_obligation(honest: bool) -> None:
    """A3: it is asked for again after the round's end, no new work starts before it is met, and then it is compared."""
    bench = trainer(ChainBuilder(5, 1, 4))
    bench.start()
    fill(bench)
    effects = end_round(bench)
    (order,) = of_type(effects, Aggregate)
    assert effects.index(order) > effects.index(RoundEnded(0))
    assert (order.round, order.missing) == (0, ())
    assert not bench.core.is_ready
    assert of_type(effects, Train) == []
    effects = bench.step(Aggregated(0, (), MODEL if honest else blob_ref(b"another")))
    assert [type(effect) for effect in of_type(effects, Halt)] == ([] if honest else [Halt])
    assert bench.core.is_ready
    if honest and bench.me in bench.chain.trainers:
        assert of_type(effects, Train) == [Train(1, MODEL)]


def test_a_candidate_of_other_updates_that_comes_after_the_rounds_end_is_not_compared() -> None:
    """A3: the final model left out an update; a candidate with it was under way when the round ended."""
    bench = trainer(ChainBuilder(5, 1, 4))
    bench.start()
    fill(bench)
    missing = (bench.chain.state.updates[0].height,)
    body = bench.chain.model_body(blob_ref(b"without it"), missing=missing)
    (order,) = of_type(bench.step(Synced(bench.others[0], bench.chain.batch(body))), Aggregate)
    assert order.missing == missing
    assert of_type(bench.step(Aggregated(0, (), MODEL)), Halt) == []
    assert not bench.core.is_ready
    assert of_type(bench.step(Aggregated(0, missing, blob_ref(b"without it"))), Halt) == []
    assert bench.core.is_ready


def test_a_round_that_keeps_its_model_leaves_no_obligation() -> None:
    """R7, A3: there is nothing to derive."""
    bench = trainer(ChainBuilder(5, 1, 4))
    bench.start()
    bench.step(Synced(bench.others[0], bench.chain.batch(*bench.chain.fill_slots(accept=()))))
    effects = bench.step(Synced(bench.others[0], bench.chain.batch(bench.chain.model_body())))
    assert of_type(effects, RoundEnded) == [RoundEnded(0)]
    assert of_type(effects, Aggregate) == []
    assert bench.core.is_ready


def test_a_proposed_model_without_some_updates_is_derived_to_be_compared() -> None:
    """R7, A3: held until the candidate without them is there and the own fetch deadline has passed."""
    bench = trainer(ChainBuilder(4, 1, 4))
    bench.start()
    bench.vote()
    fill(bench)
    body = bench.chain.model_body(MODEL, missing=(2,))
    effects = bench.hear(proposal(bench.chain, bench.chain.committee[0], bench.batch(body)))
    assert [order.missing for order in of_type(effects, Aggregate)] == [(2,)]
    assert sent(bench.step(Aggregated(0, (2,), MODEL)), Vote) == []
    timer = Fired(RoundTimer(0, "fetch"))
    assert sent(bench.step(timer, bench.chain.params.fetch_deadline_ms - 1), Vote) == []
    (prevote,) = sent(bench.step(timer, 1), Vote)
    assert not prevote.is_nil


@pytest.mark.parametrize("own", [True, False])
def test_a_fresh_batch_that_names_another_builder_gets_a_nil_prevote(own: bool) -> None:
    """A1: `proposer` is who built it; nobody may put a batch on an innocent's name."""
    bench = trainer()
    bench.start()
    bench.vote()
    proposer = bench.chain.committee[0]
    builder = proposer if own else bench.chain.trainers[1]
    blocks, _ = bench.chain.blocks(*bench.chain.fill_slots(), proposer=builder)
    (ballot,) = sent(bench.hear(proposal(bench.chain, proposer, blocks)), Vote)
    assert (ballot.step, ballot.is_nil) == (PREVOTE, not own)


def test_the_timeout_of_a_held_proposal_ends_in_a_nil_prevote() -> None:
    """A3: it waits at most until timeoutPropose."""
    bench = trainer()
    bench.start()
    bench.vote()
    blocks = bench.batch(bench.chain.close_body_of_all(), *[EmptyBody(())] * 2)
    effects = bench.hear(proposal(bench.chain, bench.chain.committee[0], blocks))
    (timeout,) = [effect for effect in of_type(effects, SetTimer) if isinstance(effect.timer, ViewTimer)]
    assert sent(effects, Vote) == []
    (prevote,) = sent(bench.step(Fired(timeout.timer), timeout.after_ms), Vote)
    assert prevote.is_nil


def test_obligations_of_several_rounds_are_met_one_by_one() -> None:
    """A3, Y1: after a sync or a restart."""
    chain = ChainBuilder(4, 1, 4)
    chain.full_round(model=MODEL)
    chain.full_round(model=blob_ref(b"model 1"))
    bench = Bench(chain, chain.trainers[0], obliged={0: MODEL, 1: blob_ref(b"model 1")})
    bench.start()
    bench.step(Aggregated(0, (), MODEL))
    assert not bench.core.is_ready
    assert of_type(bench.step(Aggregated(1, (), blob_ref(b"model 1"))), Train) == [Train(2, blob_ref(b"model 1"))]
    assert bench.core.is_ready


def test_an_unready_machine_proposes_no_model() -> None:
    """A3: its candidate would stand on a model that it has not derived."""
    chain = ChainBuilder(4, 1, 4)
    chain.full_round(model=MODEL)
    chain.append(*chain.fill_slots(accept=()))
    bench = Bench(chain, chain.committee[0], obliged={0: MODEL})
    bench.start()
    bench.vote()
    assert sent(bench.step(Fired(GossipTimer())), ProposedBatch) == []
    assert len(sent(bench.step(Aggregated(0, (), MODEL)), ProposedBatch)) == 1


# ----------------------------------------------------------------------------------------------- proposing, deciding


def test_nothing_ticks_while_the_members_train() -> None:
    """A2: no view timer before something is proposable."""
    bench = scorer()
    bench.start()
    bench.vote()
    bench.hear(bench.chain.offer(bench.chain.trainers[0]))
    assert not bench.core.voting.agreement.started


def test_the_deadline_makes_the_proposer_close_and_prevote_in_one_step() -> None:
    """R1, R6: its own fresh batch is answered at once, not with the next event."""
    bench = scorer()
    bench.start()
    bench.vote()
    limit = bench.chain.params.round_deadline_ms
    assert sent(bench.step(Fired(RoundTimer(0, "deadline")), limit - 1), ProposedBatch) == []
    effects = bench.step(Fired(RoundTimer(0, "deadline")), 1)
    (made,) = sent(effects, ProposedBatch)
    (prevote,) = sent(effects, Vote)
    assert (prevote.step, prevote.last_hash) == (PREVOTE, made.blocks[-1].header.id())


def test_a_decision_that_my_own_vote_completes_opens_the_next_work_in_the_same_step() -> None:
    """R7, L49: the only voter decides the slots and asks for the candidate; then the model, and the round ends."""
    chain = ChainBuilder(3, 1, 3, voters="committee")
    bench = scorer(chain)
    bench.step(Started())
    offers = [chain.offer(item) for item in chain.trainers]
    for offer in offers:
        bench.hear(offer)
    bench.step(Scored(0, offers[0].id(), -5, -6, 0))
    effects = bench.step(Scored(0, offers[1].id(), -5, -6, 0))
    assert [commit.state.height for commit in of_type(effects, Commit)] == [2]
    assert len(of_type(effects, Aggregate)) == 1
    effects = bench.step(Aggregated(0, (), MODEL))
    assert [commit.state.height for commit in of_type(effects, Commit)] == [3]
    assert of_type(effects, RoundEnded) == [RoundEnded(0)]


def test_a_certificate_commits_and_the_committed_batch_can_be_served() -> None:
    """A1, Y1."""
    bench = trainer()
    bench.start()
    bench.vote()
    blocks = bench.batch(*bench.chain.fill_slots())
    bench.hear(proposal(bench.chain, bench.chain.committee[0], blocks))
    for voter in bench.others[:2]:
        bench.hear(vote(bench.chain, voter, PREVOTE, blocks))
    first, second = (vote(bench.chain, voter, PRECOMMIT, blocks) for voter in bench.others[:2])
    bench.step(Fired(GossipTimer()))
    (commit,) = of_type([*bench.hear(first), *bench.hear(second)], Commit)
    assert commit.batch.blocks == blocks
    assert bench.core.voting.instance == 4
    follower = trainer(ChainBuilder(4, 1, 4))
    follower.start()
    assert len(of_type(follower.step(Synced(follower.others[0], commit.batch)), Commit)) == 1


def test_after_the_last_round_nothing_is_asked_or_proposed() -> None:
    """R1: rounds_max."""
    chain = ChainBuilder(4, 1, 4, rounds_max=1)
    chain.full_round()
    for member in chain.indices:
        bench = Bench(chain, member)
        effects = [*bench.start(), *bench.step(Fired(GossipTimer()), 10**6)]
        assert {type(effect) for effect in effects} <= {Send, SetTimer}
        assert bench.core.work.clock.opened_ms is None

"""The core, one event at a time: clocks, probing, refusals and sync."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consensus.events import (
    Aggregated,
    Commit,
    Effect,
    Evaluate,
    Fault,
    Fired,
    GossipTimer,
    Have,
    Message,
    PeerDown,
    PeerUp,
    Persist,
    ProbeTimer,
    RoundTimer,
    Send,
    SetTimer,
    Started,
    Synced,
    SyncEnded,
    SyncFrom,
    Timer,
    Train,
)
from ledger.blobs import blob_ref
from ledger.types import PREVOTE
from tests.consensus.helpers_core import Bench, of_type, proposal, sent, vote
from tests.ledger.helpers_ledger import ChainBuilder

MODEL = blob_ref(b"model 0")


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


# ------------------------------------------------------------------------------------------------- start and clocks


def test_the_start_sets_the_gossip_timer_and_promises_nothing() -> None:
    effects = trainer().step(Started())
    assert timers(effects, GossipTimer()) == [1_000]
    assert of_type(effects, Persist) == []
    assert not any(isinstance(effect, Train) for effect in effects[:1])


def test_the_rounds_clock_starts_when_more_than_two_thirds_of_the_voters_were_heard() -> None:
    """R1: three of four, oneself among them; going down again does not unhear."""
    bench = trainer()
    bench.step(Started())
    assert timers(bench.step(PeerUp(bench.others[0]), 10), RoundTimer(0, "deadline")) == []
    bench.step(PeerDown(bench.others[0]), 10)
    effects = bench.step(PeerUp(bench.others[1]), 10)
    assert timers(effects, RoundTimer(0, "deadline")) == [bench.chain.params.round_deadline_ms]
    assert bench.core.work.clock.opened_ms == 30
    assert timers(bench.step(PeerUp(bench.others[2]), 10), RoundTimer(0, "deadline")) == []


def test_strangers_do_not_start_the_clock() -> None:
    """R1: voters only."""
    bench = trainer()
    bench.step(Started())
    for number in range(5):
        bench.step(PeerUp(bytes([number]) * 32))
    assert bench.core.work.clock.opened_ms is None


def test_the_next_rounds_clock_starts_with_its_commit() -> None:
    """R1: of the model block before it."""
    bench = trainer()
    bench.start()
    fill(bench)
    bench.step(Aggregated(0, (), MODEL), 100)
    effects = bench.step(Synced(bench.others[0], bench.chain.batch(bench.chain.model_body(MODEL))), 7)
    assert timers(effects, RoundTimer(1, "deadline")) == [bench.chain.params.round_deadline_ms]
    assert bench.core.work.clock.opened_ms == 107


def test_a_peer_that_comes_up_is_told_what_is_held_and_the_probe_lasts_for_grace() -> None:
    """A5: set once, by the first peer."""
    bench = trainer()
    bench.step(Started())
    effects = bench.step(PeerUp(bench.others[0]))
    assert [effect.to for effect in of_type(effects, Send) if isinstance(effect.message, Have)] == [bench.others[0]]
    assert timers(effects, ProbeTimer()) == [bench.chain.params.grace_ms]
    assert timers(bench.step(PeerUp(bench.others[1])), ProbeTimer()) == []
    assert bench.core.voting.is_probing
    bench.step(Fired(ProbeTimer()), bench.chain.params.grace_ms)
    assert not bench.core.voting.is_probing


def test_a_sync_during_the_probe_lengthens_it_and_asks_in_the_new_instance() -> None:
    """A5: the votes that may have been forgotten are those of the instance that is open, not of the copy's."""
    bench = trainer()
    bench.start()
    batch = bench.chain.batch(*bench.chain.fill_slots())
    effects = bench.step(Synced(bench.others[0], batch), 500)
    assert timers(effects, ProbeTimer()) == [bench.chain.params.grace_ms]
    effects = bench.step(SyncEnded(bench.others[0]), 10)
    assert timers(effects, ProbeTimer()) == [bench.chain.params.grace_ms]
    assert [have.height for have in sent(effects, Have)] == [3]
    # without a verified batch nothing is lengthened: a liar cannot keep anybody from voting
    assert timers(bench.step(SyncEnded(bench.others[0]), 10), ProbeTimer()) == []


def test_after_the_probe_a_sync_asks_for_nothing() -> None:
    bench = trainer()
    bench.start()
    bench.vote()
    fill(bench)
    assert sent(bench.step(SyncEnded(bench.others[0])), Have) == []


def test_gossip_tells_all_and_comes_again() -> None:
    """A4."""
    bench = trainer()
    bench.start()
    effects = bench.step(Fired(GossipTimer()), 1_000)
    assert [effect.to for effect in of_type(effects, Send)] == [None]
    assert timers(effects, GossipTimer()) == [1_000]
    lonely = trainer()
    lonely.step(Started())
    assert sent(lonely.step(Fired(GossipTimer())), Have) == []


# -------------------------------------------------------------------------------------------------- round messages


def test_messages_of_another_chain_are_faults() -> None:
    """A8."""
    bench = scorer()
    bench.start()
    other = ChainBuilder(4, 1, 4, rounds_max=7)
    alien: list[Message] = [other.offer(other.trainers[0]), vote(other, other.committee[0], PREVOTE)]
    blocks, _ = other.blocks(*other.fill_slots())
    for message in (*alien, proposal(other, other.committee[0], blocks)):
        (fault,) = of_type(bench.hear(message), Fault)
        assert fault.member == bench.others[0]
        assert "another chain" in fault.reason


def test_a_bad_offer_is_its_senders_fault_whoever_signed_it() -> None:
    """A8, R2."""
    bench = scorer()
    bench.start()
    offer = bench.chain.offer(bench.chain.trainers[0])
    (fault,) = of_type(bench.hear(replace(offer, samples=offer.samples + 1), bench.others[2]), Fault)
    assert fault.member == bench.others[2]
    assert "bad signature" in fault.reason
    assert of_type(bench.hear(offer), Evaluate) == [Evaluate(0, offer, bench.chain.state.round.model)]


def test_an_offer_of_the_next_round_waits_for_it_and_others_are_dropped() -> None:
    """A8: one round ahead, checked when its time has come."""
    chain, ahead = ChainBuilder(5, 1, 4), ChainBuilder(5, 1, 4)
    ahead.full_round()
    early = ahead.offer(ahead.trainers[0])
    bench = Bench(chain, ahead.committee[0])
    bench.start()
    assert of_type(bench.hear(early), Fault) == []
    assert of_type(bench.hear(replace(early, round=2)), Fault) == []
    assert bench.core.work.pool.messages() == []
    bench.core.work.candidates.models[()] = MODEL
    for batch in ahead.chain.batches():
        effects = bench.step(Synced(bench.others[0], batch))
    assert bench.core.work.pool.messages() == [early]
    assert of_type(effects, Evaluate) == [Evaluate(1, early, ahead.state.round.model)]
    assert of_type(bench.hear(chain.offer(chain.trainers[0], round=0)), Fault) == []
    assert bench.core.work.pool.messages() == [early]


def test_votes_of_an_instance_to_come_wait_for_it_and_old_ones_are_dropped() -> None:
    chain, ahead = ChainBuilder(4, 1, 4), ChainBuilder(4, 1, 4)
    slots = ahead.batch(*ahead.fill_slots())
    ahead.chain.import_batch(slots)
    early = vote(ahead, ahead.committee[0], PREVOTE)
    bench = trainer(chain)
    bench.start()
    old = vote(chain, chain.committee[0], PREVOTE)
    bench.hear(early)
    assert list(bench.core.voting.agreement.messages()) == []
    bench.step(Synced(bench.others[0], slots))
    assert list(bench.core.voting.agreement.messages()) == [early]
    assert of_type(bench.hear(old), Fault) == []
    assert list(bench.core.voting.agreement.messages()) == [early]


def test_early_messages_of_one_who_went_down_are_forgotten() -> None:
    """A8."""
    chain, ahead = ChainBuilder(4, 1, 4), ChainBuilder(4, 1, 4)
    slots = ahead.batch(*ahead.fill_slots())
    ahead.chain.import_batch(slots)
    bench = trainer(chain)
    bench.start()
    bench.hear(vote(ahead, ahead.committee[0], PREVOTE), bench.others[1])
    bench.step(PeerDown(bench.others[1]))
    bench.step(Synced(bench.others[0], slots))
    assert list(bench.core.voting.agreement.messages()) == []


# ---------------------------------------------------------------------------------------------- have, heights, sync


def test_at_the_same_height_the_other_is_sent_what_it_lacks() -> None:
    """A4."""
    bench = trainer()
    bench.start()
    offer, ballot = bench.chain.offer(bench.chain.trainers[1]), vote(bench.chain, bench.others[0], PREVOTE)
    bench.hear(offer)
    bench.hear(ballot)
    effects = bench.hear(Have(0, 0, (ballot.id()[:8],)), bench.others[1])
    assert of_type(effects, Send) == [Send(offer, bench.others[1])]
    assert of_type(bench.hear(Have(3, 0, ()), bench.others[1]), Send) == []


def test_the_first_word_of_a_higher_peer_starts_a_sync_and_later_ones_wait_for_gossip() -> None:
    """Y1: half a gossip interval, as a batch that is just being decided comes by itself."""
    bench = trainer()
    bench.start()
    ahead = bench.others[0]
    assert of_type(bench.hear(Have(0, 0, ()), ahead), SyncFrom) == []
    assert of_type(bench.hear(Have(8, 0, ()), ahead), SyncFrom) == []
    assert bench.core.behind == 8
    assert of_type(bench.step(Fired(GossipTimer()), 499), SyncFrom) == []
    assert of_type(bench.step(Fired(GossipTimer()), 1), SyncFrom) == [SyncFrom(ahead, 1)]
    assert of_type(bench.hear(Have(8, 0, ()), bench.others[1]), SyncFrom) == [SyncFrom(bench.others[1], 1)]


def test_who_is_gone_or_has_served_all_is_not_asked_again() -> None:
    """Y1."""
    bench = trainer()
    bench.start()
    bench.hear(Have(8, 0, ()), bench.others[0])
    bench.step(SyncEnded(bench.others[0]))
    assert bench.core.behind == 0
    assert of_type(bench.step(Fired(GossipTimer()), 5_000), SyncFrom) == []
    bench.hear(Have(8, 0, ()), bench.others[0])
    bench.step(PeerDown(bench.others[0]))
    assert of_type(bench.step(Fired(GossipTimer()), 5_000), SyncFrom) == []


def test_a_final_batch_is_followed_and_one_out_of_turn_is_ignored() -> None:
    """Y1."""
    bench = trainer()
    bench.start()
    slots = bench.chain.batch(*bench.chain.fill_slots())
    (commit,) = of_type(bench.step(Synced(bench.others[0], slots)), Commit)
    assert (commit.batch, commit.state.height) == (slots, 3)
    assert bench.core.state == commit.state
    assert bench.step(Synced(bench.others[0], slots)) == []


@pytest.mark.parametrize("signers", [0, 1, 2])
def test_a_batch_without_a_quorum_of_the_voters_of_its_time_is_a_fault(signers: int) -> None:
    """Y1, A1, A8."""
    bench = trainer()
    bench.start()
    blocks = bench.batch(*bench.chain.fill_slots())
    batch = replace(
        bench.chain.batch(*bench.chain.fill_slots()),
        certificate=bench.chain.certificate(blocks, signers=sorted(bench.chain.indices)[: signers or 1]),
    )
    effects = bench.step(Synced(bench.others[1], batch))
    assert [fault.member for fault in of_type(effects, Fault)] == [bench.others[1]]
    assert of_type(effects, Commit) == []
    assert bench.core.state.height == 0


def test_a_certified_batch_that_does_not_apply_is_a_fault() -> None:
    """S1, Y1: voters of another history may have signed it; it is not mine."""
    bench = trainer()
    bench.start()
    *rest, last = bench.batch(*bench.chain.fill_slots())
    blocks = (*rest, replace(last, header=replace(last.header, state_root=bytes(32))))
    batch = replace(bench.chain.batch(*bench.chain.fill_slots()), blocks=blocks)
    batch = replace(batch, certificate=bench.chain.certificate(blocks))
    (fault,) = of_type(bench.step(Synced(bench.others[1], batch)), Fault)
    assert "state root" in fault.reason

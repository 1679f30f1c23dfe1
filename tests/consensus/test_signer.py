"""The signer keeps its word: whatever is asked, in whatever order, over restarts and compactions (A5)."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.actions import Resume, SaveLock
from consensus.signer import (
    Floor,
    Identity,
    LockSaved,
    SignedOffer,
    SignedVote,
    Signer,
    SignerError,
    SignerState,
    WalEntry,
)
from ledger.codec import CodecError, Record
from ledger.keys import digest
from ledger.types import NO_HASH, PRECOMMIT, PREVOTE, BlobRef, Offer, Present, ProposedBatch, Score, Vote
from tests.consensus.helpers_agreement import ANY_HASH, CHAIN, INSTANCE, batch, key, member, proposal, value, vote

UPDATE = BlobRef(ANY_HASH, 10)
Ask = tuple[str, int, int, int, str]


class Log:
    """A signer with its log: every record is written as bytes and read back on a restart."""

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.entries = [WalEntry(Identity(member(index))).encode()]
        self.restart()

    def restart(self) -> None:
        records = [WalEntry.decode(entry).record for entry in self.entries]
        self.signer = Signer(key(self.index), SignerState.replay(records))

    def compact(self, keep_rounds_from: int) -> None:
        self.entries = [WalEntry(record).encode() for record in self.signer.compact(keep_rounds_from)]

    def keep(self, record: Record | None) -> None:
        if record is not None:
            self.entries.append(WalEntry(record).encode())  # type: ignore[arg-type]

    def ask(self, ask: Ask) -> Record | None:
        """One request; the arguments that are not part of its place differ by `name`."""
        kind, instance, round, step, name = ask
        signer = self.signer
        requests: dict[str, Callable[[], tuple[Record | None, Record | None]]] = {
            "vote": lambda: signer.vote(CHAIN, instance, round, 1 + step, *value(name)),
            "proposal": lambda: signer.proposal(CHAIN, instance, round, step - 1, batch(name)),
            "offer": lambda: signer.offer(CHAIN, round, ANY_HASH, UPDATE, ANY_HASH, 1 + ord(name), "f32", ANY_HASH),
            "score": lambda: signer.score(CHAIN, round, digest("test-offer", bytes([step])), ord(name), 0, 0),
            "present": lambda: signer.present(CHAIN, round),
        }
        message, record = requests[kind]()
        self.keep(record)
        return message


def place_of(message: Record) -> tuple[object, ...]:
    """The slot that may be signed once."""
    match message:
        case Vote():
            return "vote", message.instance, message.round, message.step
        case ProposedBatch(proposal):
            return "proposal", proposal.instance, proposal.round
        case Offer():
            return "offer", message.round
        case Score():
            return "score", message.round, message.offer
        case Present():
            return "present", message.round
    raise AssertionError(message)


asks = st.tuples(
    st.sampled_from(("vote", "vote", "proposal", "offer", "score", "present")),
    st.integers(INSTANCE, INSTANCE + 2),
    st.integers(0, 3),
    st.integers(0, 1),
    st.sampled_from(("A", "B", "C")),
)
deeds = st.lists(st.one_of(asks, asks, asks, st.just("restart"), st.integers(0, 3)), max_size=40)


@given(deeds)
def test_no_place_is_ever_signed_twice_differently(deeds: list[Ask | str | int]) -> None:
    log, said = Log(), dict[tuple[object, ...], Record]()
    for deed in deeds:
        if deed == "restart":
            log.restart()
        elif isinstance(deed, int):
            log.compact(deed)
        elif isinstance(deed, tuple) and (message := log.ask(deed)) is not None:
            assert said.setdefault(place_of(message), message) == message


@given(deeds)
def test_votes_and_proposals_are_new_only_above_all_that_was_signed(deeds: list[Ask | str | int]) -> None:
    log, seen = Log(), set[Record]()
    top = (-1, -1, -1)
    for deed in deeds:
        if deed == "restart":
            log.restart()
        elif isinstance(deed, int):
            log.compact(deed)
        elif isinstance(deed, tuple) and deed[0] in ("vote", "proposal"):
            message = log.ask(deed)
            if message is None or message in seen:
                continue
            seen.add(message)
            place = (deed[1], deed[2], 1 + deed[3] if deed[0] == "vote" else 0)
            assert place > top
            top = place


@given(deeds, st.integers(0, 3))
def test_a_compacted_log_means_the_same(deeds: list[Ask | str | int], keep: int) -> None:
    log = Log()
    for deed in deeds:
        if isinstance(deed, tuple):
            log.ask(deed)
    log.compact(keep)
    once = list(log.entries)
    log.restart()
    log.compact(keep)
    assert log.entries == once


def test_a_stored_message_comes_back_without_a_record_whatever_is_asked() -> None:
    signer = Log().signer
    first, record = signer.vote(CHAIN, INSTANCE, 0, PREVOTE, *value("A"))
    assert isinstance(record, SignedVote)
    assert record.vote == first
    assert first is not None
    assert first.is_signed()
    assert signer.vote(CHAIN, INSTANCE, 0, PREVOTE, *value("B")) == (first, None)
    proposed, kept = signer.proposal(CHAIN, INSTANCE, 1, 0, batch("A"))
    assert proposed == proposal(0, 1, "A", 0)
    assert kept is not None
    assert signer.proposal(CHAIN, INSTANCE, 1, -1, batch("B")) == (proposed, None)


@pytest.mark.parametrize(
    ("instance", "round", "step"), [(4, 9, PRECOMMIT), (5, 0, PREVOTE), (5, 0, PRECOMMIT), (5, 1, PREVOTE)]
)
def test_a_vote_below_the_highest_is_refused(instance: int, round: int, step: int) -> None:
    signer = Log().signer
    signer.vote(CHAIN, 5, 1, PRECOMMIT, 0, NO_HASH)
    assert signer.vote(CHAIN, instance, round, step, 0, NO_HASH) == (None, None)


def test_a_proposal_after_a_vote_of_its_round_is_refused() -> None:
    signer = Log().signer
    signer.vote(CHAIN, INSTANCE, 1, PREVOTE, 0, NO_HASH)
    assert signer.proposal(CHAIN, INSTANCE, 1, -1, batch("A")) == (None, None)
    assert signer.proposal(CHAIN, INSTANCE, 2, -1, ()) == (None, None)
    assert signer.proposal(CHAIN, INSTANCE, 2, -1, batch("A"))[0] is not None
    assert signer.vote(CHAIN, INSTANCE, 1, PRECOMMIT, 0, NO_HASH) == (None, None)
    assert signer.vote(CHAIN, INSTANCE, 2, PREVOTE, 0, NO_HASH)[0] is not None


def test_a_request_out_of_bounds_leaves_no_promise() -> None:
    signer = Log().signer
    with pytest.raises(CodecError):
        signer.vote(CHAIN, INSTANCE, 3, 7, 0, NO_HASH)
    assert signer.vote(CHAIN, INSTANCE, 0, PREVOTE, 0, NO_HASH)[0] is not None


def test_offers_scores_and_presents_below_the_floor_are_refused() -> None:
    log = Log()
    assert log.ask(("offer", 0, 2, 0, "A")) is not None
    assert log.ask(("score", 0, 3, 0, "A")) is not None
    log.compact(3)
    log.restart()
    assert [log.ask((kind, 0, 2, 0, "B")) for kind in ("offer", "score", "present")] == [None] * 3
    kept = log.ask(("score", 0, 3, 0, "B"))
    assert isinstance(kept, Score)
    assert kept.value == ord("A")


def test_a_key_without_its_own_log_is_refused() -> None:
    state = SignerState.replay([Identity(member(1))])
    with pytest.raises(SignerError, match="do not belong together"):
        Signer(key(0), state)
    assert Signer(key(1), state).public == member(1)


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([], "does not begin with its key"),
        ([SignedVote(vote(0, 0, PREVOTE))], "does not begin with its key"),
        ([Identity(member(0)), SignedVote(vote(1, 0, PREVOTE))], "two logs were mixed"),
        ([Identity(member(0)), Identity(member(1))], "two logs were mixed"),
        ([Identity(member(0)), UPDATE], "none of its records"),
    ],
)
def test_a_log_that_is_not_the_keys_is_refused(records: list[Record], reason: str) -> None:
    with pytest.raises(SignerError, match=reason):
        SignerState.replay(records)


def test_resume_gives_back_place_lock_and_messages() -> None:
    log = Log()
    polka = tuple(vote(index, 1, PREVOTE, "A") for index in (1, 2))
    log.ask(("proposal", INSTANCE, 0, 0, "B"))
    log.ask(("vote", INSTANCE, 1, 0, "A"))
    log.keep(log.signer.save_lock(INSTANCE, SaveLock(1, batch("A"), 1, batch("A"), polka)))
    log.ask(("vote", INSTANCE, 1, 1, "A"))
    for _ in range(2):
        resume = log.signer.resume(INSTANCE)
        mine = (vote(0, 1, PREVOTE, "A"), vote(0, 1, PRECOMMIT, "A"))
        assert resume == Resume(1, "precommit", 1, batch("A"), 1, batch("A"), (*mine, *polka), (proposal(0, 0, "B"),))
        log.compact(0)
        log.restart()
    assert log.signer.resume(INSTANCE + 1) is None
    assert log.signer.resume(INSTANCE - 1) is None


def test_resume_tells_a_valid_value_from_the_locked_one() -> None:
    log = Log()
    log.ask(("vote", INSTANCE, 2, 1, "-"))
    log.keep(log.signer.save_lock(INSTANCE, SaveLock(1, batch("A"), 2, batch("B"), ())))
    log.restart()
    resume = log.signer.resume(INSTANCE)
    assert resume is not None
    assert (resume.locked_round, resume.locked_blocks) == (1, batch("A"))
    assert (resume.valid_round, resume.valid_blocks) == (2, batch("B"))
    log.keep(log.signer.save_lock(INSTANCE, SaveLock(-1, None, 2, batch("B"), ())))
    log.restart()
    resume = log.signer.resume(INSTANCE)
    assert resume is not None
    assert (resume.locked_round, resume.locked_blocks, resume.valid_blocks) == (-1, None, batch("B"))


def test_a_signed_proposal_alone_is_resumed_in_step_propose() -> None:
    log = Log()
    log.ask(("vote", INSTANCE, 3, 1, "-"))
    log.ask(("proposal", INSTANCE, 4, 0, "A"))
    resume = log.signer.resume(INSTANCE)
    assert resume is not None
    assert (resume.round, resume.step) == (4, "propose")


def test_a_new_instance_replaces_votes_and_lock_of_the_old() -> None:
    log = Log()
    log.ask(("vote", INSTANCE, 0, 0, "A"))
    log.keep(log.signer.save_lock(INSTANCE, SaveLock(0, batch("A"), 0, batch("A"), ())))
    log.ask(("vote", INSTANCE + 1, 0, 0, "-"))
    assert log.signer.save_lock(INSTANCE, SaveLock(1, batch("B"), 1, batch("B"), ())) is None
    log.restart()
    resume = log.signer.resume(INSTANCE + 1)
    assert resume is not None
    assert resume.locked_round == resume.valid_round == -1
    assert log.ask(("vote", INSTANCE, 0, 0, "A")) is None


def test_an_own_message_that_the_log_does_not_know_shows_a_restored_copy() -> None:
    signer = Log().signer
    assert signer.saw_own(vote(0, 0, PREVOTE, "A"))
    assert not signer.saw_own(vote(1, 0, PREVOTE, "A"))
    signer.vote(CHAIN, INSTANCE, 1, PREVOTE, *value("A"))
    signer.proposal(CHAIN, INSTANCE, 2, -1, batch("A"))
    assert not signer.saw_own(vote(0, 1, PREVOTE, "A"))
    assert not signer.saw_own(proposal(0, 2, "A"))
    assert signer.saw_own(vote(0, 1, PREVOTE, "B"))
    assert signer.saw_own(vote(0, 3, PRECOMMIT, "A"))
    assert signer.saw_own(vote(0, 0, PREVOTE, "A")), "all votes of the open instance are in the log"
    assert signer.saw_own(proposal(0, 2, "A", 1))
    assert signer.saw_own(proposal(0, 3, "A"))
    signer.vote(CHAIN, INSTANCE + 1, 0, PREVOTE, 0, NO_HASH)
    assert not signer.saw_own(vote(0, 3, PRECOMMIT, "A")), "an instance gone by proves nothing"


def test_a_muted_signer_signs_again_from_the_next_instance_on() -> None:
    log = Log()
    before = log.ask(("vote", INSTANCE, 0, 0, "A"))
    log.keep(log.signer.mute(INSTANCE, below_round=2))
    assert log.signer.mute(INSTANCE) is None
    for _ in range(2):
        assert log.signer.is_mute(INSTANCE)
        assert log.ask(("vote", INSTANCE, 5, 0, "A")) is None
        assert log.ask(("proposal", INSTANCE, 6, 0, "A")) is None
        assert log.ask(("offer", 0, 1, 0, "A")) is None
        assert log.ask(("vote", INSTANCE, 0, 0, "B")) == before
        assert not log.signer.saw_own(vote(0, 9, PREVOTE, "A"))
        log.compact(0)
        log.restart()
    assert not log.signer.is_mute(INSTANCE + 1)
    assert log.ask(("vote", INSTANCE + 1, 0, 0, "A")) is not None
    assert log.ask(("offer", 0, 2, 0, "A")) is not None


def test_the_shortest_log_is_the_key_and_a_floor() -> None:
    assert SignerState.replay([Identity(member(0))]).snapshot(7) == [Identity(member(0)), Floor(0, 7)]


def test_the_log_keeps_the_first_of_two_contradicting_records() -> None:
    records = [Identity(member(0)), SignedVote(vote(0, 0, PREVOTE, "A")), SignedVote(vote(0, 0, PREVOTE, "B"))]
    assert SignerState.replay(records).votes == {(0, PREVOTE): vote(0, 0, PREVOTE, "A")}


def test_log_entries_are_told_apart_by_their_tag() -> None:
    offer = Log().signer.offer(CHAIN, 1, ANY_HASH, UPDATE, ANY_HASH, 5, "f32", ANY_HASH)[1]
    lock = LockSaved(INSTANCE, 1, batch("A", 2), 0, (), (vote(1, 0, PREVOTE, "A"),))
    assert isinstance(offer, SignedOffer)
    for record in (offer, lock, Floor(3, 4), Identity(member(2))):
        assert WalEntry.decode(WalEntry(record).encode()).record == record


def test_what_was_promised_for_a_learning_round_can_be_spoken_again() -> None:  # A5
    log = Log()
    kinds = (("offer", 0), ("present", 0), ("score", 0), ("score", 1))
    said = [log.ask((kind, 0, 1, step, "A")) for kind, step in kinds]
    log.ask(("offer", 0, 2, 0, "A"))
    log.restart()
    assert log.signer.promises(1) == said
    assert log.signer.promises(3) == []


def test_a_log_with_any_promise_of_another_chain_is_refused_for_this_one() -> None:
    """A5: places are counted from 0 on each chain."""
    for ask in (("vote", 5, 0, 0, "A"), ("proposal", 5, 0, 0, "A"), ("offer", 0, 1, 0, "A"), ("score", 0, 1, 0, "A")):
        log = Log()
        log.ask(ask)
        state = SignerState.replay([WalEntry.decode(entry).record for entry in log.entries])
        state.check_chain(CHAIN)
        with pytest.raises(SignerError, match="has signed on chain"):
            state.check_chain(ANY_HASH)
    SignerState(member(0)).check_chain(ANY_HASH)

"""What the peer remembers for people: the last rounds, and whose faults were how many; bounded (A8)."""

import pytest

from consensus.events import Commit
from ledger.types import FinalBatch
from node.history import FAULT_CHARS_MAX, FAULT_KINDS_MAX, ROUNDS_MAX, History
from tests.ledger.helpers_ledger import ChainBuilder


class Noted(ChainBuilder):
    """A consortium whose every batch is told to a history."""

    def __init__(self, **rules: object) -> None:
        super().__init__(**rules)  # type: ignore[arg-type]
        self.history = History(self.chain)

    def append(self, *bodies: object) -> FinalBatch:
        batch = super().append(*bodies)  # type: ignore[arg-type]
        self.history.note(Commit(batch, self.state))
        return batch


@pytest.fixture
def builder() -> Noted:
    return Noted()


def test_a_final_model_ends_a_round_that_is_remembered(builder: Noted) -> None:
    committee = [member.hex() for member in builder.committee]
    builder.full_round()
    (line,) = builder.history.rounds
    assert line.pop("seconds") is not None
    assert line == {
        "round": 0,
        "height": 4,
        "model": builder.state.round.model.blob.hex(),
        "committee": committee,
        "offered": 3,
        "accepted": 3,
        "rejected": 0,
        "empty": 0,
    }


def test_rejected_and_silent_trainers_are_counted_apart(builder: Noted) -> None:
    first, second, _ = builder.trainers
    builder.full_round(reject=[first], silent=[second])
    (line,) = builder.history.rounds
    assert (line["offered"], line["accepted"], line["rejected"], line["empty"]) == (2, 1, 1, 2)


def test_slots_alone_end_no_round(builder: Noted) -> None:
    builder.append(*builder.fill_slots())
    assert not builder.history.rounds


def test_a_history_that_starts_in_the_middle_of_a_round_knows_what_was_final_before() -> None:
    plain = ChainBuilder()
    plain.append(*plain.fill_slots())
    history = History(plain.chain)
    batch = plain.append(plain.model_body())
    history.note(Commit(batch, plain.state))
    assert history.rounds[0]["accepted"] == 3


def test_only_the_last_rounds_are_kept() -> None:
    builder = Noted(k=2, rounds_max=ROUNDS_MAX + 2, beacon_links=ROUNDS_MAX + 2)
    for _ in range(ROUNDS_MAX + 2):
        builder.full_round()
    assert [line["round"] for line in builder.history.rounds] == list(range(2, ROUNDS_MAX + 2))


def test_faults_are_counted_by_what_was_broken(builder: Noted) -> None:
    for reason in ("offer of round 3: bad signature", "score of round 4: bad signature", "frame"):
        builder.history.faulted(reason)
    assert builder.history.faults == {"bad signature": 2, "frame": 1}


def test_neither_many_kinds_nor_long_ones_grow_the_memory(builder: Noted) -> None:
    for number in range(10 * FAULT_KINDS_MAX):
        builder.history.faulted(f"{number}" + "x" * 10_000)
    assert len(builder.history.faults) == FAULT_KINDS_MAX
    assert max(len(kind) for kind in builder.history.faults) <= FAULT_CHARS_MAX


def test_a_known_kind_is_counted_even_when_there_is_no_room_for_new_ones(builder: Noted) -> None:
    for number in range(FAULT_KINDS_MAX + 1):
        builder.history.faulted(f"kind {number}")
    builder.history.faulted("kind 0")
    assert builder.history.faults["kind 0"] == 2

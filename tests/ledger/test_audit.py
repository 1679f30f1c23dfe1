"""The audit (`chain verify`): whatever single byte of a block is changed, that block is named."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ledger.chain import Finding, audit
from ledger.state import State
from ledger.store import MemoryStore
from ledger.types import Block, Certificate, ModelBody
from tests.ledger.helpers_ledger import ChainBuilder, CheckRound, accept_any_model

TIP = b"tip"


def height_key(prefix: bytes, height: int) -> bytes:
    return prefix + height.to_bytes(8, "big")


def small_chain() -> ChainBuilder:
    """Two rounds of three blocks with an update, a rejection, a silence, a full close and a batch of several."""
    builder = ChainBuilder(n=4, c=1, k=3)
    accepted, rejected, _ = (*builder.trainers, b"")
    builder.full_round(accept=[accepted], reject=[rejected])
    builder.full_round()
    return builder


BUILDER = small_chain()
GENESIS = BUILDER.genesis
assert isinstance(BUILDER.store, MemoryStore)
DATA: dict[bytes, bytes] = dict(BUILDER.store.data)
HEIGHTS = range(BUILDER.state.height + 1)
CERTIFIED = [batch.blocks[0].height for batch in BUILDER.chain.batches()]


def run(data: dict[bytes, bytes], check_round: CheckRound = accept_any_model) -> list[Finding | State]:
    """Everything that an audit of this content yields."""
    store = MemoryStore()
    store.data = data
    return list(audit(GENESIS, store, check_round))


def finding(data: dict[bytes, bytes], check_round: CheckRound = accept_any_model) -> Finding | None:
    """The finding that an audit ends with, if any."""
    found = [item for item in run(data, check_round) if isinstance(item, Finding)]
    assert len(found) <= 1
    return found[0] if found else None


def flips(value: bytes, rng: random.Random) -> Iterator[bytes]:
    """`value` with each of its bytes changed once."""
    for at in range(len(value)):
        changed = bytearray(value)
        changed[at] ^= rng.randrange(1, 256)
        yield bytes(changed)


def test_a_sound_chain_yields_the_state_after_each_batch() -> None:
    states = [item for item in run(dict(DATA)) if isinstance(item, State)]
    assert [state.height for state in states] == [batch.blocks[-1].height for batch in BUILDER.chain.batches()]
    assert states[-1] == BUILDER.state
    assert finding(dict(DATA)) is None


def test_a_chain_of_genesis_alone_is_sound() -> None:
    fresh = ChainBuilder(n=4, c=1, k=3)
    assert isinstance(fresh.store, MemoryStore)
    assert run(fresh.store.data) == []


@pytest.mark.parametrize("height", HEIGHTS)
def test_any_changed_byte_of_a_block_names_that_block(height: int) -> None:
    key, rng = height_key(b"b", height), random.Random(height)
    for changed in flips(DATA[key], rng):
        found = finding(DATA | {key: changed})
        assert found is not None
        assert found.height == height, found.reason


@pytest.mark.parametrize("height", HEIGHTS)
def test_a_shortened_or_lengthened_block_is_named(height: int) -> None:
    key = height_key(b"b", height)
    for changed in (b"", DATA[key][:-1], DATA[key] + b"\x00", DATA[key] * 2):
        found = finding(DATA | {key: changed})
        assert found is not None
        assert found.height == height


@pytest.mark.parametrize("height", HEIGHTS[1:])
def test_a_missing_block_is_named(height: int) -> None:
    found = finding({key: value for key, value in DATA.items() if key != height_key(b"b", height)})
    assert found == Finding(height, "the block is missing")


def test_a_missing_genesis_block_is_named() -> None:
    found = finding({key: value for key, value in DATA.items() if key != height_key(b"b", 0)})
    assert found == Finding(0, "#0 is not the block that genesis.json founds")


@pytest.mark.parametrize("height", CERTIFIED)
def test_any_changed_byte_of_a_certificate_is_found_in_its_batch(height: int) -> None:
    key, rng = height_key(b"c", height), random.Random(height)
    last = Certificate.decode(DATA[key]).last_height
    for changed in flips(DATA[key], rng):
        found = finding(DATA | {key: changed})
        assert found is not None
        assert height <= found.height <= max(last, BUILDER.state.height + 1)


@pytest.mark.parametrize("height", CERTIFIED)
def test_a_missing_certificate_is_named_by_its_first_block(height: int) -> None:
    found = finding({key: value for key, value in DATA.items() if key != height_key(b"c", height)})
    assert found == Finding(height, "there is no certificate for the batch that starts here")


def test_a_certificate_of_too_few_voters_is_found() -> None:
    key = height_key(b"c", 1)
    certificate = Certificate.decode(DATA[key])
    few = replace(certificate, precommits=certificate.precommits[:2])
    found = finding(DATA | {key: few.encode()})
    assert found is not None
    assert "2 of 4 voters are not more than 2/3" in found.reason


def test_any_changed_byte_of_the_stored_state_is_found() -> None:
    for changed in flips(DATA[TIP], random.Random(1)):
        assert finding(DATA | {TIP: changed}) is not None


def test_a_missing_or_unreadable_state_is_found_after_all_blocks() -> None:
    without = {key: value for key, value in DATA.items() if key != TIP}
    assert finding(without) == Finding(6, "the state at the tip is missing")
    unreadable = finding(DATA | {TIP: b"garbage"})
    assert unreadable is not None
    assert unreadable.height == 6
    assert "the state at the tip is damaged on disk" in unreadable.reason
    older = run(DATA | {TIP: b"garbage"})
    assert len([item for item in older if isinstance(item, State)]) == len(CERTIFIED)


def test_a_state_that_runs_behind_or_ahead_is_found() -> None:
    behind = ChainBuilder(n=4, c=1, k=3).state
    assert finding(DATA | {TIP: behind.encode()}) == Finding(
        6, "the stored state is not the one that the blocks lead to"
    )
    ahead = replace(BUILDER.state, height=10**9)
    assert finding(DATA | {TIP: ahead.encode()}) == Finding(7, "there is no certificate for the batch that starts here")


def test_a_damaged_block_beyond_the_tip_is_found() -> None:
    found = finding(DATA | {height_key(b"b", 7): b"garbage"})
    assert found is not None
    assert found.height == 7


# --------------------------------------------------------------------------- changes that are made consistently


def test_a_rewritten_block_with_a_rewritten_certificate_still_fails() -> None:
    """A forger with every stored byte in hand but without the voters' keys."""
    key, certificate_key = height_key(b"b", 3), height_key(b"c", 3)
    block = Block.decode(DATA[key])
    assert isinstance(block.body, ModelBody)
    forged = replace(block, header=replace(block.header, time_ms=block.header.time_ms + 1))
    certificate = replace(Certificate.decode(DATA[certificate_key]), last_hash=forged.header.id())
    found = finding(DATA | {key: forged.encode(), certificate_key: certificate.encode()})
    assert found is not None
    assert found.height == 3
    assert "bad signature" in found.reason


def test_a_certified_block_with_a_wrong_root_is_found() -> None:
    """More than two thirds lied: the root is derived again and differs."""
    builder = ChainBuilder(n=4, c=1, k=3)
    blocks, state = builder.blocks(*builder.fill_slots())
    wrong = (*blocks[:-1], replace(blocks[-1], header=replace(blocks[-1].header, state_root=bytes(32))))
    builder.store.append(wrong, builder.certificate(wrong), state)
    assert isinstance(builder.store, MemoryStore)
    found = finding(builder.store.data)
    assert found == Finding(2, "block #2: the state root differs from the one re-derived (S1)")


def test_a_chain_of_another_genesis_is_found_at_block_zero() -> None:
    other = ChainBuilder(n=4, c=1, k=3, grace_ms=77)
    assert isinstance(other.store, MemoryStore)
    assert finding(other.store.data) == Finding(0, "#0 is not the block that genesis.json founds")


# ------------------------------------------------------------------------------------------------- the aggregate


def test_each_model_block_is_checked_with_the_state_before_it() -> None:
    asked: list[tuple[int, int, int]] = []

    def record(state: State, block: Block) -> str | None:
        asked.append((state.height, block.height, len(state.updates)))
        return None

    assert finding(dict(DATA), record) is None
    assert asked == [(0, 0, 0), (2, 3, 1), (5, 6, 2)]


@pytest.mark.parametrize("height", [0, 3, 6])
def test_a_wrong_aggregate_names_its_model_block(height: int) -> None:
    # R7
    def refuse(state: State, block: Block) -> str | None:
        return "the aggregate differs" if block.height == height else None

    assert finding(dict(DATA), refuse) == Finding(height, "the aggregate differs")


@pytest.mark.parametrize(
    ("key", "height"),
    [
        (height_key(b"b", 50), BUILDER.state.height),
        (height_key(b"c", 2), 2),
        (b"r" + bytes(32), BUILDER.state.height),
        (b"c", BUILDER.state.height),
        (b"x", BUILDER.state.height),
    ],
    ids=["block", "certificate", "index", "short", "unknown"],
)
def test_a_record_that_no_block_calls_for_is_found(key: bytes, height: int) -> None:
    """A certificate in the middle of a batch, or an index entry, changes what the peer serves to others."""
    assert height_key(b"c", 2) not in DATA
    found = finding(DATA | {key: b"anything"})
    assert found is not None
    assert found.height == height
    assert "no block calls for" in found.reason


def test_an_index_that_leads_elsewhere_or_nowhere_is_found() -> None:
    """B4: what the index does not name is served to nobody."""
    keys = [key for key in DATA if key.startswith(b"r")]
    for key in keys:
        for data in (DATA | {key: bytes(7) + b"\x63"}, {name: value for name, value in DATA.items() if name != key}):
            found = finding(data)
            assert found is not None
            assert key[1:9].hex() in found.reason
    assert len(keys) > 2

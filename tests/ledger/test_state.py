"""The state (S2): its entries, its root, its voters, and that every change shows in the root."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings

from ledger.keys import digest
from ledger.state import (
    ABSENT,
    ACTIVE,
    EJECTED,
    LEAVING,
    STATUS_NAMES,
    Accepted,
    Listed,
    Member,
    State,
    committee_hash,
    founding_members,
    get_voters,
    is_finished,
    seed_of_genesis,
    voters_hash,
)
from tests.ledger.helpers_ledger import ChainBuilder, make_document, make_params
from tests.ledger.strategies_ledger import records


def open_state() -> State:
    """A state in the middle of a round: one update accepted, the rest closed, one of them rejected."""
    builder = ChainBuilder(n=7, c=2, k=5)
    first, second, *_ = builder.trainers
    builder.append(*builder.fill_slots(accept=[first], reject=[second]))
    return builder.state


STATE = open_state()


# ---------------------------------------------------------------------------------------------------- entries


def test_each_thing_has_an_entry_of_its_own() -> None:
    keys = set(STATE.entries())
    assert {b"member/" + member.key for member in STATE.members} <= keys
    assert {b"listed/" + item.trainer for item in STATE.listed} <= keys
    assert {b"update/" + update.height.to_bytes(8, "big") for update in STATE.updates} <= keys
    assert b"round" in keys
    assert len(keys) == len(STATE.members) + len(STATE.listed) + len(STATE.updates) + 1


def test_an_entrys_value_is_its_records_canonical_bytes() -> None:
    entries = STATE.entries()
    member, update, listed = STATE.members[0], STATE.updates[0], STATE.listed[0]
    assert Member.decode(entries[b"member/" + member.key]) == member
    assert Accepted.decode(entries[b"update/" + update.height.to_bytes(8, "big")]) == update
    assert Listed.decode(entries[b"listed/" + listed.trainer]) == listed


def test_every_entry_has_a_proof_under_the_root() -> None:
    # S2: a weight score, a seat, a membership
    for key, value in STATE.entries().items():
        proof = STATE.prove(key)
        assert (proof.value, proof.root()) == (value, STATE.root())
    with pytest.raises(KeyError):
        STATE.prove(b"member/nobody")


MEMBER_CHANGES: list[dict[str, Any]] = [
    {"name": "other"},
    {"stake": 1},
    {"accepted": 99},
    {"rejected": 99},
    {"status": ABSENT},
    {"missed": 2},
    {"beacon_link": b"\x01" * 32},
    {"beacon_index": 3},
]


@pytest.mark.parametrize("changes", MEMBER_CHANGES, ids=lambda changes: str(next(iter(changes))))
def test_any_change_of_a_member_changes_the_root(changes: dict[str, Any]) -> None:
    member = STATE.members[2]
    assert STATE.with_members({member.key: replace(member, **changes)}).root() != STATE.root()


@pytest.mark.parametrize("name", ["members", "round", "updates", "listed"])
def test_any_change_of_the_rounds_content_changes_the_root(name: str) -> None:
    value = getattr(STATE, name)
    changed = replace(value, closed=0) if name == "round" else value[1:]
    assert replace(STATE, **{name: changed}).root() != STATE.root()


def test_the_position_is_the_headers_business_and_not_under_the_root() -> None:
    moved = replace(STATE, height=0, last_hash=bytes(32), time_ms=1, chain=bytes(32))
    assert moved.root() == STATE.root()
    assert {field.name for field in fields(State)} == {
        "chain", "height", "last_hash", "time_ms", "members", "round", "updates", "listed",
    }  # fmt: skip


@given(records(State))
@settings(max_examples=30)
def test_any_state_survives_its_bytes_with_the_same_root(state: State) -> None:
    assert State.decode(state.encode()).root() == state.root()


# ---------------------------------------------------------------------------------------------------- members


def test_a_member_is_found_by_its_key() -> None:
    member = STATE.members[1]
    assert STATE.member(member.key) == member
    assert STATE.member(bytes(32)) is None


def test_replacing_members_keeps_their_order() -> None:
    members = STATE.members
    changed = {members[3].key: replace(members[3], stake=9), members[0].key: replace(members[0], stake=8)}
    after = STATE.with_members(changed).members
    assert [member.key for member in after] == [member.key for member in members]
    assert [member.stake for member in after][:4] == [8, members[1].stake, members[2].stake, 9]


def test_founding_members_stand_in_order_of_key_with_their_tip() -> None:
    genesis = make_document(n=6)
    founders = founding_members(genesis)
    assert [member.key for member in founders] == sorted(member.member_key for member in genesis.members)
    by_key = {member.member_key: member for member in genesis.members}
    for founder in founders:
        document = by_key[founder.key]
        assert (founder.name, founder.stake) == (document.name, document.stake)
        assert (founder.beacon_link, founder.beacon_index) == (document.beacon_tip, genesis.params.beacon_links)
        assert (founder.status, founder.missed, founder.standing) == (ACTIVE, 0, 0)


def test_the_first_seed_is_the_hash_of_the_genesis_hash() -> None:
    # R9
    chain = make_document().chain_id
    assert seed_of_genesis(chain) == digest("seed", chain)


# ----------------------------------------------------------------------------------------------------- voters


def with_status(*statuses: int) -> State:
    """STATE with the first members' statuses set."""
    changed = {
        member.key: replace(member, status=status) for member, status in zip(STATE.members, statuses, strict=False)
    }
    return STATE.with_members(changed)


def test_absent_members_still_vote_and_those_who_left_do_not() -> None:
    # R6: only S4 changes the voters
    state = with_status(ABSENT, LEAVING, EJECTED, ACTIVE)
    expected = tuple(state.members[at].key for at in (0, 3, 4, 5, 6))
    assert get_voters(make_params(), state) == expected
    assert set(STATUS_NAMES) == {ACTIVE, ABSENT, LEAVING, EJECTED}


def test_with_voters_committee_the_committee_alone_votes_in_order_of_key() -> None:
    params = make_params(voters="committee", committee_size=2)
    assert get_voters(params, STATE) == tuple(sorted(STATE.round.committee))


def test_the_headers_hashes_cover_voters_and_committee() -> None:
    # S3
    params = make_params()
    assert voters_hash(params, STATE) == digest("voters", *get_voters(params, STATE))
    assert committee_hash(STATE) == digest("committee", *STATE.round.committee)
    assert voters_hash(params, with_status(LEAVING)) != voters_hash(params, STATE)
    turned = replace(STATE, round=replace(STATE.round, committee=STATE.round.committee[::-1]))
    assert committee_hash(turned) != committee_hash(STATE)  # the order of the draw counts: A2 proposes in it


@pytest.mark.parametrize(("round", "finished"), [(0, False), (7, False), (8, True), (9, True)])
def test_learning_is_finished_after_rounds_max_rounds(round: int, finished: bool) -> None:
    state = replace(STATE, round=replace(STATE.round, round=round))
    assert is_finished(make_params(rounds_max=8), state) is finished

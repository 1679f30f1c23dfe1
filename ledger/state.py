"""The state after a block (S2): members, the open round, what the round has decided so far, and its Merkle root.

Everything here is an integer, bytes or text; every entry has a key of its own, so any of them has a short proof.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated

from ledger.codec import Int, Items, Record, Text
from ledger.genesis import Genesis
from ledger.keys import digest
from ledger.merkle import Proof, merkle_root, prove
from ledger.params import Params
from ledger.types import (
    COMMITTEE_MAX,
    MEMBERS_MAX,
    SLOTS_MAX,
    BlobRef,
    Count,
    Hash,
    Height,
    Key,
    MaybeHash,
    Millionths,
    Millis,
    Round,
    keys_hash,
)

ACTIVE, ABSENT, LEAVING, EJECTED = 0, 1, 2, 3
STATUS_NAMES = {ACTIVE: "active", ABSENT: "absent", LEAVING: "leaving", EJECTED: "ejected"}


@dataclass(frozen=True, slots=True)
class Member(Record):
    """An organisation on chain. Standing = accepted - rejected (R9); `missed` counts due rounds in a row in which it
    was absent (R6); `beacon_link` stands at `beacon_index` of its hash chain (R9)."""

    key: Key
    name: Annotated[str, Text(64)]
    stake: Count
    accepted: Count
    rejected: Count
    status: Annotated[int, Int(ACTIVE, EJECTED)]
    missed: Count
    beacon_link: Hash
    beacon_index: Count

    @property
    def standing(self) -> int:
        return self.accepted - self.rejected


@dataclass(frozen=True, slots=True)
class RoundState(Record):
    """The open round: its beacon seed, committee and trainers (by key order of the draw), the model it starts from,
    and whether its slots were closed without being filled (R6)."""

    round: Round
    seed: Hash
    committee: Annotated[tuple[Key, ...], Items(COMMITTEE_MAX)]
    trainers: Annotated[tuple[Key, ...], Items(SLOTS_MAX)]
    model: BlobRef
    closed: Annotated[int, Int(0, 1)]


ScorerBits = Annotated[int, Int(0, 2**COMMITTEE_MAX - 1)]


@dataclass(frozen=True, slots=True)
class Accepted(Record):
    """An accepted update of the open round with its value and weight score (R4). Bit i of `scorers` says that a score
    of the i-th committee member is listed (R6)."""

    height: Height
    trainer: Key
    offer: Hash
    update: BlobRef
    codec: Annotated[str, Text(32)]
    value: Millionths
    weight: Count
    reveal: Hash
    scorers: ScorerBits


REJECTED, UNDECIDED, NONE = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Listed(Record):
    """A trainer without an accepted update, as the close listed it; where there is no offer, `offer` is empty and
    `reveal` all zero."""

    trainer: Key
    outcome: Annotated[int, Int(REJECTED, NONE)]
    offer: MaybeHash
    reveal: Hash
    scorers: ScorerBits


@dataclass(frozen=True, slots=True)
class State(Record):
    """The whole state at a height, as it is stored; `root` covers all of it but the position (which the header has)."""

    chain: Hash
    height: Height
    last_hash: Hash
    time_ms: Millis
    members: Annotated[tuple[Member, ...], Items(MEMBERS_MAX)]
    round: RoundState
    updates: Annotated[tuple[Accepted, ...], Items(SLOTS_MAX)]
    listed: Annotated[tuple[Listed, ...], Items(SLOTS_MAX)]

    def member(self, key: bytes) -> Member | None:
        """The member with this key, if there is one."""
        return next((member for member in self.members if member.key == key), None)

    def with_members(self, changed: dict[bytes, Member]) -> "State":
        """This state with some members replaced, the order by key kept."""
        return replace(self, members=tuple(changed.get(member.key, member) for member in self.members))

    def entries(self) -> dict[bytes, bytes]:
        """Key and canonical value of each entry under the root (S2, docs/format.md)."""
        entries = {b"member/" + member.key: _encoded(member) for member in self.members}
        entries[b"round"] = _encoded(self.round)
        entries.update({b"update/" + update.height.to_bytes(8, "big"): _encoded(update) for update in self.updates})
        entries.update({b"listed/" + item.trainer: _encoded(item) for item in self.listed})
        return entries

    def root(self) -> bytes:
        """The Merkle root over all entries (S2)."""
        return merkle_root(self.entries())

    def prove(self, key: bytes) -> Proof:
        """The proof of one entry; raises `KeyError` when there is none."""
        return prove(self.entries(), key)


@lru_cache(maxsize=16_384)
def _encoded(record: Record) -> bytes:
    return record.encode()


def get_voters(params: Params, state: State) -> tuple[bytes, ...]:
    """Who makes the next block final, in order of key: all members that have not left or been ejected, absent ones
    included (R6), or the committee alone (genesis `voters`)."""
    if params.voters == "committee":
        return tuple(sorted(state.round.committee))
    return tuple(member.key for member in state.members if member.status in (ACTIVE, ABSENT))


def voters_hash(params: Params, state: State) -> bytes:
    """The header's hash of the next block's voters (S3)."""
    return keys_hash("voters", get_voters(params, state))


def committee_hash(state: State) -> bytes:
    """The header's hash of the next block's committee, in the order of the draw (S3)."""
    return keys_hash("committee", state.round.committee)


def is_finished(params: Params, state: State) -> bool:
    """Whether the last round's model is final: learning has ended (genesis `rounds_max`)."""
    return state.round.round >= params.rounds_max


def seed_of_genesis(chain_id: bytes) -> bytes:
    """seed_0 = H(genesis hash) (R9)."""
    return digest("seed", chain_id)


def founding_members(genesis: Genesis) -> tuple[Member, ...]:
    """The members that the genesis document names, in order of key."""
    links = genesis.params.beacon_links
    members = [Member(m.member_key, m.name, m.stake, 0, 0, ACTIVE, 0, m.beacon_tip, links) for m in genesis.members]
    return tuple(sorted(members, key=lambda member: member.key))

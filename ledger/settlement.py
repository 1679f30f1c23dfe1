"""The end of a round: standing, attendance, beacon, seed and the next committee (R6, R9)."""

from dataclasses import replace

from ledger.election import draw_trainers, elect_committee, next_seed
from ledger.genesis import Genesis
from ledger.keys import digest
from ledger.params import Params
from ledger.state import (
    ABSENT,
    ACTIVE,
    NONE,
    REJECTED,
    Accepted,
    Member,
    RoundState,
    State,
    committee_hash,
    founding_members,
    seed_of_genesis,
    voters_hash,
)
from ledger.types import NO_LINK, VERSION, Block, Header, ModelBody, body_root


def process_round_end(params: Params, state: State, body: ModelBody) -> State:
    """Settle the members, elect C_(t+1), draw its trainers, open round t+1 (R9)."""
    reveals = get_reveals(state)
    members = tuple(_settled(params, state, member, reveals, body) for member in state.members)
    round = state.round.round + 1
    had = replace(state, updates=get_had(state, body))
    committee = elect_committee(params, had, members, round)
    trainers = draw_trainers(params, members, committee, state.round.seed, round)
    seed = next_seed(state.round.seed, reveals.items())
    opened = RoundState(round, seed, committee, trainers, body.model, 0)
    return replace(state, members=members, round=opened, updates=(), listed=())


def get_had(state: State, body: ModelBody) -> tuple[Accepted, ...]:
    """The accepted updates that the model could have: one listed as missing weighs 0 and earns nothing (R7), neither a
    seat nor standing."""
    return tuple(update for update in state.updates if update.height not in body.missing)


def get_reveals(state: State) -> dict[bytes, bytes]:
    """The beacon links that the round's listed offers revealed, by member key (R9)."""
    reveals = {update.trainer: update.reveal for update in state.updates}
    reveals.update({item.trainer: item.reveal for item in state.listed if item.reveal != NO_LINK})
    return reveals


def get_absent(state: State) -> set[bytes]:
    """Who was due in the round and did not come: a trainer listed with `none`; a committee member without any score
    where another's is listed (R6)."""
    absent = {item.trainer for item in state.listed if item.outcome == NONE}
    scorers = get_scorers(state)
    return absent | (set(state.round.committee) - scorers if scorers else set())


def get_scorers(state: State) -> set[bytes]:
    """The committee members with a listed score in the open round (R6)."""
    bits = [update.scorers for update in state.updates] + [item.scorers for item in state.listed]
    committee = enumerate(state.round.committee)
    return {member for place, member in committee if any(listed >> place & 1 for listed in bits)}


def _settled(params: Params, state: State, member: Member, reveals: dict[bytes, bytes], body: ModelBody) -> Member:
    accepted = sum(update.trainer == member.key for update in get_had(state, body))
    rejected = sum(item.trainer == member.key and item.outcome == REJECTED for item in state.listed)
    member = _attended(params, state, member)
    if member.status == ABSENT and any(present.member == member.key for present in body.present):
        member = replace(member, status=ACTIVE, missed=0)
    if member.key in reveals:
        index = params.beacon_links - 1 - state.round.round
        member = replace(member, beacon_link=reveals[member.key], beacon_index=index)
    return replace(member, accepted=member.accepted + accepted, rejected=member.rejected + rejected)


def _attended(params: Params, state: State, member: Member) -> Member:
    scored = bool(get_scorers(state))
    due = member.key in state.round.trainers or (member.key in state.round.committee and scored)
    if not due:
        return member
    missed = member.missed + 1 if member.key in get_absent(state) else 0
    away = missed >= params.absent_after and member.status == ACTIVE
    return replace(member, missed=missed, status=ABSENT if away else member.status)


def make_genesis(genesis: Genesis) -> tuple[Block, State]:
    """#0, the genesis model block with the initial model, and the state after it: round 0 is open (H2)."""
    chain, params = genesis.chain_id, genesis.params
    members = founding_members(genesis)
    seed = seed_of_genesis(chain)
    nobody = RoundState(0, seed, (), (), genesis.initial_model, 0)
    before = State(chain, 0, chain, genesis.time_ms, members, nobody, (), ())
    committee = elect_committee(params.model_copy(update={"election": "draw"}), before, members, 0)
    trainers = draw_trainers(params, members, committee, seed, 0)
    state = replace(before, round=replace(nobody, committee=committee, trainers=trainers))
    body = ModelBody(genesis.initial_model, (), (), ())
    header = Header(
        VERSION,
        chain,
        0,
        body.TAG,
        0,
        digest("genesis-parent"),
        genesis.time_ms,
        members[0].key,
        body_root(body),
        state.root(),
        voters_hash(params, state),
        committee_hash(state),
    )
    return Block(header, body), replace(state, last_hash=header.id())

"""Who sits on the committee and who trains (R9): a draw by tickets that nobody can grind, or BFLC's best scores."""

from collections.abc import Iterable, Sequence

from ledger.keys import digest
from ledger.params import Params
from ledger.state import ABSENT, ACTIVE, Member, State


def ticket(purpose: str, seed: bytes, round: int, member: bytes) -> bytes:
    """H(purpose, seed, round, member key): the lowest tickets win."""
    return digest(f"ticket-{purpose}", seed, round.to_bytes(8, "big"), member)


def next_seed(seed: bytes, reveals: Iterable[tuple[bytes, bytes]]) -> bytes:
    """seed_(t+1) = H(seed_t, links of round t's listed offers by member key); `reveals` are (member key, link)."""
    return digest("seed", seed, *(link for _, link in sorted(reveals)))


def _by_standing(members: Iterable[Member]) -> list[bytes]:
    return [member.key for member in sorted(members, key=lambda member: (-member.standing, member.key))]


def _fill(chosen: list[bytes], members: Sequence[Member], sitting: Sequence[bytes], c: int) -> tuple[bytes, ...]:
    """Too few: the others by standing (active ones first), and only then those who sit now (R9)."""
    present = [member for member in members if member.status == ACTIVE]
    away = [member for member in members if member.status == ABSENT]
    for group, sits in ((present, False), (away, False), (present, True), (away, True)):
        pool = [member for member in group if (member.key in sitting) is sits and member.key not in chosen]
        chosen = chosen + _by_standing(pool)[: max(0, c - len(chosen))]
    return tuple(chosen[:c])


def draw_committee(
    params: Params, members: Sequence[Member], sitting: Sequence[bytes], seed: bytes, round: int
) -> tuple[bytes, ...]:
    """Policy `draw`: the lowest tickets among all active members outside the sitting committee."""
    eligible = [member.key for member in members if member.status == ACTIVE and member.key not in sitting]
    drawn = sorted(eligible, key=lambda key: ticket("committee", seed, round, key))[: params.committee_size]
    return _fill(drawn, members, sitting, params.committee_size)


def elect_committee(params: Params, state: State, members: Sequence[Member], round: int) -> tuple[bytes, ...]:
    """C_`round` at the end of the round before it; `members` are those after the round's settlement (R9). The seed
    is the one that was fixed before the ending round opened."""
    sitting = state.round.committee
    if params.election == "draw":
        return draw_committee(params, members, sitting, state.round.seed, round)
    active = {member.key for member in members if member.status == ACTIVE and member.key not in sitting}
    scored = sorted(
        (update for update in state.updates if update.trainer in active), key=lambda u: (-u.weight, u.trainer)
    )
    best = [update.trainer for update in scored][: params.committee_size]
    return _fill(best, members, sitting, params.committee_size)


def draw_trainers(
    params: Params, members: Sequence[Member], committee: Sequence[bytes], seed: bytes, round: int
) -> tuple[bytes, ...]:
    """Round's trainers: all active members outside its committee, or the k-1 lowest tickets where there are more."""
    able = [member.key for member in members if member.status == ACTIVE and member.key not in committee]
    slots = params.round_length - 1
    if len(able) <= slots:
        return tuple(able)
    return tuple(sorted(sorted(able, key=lambda key: ticket("trainer", seed, round, key))[:slots]))

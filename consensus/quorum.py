"""How many voters are enough (A1), and the votes of one instance, bounded whatever the voters send (A4)."""

from collections.abc import Iterable, Iterator, Set

from ledger.certificate import is_quorum
from ledger.types import NO_HASH, PRECOMMIT, PREVOTE, Proposal, Vote

ROUND_AHEAD_MAX = 16
ROUND_BEHIND_MAX = 16

Value = tuple[int, bytes]
NIL: Value = (0, NO_HASH)


def has_honest(count: int, total: int) -> bool:
    """Whether `count` of `total` voters are more than 1/3: the f+1 of Algorithm 1, at least one of them honest."""
    return 3 * count > total


def value_of(message: Vote | Proposal) -> Value:
    """What a vote or proposal is for: (last height, last hash). Both are signed, so both tell values apart."""
    return message.last_height, message.last_hash


class Slot:
    """The votes of one (round, step): the first of each voter, and of an equivocator also its vote for a value that
    more than 1/3 of the voters chose first.

    Algorithm 1 counts messages for a value. Were an equivocator's second vote not counted, it could complete a polka
    at one voter and hide it from the others for good, and the lock there would stop the chain (A4). At most two values
    have that many first votes, so a voter takes up to three places here.
    """

    __slots__ = ("_conflicted", "_first", "_of", "_total", "quorum")

    def __init__(self, total: int) -> None:
        self._total = total
        self._first: dict[bytes, Vote] = {}
        self._of: dict[Value, dict[bytes, Vote]] = {}
        self._conflicted: set[bytes] = set()
        self.quorum: Value | None = None

    def __iter__(self) -> Iterator[Vote]:
        for votes in self._of.values():
            yield from votes.values()

    @property
    def senders(self) -> Set[bytes]:
        """The distinct voters that voted here, for whatever."""
        return self._first.keys()

    def votes(self, value: Value) -> list[Vote]:
        """The votes for `value`."""
        return list(self._of.get(value, {}).values())

    def is_backed(self, value: Value) -> bool:
        """Whether an honest voter is among those whose first vote is for `value`."""
        return has_honest(sum(value_of(vote) == value for vote in self._first.values()), self._total)

    def is_polka(self, value: Value) -> bool:
        """Whether more than 2/3 of the voters voted for `value`."""
        return is_quorum(len(self._of.get(value, {})), self._total)

    def wants(self, vote: Vote) -> bool:
        """Whether `add` would keep this vote, or learn from it that its voter equivocates."""
        first = self._first.get(vote.voter)
        if first is None:
            return True
        value = value_of(vote)
        if value == value_of(first) or vote.voter in self._of.get(value, {}):
            return False
        return vote.voter not in self._conflicted or self.is_backed(value)

    def add(self, vote: Vote) -> Vote | None:
        """Keep the vote; the voter's first one when, for the first time, it contradicts this one (A7)."""
        value = value_of(vote)
        first = self._first.setdefault(vote.voter, vote)
        conflicts = value_of(first) != value
        if conflicts and not self.is_backed(value):
            return self._conflict(first)
        votes = self._of.setdefault(value, {})
        votes.setdefault(vote.voter, vote)
        if self.quorum is None and is_quorum(len(votes), self._total):
            self.quorum = value
        return self._conflict(first) if conflicts else None

    def _conflict(self, first: Vote) -> Vote | None:
        if first.voter in self._conflicted:
            return None
        self._conflicted.add(first.voter)
        return first


class VoteBook:
    """The votes of one instance. Kept are the rounds near `round`, some older ones that the caller names, of each voter
    the latest round further ahead, and my own votes that are not nil (a polka of old may need them again)."""

    def __init__(self, voters: Iterable[bytes], me: bytes) -> None:
        self.heard: dict[bytes, int] = {}
        self._voters = frozenset(voters)
        self._me = me
        self._round = 0
        self._kept: frozenset[int] = frozenset()
        self._slots: dict[tuple[int, int], Slot] = {}
        self._far: dict[bytes, list[Vote]] = {}
        self._mine: dict[int, list[Vote]] = {}

    def __iter__(self) -> Iterator[Vote]:
        for slot in self._slots.values():
            yield from slot
        for votes in self._far.values():
            yield from votes

    @property
    def total(self) -> int:
        return len(self._voters)

    def slot(self, round: int, step: int) -> Slot:
        """The votes of one round and step, maybe none."""
        return self._slots.get((round, step)) or Slot(self.total)

    def quorums(self, step: int) -> list[tuple[int, Value]]:
        """The (round, value) with more than 2/3 of the votes in `step`, by round; nil is a value too."""
        found = ((round, slot.quorum) for (round, at), slot in self._slots.items() if at == step)
        return sorted((round, value) for round, value in found if value is not None)

    def is_backed(self, round: int, value: Value) -> bool:
        """Whether an honest voter is among those who voted first for `value` in a step of `round`."""
        return any(self.slot(round, step).is_backed(value) for step in (PREVOTE, PRECOMMIT))

    def hear(self, voter: bytes, round: int) -> None:
        """Note that `voter` has reached `round` (L55)."""
        if voter in self._voters:
            self.heard[voter] = max(round, self.heard.get(voter, -1))

    def skip_round(self) -> int:
        """The highest round that more than 1/3 of the voters have reached, -1 if that few were heard (L55)."""
        rounds = sorted(self.heard.values(), reverse=True)
        return rounds[self.total // 3] if has_honest(len(rounds), self.total) else -1

    def is_passed(self, round: int, step: int) -> bool:
        """Whether more than 2/3 of the voters voted in this step or are known to be past it (L34, L47).

        Algorithm 1 counts the step's votes alone, since there no message is ever lost. Here the one that took a voter
        to a later round may have died with a process; it votes here no more, and to wait for it would be to hang.
        """
        later = {voter for voter, reached in self.heard.items() if reached > round}
        here = (self.slot(round, at).senders for at in range(step, PRECOMMIT + 1))
        return is_quorum(len(later.union(*here)), self.total)

    def wants(self, vote: Vote) -> bool:
        """Whether `add` would keep this vote or learn from it."""
        if self.is_ahead(vote.round):
            return self._wants_far(vote)
        return self.keeps(vote.round) and self.slot(vote.round, vote.step).wants(vote)

    def add(self, vote: Vote) -> Vote | None:
        """Keep the vote if its round is kept; the voter's earlier one when the two conflict for the first time (A7)."""
        self.hear(vote.voter, vote.round)
        if self.is_ahead(vote.round):
            self._add_far(vote)
            return None
        if vote.voter == self._me and value_of(vote) != NIL:
            self._remember(vote)
        if not self.keeps(vote.round):
            return None
        return self._slots.setdefault((vote.round, vote.step), Slot(self.total)).add(vote)

    def is_ahead(self, round: int) -> bool:
        """Whether `round` is too far ahead to keep more of it than each voter's latest."""
        return round > self._round + ROUND_AHEAD_MAX

    def keeps(self, round: int) -> bool:
        """Whether all votes of `round` are kept."""
        near = self._round - ROUND_BEHIND_MAX <= round <= self._round + ROUND_AHEAD_MAX
        return near or round in self._kept

    def advance(self, round: int, kept: Iterable[int]) -> None:
        """Move to `round`: of the rounds left behind keep `kept` (with my own votes of them), forget the others."""
        self._round, self._kept = round, frozenset(kept)
        self._slots = {key: slot for key, slot in self._slots.items() if self.keeps(key[0])}
        back = [vote for old in self._kept for vote in self._mine.get(old, ())]
        near = [vote for votes in self._far.values() for vote in votes if not self.is_ahead(vote.round)]
        self._far = {voter: votes for voter, votes in self._far.items() if self.is_ahead(votes[0].round)}
        for vote in (*back, *near):
            self.add(vote)

    def _remember(self, vote: Vote) -> None:
        mine = self._mine.setdefault(vote.round, [])
        if all(vote.step != other.step for other in mine):
            mine.append(vote)

    def _wants_far(self, vote: Vote) -> bool:
        held = self._far.get(vote.voter, [])
        if not held or held[0].round != vote.round:
            return not held or held[0].round < vote.round
        return all(other.step != vote.step for other in held)

    def _add_far(self, vote: Vote) -> None:
        if not self._wants_far(vote):
            return
        held = self._far.setdefault(vote.voter, [])
        if held and held[0].round < vote.round:
            held.clear()
        held.append(vote)

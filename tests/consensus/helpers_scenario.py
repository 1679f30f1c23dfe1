"""Runs agreement scenarios written as text: one member under test with its real signer, the full trace of each step.

A file is a list of steps, a blank line between them: a command, `----`, and the expected lines. Batches have names
(X is invalid), `-` is nil. What the member signs comes back to it at once and its actions follow in the trace.

Commands::

    voters 4 me 1 [observer]          members 0..3 take turns as proposers; I am member 1
    begin | wake | restart            restart: everything but the signer's log is lost
    propose A                         the core's answer to `want`
    proposal 0 A [valid 0]            of the proposer of round 0
    prevote 0 A from 2 3              (precommit likewise)
    fresh A yes | no
    timeout propose 0
    may-vote yes | no
    state | held
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from consensus.actions import (
    Action,
    AskFresh,
    Batch,
    Conflict,
    Decide,
    Disputed,
    Rejected,
    SaveLock,
    SetTimeout,
    SignProposal,
    SignVote,
    WantBatch,
    batch_value,
)
from consensus.agreement import Agreement
from consensus.quorum import NIL, Value, value_of
from consensus.signer import Identity, Signer, SignerState
from ledger.codec import Record
from ledger.types import PRECOMMIT, PREVOTE, ProposedBatch, Vote
from tests.consensus.helpers_agreement import CHAIN, INSTANCE, TIMEOUTS, batch, key, member, members, proposal, vote

NAMES = ("A", "B", "C", "D", "X")
STEP_NAMES = {PREVOTE: "prevote", PRECOMMIT: "precommit"}
STEP_NUMBERS = {name: step for step, name in STEP_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a scenario with the trace that it must leave."""

    line: int
    command: str
    expected: tuple[str, ...]


def parse(text: str) -> Iterator[Step]:
    """The steps of a scenario file; lines that begin with # are comments."""
    lines = [line.rstrip() for line in text.splitlines()]
    at = 0
    while at < len(lines):
        if not lines[at] or lines[at].startswith("#"):
            at += 1
            continue
        end = next((i for i in range(at, len(lines)) if not lines[i]), len(lines))
        if at + 1 >= len(lines) or lines[at + 1] != "----":
            raise ValueError(f"line {at + 1}: a command is followed by ----")
        yield Step(at + 1, lines[at], tuple(lines[at + 2 : end]))
        at = end


def name_of(found: Value) -> str:
    if found == NIL:
        return "-"
    return next(name for name in NAMES if batch_value(batch(name)) == found)


def name_of_blocks(blocks: Batch | None) -> str:
    return "-" if blocks is None else name_of(batch_value(blocks))


def is_valid(blocks: Batch) -> bool:
    return name_of_blocks(blocks) != "X"


@dataclass
class Scenario:
    """The member under test; `run` performs one command and returns its trace."""

    count: int = 0
    me: int = 0
    may_vote: bool = True
    log: list[Record] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def run(self, command: str) -> tuple[str, ...]:
        self.trace = []
        name, *words = command.split()
        commands: dict[str, Callable[..., list[Action]]] = {
            "voters": self._voters,
            "restart": self._restart,
            "begin": lambda: self.agreement.begin(),
            "wake": lambda: self.agreement.wake(),
            "propose": lambda name: self.agreement.propose(batch(name)),
            "proposal": self._proposal,
            "prevote": lambda *words: self._votes(PREVOTE, *words),
            "precommit": lambda *words: self._votes(PRECOMMIT, *words),
            "fresh": lambda name, answer: self.agreement.fresh(batch(name)[-1].header.id(), answer == "yes"),
            "timeout": lambda step, round: self.agreement.timeout(step, int(round)),
            "may-vote": lambda answer: self.agreement.set_may_vote(answer == "yes"),
            "state": self._state,
            "held": self._held,
        }
        self._do(commands[name](*words))
        return tuple(self.trace)

    def _voters(self, count: str, _me: str, me: str, observer: str = "") -> list[Action]:
        self.count, self.me, self.may_vote = int(count), int(me), not observer
        self.log = [Identity(member(self.me))]
        return self._restart()

    def _restart(self) -> list[Action]:
        self.signer = Signer(key(self.me), SignerState.replay(self.log))
        self.agreement = Agreement(
            chain=CHAIN,
            instance=INSTANCE,
            voters=members(self.count),
            proposer_of=lambda round: member(round % self.count),
            me=member(self.me),
            may_vote=self.may_vote,
            timeouts=TIMEOUTS,
            valid=is_valid,
            resume=self.signer.resume(INSTANCE),
        )
        return []

    def _proposal(self, round: str, name: str, _valid: str = "", valid_round: str = "-1") -> list[Action]:
        return self.agreement.proposal(proposal(int(round) % self.count, int(round), name, int(valid_round)))

    def _votes(self, step: int, round: str, name: str, _from: str, *voters: str) -> list[Action]:
        for voter in voters:
            self._do(self.agreement.vote(vote(int(voter), int(round), step, name)))
        return []

    def _state(self) -> list[Action]:
        at = self.agreement
        locked = f"locked {at.locked_round} {name_of_blocks(at.locked_blocks)}"
        valid = f"valid {at.valid_round} {name_of_blocks(at.valid_blocks)}"
        started = "started" if at.started else "not started"
        self.trace.append(f"{started}, round {at.round} {at.step}, {locked}, {valid}")
        return []

    def _held(self) -> list[Action]:
        for message in self.agreement.messages():
            self.trace.append(self._describe(message))
        self.trace.sort()
        return []

    def _describe(self, message: Vote | ProposedBatch) -> str:
        if isinstance(message, ProposedBatch):
            return f"proposal {message.proposal.round} {name_of(value_of(message.proposal))}"
        voter = next(index for index in range(self.count) if member(index) == message.voter)
        return f"{STEP_NAMES[message.step]} {message.round} {name_of(value_of(message))} from {voter}"

    def _do(self, actions: list[Action]) -> None:
        """Write down each action; sign what is to be signed and hand it back."""
        for action in actions:
            match action:
                case SignVote(round, step, height, last_hash):
                    self.trace.append(f"sign {STEP_NAMES[step]} {round} {name_of((height, last_hash))}")
                    signed, record = self.signer.vote(CHAIN, INSTANCE, round, step, height, last_hash)
                    self._keep(record)
                    self._do([] if signed is None else self.agreement.vote(signed))
                case SignProposal(round, valid_round, blocks):
                    self.trace.append(f"sign proposal {round} {name_of_blocks(blocks)} valid {valid_round}")
                    proposed, kept = self.signer.proposal(CHAIN, INSTANCE, round, valid_round, blocks)
                    self._keep(kept)
                    self._do([] if proposed is None else self.agreement.proposal(proposed))
                case SaveLock():
                    self._keep(self.signer.save_lock(INSTANCE, action))
                    locked = f"{action.locked_round} {name_of_blocks(action.locked_blocks)}"
                    valid = f"{action.valid_round} {name_of_blocks(action.valid_blocks)}"
                    self.trace.append(f"save locked {locked} valid {valid}")
                case WantBatch(round):
                    self.trace.append(f"want batch {round}")
                case AskFresh(round, blocks):
                    self.trace.append(f"ask fresh {round} {name_of_blocks(blocks)}")
                case SetTimeout(name, round, after_ms):
                    self.trace.append(f"set {name} {round} {after_ms} ms")
                case Decide(blocks, certificate):
                    signers = {one.voter for one in certificate.precommits}
                    by = " ".join(str(index) for index in range(self.count) if member(index) in signers)
                    self.trace.append(f"decide {name_of_blocks(blocks)} in round {certificate.round} by {by}")
                case Conflict(first, second):
                    self.trace.append(f"conflict {name_of(value_of(first))} {name_of(value_of(second))}")
                case Rejected(reason):
                    self.trace.append(f"rejected: {reason}")
                case Disputed(round, blocks):
                    self.trace.append(f"disputed {round} {name_of_blocks(blocks)}")

    def _keep(self, record: Record | None) -> None:
        if record is not None:
            self.log.append(record)

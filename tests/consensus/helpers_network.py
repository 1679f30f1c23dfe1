"""A network of agreements with real signers under a seeded adversary: loss, duplication, any order, crashes at any
action, and f voters that sign whatever they like. `chaos` lets it rule, `calm` is the time after it stops."""

import random
from dataclasses import dataclass, field

from consensus.actions import (
    STEPS,
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
from consensus.signer import Identity, Signer, SignerState
from ledger.codec import Record
from ledger.types import PRECOMMIT, PREVOTE, Certificate, ProposedBatch, Vote
from tests.consensus.helpers_agreement import CHAIN, INSTANCE, TIMEOUTS, batch, key, member, members, proposal, vote

Message = Vote | ProposedBatch
NAMES = ("A", "B", "C", "D", "X")
CALM_TIMEOUTS_MAX = 400


def is_valid(blocks: Batch) -> bool:
    return blocks[-1] != batch("X")[-1]


class Crash(Exception):
    """The process is killed between two actions."""


@dataclass
class Peer:
    """One honest voter: its agreement, its signer's log, its timers and the answers that it still owes itself."""

    index: int
    count: int
    random: random.Random
    log: list[Record] = field(default_factory=list)
    timers: list[tuple[int, str, int]] = field(default_factory=list)
    owed: list[WantBatch | AskFresh] = field(default_factory=list)
    signed: dict[tuple[int, int], Vote] = field(default_factory=dict)
    outbox: list[Message] = field(default_factory=list)
    decided: Decide | None = None
    now_ms: int = 0
    crash_odds: float = 0.0

    def __post_init__(self) -> None:
        self.log.append(Identity(member(self.index)))
        self.restart()

    def restart(self) -> None:
        """Everything but the log is lost; a decision is on disk as the final batch that it is."""
        self.signer = Signer(key(self.index), SignerState.replay(self.log))
        self.timers, self.owed, self.outbox = [], [], []
        self.agreement = Agreement(
            chain=CHAIN,
            instance=INSTANCE,
            voters=members(self.count),
            proposer_of=lambda round: member(round % self.count),
            me=member(self.index),
            may_vote=True,
            timeouts=TIMEOUTS,
            valid=is_valid,
            resume=self.signer.resume(INSTANCE),
        )
        self.do(self.agreement.begin())
        self.do(self.agreement.wake())

    def do(self, actions: list[Action]) -> None:
        try:
            self._do(actions)
        except Crash:
            self.restart()

    @property
    def is_past(self) -> bool:
        """Whether it decided before it was killed."""
        return self.decided is not None and self.agreement.decided is None

    def receive(self, message: Message, honest: bool) -> None:
        wanted = self.agreement.wants(message)
        deliver = self.agreement.vote if isinstance(message, Vote) else self.agreement.proposal
        actions = deliver(message)  # type: ignore[arg-type]
        refused = any(isinstance(action, Rejected) for action in actions)
        assert wanted or refused or not actions, "a message that is not wanted does nothing"
        assert not (honest and refused), "what an honest voter passes on is not refused"
        self.do(actions)

    def answer(self, name: str, ok: bool) -> None:
        if self.owed:
            match self.owed.pop(0):
                case WantBatch():
                    self.do(self.agreement.propose(batch(name)))
                case AskFresh(_, blocks):
                    self.do(self.agreement.fresh(blocks[-1].header.id(), ok))

    def fire(self, place: int) -> None:
        due_ms, step, round = self.timers.pop(place)
        self.now_ms = max(self.now_ms, due_ms)
        self.do(self.agreement.timeout(step, round))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            if self.random.random() < self.crash_odds:
                raise Crash
            match action:
                case SignVote(round, step, height, last_hash):
                    self._vote(round, step, height, last_hash)
                case SignProposal(round, valid_round, blocks):
                    proposed, record = self.signer.proposal(CHAIN, INSTANCE, round, valid_round, blocks)
                    self.log += [record] if record else []
                    if proposed is not None:
                        self.outbox.append(proposed)
                        self._do(self.agreement.proposal(proposed))
                case SaveLock():
                    saved = self.signer.save_lock(INSTANCE, action)
                    self.log += [saved] if saved else []
                case WantBatch() | AskFresh():
                    self.owed.append(action)
                case SetTimeout(name, round, after_ms):
                    assert name in STEPS
                    self.timers.append((self.now_ms + after_ms, name, round))
                case Decide():
                    assert self.decided is None or self.decided.blocks == action.blocks
                    self.decided = action
                case Conflict(first, second):
                    honest = members(self.count - (self.count - 1) // 3)
                    assert first.author() == second.author()
                    assert first.author() not in honest, "an honest voter is blamed"
                case Disputed():
                    raise AssertionError("a quorum for an invalid batch")

    def _vote(self, round: int, step: int, height: int, last_hash: bytes) -> None:
        vote, record = self.signer.vote(CHAIN, INSTANCE, round, step, height, last_hash)
        self.log += [record] if record else []
        if vote is None:
            return
        assert self.signed.setdefault((vote.round, vote.step), vote) == vote, "two votes for one slot"
        self.outbox.append(vote)
        self._do(self.agreement.vote(vote))


class Network:
    """`count` voters of which the last f = (count - 1) // 3 are the adversary's."""

    def __init__(self, count: int, seed: int, crash_odds: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.count = count
        self.bad = range(count - (count - 1) // 3, count)
        self.peers = [Peer(index, count, self.random) for index in range(self.bad.start)]
        self.crash_odds = crash_odds
        self.flying: list[tuple[Peer, Message, bool]] = []

    def chaos(self, events: int) -> None:
        """The adversary delivers, drops, doubles, fires timers early, kills, and signs for its voters."""
        for peer in self.peers:
            peer.crash_odds = self.crash_odds
        for _ in range(events):
            peer = self.random.choice(self.peers)
            self._event(peer, self.random.random())
            self._collect(self.random.random() < 0.9)
            self.check()
        for peer in self.peers:
            peer.crash_odds = 0.0

    def restart_all(self) -> None:
        """A power cut: what was only in memory or on the way is gone, the adversary's messages too."""
        self.flying = []
        for peer in self.peers:
            peer.restart()

    def calm(self) -> None:
        """The adversary is silent; everything held is passed on, and timers fire in the order of their time. Who
        decided and was killed serves its final batch: sync is not agreement's business, so it ends the run (Y1)."""
        self.flying = []
        for _ in range(CALM_TIMEOUTS_MAX):
            self._settle()
            if all(peer.decided for peer in self.peers) or any(peer.is_past for peer in self.peers):
                return
            waiting = [peer for peer in self.peers if peer.timers and not peer.decided]
            assert waiting, "nobody waits for anything: the instance hangs"
            peer = min(waiting, key=lambda peer: min(peer.timers))
            now_ms = min(peer.timers)[0]
            peer.fire(peer.timers.index(min(peer.timers)))
            for other in self.peers:
                other.now_ms = max(other.now_ms, now_ms)
            self.check()
        raise AssertionError("no decision after the adversary stopped")

    def check(self) -> None:
        """Agreement: no two decide differently, and each certificate holds."""
        decided = [peer.decided for peer in self.peers if peer.decided]
        assert len({batch_value(decide.blocks) for decide in decided}) <= 1
        for decide in decided:
            self._check_certificate(decide.certificate)

    def _check_certificate(self, certificate: Certificate) -> None:
        voters = [signature.voter for signature in certificate.precommits]
        assert voters == sorted(set(voters))
        assert 3 * len(voters) > 2 * self.count
        assert all(certificate.vote_of(one.voter, one.signature).is_signed() for one in certificate.precommits)

    def _event(self, peer: Peer, dice: float) -> None:
        if dice < 0.6 and self.flying:
            to, message, honest = self.flying.pop(self.random.randrange(len(self.flying)))
            to.receive(message, honest)
        elif dice < 0.7:
            peer.answer(self.random.choice(NAMES[:4]), self.random.random() < 0.8)
        elif dice < 0.75 and peer.timers:
            peer.fire(self.random.randrange(len(peer.timers)))
        elif dice < 0.8:
            held = [*peer.agreement.messages()]
            to = self.random.choice(self.peers)
            self.flying += [(to, message, True) for message in self.random.sample(held, min(3, len(held)))]
        elif dice < 0.8 + self.crash_odds:
            peer.restart()
        else:
            peer.receive(self._lie(), False)

    def _lie(self) -> Message:
        """Something that a voter of the adversary signs."""
        liar = self.random.choice(self.bad)
        name = self.random.choice((*NAMES, "-"))
        round = self.random.randint(0, max(peer.agreement.round for peer in self.peers) + 2)
        if self.random.random() < 0.3:
            turn = round - round % self.count + liar
            return proposal(liar, turn, self.random.choice(NAMES), self.random.randint(-1, turn - 1))
        return vote(liar, round, self.random.choice((PREVOTE, PRECOMMIT)), name)

    def _collect(self, delivered: bool) -> None:
        for peer in self.peers:
            sent, peer.outbox = peer.outbox, []
            others = [other for other in self.peers if other is not peer]
            copies = self.random.choice((1, 1, 1, 2)) if delivered else 0
            self.flying += [(other, message, True) for message in sent for other in others] * copies

    def _settle(self) -> None:
        """Pass on all that is held until nobody wants any of it."""
        moved = True
        while moved:
            moved = False
            for peer in self.peers:
                while peer.owed:
                    peer.answer(NAMES[peer.index % 4], True)
                for other in self.peers:
                    for message in [m for m in peer.agreement.messages() if other.agreement.wants(m)]:
                        other.receive(message, True)
                        moved = True

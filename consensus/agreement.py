"""Tendermint's Algorithm 1 (arXiv 1807.04938, lines L1-L67) for one instance over batches, pure (A1, A2, A4, A6).

Messages, fired timers and answers go in; actions come out, to be done in order. Every input runs the rules until none
applies. Signatures are checked before a message comes in here; keys and promises are the signer's business (A5).
"""

from collections.abc import Callable, Iterable, Iterator

from consensus.actions import (
    PROPOSE,
    STEPS,
    Action,
    AskFresh,
    Batch,
    Conflict,
    Decide,
    Disputed,
    Rejected,
    Resume,
    SaveLock,
    SetTimeout,
    SignProposal,
    SignVote,
    Timeouts,
    WantBatch,
    batch_value,
    flaw,
)
from consensus.quorum import NIL, Value, VoteBook, has_honest, value_of
from ledger.types import PRECOMMIT, PREVOTE, Block, Certificate, Proposal, ProposedBatch, Vote, VoterSignature

PASSES_MAX = 64


class Agreement:
    """One instance of Algorithm 1 as seen by `me`. Voting power is one a voter.

    `valid(blocks)` is valid(v): the deterministic part of A3; it is asked once a value. `proposer_of(round)` is
    proposer(h, r) (A2). With `may_vote` False it follows and decides, and never signs. Call `begin` once after making.
    """

    def __init__(
        self,
        *,
        chain: bytes,
        instance: int,
        voters: tuple[bytes, ...],
        proposer_of: Callable[[int], bytes],
        me: bytes,
        may_vote: bool,
        timeouts: Timeouts,
        valid: Callable[[Batch], bool],
        resume: Resume | None = None,
    ) -> None:
        self.chain = chain
        self.instance = instance
        self.me = me
        self.may_vote = may_vote and me in voters
        self.started = False
        self.decided: Decide | None = None
        self.round = 0
        self.step = STEPS[PROPOSE]
        self.locked_round = -1
        self.locked_blocks: Batch | None = None
        self.valid_round = -1
        self.valid_blocks: Batch | None = None
        self._voters = frozenset(voters)
        self.proposer_of = proposer_of
        self._timeouts = timeouts
        self._check = valid
        self._woken = False
        self._disputed = False
        self._out: list[Action] = []
        self._book = VoteBook(voters, me)
        self._proposals: dict[int, list[ProposedBatch]] = {}
        self._blamed: set[int] = set()
        self._values: dict[Value, Batch] = {}
        self._validity: dict[Value, bool] = {}
        self._new_round()
        self._resume = resume
        if resume is not None:
            self._recall(resume)

    # ------------------------------------------------------------------------------------------------------ inputs

    def begin(self) -> list[Action]:
        """Start at once where a `resume` was given; otherwise nothing ticks yet (A2, A5)."""
        return self._run()

    def wake(self) -> list[Action]:
        """I could myself propose a valid batch: start if not started (A2)."""
        self._woken = True
        return self._run()

    def set_may_vote(self, may_vote: bool) -> list[Action]:
        """From now on vote, or only follow; a voter that comes back goes on where it stands."""
        before, self.may_vote = self.may_vote, may_vote and self.me in self._voters
        if self.may_vote and not before and self.started and self.decided is None:
            self._enter()
        return self._run()

    def propose(self, blocks: Iterable[Block]) -> list[Action]:
        """The answer to `WantBatch`; ignored unless I still owe a proposal in this round."""
        if self.may_vote and self._owes_proposal() and self.started and self.decided is None:
            self._proposed = True
            self._out.append(SignProposal(self.round, -1, tuple(blocks)))  # L19
        return self._run()

    def proposal(self, batch: ProposedBatch) -> list[Action]:
        """A signed proposal of anyone, mine included."""
        if self.decided is not None or self._holds(batch):
            return []
        reason = self._refusal(batch.proposal) or flaw(batch, self.instance)
        if reason is not None:
            return [Rejected(reason)]
        self._book.hear(batch.proposal.proposer, batch.proposal.round)
        self._keep_proposal(batch)
        return self._run()

    def vote(self, vote: Vote) -> list[Action]:
        """A signed vote of anyone, mine included."""
        if self.decided is not None:
            return []
        reason = self._vote_refusal(vote)
        if reason is not None:
            return [Rejected(reason)]
        first = self._book.add(vote)
        if first is not None:
            self._out.append(Conflict(first, vote))
        return self._run()

    def fresh(self, last_hash: bytes, ok: bool) -> list[Action]:
        """The answer to `AskFresh` (A3); ignored if the round has passed."""
        for value in self._fresh:
            if value[1] == last_hash and self._fresh[value] is None:
                self._fresh[value] = ok
        return self._run()

    def timeout(self, step: str, round: int) -> list[Action]:
        """A timer fired; an outdated one is ignored."""
        if self.started and self.may_vote and self.decided is None and round == self.round:
            if step == self.step == STEPS[PROPOSE]:  # L57
                self._cast(PREVOTE, NIL)  # L59, L60
            elif step == self.step == STEPS[PREVOTE]:  # L61
                self._cast(PRECOMMIT, NIL)  # L63, L64
            elif step == STEPS[PRECOMMIT]:  # L65
                self._start_round(self.round + 1)  # L67
        return self._run()

    # ----------------------------------------------------------------------------------------------------- queries

    def messages(self) -> Iterator[Vote | ProposedBatch]:
        """All that is held, to be sent again: a lock is never hidden (A4)."""
        for batches in self._proposals.values():
            yield from batches
        yield from self._book

    def wants(self, message: Vote | ProposedBatch) -> bool:
        """Whether this message could matter: new, of this instance and of a round that is kept."""
        if self.decided is not None:
            return False
        if isinstance(message, Vote):
            return self._vote_refusal(message) is None and self._book.wants(message)
        if self._refusal(message.proposal) is not None:
            return False
        return self._is_wanted(message) or self._is_conflict(message.proposal)

    # -------------------------------------------------------------------------------------------- messages coming in

    def _vote_refusal(self, vote: Vote) -> str | None:
        if vote.chain != self.chain or vote.instance != self.instance:
            return "a vote of another chain or instance"
        if vote.voter not in self._voters:
            return "a vote of someone who is not a voter"
        if (vote.last_height, vote.last_hash) != NIL and (vote.is_nil or vote.last_height < self.instance):
            return "a vote for a height that is not of its instance"
        return None

    def _refusal(self, proposal: Proposal) -> str | None:
        if proposal.chain != self.chain or proposal.instance != self.instance:
            return "a proposal of another chain or instance"
        if proposal.proposer != self.proposer_of(proposal.round):
            return "a proposal of someone who is not the proposer of its round"
        if proposal.valid_round >= proposal.round:  # L28: vr < round
            return "a proposal whose valid round is not before its round"
        return None

    def _holds(self, batch: ProposedBatch) -> bool:
        return any(batch == held for held in self._proposals.get(batch.proposal.round, ()))

    def _is_conflict(self, proposal: Proposal) -> bool:
        """Whether this is the first to contradict the one that is held of its round (A7)."""
        held = self._proposals.get(proposal.round)
        return held is not None and proposal.round not in self._blamed and held[0].proposal.id() != proposal.id()

    def _is_wanted(self, batch: ProposedBatch) -> bool:
        """A round's first proposal is kept, and of an equivocating proposer also those that honest voters chose."""
        round, value = batch.proposal.round, value_of(batch.proposal)
        held = self._proposals.get(round, ())
        if not held or not self._book.keeps(round):
            return self._book.keeps(round)
        return self._book.is_backed(round, value) and all(value_of(other.proposal) != value for other in held)

    def _keep_proposal(self, batch: ProposedBatch) -> None:
        proposal = batch.proposal
        if self._is_conflict(proposal):
            self._blamed.add(proposal.round)
            self._out.append(Conflict(self._proposals[proposal.round][0].proposal, proposal))
        if self._is_wanted(batch):
            self._proposals.setdefault(proposal.round, []).append(batch)
            self._values[value_of(proposal)] = batch.blocks
            self._book.advance(self.round, self._rounds_kept())

    def _rounds_kept(self) -> set[int]:
        """Old rounds that still matter: of my lock and valid value, and the valid rounds that proposals name (L28)."""
        named = (batch.proposal for batches in self._proposals.values() for batch in batches)
        kept = {proposal.valid_round for proposal in named if proposal.round >= self.round}
        return (kept | {self.locked_round, self.valid_round}) - {-1}

    def _forget(self) -> None:
        self._book.advance(self.round, self._rounds_kept())
        self._proposals = {at: held for at, held in self._proposals.items() if self._book.keeps(at)}
        self._blamed &= self._proposals.keys()
        held = [batch.blocks for batches in self._proposals.values() for batch in batches]
        saved = [blocks for blocks in (self.locked_blocks, self.valid_blocks) if blocks is not None]
        self._values = {batch_value(blocks): blocks for blocks in (*held, *saved)}
        self._validity = {value: ok for value, ok in self._validity.items() if value in self._values}

    def _recall(self, resume: Resume) -> None:
        """Stand where I stood (A5): round, step, lock, valid value, my own messages and the valid value's polka."""
        self.round, self.step = resume.round, resume.step
        self.locked_round, self.locked_blocks = resume.locked_round, resume.locked_blocks
        self.valid_round, self.valid_blocks = resume.valid_round, resume.valid_blocks
        self._forget()
        for batch in resume.proposals:
            self._keep_proposal(batch)
        for vote in resume.votes:
            self._book.add(vote)

    # ------------------------------------------------------------------------------------------------------- rules

    def _run(self) -> list[Action]:
        """Apply the rules until none applies; what they want done, in order."""
        for _ in range(PASSES_MAX):
            if self.decided is not None or not self._apply_one():
                out, self._out = self._out, []
                return out
        raise AssertionError(f"agreement {self.instance}: the rules do not come to rest in round {self.round}")

    def _apply_one(self) -> bool:
        if not self.started:
            return self._start()
        if self._decide() or self._skip():
            return True
        if not self.may_vote:
            return False
        return (
            self._prevote_old()
            or self._prevote_fresh()
            or self._lock()
            or self._precommit_nil()
            or self._await_prevotes()
            or self._await_precommits()
        )

    def _start(self) -> bool:
        """A2: nothing ticks before I could propose, hold a valid proposal, or hear more than a third of the voters."""
        if self._resume is not None:
            self.started = True
            self._enter()
            return True
        heard = has_honest(len(self._book.heard), self._book.total)
        if not (self._woken or heard or any(self._is_valid(value) for value in self._values)):
            return False
        self.started = True
        self._start_round(0)  # L10
        return True

    def _start_round(self, round: int) -> None:  # L11
        self.round, self.step = round, STEPS[PROPOSE]  # L12, L13
        self._new_round()
        self._forget()
        self._enter()

    def _new_round(self) -> None:
        """What holds for one round only: the 'for the first time' of L34, L36 and L47, and the answers of L22."""
        self._proposed = False
        self._polka_seen = False
        self._prevotes_timed = False
        self._precommits_timed = False
        self._fresh: dict[Value, bool | None] = {}

    def _owes_proposal(self) -> bool:
        mine = self.proposer_of(self.round) == self.me  # L14
        return mine and self.step == STEPS[PROPOSE] and not self._proposed and self.round not in self._proposals

    def _enter(self) -> None:
        """Propose if it is my turn, and set the timer of the step that I stand in, so that no step waits for ever.

        The proposer sets timeoutPropose too: its batch, or the freshness of it, may be long in coming (A3).
        """
        if not self.may_vote:
            return
        if self._owes_proposal():
            if self.valid_blocks is not None:  # L15
                self._proposed = True
                self._out.append(SignProposal(self.round, self.valid_round, self.valid_blocks))  # L16, L19
            else:
                self._out.append(WantBatch(self.round))  # L18
        self._prevotes_timed = self.step == STEPS[PREVOTE]
        self._precommits_timed = self.step == STEPS[PRECOMMIT]
        self._set_timeout(STEPS.index(self.step))  # L21

    def _set_timeout(self, step: int) -> None:
        self._out.append(SetTimeout(STEPS[step], self.round, self._timeouts.after_ms(step, self.round)))

    def _cast(self, step: int, value: Value) -> None:
        self._out.append(SignVote(self.round, step, *value))
        self.step = STEPS[step]

    def _is_valid(self, value: Value) -> bool:
        """valid(v) of a value that is held (A3), asked once."""
        if value not in self._validity:
            self._validity[value] = self._check(self._values[value])
        return self._validity[value]

    def _is_locked_on(self, value: Value) -> bool:
        return self.locked_blocks is not None and batch_value(self.locked_blocks) == value

    def _prevote_fresh(self) -> bool:
        """L22: a fresh proposal. Held until the answer on its freshness is there, or timeoutPropose (A3)."""
        batch = next((b for b in self._proposals.get(self.round, ()) if b.proposal.valid_round == -1), None)
        if self.step != STEPS[PROPOSE] or batch is None:
            return False
        value = value_of(batch.proposal)
        allowed = self._is_valid(value) and (self.locked_round == -1 or self._is_locked_on(value))  # L23
        if allowed and value not in self._fresh:
            self._fresh[value] = None
            self._out.append(AskFresh(self.round, batch.blocks))
            return True
        answer = allowed and self._fresh[value]
        if answer is None:
            return False
        self._cast(PREVOTE, value if answer else NIL)  # L24, L26, L27
        return True

    def _prevote_old(self) -> bool:
        """L28: a proposal that had a polka in an earlier round; the only rule that lets go of a lock (A4)."""
        if self.step != STEPS[PROPOSE]:
            return False
        for batch in self._proposals.get(self.round, ()):
            valid_round, value = batch.proposal.valid_round, value_of(batch.proposal)
            if valid_round >= 0 and self._book.slot(valid_round, PREVOTE).is_polka(value):
                unlocked = self.locked_round <= valid_round or self._is_locked_on(value)  # L29
                self._cast(PREVOTE, value if self._is_valid(value) and unlocked else NIL)  # L30, L32, L33
                return True
        return False

    def _await_prevotes(self) -> bool:
        """L34: more than 2/3 prevoted, for whatever, or have gone on."""
        passed = self._book.is_passed(self.round, PREVOTE)
        if self._prevotes_timed or self.step != STEPS[PREVOTE] or not passed:
            return False
        self._prevotes_timed = True
        self._set_timeout(PREVOTE)  # L35
        return True

    def _lock(self) -> bool:
        """L36: a polka in my round. Lock in step prevote only; later it still makes the value valid (A4)."""
        value = self._book.slot(self.round, PREVOTE).quorum
        if self._polka_seen or self.step == STEPS[PROPOSE] or value is None or value not in self._values:
            return False
        if not self._is_valid(value):
            return False
        self._polka_seen = True
        before = (self.locked_round, self.valid_round)
        blocks = self._values[value]
        if self.step == STEPS[PREVOTE]:  # L37
            self.locked_round, self.locked_blocks = self.round, blocks  # L38, L39
        self.valid_round, self.valid_blocks = self.round, blocks  # L42, L43
        if before != (self.locked_round, self.valid_round):  # A5: on disk before the precommit leaves
            polka = tuple(self._book.slot(self.round, PREVOTE).votes(value))
            self._out.append(SaveLock(self.locked_round, self.locked_blocks, self.round, blocks, polka))
        if self.step == STEPS[PREVOTE]:
            self._cast(PRECOMMIT, value)  # L40, L41
        return True

    def _precommit_nil(self) -> bool:
        """L44: more than 2/3 prevoted nil."""
        if self.step != STEPS[PREVOTE] or not self._book.slot(self.round, PREVOTE).is_polka(NIL):
            return False
        self._cast(PRECOMMIT, NIL)  # L45, L46
        return True

    def _await_precommits(self) -> bool:
        """L47: more than 2/3 precommitted, for whatever, or have gone on."""
        if self._precommits_timed or not self._book.is_passed(self.round, PRECOMMIT):
            return False
        self._precommits_timed = True
        self._set_timeout(PRECOMMIT)  # L48
        return True

    def _decide(self) -> bool:
        """L49: more than 2/3 precommitted one value in one round, whichever round that is (A4)."""
        for round, value in self._book.quorums(PRECOMMIT):
            if value == NIL or value not in self._values:
                continue
            if self._is_valid(value):  # L50
                self.decided = Decide(self._values[value], self._certificate(round, value))  # L51
                self._out.append(self.decided)
                return True
            if not self._disputed:
                self._disputed = True
                self._out.append(Disputed(round, self._values[value]))
        return False

    def _certificate(self, round: int, value: Value) -> Certificate:
        votes = sorted(self._book.slot(round, PRECOMMIT).votes(value), key=lambda vote: vote.voter)
        precommits = tuple(VoterSignature(vote.voter, vote.signature) for vote in votes)
        return Certificate(self.chain, self.instance, round, *value, precommits)

    def _skip(self) -> bool:
        """L55: more than a third of the voters, whatever they sent, are in rounds after mine: go to the highest round
        that so many have reached. Algorithm 1's one round with f+1 senders is the special case (A4)."""
        round = self._book.skip_round()
        if round <= self.round:
            return False
        self._start_round(round)  # L56
        return True

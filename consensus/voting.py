"""The way from the core to agreement and back: actions into effects, own messages back in (A1, A2)."""

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
    Timeouts,
    WantBatch,
)
from consensus.agreement import Agreement
from consensus.events import Effect, Fault, Halt, Persist, Send, SetTimer, ViewTimer
from consensus.signer import Signer
from ledger.codec import Record
from ledger.params import Params
from ledger.state import State, get_voters
from ledger.transition import InvalidBlock, apply_all
from ledger.types import Block, FinalBatch, ProposedBatch, Vote

STATES_MAX = 64


class Voting:
    """Agreement on the open instance. What it wants done is appended to `out`; a decision waits in `take_decision`."""

    def __init__(self, params: Params, state: State, signer: Signer) -> None:
        self.params, self.signer = params, signer
        self.out: list[Effect] = []
        self.conflicts = 0
        self.is_probing = True
        self._decision: tuple[FinalBatch, State] | None = None
        self._open(state)

    def _open(self, state: State) -> None:
        self.state = state
        self.asked: dict[bytes, Batch] = {}
        self._wanted: int | None = None
        self._states: dict[bytes, State | None] = {}
        self.agreement = self._new_agreement()

    @property
    def instance(self) -> int:
        return self.agreement.instance

    @property
    def owes_batch(self) -> bool:
        """Whether I am the proposer and agreement waits for my batch (L18)."""
        return self._wanted is not None and self._wanted == self.agreement.round

    def _new_agreement(self) -> Agreement:
        params, state = self.params, self.state
        voters, committee, instance = get_voters(params, state), state.round.committee, state.height + 1

        def proposer_of(round: int) -> bytes:  # A2
            seats = committee if round < len(committee) else voters
            return seats[(instance + round) % len(seats)]

        return Agreement(
            chain=state.chain,
            instance=instance,
            voters=voters,
            proposer_of=proposer_of,
            me=self.signer.public,
            may_vote=self._may_vote(instance),
            timeouts=Timeouts(
                params.timeout_propose_ms, params.timeout_vote_ms, params.timeout_step_ms, params.timeout_max_ms
            ),
            valid=self._is_valid,
            resume=self.signer.resume(instance),
        )

    def _may_vote(self, instance: int) -> bool:
        return not self.is_probing and not self.signer.is_mute(instance)

    def _is_valid(self, blocks: Batch) -> bool:
        """valid(batch) without what only I can say (A3); the state after it is remembered."""
        last = blocks[-1].header.id()
        if last not in self._states:
            while len(self._states) >= STATES_MAX:
                self._states.pop(next(iter(self._states)))
            try:
                self._states[last] = apply_all(self.params, self.state, blocks)
            except InvalidBlock:
                self._states[last] = None
        return self._states[last] is not None

    # ------------------------------------------------------------------------------------------------------ inputs

    def begin(self) -> None:
        """Go on where the signer's log says that I stood (A5)."""
        self._perform(self.agreement.begin(), b"")

    def advance(self, state: State) -> None:
        """A batch is final: the next instance opens."""
        self._open(state)
        self.begin()

    def end_probe(self) -> None:
        """The peers have had their time to show me forgotten votes (A5)."""
        self.is_probing = False
        self._perform(self.agreement.set_may_vote(self._may_vote(self.instance)), b"")

    def fire(self, timer: ViewTimer) -> None:
        """A timeout of this instance has passed; others mean nothing any more."""
        if timer.instance == self.instance:
            self._perform(self.agreement.timeout(timer.step, timer.round), b"")

    def receive(self, sender: bytes, message: Vote | ProposedBatch, learning_round: int) -> None:
        """A vote or proposal of this instance."""
        if not self.agreement.wants(message):
            return
        signed = message.proposal if isinstance(message, ProposedBatch) else message
        if not signed.is_signed():
            self.out.append(Fault(sender, f"bad signature on a {type(signed).__name__.lower()}"))
            return
        if self.signer.saw_own(message):
            self._mute(learning_round)
        self._perform(self._agree(message), sender)

    def _mute(self, learning_round: int) -> None:
        """A signature of mine that my log does not know: it is a restored copy. Nothing more is signed in this
        instance, nor offers and scores of this learning round (A5)."""
        record = self.signer.mute(self.instance, learning_round + 1)
        if record is not None:
            self.out.append(Persist(record))
        self._perform(self.agreement.set_may_vote(False), b"")

    def wake(self) -> None:
        """I could propose (A2)."""
        if not self.agreement.started:
            self._perform(self.agreement.wake(), b"")

    def propose(self, blocks: tuple[Block, ...]) -> None:
        """My batch, where agreement waits for it."""
        self._wanted = None
        self._perform(self.agreement.propose(blocks), b"")

    def answer(self, last_hash: bytes, ok: bool) -> None:
        """What only I can say of a fresh proposal (L22, A3)."""
        if self.asked.pop(last_hash, None) is not None:
            self._perform(self.agreement.fresh(last_hash, ok), b"")

    def take_decision(self) -> tuple[FinalBatch, State] | None:
        """The batch that was decided, once."""
        decision, self._decision = self._decision, None
        return decision

    # ----------------------------------------------------------------------------------------------------- actions

    def _agree(self, message: Vote | ProposedBatch) -> list[Action]:
        return self.agreement.vote(message) if isinstance(message, Vote) else self.agreement.proposal(message)

    def _perform(self, actions: list[Action], sender: bytes) -> None:
        """Carry out what agreement wants; my own messages go straight back into it."""
        queue = list(actions)
        while queue:
            queue[:0] = self._act(queue.pop(0), sender)

    def _act(self, action: Action, sender: bytes) -> list[Action]:
        chain = self.state.chain
        match action:
            case SignVote(round, step, height, hash):
                return self._spoken(*self.signer.vote(chain, self.instance, round, step, height, hash))
            case SignProposal(round, valid_round, blocks):
                return self._spoken(*self.signer.proposal(chain, self.instance, round, valid_round, blocks))
            case SaveLock():
                saved = self.signer.save_lock(self.instance, action)
                if saved is not None:
                    self.out.append(Persist(saved))
            case SetTimeout(step, round, after_ms):
                self.out.append(SetTimer(ViewTimer(self.instance, round, step), after_ms))
            case WantBatch(round):
                self._wanted = round
            case AskFresh(round, blocks):
                last, builder = blocks[-1].header.id(), self.agreement.proposer_of(round)
                if any(block.header.proposer != builder for block in blocks):
                    return self.agreement.fresh(last, False)  # A1: a fresh batch is its proposer's own
                self.asked[last] = blocks
            case Decide(blocks, certificate):
                after = self._states.get(blocks[-1].header.id())  # it may have been forgotten for others since
                state = after or apply_all(self.params, self.state, blocks)
                self._decision = (FinalBatch(blocks, certificate), state)
            case Conflict():
                self.conflicts += 1
            case Rejected(reason):
                self.out.append(Fault(sender, reason))
            case Disputed(_, blocks):
                self.out.append(
                    Halt(
                        f"more than 2/3 of the voters made #{blocks[-1].height} final, which this machine finds "
                        "invalid: a faulty machine, or more than a third of the voters lied (A3)"
                    )
                )
        return []

    def _spoken(self, message: Vote | ProposedBatch | None, record: Record | None) -> list[Action]:
        """Persist before speaking (A5); a refusal of the signer is silence."""
        if message is None:
            return []
        if record is not None:
            self.out.append(Persist(record))
        self.out.append(Send(message))
        return self._agree(message)

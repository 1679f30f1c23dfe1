"""The pure core: `step(event, now_ms, wall_ms) -> effects`. One instance of agreement after the other, one round of
learning after the other; no I/O, no clock of its own, no randomness."""

from collections.abc import Sequence

from consensus.drafting import get_model_body, get_update_bodies, is_unchanged, make_batch, open_slots
from consensus.duties import RoundWork, make_aggregate
from consensus.events import (
    Aggregated,
    Commit,
    Effect,
    Event,
    Fault,
    Fired,
    GossipTimer,
    Halt,
    Have,
    Held,
    Message,
    PeerDown,
    PeerUp,
    ProbeTimer,
    Received,
    RoundEnded,
    RoundTimer,
    Scored,
    Send,
    SetTimer,
    Started,
    Synced,
    SyncEnded,
    SyncFrom,
    Timer,
    Trained,
    ViewTimer,
)
from consensus.freshness import FreshCheck
from consensus.pool import RoundMessage
from consensus.relay import Answers, Heights, Later, get_lacking, make_have
from consensus.signer import Signer
from consensus.voting import Voting
from ledger.certificate import InvalidCertificate, is_quorum
from ledger.params import Params
from ledger.state import State, get_voters, is_finished
from ledger.transition import InvalidBlock, apply_final
from ledger.types import BlobRef, Body, FinalBatch, ModelBody, ProposedBatch, Vote


class Core:
    """One member's consensus. `beacon` is its hash chain (R9), `held` the blobs of the open round that are on disk,
    `obliged` final models by round that this machine has not re-derived yet (A3)."""

    def __init__(
        self,
        params: Params,
        state: State,
        signer: Signer,
        beacon: Sequence[bytes],
        *,
        held: Sequence[BlobRef] = (),
        obliged: dict[int, BlobRef] | None = None,
        gossip_ms: int = 1_000,
    ) -> None:
        self.params, self.state, self.signer, self.beacon = params, state, signer, beacon
        self.gossip_ms = gossip_ms
        self.now_ms = self.wall_ms = 0
        self.connected: set[bytes] = set()
        self.heard: set[bytes] = {signer.public}
        self.obliged: dict[int, BlobRef] = dict(obliged or {})
        self.halted = False
        self._left_out: dict[int, tuple[int, ...]] = {}
        self._out: list[Effect] = []
        self._later = Later()
        self._answers = Answers(gossip_ms)
        self._heights = Heights()
        self._probe_set = False
        self._probed_height = state.height
        self.work = RoundWork(params, signer, beacon)
        self.work.candidates.held.update(held)
        self.voting = Voting(params, state, signer)

    @property
    def me(self) -> bytes:
        return self.signer.public

    @property
    def behind(self) -> int:
        """How many blocks more than a third of the others claim to be ahead."""
        return max(0, self._heights.credible() - self.state.height)

    @property
    def is_ready(self) -> bool:
        """Whether the model that the open round starts from was re-derived and is on disk here (A3)."""
        return not self.obliged

    def step(self, event: Event, now_ms: int, wall_ms: int) -> list[Effect]:
        """Take one event at `now_ms` (monotonic) and `wall_ms` (UTC); what is to be done, in order."""
        self.now_ms, self.wall_ms = now_ms, wall_ms
        self._out = self.voting.out = []
        if self.halted:
            return self._out
        self._handle(event)
        self._commit_decided()
        self._advance()
        while self._commit_decided():  # a decision that my own answer completed opens new work at once
            self._advance()
        self.halted = self.halted or any(isinstance(effect, Halt) for effect in self._out)
        return self._out

    def _handle(self, event: Event) -> None:
        match event:
            case Received(sender, message):
                self._receive(sender, message)
            case Fired(timer):
                self._fire(timer)
            case Started():
                self._start()
            case PeerUp(member):
                self._peer_up(member)
            case PeerDown(member):
                self.connected.discard(member)
                self._heights.forget(member)
                self._later.forget(member)
            case Held(blobs):
                self.work.candidates.held.update(blobs)
            case Synced(sender, batch):
                self._synced(sender, batch)
            case SyncEnded(member):
                self._heights.forget(member)
                self._heights.moved(self.state.height)
                self._ask_own_votes()
            case _:
                self._worked(event)

    # ------------------------------------------------------------------------------------------------ start, timers

    def _start(self) -> None:
        self._out.append(SetTimer(GossipTimer(), self.gossip_ms))
        self._recall()
        self._note_slots_final()
        self.voting.begin()
        if set(get_voters(self.params, self.state)) <= {self.me}:
            self.voting.end_probe()  # nobody else could know of votes that I forgot

    def _recall(self) -> None:
        """My own messages of the open round, from the signer's log (A5)."""
        for message in self.signer.promises(self.state.round.round):
            self._keep(message)

    def _peer_up(self, member: bytes) -> None:
        self.connected.add(member)
        self.heard.add(member)
        self._out.append(Send(self._have(), member))
        if self.voting.is_probing and not self._probe_set:
            self._probe_set = True
            self._out.append(SetTimer(ProbeTimer(), self.params.grace_ms))

    def _ask_own_votes(self) -> None:
        """A5: a sync has opened another instance than the one that I asked about: the votes of mine that may have been
        forgotten are those. The time to show them begins anew; only verified batches lengthen it."""
        if self.voting.is_probing and self.state.height > self._probed_height:
            self._probed_height = self.state.height
            self._out += [Send(self._have()), SetTimer(ProbeTimer(), self.params.grace_ms)]

    def _fire(self, timer: Timer) -> None:
        match timer:
            case ViewTimer():
                self.voting.fire(timer)
            case ProbeTimer():
                self.voting.end_probe()
            case GossipTimer():
                self._out.append(SetTimer(GossipTimer(), self.gossip_ms))
                self._gossip()
            case RoundTimer(round, name):
                # 'deadline' and 'fetch' only make `_advance` look again.
                if round == self.state.round.round and name == "batch":
                    self.work.batch_timer_set = False

    # ---------------------------------------------------------------------------------------------------- messages

    def _receive(self, sender: bytes, message: Message) -> None:
        if isinstance(message, Have):
            self._on_have(sender, message)
        elif isinstance(message, Vote | ProposedBatch):
            self._on_agreement(sender, message)
        else:
            self._on_round_message(sender, message)

    def _on_round_message(self, sender: bytes, message: RoundMessage) -> None:
        round = self.state.round.round
        if message.chain != self.state.chain:
            self._out.append(Fault(sender, f"{type(message).__name__.lower()} of another chain"))
        elif message.round == round + 1:
            self._later.keep(sender, message)
        elif message.round == round:
            try:
                self.work.pool.add(self.state, message, self.now_ms)
            except InvalidBlock as error:
                self._out.append(Fault(sender, str(error)))

    def _on_agreement(self, sender: bytes, message: Vote | ProposedBatch) -> None:
        signed = message.proposal if isinstance(message, ProposedBatch) else message
        if signed.chain != self.state.chain:
            self._out.append(Fault(sender, f"{type(signed).__name__.lower()} of another chain"))
        elif signed.instance > self.voting.instance:
            self._later.keep(sender, message)
        elif signed.instance == self.voting.instance:
            self.voting.receive(sender, message, self.state.round.round)

    def _on_have(self, sender: bytes, have: Have) -> None:
        first = sender not in self._heights.known()
        self._heights.note(sender, have.height, self.state.height, self.now_ms)
        if have.height == self.state.height and self._answers.allow(sender, self.now_ms):
            self._out.extend(Send(message, sender) for message in get_lacking(have, self._messages()))
        elif first:
            self._sync()

    def _messages(self) -> list[Message]:
        return [*self.work.pool.messages(), *self.voting.agreement.messages()]

    def _have(self) -> Have:
        return make_have(self.state.height, self.voting.agreement.round, self._messages())

    def _gossip(self) -> None:
        if self.connected:
            self._out.append(Send(self._have()))
        since = self._heights.behind_since_ms
        if since is not None and self.now_ms - since >= self.gossip_ms // 2:
            self._sync()

    def _sync(self) -> None:
        member = self._heights.pick(self.state.height)
        if member is not None:
            self._out.append(SyncFrom(member, self.state.height + 1))

    def _synced(self, sender: bytes, batch: FinalBatch) -> None:
        """Y1: a batch is followed when its certificate is by the voters that the chain itself gave."""
        if batch.blocks[0].height != self.state.height + 1:
            return
        try:
            state = apply_final(self.params, self.state, batch)
        except (InvalidBlock, InvalidCertificate) as error:
            self._out.append(Fault(sender, f"served a batch that is not final: {error}"))
            return
        if self.voting.is_probing:  # A5: not over before the open instance is reached
            self._out.append(SetTimer(ProbeTimer(), self.params.grace_ms))
        self._commit(batch, state)

    # ----------------------------------------------------------------------------------------------------- my work

    def _worked(self, event: Event) -> None:
        """A worker's answer; one for a round gone by is of no use, but for an aggregate that is owed (A3)."""
        current = self.state.round.round
        match event:
            case Aggregated():
                self._aggregated(event)
            case Trained(round, update, seal, samples, codec) if round == current:
                self.work.candidates.held.add(update)
                self._speak(*self.work.make_offer(self.state, update, seal, samples, codec))
            case Scored(round, offer, value, baseline, code) if round == current:
                self._speak(*self.work.make_score(self.state, offer, value, baseline, code))
            case _:
                pass

    def _speak(self, effects: list[Effect], message: RoundMessage | None) -> None:
        """Persist, keep, send (A5)."""
        self._out.extend(effects)
        if message is not None:
            self._keep(message)
            self._out.append(Send(message))

    def _keep(self, message: RoundMessage) -> None:
        try:
            self.work.pool.add(self.state, message, self.now_ms)
        except InvalidBlock as error:
            self._out.append(Halt(f"this machine made a message that breaks the rules: {error} (A8)"))

    def _aggregated(self, event: Aggregated) -> None:
        if event.round == self.state.round.round:
            self.work.candidates.models[event.missing] = event.model
        elif event.missing == self._left_out.get(event.round, event.missing):
            # another choice of updates was under way when the round ended: it says nothing about the final model
            self._left_out.pop(event.round, None)
            self._compare(event.round, self.obliged.pop(event.round, event.model), event.model)

    def _compare(self, round: int, final: BlobRef, derived: BlobRef) -> None:
        if final != derived:
            self._out.append(
                Halt(
                    f"the final model of round {round} is not the aggregate of its updates that this machine derives: "
                    "a faulty machine, or more than a third of the voters lied (A3)"
                )
            )

    # ------------------------------------------------------------------------------------------------------ commit

    def _commit_decided(self) -> bool:
        """Commit what agreement has decided; whether there was anything."""
        before = self.state
        while (decision := self.voting.take_decision()) is not None:
            self._commit(*decision)
        return self.state is not before

    def _commit(self, batch: FinalBatch, state: State) -> None:
        before, self.state = self.state, state
        self._out.append(Commit(batch, state))
        self._heights.moved(state.height)
        body = batch.blocks[-1].body
        if isinstance(body, ModelBody):
            self._end_round(before, body)
        else:
            self._note_slots_final()
        self.voting.advance(state)
        for sender, message in self._later.take():
            self._receive(sender, message)

    def _end_round(self, before: State, body: ModelBody) -> None:
        """The model is final: it must be the aggregate that this machine derives, now or when it can (A3)."""
        round = before.round.round
        self._out.append(RoundEnded(round))
        candidate = self.work.candidates.models.get(body.missing)
        if is_unchanged(self.params, before, body.missing):
            candidate = before.round.model
        if candidate is None:
            self.obliged[round], self._left_out[round] = body.model, body.missing
            self._out.append(make_aggregate(before, body.missing))
        else:
            self._compare(round, body.model, candidate)
        self.work = RoundWork(self.params, self.signer, self.beacon)
        self._recall()

    def _note_slots_final(self) -> None:
        if open_slots(self.params, self.state) == 0 and self.work.clock.slots_final_ms is None:
            self.work.clock.slots_final_ms = self.now_ms
            timer = RoundTimer(self.state.round.round, "fetch")
            self._out.append(SetTimer(timer, self.params.fetch_deadline_ms))

    # ----------------------------------------------------------------------------------------------------- advance

    def _advance(self) -> None:
        """After every event: start the round's clock, ask for work, answer what agreement waits for."""
        if is_finished(self.params, self.state):
            return
        self._start_clock()
        if self.is_ready:
            self._out.extend(self.work.ask(self.state, self.now_ms))
            self._speak(*self.work.make_present(self.state))
        self._offer_batch()
        self._answer_fresh()  # my own fresh batch among them

    def _start_clock(self) -> None:
        """R1: from the latest of my commit, my start, and hearing from more than 2/3 of the voters."""
        voters = get_voters(self.params, self.state)
        if self.work.clock.opened_ms is None and is_quorum(len(self.heard & set(voters)), len(voters)):
            self.work.clock.opened_ms = self.now_ms
            timer = RoundTimer(self.state.round.round, "deadline")
            self._out.append(SetTimer(timer, self.params.round_deadline_ms))

    def _answer_fresh(self) -> None:
        work, state = self.work, self.state
        for last, blocks in list(self.voting.asked.items()):
            check = FreshCheck(self.params, state, work.pool, work.clock, work.candidates, self.now_ms, self.wall_ms)
            answer, body = check.answer(blocks), blocks[-1].body
            if answer is not None:
                self.voting.answer(last, answer)
            elif isinstance(body, ModelBody) and self.is_ready:
                self._out.extend(work.ask_aggregate(state, body.missing))

    def _offer_batch(self) -> None:
        """A2: start agreement when I could propose; R5: propose when it is my turn."""
        if self.voting.agreement.started and not self.voting.owes_batch:
            return
        bodies = self._bodies()
        if bodies is None:
            return
        self.voting.wake()
        if self.voting.owes_batch:
            self.voting.propose(make_batch(self.params, self.state, self.me, self.wall_ms, bodies))

    def _bodies(self) -> Sequence[Body] | None:
        params, state, work = self.params, self.state, self.work
        if open_slots(params, state) == 0:
            body = get_model_body(params, state, work.pool, work.candidates, work.clock, self.now_ms)
            return None if body is None or not self.is_ready else [body]
        bodies = get_update_bodies(params, state, work.pool, work.clock, self.now_ms)
        if bodies is None and not work.batch_timer_set and work.pool.get_accepted(state):
            work.batch_timer_set = True
            self._out.append(SetTimer(RoundTimer(state.round.round, "batch"), params.batch_wait_ms))
        return bodies

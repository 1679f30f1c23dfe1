"""The chain as a peer keeps it: import of a batch = validate, apply, compare root, write."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ledger.certificate import InvalidCertificate, check_certificate
from ledger.genesis import Genesis
from ledger.heights import is_model_height
from ledger.params import Params
from ledger.settlement import make_genesis
from ledger.state import State, get_voters
from ledger.store import Store, StoreDamaged, get_blob_refs
from ledger.transition import InvalidBlock, apply, apply_final, check_batch_shape
from ledger.types import Block, Certificate, FinalBatch, body_root


class Chain:
    """The store with the rules of its genesis. A new store gets #0; an old one must have the same."""

    def __init__(self, genesis: Genesis, store: Store) -> None:
        self.genesis = genesis
        self.params: Params = genesis.params
        self.store = store
        block, state = make_genesis(genesis)
        self.genesis_block = block
        found = store.block(0)
        if found is None:
            store.append((block,), None, state)
        elif found != block:
            raise StoreDamaged("#0 on disk is not the genesis block: the store is damaged or of another chain")
        tip = store.tip()
        if tip is None:
            raise StoreDamaged("the state at the tip is missing")
        last = store.block(tip.height)
        if last is None or last.header.id() != tip.last_hash or tip.root() != last.header.state_root:
            raise StoreDamaged(f"the state at the tip is not the one that block #{tip.height} commits to")
        self.state: State = tip

    def import_batch(self, batch: FinalBatch) -> State:
        """Make a final batch the new end of the chain; raises `InvalidBlock` or `InvalidCertificate`, and then
        nothing has changed."""
        state = apply_final(self.params, self.state, batch)
        self.commit(batch, state)
        return state

    def commit(self, batch: FinalBatch, state: State) -> None:
        """Write a batch that was validated already, with the state after it."""
        self.store.append(batch.blocks, batch.certificate, state)
        self.state = state

    def batches(self, height: int = 1) -> Iterator[FinalBatch]:
        """The final batches from the one that starts at `height` on."""
        while (batch := self.store.batch_at(height)) is not None:
            yield batch
            height = batch.certificate.last_height + 1


@dataclass(frozen=True, slots=True)
class Finding:
    """What an audit found wrong, and at which block."""

    height: int
    reason: str


def audit(
    genesis: Genesis, store: Store, check_round: Callable[[State, Block], str | None]
) -> Iterator[Finding | State]:
    """Re-derive the whole chain from genesis: signatures, certificates, scores, elections, transitions, roots. Yields
    the state after each batch, or one `Finding` and stops. `check_round(state before, model block)` recomputes the
    aggregate and returns what is wrong with it."""
    block, state = make_genesis(genesis)
    reason = _broken_genesis(block, store) or check_round(state, block)
    if reason:
        yield Finding(0, reason)
        return
    tip, damage = _stored_tip(store)
    seen = _Seen()
    seen.note(block)
    try:
        while (tip is not None and state.height < tip.height) or store.block(state.height + 1) is not None:
            after, finding = _audit_batch(genesis.params, store, state, check_round, seen)
            yield finding or after
            if finding:
                return
            state = after
        if tip != state:
            yield Finding(state.height, damage or "the stored state is not the one that the blocks lead to")
        elif stray := store.find_stray(state.height, seen.starts, seen.named):
            yield Finding(*stray)
    except StoreDamaged as error:
        yield Finding(state.height + 1, str(error))


def _broken_genesis(block: Block, store: Store) -> str | None:
    try:
        return None if store.block(0) == block else "#0 is not the block that genesis.json founds"
    except StoreDamaged as error:
        return str(error)


def _stored_tip(store: Store) -> tuple[State | None, str | None]:
    """The state at the tip, or None and why it cannot be had."""
    try:
        tip = store.tip()
    except StoreDamaged as error:
        return None, str(error)
    return tip, None if tip else "the state at the tip is missing"


@dataclass(slots=True)
class _Seen:
    """Where batches start, and which block names a blob first."""

    starts: set[int] = field(default_factory=set)
    named: dict[bytes, int] = field(default_factory=dict)

    def note(self, block: Block) -> None:
        for blob in get_blob_refs(block):
            self.named.setdefault(blob, block.height)


def _audit_batch(
    params: Params, store: Store, state: State, check_round: Callable[[State, Block], str | None], seen: _Seen
) -> tuple[State, Finding | None]:
    height = state.height + 1
    certificate: Certificate | None = store.certificate(height)
    if certificate is None or certificate.instance != height:
        return state, Finding(height, "there is no certificate for the batch that starts here")
    blocks = []
    for at in range(height, certificate.last_height + 1):
        try:
            block = store.block(at)
        except StoreDamaged as error:
            return state, Finding(at, str(error))
        if block is None:
            return state, Finding(at, "the block is missing")
        blocks.append(block)
    broken = _broken_link(state, blocks, certificate)
    if broken is not None:
        return state, Finding(broken, "the block is not the one that its successor or its certificate names")
    before = state
    seen.starts.add(certificate.instance)
    try:
        check_batch_shape(params, state, blocks)
        for block in blocks:
            height = block.height
            seen.note(block)
            state = apply(params, state, block)
        check_certificate(certificate, blocks, get_voters(params, before))
    except (InvalidBlock, InvalidCertificate) as error:
        return before, Finding(height, str(error))
    reason = check_round(before, blocks[-1]) if is_model_height(params.round_length, height) else None
    return state, Finding(height, reason) if reason else None


def _broken_link(state: State, blocks: Sequence[Block], certificate: Certificate) -> int | None:
    """The height of the block that was changed: hashes are followed from the certificate down, so that the changed
    block is named and not its innocent successor."""
    expected = certificate.last_hash
    for at, block in reversed(list(enumerate(blocks, state.height + 1))):
        header = block.header
        if header.id() != expected or body_root(block.body) != header.body_root:
            return at
        expected = header.parent
    return None if expected == state.last_hash else state.height + 1

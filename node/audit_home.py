"""A home's chain opened for reading, offline: no peer may have it open."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger.blobs import BlobStore
from ledger.genesis import Genesis, load_genesis
from ledger.heights import round_of
from ledger.settlement import make_genesis
from ledger.state import State
from ledger.store import LevelStore
from ledger.transition import InvalidBlock, apply_all
from ledger.types import Block
from node.errors import ExitCode, NodeError
from node.home import Home
from node.verify import RoundChecker


@dataclass(frozen=True, slots=True)
class OpenHome:
    """Genesis, blocks and blobs of a home."""

    home: Home
    genesis: Genesis
    store: LevelStore
    blobs: BlobStore

    def checker(self) -> RoundChecker:
        """What recomputes this chain's models."""
        return RoundChecker(self.genesis.params, self.store, self.blobs, self.home.genesis_model)

    def tip(self) -> State:
        """The state after the last block; raises `NodeError` DATA_DAMAGED."""
        tip = self.store.tip()
        if tip is None:
            raise NodeError(ExitCode.DATA_DAMAGED, f"{self.home.chain}: no block yet. Start the peer once")
        return tip

    def block(self, height: int) -> Block:
        """The block at `height`; raises `NodeError` USAGE where the chain does not reach it."""
        block = self.store.block(height) if height >= 0 else None
        if block is None:
            tip = self.tip().height
            raise NodeError(ExitCode.USAGE, f"there is no block #{height}: the chain of this home ends at #{tip}")
        return block

    def round_of(self, height: int) -> int | None:
        """The round of a block; None for #0."""
        return round_of(self.genesis.params.round_length, height) if height else None

    def states(self) -> Iterator[State]:
        """The state after #0 and after each batch, derived from the blocks; certificates are not checked here."""
        _, state = make_genesis(self.genesis)
        yield state
        while (batch := self.store.batch_at(state.height + 1)) is not None:
            try:
                state = apply_all(self.genesis.params, state, batch.blocks)
            except InvalidBlock as error:
                message = f"{self.home.chain}: {error}. Run: fedchain-node chain verify --home {self.home.path}"
                raise NodeError(ExitCode.DATA_DAMAGED, message) from error
            yield state

    def state_at(self, height: int) -> State:
        """The state after the batch that ends at `height`; raises `NodeError` USAGE where none does."""
        for state in self.states():
            if state.height == height:
                return state
        raise NodeError(ExitCode.USAGE, f"no final batch of this home ends at #{height}")

    def names(self) -> dict[bytes, str]:
        """Member names by key."""
        return {member.member_key: member.name for member in self.genesis.members}


@contextmanager
def open_home(path: Path) -> Iterator[OpenHome]:
    """Open a home's chain; raises `NodeError`, `GenesisError`, `StoreLocked` (a peer runs on it) or `StoreError`."""
    home = Home(path)
    if not home.path.is_dir():
        raise NodeError(ExitCode.CONFIG, f"{path}: no such home. Correct --home")
    genesis = load_genesis(home.genesis)
    store = LevelStore(home.chain, genesis.chain_id, create=False)
    try:
        yield OpenHome(home, genesis, store, BlobStore(home.blobs))
    finally:
        store.close()

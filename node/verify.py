"""The audit of a chain and its blobs: every aggregate is computed again from the update blobs (R7), numpy only.

`ledger.chain.audit` re-derives all that stands in blocks; this module adds what stands in files.
"""

from collections.abc import Iterator
from pathlib import Path

from fl.aggregation import aggregate
from fl.codecs import decode_delta
from fl.tensors import TensorError, Tensors, decode_tensors, encode_tensors
from ledger.blobs import BlobError, BlobStore, blob_id, blob_ref
from ledger.chain import Finding, audit
from ledger.genesis import Genesis
from ledger.params import Params
from ledger.state import Accepted, State
from ledger.store import Store, StoreDamaged, get_blob_refs
from ledger.types import BlobRef, Block, ModelBody


class _Wrong(Exception):
    """A blob that is not what a block says; `height` is that block's."""

    def __init__(self, height: int, reason: str) -> None:
        super().__init__(reason)
        self.height = height
        self.reason = reason


class _Missing(_Wrong):
    """A blob that is not here."""


class RoundChecker:
    """The `check_round` of `audit`: reads every blob that a round names and computes its model again.

    A peer that was stopped may have blocks whose blobs it has not fetched yet (A3: a certificate obliges). So blobs may
    be missing at the end of the chain, as long as no later model is here: `pending_from` is the first such block.
    """

    def __init__(self, params: Params, store: Store, blobs: BlobStore, genesis_model: Path) -> None:
        self._params = params
        self._store = store
        self._blobs = blobs
        self._genesis_model = genesis_model
        self._model: Tensors = {}
        self._pending: _Missing | None = None
        self.bytes_read = 0

    @property
    def pending_from(self) -> int | None:
        """The first block whose blobs are not here yet; None when every aggregate was computed again."""
        return None if self._pending is None else self._pending.height

    def __call__(self, state: State, block: Block) -> str | None:
        """What is wrong with the model that `block` names, or None; raises `_Wrong` for a blob of another block."""
        body = block.body
        assert isinstance(body, ModelBody)
        if block.height == 0:
            self._model = self._decode(0, body.model, self._read_initial(body.model))
            return None
        if self._pending is None:
            try:
                return self._check_aggregate(state, block, body)
            except _Missing as missing:
                self._pending = missing
        if self._blobs.has(body.model.blob):
            raise self._pending
        return None

    def _check_aggregate(self, state: State, block: Block, body: ModelBody) -> str | None:
        self._check_listed(state, block)
        expected = self._aggregate(state, body)
        found = blob_ref(encode_tensors(expected))
        if found != body.model:
            return (
                f"the model is not the aggregate of its updates: recomputed {found.blob.hex()[:16]} of {found.size} "
                f"bytes, the block names {body.model.blob.hex()[:16]} of {body.model.size} (R7)"
            )
        self._read(block.height, body.model, "model")
        self._model = expected
        return None

    def _aggregate(self, state: State, body: ModelBody) -> Tensors:
        """R7, from the bytes on disk; an update that does not decode weighs 0 on every machine alike."""
        used = [update for update in state.updates if update.height not in body.missing]
        deltas = [(update.weight, delta) for update in used if (delta := self._delta(update)) is not None]
        if len(used) < self._params.updates_min:
            return self._model
        return aggregate(self._params.aggregation, self._model, deltas)

    def _delta(self, update: Accepted) -> Tensors | None:
        data = self._read(update.height, update.update, "update")
        try:
            return decode_delta(update.codec, data, self._model)
        except TensorError:
            return None

    def _check_listed(self, state: State, block: Block) -> None:
        """Blobs of updates that were not accepted need not be here; those that are must be whole (B1)."""
        accepted = {update.update.blob for update in state.updates}
        for height in range(block.height - self._params.round_length + 1, block.height):
            listed = self._store.block(height)
            for blob in get_blob_refs(listed) if listed is not None else []:
                if blob not in accepted and self._blobs.has(blob):
                    self._read(height, BlobRef(blob, self._blobs.size(blob)), "listed update")

    def _read(self, height: int, ref: BlobRef, what: str) -> bytes:
        try:
            data = self._blobs.read(ref.blob)
        except FileNotFoundError as error:
            path = self._blobs.path(ref.blob)
            raise _Missing(height, f"its {what} blob is missing: {path}") from error
        except BlobError as error:
            raise _Wrong(height, f"its {what} blob was changed: {error}") from error
        self.bytes_read += len(data)
        if len(data) != ref.size:
            raise _Wrong(height, f"its {what} blob has {len(data)} bytes, the block says {ref.size} (B1)")
        return data

    def _read_initial(self, ref: BlobRef) -> bytes:
        """The genesis model from the blob store, or from config/ where the peer has not started yet."""
        if self._blobs.has(ref.blob) or not self._genesis_model.is_file():
            return self._read(0, ref, "model")
        data = self._genesis_model.read_bytes()
        self.bytes_read += len(data)
        if BlobRef(blob_id(data), len(data)) != ref:
            raise _Wrong(0, f"{self._genesis_model} is not the initial model that genesis names (B1)")
        return data

    def _decode(self, height: int, ref: BlobRef, data: bytes) -> Tensors:
        try:
            return decode_tensors(data)
        except TensorError as error:
            raise _Wrong(height, f"its model {ref.blob.hex()[:16]} cannot be read: {error} (B2)") from error


def verify_chain(genesis: Genesis, store: Store, checker: RoundChecker) -> Iterator[Finding | State]:
    """Re-derive everything from genesis: yields the state after each batch, or one `Finding` and ends.

    The genesis model counts too: the first thing that is checked is #0.
    """
    height = 0
    try:
        for found in audit(genesis, store, checker):
            yield found
            if isinstance(found, State):
                height = found.height
    except _Wrong as wrong:
        yield Finding(wrong.height, wrong.reason)
    except StoreDamaged as error:
        yield Finding(height + 1, str(error))

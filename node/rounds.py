"""Reading rounds back from the chain: what a model was made of, and what must be derived again after a restart (A3)."""

from consensus.events import Aggregate, AggregateInput
from ledger.blobs import BlobStore, file_ref
from ledger.chain import Chain
from ledger.heights import first_height, model_height
from ledger.store import StoreDamaged
from ledger.types import BlobRef, Block, ModelBody, UpdateBody
from node.logs import get_log

log = get_log(__name__)


def read_block(chain: Chain, height: int) -> Block:
    """A block that must be there; raises `StoreDamaged`."""
    block = chain.store.block(height)
    if block is None:
        raise StoreDamaged(f"block #{height} is missing: stop the peer and run `fedchain-node chain verify`")
    return block


def read_model(chain: Chain, height: int) -> ModelBody:
    """The body of the model block at `height`; raises `StoreDamaged`."""
    body = read_block(chain, height).body
    if not isinstance(body, ModelBody):
        raise StoreDamaged(f"block #{height} is no model block (H2)")
    return body


def read_aggregate(chain: Chain, round: int) -> Aggregate:
    """The order that derives the model of a final round from its updates (R7)."""
    k = chain.params.round_length
    inputs = []
    for height in range(first_height(k, round), model_height(k, round)):
        body = read_block(chain, height).body
        if isinstance(body, UpdateBody):
            offer = body.offer
            inputs.append(AggregateInput(height, offer.trainer, offer.update, offer.codec, body.weight))
    base = read_model(chain, k * round).model
    final = read_model(chain, model_height(k, round))
    holders = tuple(item.trainer for item in inputs)
    return Aggregate(round, base, tuple(inputs), final.missing, holders)


def get_obligations(chain: Chain, blobs: BlobStore) -> list[Aggregate]:
    """The rounds whose model this machine has not derived yet, oldest first (A3): a crash, or a sync that was cut,
    leaves the chain ahead of the models. A round that kept the old model has nothing to derive (R7)."""
    owed: list[Aggregate] = []
    k = chain.params.round_length
    for round in range(chain.state.round.round - 1, -1, -1):
        if has_whole(blobs, read_model(chain, model_height(k, round)).model):
            break
        order = read_aggregate(chain, round)
        if len(order.updates) - len(order.missing) >= chain.params.updates_min:
            owed.append(order)
    return owed[::-1]


def has_whole(blobs: BlobStore, ref: BlobRef) -> bool:
    """Whether the blob is here and undamaged. A damaged file is removed: it can be had or derived again (B1)."""
    if not blobs.has(ref.blob):
        return False
    path = blobs.path(ref.blob)
    if file_ref(path) == ref:
        return True
    log.warning("a blob is damaged on disk: removed, to be had again", source=ref.blob.hex(), path=str(path))
    path.unlink()
    return False

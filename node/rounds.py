"""Reading rounds back from the chain: what a model was made of, and what must be derived again after a restart (A3)."""

from consensus.events import Aggregate, AggregateInput
from ledger.blobs import BlobStore
from ledger.chain import Chain
from ledger.heights import first_height, model_height
from ledger.store import StoreDamaged
from ledger.types import Block, ModelBody, UpdateBody


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
    leaves the chain ahead of the models."""
    owed: list[Aggregate] = []
    k = chain.params.round_length
    for round in range(chain.state.round.round - 1, -1, -1):
        if blobs.has(read_model(chain, model_height(k, round)).model.blob):
            break
        owed.append(read_aggregate(chain, round))
    return owed[::-1]

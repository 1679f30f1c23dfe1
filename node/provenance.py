"""Where a model comes from: a bundle of headers, certificates and blocks that proves it offline, from genesis.

It holds the genesis document; every batch's headers and certificate up to the model block; the lists of voters and the
committee whose hashes the headers name (S3); and in full the model block, the update slots of its round and the model
block before it. A holder needs the chain id (or the genesis document) from somewhere it trusts, and nothing else.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from ledger.certificate import InvalidCertificate, check_certificate
from ledger.codec import Bytes, CodecError, Int, Items, Record
from ledger.endorsement import ACCEPTED, get_outcome, get_value, get_weight
from ledger.genesis import GENESIS_BYTES_MAX, Genesis, GenesisError, parse_genesis
from ledger.heights import is_model_height, round_of
from ledger.params import Params
from ledger.settlement import make_genesis
from ledger.state import State, get_voters
from ledger.store import Store
from ledger.types import (
    MEMBERS_MAX,
    SLOTS_MAX,
    BlobRef,
    Block,
    Certificate,
    EmptyBody,
    Header,
    Key,
    ModelBody,
    UpdateBody,
    body_root,
    keys_hash,
)

BUNDLE_BYTES_MAX: Final = 256 << 20
LIST_MAX: Final = 32_768  # of one list in canonical bytes; a longer chain has more segments
_NO_BODY: Final = EmptyBody(())


class ProvenanceError(ValueError):
    """A bundle that proves nothing; the message names the block and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Link(Record):
    """One final batch without its bodies."""

    headers: Annotated[tuple[Header, ...], Items(SLOTS_MAX, 1)]
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Segment(Record):
    """Up to `LIST_MAX` consecutive batches."""

    links: Annotated[tuple[Link, ...], Items(LIST_MAX)]


@dataclass(frozen=True, slots=True)
class KeyList(Record):
    """Voters or a committee, in the order that their hash covers."""

    keys: Annotated[tuple[Key, ...], Items(MEMBERS_MAX)]


@dataclass(frozen=True, slots=True)
class Bundle(Record):
    """The whole file, in canonical bytes (S5)."""

    VERSION: ClassVar[int] = 1

    version: Annotated[int, Int(VERSION, VERSION)]
    genesis: Annotated[bytes, Bytes(GENESIS_BYTES_MAX, 1)]
    segments: Annotated[tuple[Segment, ...], Items(LIST_MAX)]
    voters: Annotated[tuple[KeyList, ...], Items(LIST_MAX)]
    committee: KeyList
    blocks: Annotated[tuple[Block, ...], Items(SLOTS_MAX + 1, 1)]


@dataclass(frozen=True, slots=True)
class Contribution:
    """One trainer's part in a model: its update, score and weight (R4, R7)."""

    height: int
    trainer: bytes
    value: int
    weight: int
    scorers: int
    used: bool


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a bundle proves."""

    genesis: Genesis
    height: int
    round: int | None
    model: BlobRef
    committee: tuple[bytes, ...]
    contributions: tuple[Contribution, ...]


# ------------------------------------------------------------------------------------------------------- making


def make_bundle(genesis: Genesis, store: Store, height: int, states: Iterable[State]) -> bytes:
    """The bundle of the model at `height`; `states` are those after each batch up to there, #0's first.

    Raises `ProvenanceError` where there is no model block or the bundle would be too large.
    """
    if not is_model_height(genesis.params.round_length, height):
        k = genesis.params.round_length
        raise ProvenanceError(f"#{height} is no model block: models stand at multiples of {k} (H2)")
    first = max(0, height - genesis.params.round_length)
    voters: dict[tuple[bytes, ...], None] = {}
    committee: tuple[bytes, ...] = ()
    for state in states:
        voters[get_voters(genesis.params, state)] = None
        if state.height == first < height:
            committee = state.round.committee
        if state.height >= height:
            break
    links = list(_links(store, height))
    bundle = Bundle(
        Bundle.VERSION,
        genesis.to_json().encode(),
        tuple(Segment(tuple(links[at : at + LIST_MAX])) for at in range(0, len(links), LIST_MAX)),
        tuple(map(KeyList, voters)),
        KeyList(committee),
        tuple(_block(store, at) for at in range(first, height + 1)),
    )
    data = bundle.encode()
    if len(data) > BUNDLE_BYTES_MAX:
        raise ProvenanceError(f"the bundle has {len(data)} bytes; at most {BUNDLE_BYTES_MAX} are allowed")
    return data


def _links(store: Store, height: int) -> Iterable[Link]:
    at = 1
    while at <= height:
        batch = store.batch_at(at)
        if batch is None:
            raise ProvenanceError(f"#{at}: no final batch starts here: run `fedchain-node chain verify`")
        yield Link(tuple(block.header for block in batch.blocks), batch.certificate)
        at = batch.certificate.last_height + 1


def _block(store: Store, height: int) -> Block:
    block = store.block(height)
    if block is None:
        raise ProvenanceError(f"#{height} is not in this chain yet")
    return block


# ---------------------------------------------------------------------------------------------------- verifying


def verify_bundle(data: bytes) -> Provenance:
    """What the bundle proves; raises `ProvenanceError` naming the block that is wrong."""
    bundle, genesis = _parse(data)
    first, state = make_genesis(genesis)
    headers = [first.header]
    voters = {keys_hash("voters", item.keys): item.keys for item in bundle.voters}
    voters[first.header.voters] = get_voters(genesis.params, state)
    for segment in bundle.segments:
        for link in segment.links:
            _check_link(genesis.params, headers[-1], link, voters)
            headers.extend(link.headers)
    if voters.keys() - {header.voters for header in headers}:
        raise ProvenanceError("the bundle lists voters that no block names (S3)")
    blocks = _check_blocks(genesis.params, headers, bundle.blocks, first)
    committee = bundle.committee.keys
    if len(blocks) == 1 and committee:
        raise ProvenanceError("#0: the genesis model has no committee, the bundle lists one (H2)")
    if len(blocks) > 1 and keys_hash("committee", committee) != blocks[0].header.committee:
        raise ProvenanceError(f"#{blocks[1].height}: the committee is not the one that #{blocks[0].height} names (S3)")
    contributions = _check_round(genesis, blocks, committee)
    model = blocks[-1].body
    if not isinstance(model, ModelBody):
        raise ProvenanceError(f"#{blocks[-1].height}: is no model block (H2)")
    height = blocks[-1].height
    round = round_of(genesis.params.round_length, height) if height else None
    return Provenance(genesis, height, round, model.model, committee, contributions)


def _parse(data: bytes) -> tuple[Bundle, Genesis]:
    if len(data) > BUNDLE_BYTES_MAX:
        raise ProvenanceError(f"{len(data)} bytes; a bundle has at most {BUNDLE_BYTES_MAX}")
    try:
        bundle = Bundle.decode(data)
        genesis = parse_genesis(bundle.genesis, "the bundle's genesis")
    except (CodecError, GenesisError) as error:
        raise ProvenanceError(f"no provenance bundle: {error}") from error
    if genesis.to_json().encode() != bundle.genesis:
        raise ProvenanceError("no provenance bundle: its genesis document is written in another form (S5)")
    return bundle, genesis


def _check_link(params: Params, last: Header, link: Link, voters: Mapping[bytes, Sequence[bytes]]) -> None:
    """One batch follows `last`, and the voters that `last` names made it final (S3, A1)."""
    known = _known(voters, last.voters, last.height + 1)
    for header in link.headers:
        where = f"#{last.height + 1}"
        if header.height != last.height + 1 or header.parent != last.id() or header.chain != last.chain:
            raise ProvenanceError(f"{where}: does not follow the block before it (S3)")
        if header.round != round_of(params.round_length, header.height) or header.time_ms < last.time_ms:
            raise ProvenanceError(f"{where}: wrong round, or time falls (H2, S3)")
        if (header.kind == ModelBody.TAG) != is_model_height(params.round_length, header.height):
            raise ProvenanceError(f"{where}: model blocks stand at multiples of k and nowhere else (H2, H4)")
        last = header
    # a certificate covers headers only: the bodies are not needed here
    stand_ins = [Block(header, _NO_BODY) for header in link.headers]
    try:
        check_certificate(link.certificate, stand_ins, known)
    except InvalidCertificate as error:
        raise ProvenanceError(f"#{link.headers[0].height}: {error}") from error


def _known(lists: Mapping[bytes, Sequence[bytes]], hash: bytes, height: int) -> tuple[bytes, ...]:
    keys = lists.get(hash)
    if keys is None:
        raise ProvenanceError(f"#{height}: the list that the block before it names is not in the bundle (S3)")
    return tuple(keys)


def _check_blocks(params: Params, headers: Sequence[Header], blocks: Sequence[Block], first: Block) -> list[Block]:
    """The full blocks are those of the last round, and the model block before it."""
    height = headers[-1].height
    expected = list(range(max(0, height - params.round_length), height + 1))
    if [block.height for block in blocks] != expected:
        raise ProvenanceError(f"#{height}: the bundle needs the full blocks #{expected[0]}..#{height}")
    for block in blocks:
        header = headers[block.height]
        if block.header != header or header.kind != block.body.TAG or body_root(block.body) != header.body_root:
            raise ProvenanceError(f"#{block.height}: the body is not the one that the header commits to (S3)")
    if expected[0] == 0 and blocks[0] != first:
        raise ProvenanceError("#0: is not the block that the genesis document founds (H2)")
    return list(blocks)


def _check_round(genesis: Genesis, blocks: Sequence[Block], committee: tuple[bytes, ...]) -> tuple[Contribution, ...]:
    """R3, R4: each update of the round stands on its own scores."""
    base, model = blocks[0].body, blocks[-1].body
    if not isinstance(base, ModelBody) or not isinstance(model, ModelBody):
        raise ProvenanceError(f"#{blocks[-1].height}: its round has no model block at either end (H2)")
    found: list[Contribution] = []
    for block in blocks[1:-1]:
        body = block.body
        if isinstance(body, UpdateBody):
            _check_update(genesis, block, body, base.model.blob, committee)
            used = block.height not in model.missing
            trainer = body.offer.trainer
            found.append(Contribution(block.height, trainer, body.value, body.weight, len(body.scores), used))
    if sum(item.used for item in found) < genesis.params.updates_min and len(blocks) > 1 and model.model != base.model:
        raise ProvenanceError(f"#{blocks[-1].height}: too few updates for another model (R7)")
    return tuple(found)


def _check_update(genesis: Genesis, block: Block, body: UpdateBody, base: bytes, committee: tuple[bytes, ...]) -> None:
    where, offer, scores = f"#{block.height}", body.offer, body.scores
    if (offer.chain, offer.round, offer.base) != (block.header.chain, block.header.round, base):
        raise ProvenanceError(f"{where}: its offer is for another chain, round or model (R2)")
    if offer.trainer in committee or not offer.is_signed():
        raise ProvenanceError(f"{where}: its offer is not signed by a trainer of the round (R2)")
    scorers = [score.scorer for score in scores]
    if scorers != sorted(set(scorers)) or not set(scorers) <= set(committee):
        raise ProvenanceError(f"{where}: somebody who is not on the committee scored, or twice (R3)")
    if any(score.offer != offer.id() or score.round != offer.round or not score.is_signed() for score in scores):
        raise ProvenanceError(f"{where}: a score is not signed, or is for another offer (R3)")
    params = genesis.params
    if get_outcome(params, scores, len(committee)) != ACCEPTED:
        raise ProvenanceError(f"{where}: its scores do not accept the update (R4)")
    if body.value != get_value(params, scores) or body.weight != get_weight(params, offer, scores):
        raise ProvenanceError(f"{where}: value or weight is not the one that the scores give (R4)")

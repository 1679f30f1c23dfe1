"""Writes the golden vectors: `python -m tests.ledger.make_vectors`. `test_vectors.py` checks that they still stand.

All byte strings are hexadecimal. Private keys are SHA-256 of `member 0`, `member 1` and so on (`member_key`).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ledger.blobs import blob_id, make_seal
from ledger.codec import Record
from ledger.election import next_seed, ticket
from ledger.keys import public_bytes
from ledger.merkle import EMPTY_ROOT, leaf_hash, merkle_root, node_hash, prove
from ledger.state import get_voters, seed_of_genesis
from ledger.types import PRECOMMIT, PREVOTE, Proposal, Signed, Vote, body_root
from tests.ledger.helpers_ledger import FAILING, ChainBuilder, beacon_of, member_key

FOLDER = Path(__file__).parent / "vectors"
LINKS = 8


def make_builder() -> ChainBuilder:
    """The consortium of all vectors: five members, c = 1, k = 3."""
    return ChainBuilder(n=5, c=1, k=3, rounds_max=4, beacon_links=LINKS)


def genesis_vector() -> dict[str, Any]:
    """The document, its canonical bytes and its hash."""
    genesis = make_builder().genesis
    return {
        "document": json.loads(genesis.to_json()),
        "canonical": genesis.canonical_bytes().hex(),
        "chain_id": genesis.chain_id.hex(),
    }


def _record(record: Record) -> dict[str, Any]:
    vector: dict[str, Any] = {"type": type(record).__name__, "encoding": record.encode().hex()}
    if isinstance(record, Signed):
        vector |= {
            "domain": record.DOMAIN,
            "author": record.author().hex(),
            "signing_bytes": record.signing_bytes().hex(),
            "signature": record.signature.hex(),
            "id": record.id().hex(),
        }
    return vector


def records_vector() -> list[dict[str, Any]]:
    """One of each signed record, and the parts of a block."""
    builder = make_builder()
    chain, trainer, scorer = builder.state.chain, builder.trainers[0], builder.committee[0]
    offer = builder.offer(trainer)
    blocks, _ = builder.blocks(builder.update_body(offer))
    header = blocks[0].header
    signed: list[Signed] = [
        offer,
        builder.score(offer, scorer),
        builder.score(offer, scorer, code=5),
        builder.present(trainer),
        builder.sign(Vote(chain, 1, 0, PREVOTE, 0, b"", trainer)),
        builder.sign(Vote(chain, 1, 2, PRECOMMIT, 1, header.id(), trainer)),
        builder.sign(Proposal(chain, 1, 2, 0, 1, header.id(), scorer)),
    ]
    return [_record(record) for record in [*signed, offer.update, header, blocks[0].body, blocks[0]]]


def merkle_vector() -> dict[str, Any]:
    """A tree of five entries, all its proofs, and one leaf and one node."""
    entries = {b"key %d" % at: b"value %d" % at for at in range(5)}
    proofs = []
    for key in sorted(entries):
        proof = prove(entries, key)
        siblings = [[item.left, item.hash.hex()] for item in proof.siblings]
        proofs.append({"key": key.hex(), "value": proof.value.hex(), "siblings": siblings})
    return {
        "empty": EMPTY_ROOT.hex(),
        "leaf": {"key": b"k".hex(), "value": b"v".hex(), "hash": leaf_hash(b"k", b"v").hex()},
        "node": {"left": "00" * 32, "right": "11" * 32, "hash": node_hash(bytes(32), b"\x11" * 32).hex()},
        "root": merkle_root(entries).hex(),
        "proofs": proofs,
    }


def election_vector() -> dict[str, Any]:
    """A beacon chain, seeds and tickets."""
    chain = make_builder().genesis.chain_id
    seed = seed_of_genesis(chain)
    keys = [public_bytes(member_key(at)) for at in range(5)]
    reveals = [(keys[at], beacon_of(at, LINKS)[LINKS - 1]) for at in (2, 0)]
    return {
        "private_key": member_key(0).private_bytes_raw().hex(),
        "purpose": b"tests".hex(),
        "beacon": [link.hex() for link in beacon_of(0, LINKS)],
        "seed_0": seed.hex(),
        "reveals": [[key.hex(), link.hex()] for key, link in reveals],
        "seed_1": next_seed(seed, reveals).hex(),
        "tickets": [
            {"purpose": purpose, "seed": seed.hex(), "round": 3, "member": key.hex(),
             "ticket": ticket(purpose, seed, 3, key).hex()}
            for purpose in ("committee", "trainer") for key in keys
        ],
    }  # fmt: skip


def chain_vector() -> dict[str, Any]:
    """Three rounds: all accepted; one accepted and one rejected with an empty slot; nobody came."""
    builder = make_builder()
    states = [builder.state]
    builder.full_round()
    states.append(builder.state)
    builder.full_round(accept=[], reject=builder.trainers[:1], silent=builder.trainers[1:])
    states.append(builder.state)
    offer = builder.offer(builder.trainers[0])
    late = builder.score(offer, builder.committee[0], FAILING)
    first = builder.unfilled(offer.trainer, offer)
    others = [builder.unfilled(trainer) for trainer in builder.trainers[1:]]
    builder.append(builder.close_body([first, *others]), *builder.fill_slots(accept=[])[1:])
    builder.append(builder.model_body(late=(late,)))
    states.append(builder.state)
    blocks = [block for block in map(builder.store.block, range(builder.state.height + 1)) if block]
    return {
        "genesis": json.loads(builder.genesis.to_json()),
        "voters": [key.hex() for key in get_voters(builder.params, builder.state)],
        "blocks": [
            {"id": block.header.id().hex(), "body_root": body_root(block.body).hex(), "encoding": block.encode().hex()}
            for block in blocks
        ],
        "certificates": [batch.certificate.encode().hex() for batch in builder.chain.batches()],
        "rounds": [
            {
                "seed": state.round.seed.hex(),
                "committee": [key.hex() for key in state.round.committee],
                "trainers": [key.hex() for key in state.round.trainers],
                "state": state.encode().hex(),
                "state_root": state.root().hex(),
            }
            for state in states
        ],
    }


def blobs_vector() -> list[dict[str, Any]]:
    """Blob ids and seals of member 0 around the chunk size; the content repeats the bytes 0 to 250."""
    sizes = (0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20)
    pattern = bytes(range(251))
    contents = [(pattern * (size // 251 + 1))[:size] for size in sizes]
    trainer = public_bytes(member_key(0))
    return [{"size": len(data), "id": blob_id(data).hex(), "seal": make_seal(trainer, data).hex()} for data in contents]


VECTORS: dict[str, Callable[[], Any]] = {
    "genesis": genesis_vector,
    "records": records_vector,
    "merkle": merkle_vector,
    "election": election_vector,
    "blobs": blobs_vector,
    "chain": chain_vector,
}


def main() -> None:
    """Write every vector file."""
    FOLDER.mkdir(exist_ok=True)
    for name, build in VECTORS.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(build(), indent=1) + "\n")


if __name__ == "__main__":
    main()

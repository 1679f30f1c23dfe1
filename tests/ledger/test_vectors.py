"""The golden vectors: today's bytes are tomorrow's, and an outsider finds the same (S5, docs/format.md)."""

import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.chain import Chain
from ledger.codec import Record
from ledger.genesis import parse_genesis
from ledger.state import State
from ledger.store import MemoryStore
from ledger.types import Block, Certificate, FinalBatch
from tests.ledger.make_vectors import FOLDER, VECTORS
from tests.ledger.outsider import Outsider, packed, pairs, sha
from tests.ledger.strategies_ledger import RECORDS


def load(name: str) -> Any:
    """A vector file's content."""
    return json.loads((FOLDER / f"{name}.json").read_text())


CHAIN: dict[str, Any] = load("chain")
BLOCKS = [bytes.fromhex(block["encoding"]) for block in CHAIN["blocks"]]
CERTIFICATES = [bytes.fromhex(data) for data in CHAIN["certificates"]]


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_the_code_still_makes_the_published_vectors(name: str) -> None:
    # a difference means that old chains would no longer verify: see docs/format.md before changing a vector
    assert json.loads(json.dumps(VECTORS[name]())) == load(name)


def test_every_vector_file_is_made_by_the_script() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == sorted(VECTORS)


# --------------------------------------------------------------------------------------- found without the ledger


def test_an_outsider_finds_the_chain_id() -> None:
    vector = load("genesis")
    canonical = packed(pairs(vector["document"]))
    assert canonical.hex() == vector["canonical"]
    assert sha("genesis", canonical).hex() == vector["chain_id"]
    assert parse_genesis(json.dumps(vector["document"])).chain_id.hex() == vector["chain_id"]


@pytest.mark.parametrize("vector", load("records"), ids=lambda vector: str(vector["type"]))
def test_an_outsider_finds_signing_bytes_ids_and_signatures(vector: dict[str, str]) -> None:
    cls: type[Record] = next(cls for cls in RECORDS if cls.__name__ == vector["type"])
    assert cls.decode(bytes.fromhex(vector["encoding"])).encode().hex() == vector["encoding"]
    if "domain" in vector:
        signing_bytes = bytes.fromhex(vector["signing_bytes"])
        assert sha(vector["domain"], signing_bytes).hex() == vector["id"]
        author = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vector["author"]))
        author.verify(bytes.fromhex(vector["signature"]), signing_bytes)


def test_an_outsider_finds_the_merkle_tree() -> None:
    # S2
    vector = load("merkle")
    assert sha("empty").hex() == vector["empty"]
    assert sha("leaf", b"\x00\x00\x00\x01k", b"v").hex() == vector["leaf"]["hash"]
    assert sha("node", bytes(32), b"\x11" * 32).hex() == vector["node"]["hash"]
    for proof in vector["proofs"]:
        key, value = bytes.fromhex(proof["key"]), bytes.fromhex(proof["value"])
        node = sha("leaf", len(key).to_bytes(4, "big"), key, value)
        for left, sibling in proof["siblings"]:
            pair = (bytes.fromhex(sibling), node) if left else (node, bytes.fromhex(sibling))
            node = sha("node", *pair)
        assert node.hex() == vector["root"]


def test_an_outsider_finds_beacon_seeds_and_tickets() -> None:
    # R9
    vector = load("election")
    link = sha("beacon-seed", bytes.fromhex(vector["private_key"]), bytes.fromhex(vector["purpose"]))
    for expected in vector["beacon"]:
        assert link.hex() == expected
        link = sha("beacon", link)
    chain_id = bytes.fromhex(load("genesis")["chain_id"])
    assert sha("seed", chain_id).hex() == vector["seed_0"]
    links = [bytes.fromhex(link) for _, link in sorted(vector["reveals"])]
    assert sha("seed", bytes.fromhex(vector["seed_0"]), *links).hex() == vector["seed_1"]
    for item in vector["tickets"]:
        parts = (bytes.fromhex(item["seed"]), item["round"].to_bytes(8, "big"), bytes.fromhex(item["member"]))
        assert sha("ticket-" + item["purpose"], *parts).hex() == item["ticket"]


def test_an_outsider_finds_the_blob_ids_and_seals() -> None:
    # B1, B4
    trainer = bytes.fromhex(CHAIN["genesis"]["members"][0]["member_key"])
    pattern = bytes(range(251))
    for item in load("blobs"):
        data = (pattern * (item["size"] // 251 + 1))[: item["size"]]
        chunks = [data[at : at + 2**20] for at in range(0, max(1, len(data)), 2**20)]
        digests = b"".join(hashlib.sha256(chunk).digest() for chunk in chunks)
        assert hashlib.sha256(digests).hexdigest() == item["id"]
        assert sha("seal", trainer, data).hex() == item["seal"]


def test_an_outsider_follows_the_chain_and_its_elections() -> None:
    # Y1, R9
    outsider = Outsider(CHAIN["genesis"])
    ids = []
    for at, data in enumerate(BLOCKS):
        if at % 3 == 1:
            expected = CHAIN["rounds"][at // 3]
            assert outsider.seed.hex() == expected["seed"]
            assert [key.hex() for key in outsider.committee] == expected["committee"]
            assert [key.hex() for key in outsider.trainers()] == expected["trainers"]
        ids.append(outsider.follow(data))
        assert ids[-1].hex() == CHAIN["blocks"][at]["id"]
    for certificate in CERTIFICATES:
        outsider.check_certificate(certificate, ids)


def test_an_outsider_refuses_a_changed_chain() -> None:
    outsider = Outsider(CHAIN["genesis"])
    outsider.follow(BLOCKS[0])
    changed = bytearray(BLOCKS[1])
    changed[-1] ^= 1
    with pytest.raises(AssertionError):
        outsider.follow(bytes(changed))


# ------------------------------------------------------------------------------------------- and with the ledger


def test_the_ledger_imports_the_published_chain() -> None:
    chain = Chain(parse_genesis(json.dumps(CHAIN["genesis"])), MemoryStore())
    blocks = [Block.decode(data) for data in BLOCKS]
    assert chain.genesis_block == blocks[0]
    states = [chain.state]
    for data in CERTIFICATES:
        certificate = Certificate.decode(data)
        batch = FinalBatch(tuple(blocks[certificate.instance : certificate.last_height + 1]), certificate)
        state = chain.import_batch(batch)
        if state.height % 3 == 0:
            states.append(state)
    assert [state.encode().hex() for state in states] == [item["state"] for item in CHAIN["rounds"]]


def test_the_published_states_have_the_roots_of_their_headers() -> None:
    for at, item in enumerate(CHAIN["rounds"]):
        state = State.decode(bytes.fromhex(item["state"]))
        header = Block.decode(BLOCKS[3 * at]).header
        assert state.root() == header.state_root == bytes.fromhex(item["state_root"])


def test_the_keys_of_the_vectors_are_the_ones_that_the_document_describes() -> None:
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"member 0").digest())
    assert key.public_key().public_bytes_raw().hex() == CHAIN["genesis"]["members"][0]["member_key"]

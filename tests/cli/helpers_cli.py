"""A consortium on disk without a network: homes made by the commands, and a real chain of real updates in one of them.

The models are a few numbers, but every blob, aggregate, signature and certificate is genuine.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cli.init import find_me, make_config, make_home
from cli.keys import create_member
from cli.main import run
from fl.aggregation import aggregate
from fl.codecs import decode_delta, encode_delta
from fl.tensors import Tensors, encode_tensors
from ledger.blobs import BlobStore, blob_ref
from ledger.chain import Chain
from ledger.genesis import Genesis, GenesisModel
from ledger.params import Params
from ledger.store import LevelStore
from ledger.types import BlobRef, FinalBatch, Offer
from node.home import Home
from node.keyfiles import load_member_key
from node.member_card import beacon_links, load_card
from tests.ledger.helpers_ledger import ChainBuilder

CHAIN = "tests"
LINKS = 16
INITIAL: Tensors = {"bias": np.zeros(2, np.float32), "weight": np.arange(6, dtype=np.float32).reshape(2, 3)}


@dataclass(frozen=True)
class Ran:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """Runs command lines in this process, as the script would; keeps what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> Ran:
        self._capsys.readouterr()
        code = run([str(word) for word in words])
        captured = self._capsys.readouterr()
        return Ran(code, captured.out, captured.err)


def make_members(folder: Path, count: int) -> list[Home]:
    """Homes with keys and cards for peer-0, peer-1, ..."""
    homes = [Home(folder / f"peer-{index}") for index in range(count)]
    for index, home in enumerate(homes):
        create_member(home, home.path.name, "", f"127.0.0.1:{27_000 + index}", CHAIN, LINKS)
    return homes


def make_genesis(folder: Path, homes: list[Home], **rules: Any) -> tuple[Path, Path]:
    """genesis.json and the initial model's file, for members of `homes`."""
    data = encode_tensors(INITIAL)
    ref = blob_ref(data)
    given: dict[str, Any] = {"round_length": 3, "rounds_max": 8, "committee_size": 2, "beacon_links": LINKS}
    given |= {"batch_max": 2, "test_set": "local", **rules}
    genesis = Genesis(
        chain=CHAIN,
        time_ms=1_700_000_000_000,
        params=Params(**given),
        model=GenesisModel(blob=ref.blob, size=ref.size, task="digits"),
        members=tuple(load_card(home.keys.folder / "card.json").to_member() for home in homes),
    )
    document, model = folder / "genesis.json", folder / "genesis-model.safetensors"
    document.write_text(genesis.to_json())
    model.write_bytes(data)
    return document, model


class HomeBuilder(ChainBuilder):
    """A `ChainBuilder` on the LevelDB and blob store of the first of `homes`; `grow` plays real rounds."""

    def __init__(self, homes: list[Home], genesis: Genesis) -> None:
        self.home = homes[0]
        self.genesis, self.params = genesis, genesis.params
        keys = [load_member_key(home.keys.member_key) for home in homes]
        self._keys = {member.member_key: key for member, key in zip(genesis.members, keys, strict=True)}
        self.indices = {member.member_key: index for index, member in enumerate(genesis.members)}
        self.store = LevelStore(self.home.chain, genesis.chain_id)
        self.chain = Chain(genesis, self.store)
        self.blobs = BlobStore(self.home.blobs)
        self.model = INITIAL
        self.blobs.put_bytes(encode_tensors(INITIAL))

    def key(self, member: bytes) -> Ed25519PrivateKey:
        return self._keys[member]

    def reveal(self, member: bytes, round: int) -> bytes:
        return beacon_links(self.key(member), CHAIN, LINKS)[LINKS - 1 - round]

    def offer(self, trainer: bytes, **changes: Any) -> Offer:
        return super().offer(trainer, update=self._store_update(trainer), **changes)

    def _store_update(self, trainer: bytes) -> BlobRef:
        seed = [self.state.round.round, self.indices[trainer]]
        generator = np.random.default_rng(seed)
        delta = {name: generator.standard_normal(array.shape).astype(np.float32) for name, array in self.model.items()}
        data, _ = encode_delta("f32", delta, None)
        return self.blobs.put_bytes(data)

    def grow(self, rounds: int, reject: int = 0) -> None:
        """Play rounds in which the last `reject` trainers are rejected, with true aggregates."""
        for _ in range(rounds):
            slots = self.append(*self.fill_slots(reject=self.trainers[len(self.trainers) - reject :]))
            self.model = self._aggregate(slots)
            self.append(self.model_body(self.blobs.put_bytes(encode_tensors(self.model))))

    def _aggregate(self, slots: FinalBatch) -> Tensors:
        updates = [
            (update.weight, decode_delta(update.codec, self.blobs.read(update.update.blob), self.model))
            for update in self.state.updates
        ]
        assert len(updates) <= len(slots.blocks)
        return aggregate("fedavg", self.model, updates)


def make_chain_home(folder: Path, rounds: int = 3, reject: int = 0, **rules: Any) -> Home:
    """A stopped peer's home whose chain has `rounds` final rounds; six members, c = 2, k = 3."""
    homes = make_members(folder, 6)
    document, model = make_genesis(folder, homes, **rules)
    genesis = Genesis.model_validate_json(document.read_text())
    config = make_config(genesis, find_me(genesis, homes[0]), "127.0.0.1:0", "127.0.0.1:0", {}, None)
    make_home(homes[0], document, model, config)
    builder = HomeBuilder(homes, genesis)
    try:
        builder.grow(rounds, reject)
    finally:
        builder.store.close()
    return homes[0]

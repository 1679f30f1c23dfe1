"""A verifier from docs/format.md alone: hashlib, msgpack and Ed25519, not one line of the ledger's own code.

It checks what an observer with the genesis document and the stored batches can check without keeping the state:
chain id, links, body roots, certificates, signatures of offers and scores, beacon links, seeds and committees.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

UPDATE, EMPTY, MODEL = 1, 2, 3
HEIGHT, KIND, ROUND, PARENT, BODY_ROOT = 2, 3, 4, 5, 8


def sha(domain: str, *parts: bytes) -> bytes:
    """SHA-256 over `fedchain/1/`, the domain, a zero byte, and the parts."""
    return hashlib.sha256(b"fedchain/1/" + domain.encode() + b"\x00" + b"".join(parts)).digest()


def packed(value: Any) -> bytes:
    data: bytes = msgpack.packb(value)
    return data


def pairs(value: Any) -> Any:
    """The nested [name, value] pairs of a genesis document."""
    if isinstance(value, dict):
        return [[name, pairs(value[name])] for name in sorted(value)]
    if isinstance(value, list):
        return [pairs(item) for item in value]
    return int(value) if isinstance(value, bool) else value


def is_signed(author: bytes, domain: str, fields: list[Any]) -> bool:
    """Whether the last field is the author's signature over the domain and the fields before it."""
    try:
        Ed25519PublicKey.from_public_bytes(author).verify(fields[-1], packed([domain, *fields[:-1]]))
    except InvalidSignature:
        return False
    return True


@dataclass
class Outsider:
    """Follows a chain from its genesis document."""

    document: dict[str, Any]
    committee: list[bytes] = field(default_factory=list)
    seed: bytes = b""
    draw_seed: bytes = b""
    round: int = 0
    reveals: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chain = sha("genesis", packed(pairs(self.document)))
        self.params = self.document["params"]
        self.members = sorted(bytes.fromhex(item["member_key"]) for item in self.document["members"])
        tips = {item["member_key"]: item["beacon_tip"] for item in self.document["members"]}
        links = self.params["beacon_links"]
        self.links = {bytes.fromhex(key): (bytes.fromhex(tip), links) for key, tip in tips.items()}
        self.seed = self.draw_seed = sha("seed", self.chain)
        self.committee = self.draw("committee", self.draw_seed, self.params["committee_size"], set())
        self.parent = b""

    def draw(self, purpose: str, seed: bytes, count: int, without: set[bytes]) -> list[bytes]:
        """The `count` lowest tickets among the members outside `without`."""
        able = [key for key in self.members if key not in without]
        place = self.round.to_bytes(8, "big")
        return sorted(able, key=lambda key: sha("ticket-" + purpose, seed, place, key))[:count]

    def trainers(self) -> list[bytes]:
        """The open round's trainers."""
        return sorted(self.draw("trainer", self.draw_seed, self.params["round_length"] - 1, set(self.committee)))

    def follow(self, data: bytes) -> bytes:
        """Check one block's place, link, body and signatures; return its id."""
        header, body = msgpack.unpackb(data)
        assert packed([header, body]) == data
        assert header[:2] == [1, self.chain]
        assert header[PARENT] == (self.parent or sha("genesis-parent"))
        kind, fields = body[0], body[1:]
        assert header[KIND] == kind
        assert header[BODY_ROOT] == sha("body", bytes([kind]), packed(fields))
        self.parent = sha("header", packed(header))
        if header[HEIGHT]:
            assert header[ROUND] == self.round
            assert (kind == MODEL) == (header[HEIGHT] % self.params["round_length"] == 0)
            self._body(kind, fields)
        return self.parent

    def _body(self, kind: int, fields: list[Any]) -> None:
        if kind == UPDATE:
            self._offer(fields[0], fields[1])
        elif kind == EMPTY:
            for _trainer, offers, scores in fields[0]:
                for offer in offers:
                    self._offer(offer, scores)
        else:
            for score in fields[2]:
                assert is_signed(score[3], "score", score)
            self._next_round()

    def _offer(self, offer: list[Any], scores: list[list[Any]]) -> None:
        trainer, reveal = offer[2], offer[8]
        assert offer[:2] == [self.chain, self.round]
        assert trainer in self.trainers()
        assert is_signed(trainer, "offer", offer)
        link, index = self.links[trainer]
        known = reveal
        for _ in range(index - (self.params["beacon_links"] - 1 - self.round)):
            known = sha("beacon", known)
        assert known == link
        self.reveals[trainer] = reveal
        offer_id = sha("offer", packed(["offer", *offer[:-1]]))
        for score in scores:
            assert score[:3] == [self.chain, self.round, offer_id]
            assert score[3] in self.committee
            assert is_signed(score[3], "score", score)

    def _next_round(self) -> None:
        index = self.params["beacon_links"] - 1 - self.round
        self.links.update({key: (link, index) for key, link in self.reveals.items()})
        before, sitting = self.seed, set(self.committee)
        self.seed = sha("seed", before, *(self.reveals[key] for key in sorted(self.reveals)))
        self.draw_seed, self.reveals, self.round = before, {}, self.round + 1
        self.committee = self.draw("committee", before, self.params["committee_size"], sitting)

    def check_certificate(self, data: bytes, block_ids: list[bytes]) -> None:
        """A certificate of more than 2/3 of all members (`voters` = `members`) for a block that was followed."""
        chain, instance, round, last_height, last_hash, precommits = msgpack.unpackb(data)
        assert chain == self.chain
        assert block_ids[last_height] == last_hash
        voters = [voter for voter, _ in precommits]
        assert voters == sorted(set(voters))
        assert set(voters) <= set(self.members)
        assert 3 * len(voters) > 2 * len(self.members)
        for voter, signature in precommits:
            vote = [chain, instance, round, 2, last_height, last_hash, voter, signature]
            assert is_signed(voter, "vote", vote)


def outsider_of(document: str) -> Outsider:
    """The verifier for a genesis document."""
    return Outsider(json.loads(document))

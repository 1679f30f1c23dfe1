"""A second reader of the chain, written from docs/protocol.md and docs/format.md alone: hashlib, msgpack and LevelDB,
nothing of this project. It draws every committee and every trainer again from the reveals on chain (R9)."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import plyvel

UPDATE, EMPTY, MODEL = 1, 2, 3
KIND, ROUND, PARENT, COMMITTEE_HASH = 3, 4, 5, 11  # fields of a header (S3)
TRAINER, REVEAL = 2, 8  # fields of an offer (R2)
SCORER = 3  # field of a score (R3)


def h(domain: str, *parts: bytes) -> bytes:
    """digest(domain) of docs/format.md."""
    return hashlib.sha256(b"fedchain/1/" + domain.encode() + b"\0" + b"".join(parts)).digest()


@dataclass(frozen=True)
class Founders:
    """What a genesis.json says, as far as elections go."""

    chain_id: bytes
    beacon_tips: dict[bytes, bytes]
    k: int
    c: int
    links: int


def read_genesis(path: Path) -> Founders:
    """The chain id is the hash of the document, with JSON's texts, as nested [name, value] pairs in order of name."""
    document = json.loads(path.read_text())
    params = document["params"]
    return Founders(
        chain_id=h("genesis", msgpack.packb(_pairs(document), use_bin_type=True)),
        beacon_tips={bytes.fromhex(m["member_key"]): bytes.fromhex(m["beacon_tip"]) for m in document["members"]},
        k=params["round_length"],
        c=params["committee_size"],
        links=params["beacon_links"],
    )


def _pairs(value: Any) -> Any:
    if isinstance(value, dict):
        return [[name, _pairs(value[name])] for name in sorted(value)]
    if isinstance(value, list):
        return [_pairs(item) for item in value]
    return int(value) if isinstance(value, bool) else value


def read_raw_blocks(chain_folder: Path) -> Iterator[tuple[list[Any], list[Any]]]:
    """(header, body) of each block from #0 on, as plain lists; the key is `b` and the height, 8 bytes."""
    db = plyvel.DB(str(chain_folder), create_if_missing=False)
    try:
        for key, value in db.iterator(prefix=b"b"):
            if len(key) == 9:
                header, body = msgpack.unpackb(value, raw=False)
                yield header, body
    finally:
        db.close()


@dataclass(frozen=True)
class Drawn:
    """Who was drawn for a round."""

    committee: list[bytes]
    trainers: set[bytes]


def _lowest(purpose: str, seed: bytes, number: int, members: list[bytes], count: int) -> list[bytes]:
    order = sorted(members, key=lambda key: h(f"ticket-{purpose}", seed, number.to_bytes(8, "big"), key))
    return order[:count]


def draw(founders: Founders, seed: bytes, number: int, sitting: list[bytes]) -> Drawn:
    """R9, policy `draw`, while every member is active: nobody who sits is drawn, whoever sits next does not train."""
    members = sorted(founders.beacon_tips)
    committee = _lowest("committee", seed, number, [key for key in members if key not in sitting], founders.c)
    able = [key for key in members if key not in committee]
    return Drawn(committee, set(_lowest("trainer", seed, number, able, founders.k - 1)))


def reveals_of(bodies: list[list[Any]]) -> dict[bytes, bytes]:
    """The beacon links of a round's listed offers by member key."""
    offers = [body[1] for body in bodies if body[0] == UPDATE]
    offers += [offer for body in bodies if body[0] == EMPTY for item in body[1] for offer in item[1]]
    return {offer[TRAINER]: offer[REVEAL] for offer in offers}


def is_link(founders: Founders, member: bytes, link: bytes, number: int) -> bool:
    """Whether `link` is link L-1-t of the chain whose tip genesis has."""
    for _ in range(number + 1):
        link = h("beacon", link)
    return link == founders.beacon_tips[member]


def redraw(founders: Founders, rounds: list[list[list[Any]]]) -> list[Drawn]:
    """Committee and trainers of every round and of the one after the last; `rounds` are the bodies of each."""
    seed = h("seed", founders.chain_id)
    drawn = [draw(founders, seed, 0, [])]
    for number, bodies in enumerate(rounds):
        drawn.append(draw(founders, seed, number + 1, drawn[-1].committee))
        reveals = reveals_of(bodies)
        assert all(is_link(founders, member, link, number) for member, link in reveals.items())
        seed = h("seed", seed, *(reveals[member] for member in sorted(reveals)))
    return drawn

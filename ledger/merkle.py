"""A Merkle tree over sorted entries (S2): the state root, and short proofs that an entry stands in it.

Leaves and inner nodes are hashed in domains of their own (RFC 6962, section 2.1, keeps them apart with 0x00 and 0x01).
A level of odd length passes its last node up unchanged, so no entry is ever counted twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from ledger.codec import Bytes, Int, Items, Record
from ledger.keys import HASH_BYTES, digest

DEPTH_MAX = 40
KEY_BYTES_MAX = 128
VALUE_BYTES_MAX = 1 << 20


@lru_cache(maxsize=65_536)
def leaf_hash(key: bytes, value: bytes) -> bytes:
    """Hash of one entry: the key's length, the key, the value."""
    return digest("leaf", len(key).to_bytes(4, "big"), key, value)


@lru_cache(maxsize=65_536)
def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return digest("node", left, right)


EMPTY_ROOT = digest("empty")


def _parents(level: Sequence[bytes]) -> list[bytes]:
    parents = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return [*parents, level[-1]] if len(level) % 2 else parents


def merkle_root(entries: Mapping[bytes, bytes]) -> bytes:
    """The root over the entries in order of key; an empty mapping has a root of its own."""
    level = [leaf_hash(key, entries[key]) for key in sorted(entries)]
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        level = _parents(level)
    return level[0]


@dataclass(frozen=True, slots=True)
class Sibling(Record):
    """One step of a proof: the neighbour's hash, and whether it stands on the left (1) or right (0)."""

    left: Annotated[int, Int(0, 1)]
    hash: Annotated[bytes, Bytes(HASH_BYTES)]


@dataclass(frozen=True, slots=True)
class Proof(Record):
    """That `key` has `value` under a root: the siblings from the leaf upwards (S2)."""

    key: Annotated[bytes, Bytes(KEY_BYTES_MAX, 0)]
    value: Annotated[bytes, Bytes(VALUE_BYTES_MAX, 0)]
    siblings: Annotated[tuple[Sibling, ...], Items(DEPTH_MAX)]

    def root(self) -> bytes:
        """The root that this proof leads to."""
        node = leaf_hash(self.key, self.value)
        for sibling in self.siblings:
            node = node_hash(sibling.hash, node) if sibling.left else node_hash(node, sibling.hash)
        return node


def prove(entries: Mapping[bytes, bytes], key: bytes) -> Proof:
    """The proof for `key`; raises `KeyError` when there is no such entry."""
    keys = sorted(entries)
    if key not in entries:
        raise KeyError(key)
    at = keys.index(key)
    level = [leaf_hash(name, entries[name]) for name in keys]
    siblings = []
    while len(level) > 1:
        neighbour = at ^ 1
        if neighbour < len(level):
            siblings.append(Sibling(int(neighbour < at), level[neighbour]))
        level, at = _parents(level), at // 2
    return Proof(key, entries[key], tuple(siblings))

"""Hashes, Ed25519 keys and the beacon's hash chain (R9).

Every hash and signature is separated by a domain string, so that bytes made for one purpose mean nothing for another.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

DOMAIN_PREFIX = "fedchain/1/"
HASH_BYTES = 32
KEY_BYTES = 32
SIGNATURE_BYTES = 64
VERIFIED_CACHE_MAX = 16_384
BEACON_LINKS_MAX = 100_000


def digest(domain: str, *parts: bytes) -> bytes:
    """SHA-256 over the domain, a zero byte and the parts; all parts but the last must have fixed lengths."""
    return digest_stream(domain, parts)


def digest_stream(domain: str, parts: Iterable[bytes]) -> bytes:
    """`digest` of parts that come one after another, so that a long last one may come in pieces."""
    hasher = hashlib.sha256(f"{DOMAIN_PREFIX}{domain}".encode() + b"\0")
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 raw bytes of the key's public half: a member is known by them."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@lru_cache(maxsize=1024)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)


@lru_cache(maxsize=VERIFIED_CACHE_MAX)
def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` (64 bytes) by `public` (32 bytes) stands for `message` (RFC 8032); results are remembered."""
    try:
        _public_key(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def beacon_chain(key: Ed25519PrivateKey, links: int, purpose: bytes) -> list[bytes]:
    """Links 0..`links` of the member's hash chain: link 0 comes from the member key, link i+1 = H(link i); the last is
    the tip that goes on chain (R9). `purpose` separates consortia, so that one key reveals nothing across chains."""
    if not 1 <= links <= BEACON_LINKS_MAX:
        raise ValueError(f"a beacon chain has 1 to {BEACON_LINKS_MAX} links, not {links}")
    link = digest("beacon-seed", key.private_bytes_raw(), purpose)
    chain = [link]
    for _ in range(links):
        link = digest("beacon", link)
        chain.append(link)
    return chain


def is_beacon_link(link: bytes, index: int, known: bytes, known_index: int) -> bool:
    """Whether `link` stands at `index` of the chain whose later link `known` stands at `known_index` (R9)."""
    if not 0 <= index < known_index <= BEACON_LINKS_MAX:
        return False
    for _ in range(known_index - index):
        link = digest("beacon", link)
    return link == known

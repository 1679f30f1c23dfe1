"""Hashes, signatures, and the beacon's hash chain (R9)."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.keys import (
    BEACON_LINKS_MAX,
    HASH_BYTES,
    beacon_chain,
    digest,
    is_beacon_link,
    public_bytes,
    verify,
)
from tests.ledger.helpers_ledger import member_key

KEY = member_key(0)
PUBLIC = public_bytes(KEY)
MESSAGE = b"a message"
SIGNATURE = KEY.sign(MESSAGE)
LINKS = 12
CHAIN = beacon_chain(KEY, LINKS, b"here")


# ---------------------------------------------------------------------------------------------------- hashes


def test_a_digest_is_sha256_over_domain_zero_byte_and_parts() -> None:
    assert digest("leaf", b"a", b"b") == hashlib.sha256(b"fedchain/1/leaf\x00ab").digest()
    assert digest("empty") == hashlib.sha256(b"fedchain/1/empty\x00").digest()


@given(st.binary(max_size=40))
@settings(max_examples=30)
def test_different_domains_give_different_digests(data: bytes) -> None:
    domains = ["offer", "score", "header", "leaf", "node", "seed", "beacon"]
    assert len({digest(domain, data) for domain in domains}) == len(domains)


def test_a_domain_is_never_the_beginning_of_another_domains_input() -> None:
    assert digest("ab", b"c") != digest("a", b"bc")


# ------------------------------------------------------------------------------------------------ signatures


def test_a_public_key_has_32_raw_bytes() -> None:
    assert len(PUBLIC) == HASH_BYTES
    assert KEY.public_key().public_bytes_raw() == PUBLIC


def test_a_signature_stands_for_its_message_and_author_only() -> None:
    assert verify(PUBLIC, SIGNATURE, MESSAGE)
    assert not verify(PUBLIC, SIGNATURE, MESSAGE + b".")
    assert not verify(public_bytes(member_key(1)), SIGNATURE, MESSAGE)


@given(st.integers(0, 63), st.integers(1, 255))
@settings(max_examples=60)
def test_a_signature_with_a_changed_byte_does_not_stand(at: int, flip: int) -> None:
    changed = bytearray(SIGNATURE)
    changed[at] ^= flip
    assert not verify(PUBLIC, bytes(changed), MESSAGE)


@pytest.mark.parametrize("size", [0, 31, 33, 63, 65, 1000])
def test_keys_and_signatures_of_a_wrong_size_do_not_stand(size: int) -> None:
    assert not verify(bytes(size), SIGNATURE, MESSAGE)
    assert not verify(PUBLIC, bytes(size), MESSAGE)


def test_a_refused_signature_stays_refused_when_it_is_asked_again() -> None:
    # results are remembered: the memory must not mix up right and wrong
    for _ in range(3):
        assert verify(PUBLIC, SIGNATURE, MESSAGE)
        assert not verify(PUBLIC, bytes(64), MESSAGE)


def test_an_equal_signature_with_a_greater_scalar_is_refused() -> None:
    # RFC 8032, 5.1.7: s must be below the group order, else each signature had a twin
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(SIGNATURE[32:], "little") + order
    assert not verify(PUBLIC, SIGNATURE[:32] + scalar.to_bytes(32, "little"), MESSAGE)


# ---------------------------------------------------------------------------------------------------- beacon


def test_each_beacon_link_is_the_hash_of_the_one_before() -> None:
    # R9
    assert len(CHAIN) == LINKS + 1
    assert CHAIN[0] == digest("beacon-seed", KEY.private_bytes_raw(), b"here")
    assert all(CHAIN[at + 1] == digest("beacon", CHAIN[at]) for at in range(LINKS))


def test_a_beacon_chain_is_the_same_again_and_its_own_for_each_key_and_purpose() -> None:
    assert beacon_chain(KEY, LINKS, b"here") == CHAIN
    others = [beacon_chain(member_key(1), LINKS, b"here"), beacon_chain(KEY, LINKS, b"there")]
    assert not set(CHAIN) & {link for chain in others for link in chain}


@pytest.mark.parametrize("links", [0, -1, BEACON_LINKS_MAX + 1])
def test_a_beacon_chain_without_links_or_with_too_many_is_refused(links: int) -> None:
    with pytest.raises(ValueError, match="a beacon chain has 1 to"):
        beacon_chain(KEY, links, b"here")


@given(st.integers(0, LINKS), st.integers(0, LINKS))
def test_a_link_leads_to_every_later_link_and_to_no_other(index: int, known: int) -> None:
    assert is_beacon_link(CHAIN[index], index, CHAIN[known], known) == (index < known)


@given(st.integers(0, LINKS - 1), st.integers(1, LINKS), st.binary(min_size=32, max_size=32))
def test_an_invented_link_leads_nowhere(index: int, known: int, link: bytes) -> None:
    assert not is_beacon_link(link, index, CHAIN[known], known)


def test_a_link_at_a_wrong_index_leads_nowhere() -> None:
    assert is_beacon_link(CHAIN[3], 3, CHAIN[7], 7)
    assert not is_beacon_link(CHAIN[3], 4, CHAIN[7], 7)
    assert not is_beacon_link(CHAIN[3], 2, CHAIN[7], 7)


def test_an_index_that_would_cost_too_many_hashes_is_refused_unhashed() -> None:
    # S1: the index is a claim from outside
    assert not is_beacon_link(CHAIN[0], 0, CHAIN[1], 10**15)
    assert not is_beacon_link(CHAIN[0], -(10**15), CHAIN[1], 1)

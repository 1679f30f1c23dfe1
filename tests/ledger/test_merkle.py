"""The Merkle tree (S2): any entry is provable, no other value is."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ledger.keys import digest
from ledger.merkle import EMPTY_ROOT, Proof, Sibling, leaf_hash, merkle_root, node_hash, prove
from tests.ledger.helpers_ledger import ChainBuilder

KEYS = st.binary(max_size=20)
VALUES = st.binary(max_size=40)
ENTRIES = st.dictionaries(KEYS, VALUES, min_size=1, max_size=20)


def slow_root(entries: dict[bytes, bytes]) -> bytes:
    """The root by recursion: the left half of a level is the largest power of two below its length (RFC 6962)."""
    leaves = [leaf_hash(key, value) for key, value in sorted(entries.items())]

    def root(part: list[bytes]) -> bytes:
        if len(part) == 1:
            return part[0]
        half = 1 << (len(part) - 1).bit_length() - 1
        return node_hash(root(part[:half]), root(part[half:]))

    return root(leaves)


def numbered(count: int) -> dict[bytes, bytes]:
    """`count` entries with short keys."""
    return {at.to_bytes(2, "big"): b"value %d" % at for at in range(count)}


# ------------------------------------------------------------------------------------------------------ root


def test_an_empty_tree_has_a_root_of_its_own() -> None:
    assert merkle_root({}) == EMPTY_ROOT == digest("empty")


def test_a_tree_of_one_entry_is_its_leaf() -> None:
    assert merkle_root({b"k": b"v"}) == leaf_hash(b"k", b"v")
    assert leaf_hash(b"k", b"v") == digest("leaf", b"\x00\x00\x00\x01", b"k", b"v")


def test_an_odd_node_is_passed_up_unchanged() -> None:
    a, b, c = (leaf_hash(key, value) for key, value in sorted(numbered(3).items()))
    assert merkle_root(numbered(3)) == node_hash(node_hash(a, b), c)


@given(ENTRIES)
def test_the_root_equals_the_one_of_rfc_6962s_recursion(entries: dict[bytes, bytes]) -> None:
    assert merkle_root(entries) == slow_root(entries)


@given(ENTRIES, st.randoms(use_true_random=False))
def test_the_root_does_not_depend_on_the_order_of_insertion(entries: dict[bytes, bytes], random: object) -> None:
    items = list(entries.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert merkle_root(dict(items)) == merkle_root(entries)


@given(ENTRIES, KEYS, VALUES)
def test_any_changed_added_or_removed_entry_changes_the_root(
    entries: dict[bytes, bytes], key: bytes, value: bytes
) -> None:
    assume(entries.get(key) != value)
    root = merkle_root(entries)
    assert merkle_root(entries | {key: value}) != root
    first = min(entries)
    assert merkle_root({name: entries[name] for name in entries if name != first}) != root


def test_a_key_and_its_value_cannot_trade_bytes() -> None:
    assert leaf_hash(b"ab", b"c") != leaf_hash(b"a", b"bc")


def test_an_inner_node_is_no_leaf() -> None:
    a, b = leaf_hash(b"a", b""), leaf_hash(b"b", b"")
    assert node_hash(a, b) != leaf_hash(b"", a + b)


# ---------------------------------------------------------------------------------------------------- proofs


@given(ENTRIES)
@settings(max_examples=60)
def test_every_entry_has_a_proof_that_leads_to_the_root(entries: dict[bytes, bytes]) -> None:
    root = merkle_root(entries)
    for key, value in entries.items():
        proof = prove(entries, key)
        assert (proof.key, proof.value) == (key, value)
        assert proof.root() == root
        assert len(proof.siblings) <= (len(entries) - 1).bit_length()
        assert Proof.decode(proof.encode()) == proof


@given(ENTRIES, VALUES, st.data())
def test_no_other_value_is_provable(entries: dict[bytes, bytes], value: bytes, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(entries)))
    assume(value != entries[key])
    assert replace(prove(entries, key), value=value).root() != merkle_root(entries)


@given(ENTRIES, KEYS, st.data())
def test_no_other_key_is_provable(entries: dict[bytes, bytes], key: bytes, data: st.DataObject) -> None:
    real = data.draw(st.sampled_from(sorted(entries)))
    assume(key != real)
    assert replace(prove(entries, real), key=key).root() != merkle_root(entries)


@given(st.integers(2, 40), st.data())
def test_a_proof_with_one_changed_sibling_leads_elsewhere(count: int, data: st.DataObject) -> None:
    entries = numbered(count)
    proof = prove(entries, data.draw(st.sampled_from(sorted(entries))))
    at = data.draw(st.integers(0, len(proof.siblings) - 1))
    old = proof.siblings[at]
    changes = [Sibling(1 - old.left, old.hash), Sibling(old.left, bytes(32))]
    for new in (*changes, None):
        middle = () if new is None else (new,)
        changed = replace(proof, siblings=(*proof.siblings[:at], *middle, *proof.siblings[at + 1 :]))
        assert changed.root() != merkle_root(entries)


def test_an_entry_that_is_not_there_has_no_proof() -> None:
    with pytest.raises(KeyError):
        prove(numbered(3), b"absent")
    with pytest.raises(KeyError):
        prove({}, b"")


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 100])
def test_trees_of_every_shape_prove_their_entries(count: int) -> None:
    entries = numbered(count)
    root = merkle_root(entries)
    assert all(prove(entries, key).root() == root for key in entries)


def test_a_member_of_the_chains_state_has_a_short_proof_under_the_headers_root() -> None:
    # S2
    builder = ChainBuilder(n=7, c=2)
    builder.full_round()
    header = builder.chain.store.block(builder.state.height)
    assert header is not None
    for member in builder.state.members:
        proof = builder.state.prove(b"member/" + member.key)
        assert proof.root() == header.header.state_root
        assert proof.value == member.encode()
        assert len(proof.siblings) <= 4

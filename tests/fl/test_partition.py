import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.partition import SHARD_SAMPLES_MIN, PartitionError, parse_scheme, partition

LABELS = np.random.default_rng(5).integers(0, 10, 1297)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=300).map(np.array),
    st.integers(1, 12),
    st.sampled_from(["iid", "dirichlet:0.01", "dirichlet:0.5", "dirichlet:100"]),
    st.integers(0, 2**63 - 1),
)
def test_shards_are_disjoint_cover_everything_and_are_not_empty(
    labels: np.ndarray, shards: int, scheme: str, seed: int
) -> None:
    shards = min(shards, len(labels))
    parts = partition(labels, shards, scheme, seed)
    assert len(parts) == shards
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert min(len(part) for part in parts) >= min(SHARD_SAMPLES_MIN, len(labels) // shards)


def test_iid_shards_are_of_equal_size_up_to_one() -> None:
    sizes = [len(part) for part in partition(LABELS, 8, "iid", 0)]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("scheme", ["iid", "dirichlet:0.5"])
def test_a_split_is_repeatable_and_depends_on_the_seed(scheme: str) -> None:
    first, again, other = (partition(LABELS, 8, scheme, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_iid_split_is_the_published_one() -> None:
    joined = np.concatenate(partition(LABELS, 8, "iid", 0)).astype("<i8").tobytes()
    assert hashlib.sha256(joined).hexdigest()[:16] == "a351393547953ae7"


def test_a_small_alpha_skews_the_labels_and_a_large_one_does_not() -> None:
    def skew(scheme: str) -> float:
        parts = partition(LABELS, 8, scheme, 0)
        return float(np.mean([np.bincount(LABELS[part], minlength=10).max() / len(part) for part in parts]))

    assert skew("dirichlet:0.1") > 0.4
    assert skew("dirichlet:1000") < 0.2


@pytest.mark.parametrize(
    "scheme",
    [
        "",
        "IID",
        "dirichlet",
        "dirichlet:",
        "dirichlet:x",
        "dirichlet:0",
        "dirichlet:-1",
        "dirichlet:nan",
        "dirichlet:inf",
        "iid:1",
        "zipf:1",
    ],
)
def test_unknown_schemes_are_refused_with_what_is_allowed(scheme: str) -> None:
    with pytest.raises(PartitionError, match="use 'iid' or 'dirichlet:ALPHA'"):
        partition(LABELS, 2, scheme, 0)


def test_schemes_are_parsed() -> None:
    assert parse_scheme("iid") is None
    assert parse_scheme("dirichlet:0.5") == 0.5


@pytest.mark.parametrize("shards", [0, -1, 1298])
def test_impossible_numbers_of_shards_are_refused(shards: int) -> None:
    with pytest.raises(PartitionError, match="1 to 1297"):
        partition(LABELS, shards, "iid", 0)

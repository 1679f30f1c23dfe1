"""A fault costs the peer that made it (A8): scores that decay, bans that end, buckets that refill."""

from hypothesis import given, settings
from hypothesis import strategies as st

from node.faults import FaultBook, TokenBucket

ONE, TWO = b"one", b"two"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_nth_fault_bans_and_the_ban_ends() -> None:
    clock = Clock()
    book = FaultBook(3, decay_s=60, ban_s=10, clock=clock)
    assert [book.add(ONE) for _ in range(3)] == [False, False, True]
    assert book.banned_for_s(ONE) == 10
    assert book.banned_for_s(TWO) == 0
    clock.now_s += 4
    assert book.banned_for_s(ONE) == 6
    clock.now_s += 6
    assert book.banned_for_s(ONE) == 0


def test_after_a_ban_the_score_starts_anew() -> None:
    clock = Clock()
    book = FaultBook(2, decay_s=60, ban_s=10, clock=clock)
    assert [book.add(ONE), book.add(ONE)] == [False, True]
    clock.now_s += 10
    assert [book.add(ONE), book.add(ONE)] == [False, True]


def test_faults_during_a_ban_do_not_ban_twice() -> None:
    book = FaultBook(1, decay_s=60, ban_s=10, clock=Clock())
    assert [book.add(ONE) for _ in range(3)] == [True, False, False]


def test_rare_faults_are_forgiven() -> None:
    clock = Clock()
    book = FaultBook(2, decay_s=60, ban_s=10, clock=clock)
    for _ in range(20):
        assert not book.add(ONE)
        clock.now_s += 60


def test_faults_in_a_row_ban_although_a_little_has_decayed_meanwhile() -> None:
    clock = Clock()
    book = FaultBook(3, decay_s=60, ban_s=10, clock=clock)
    banned = []
    for _ in range(3):
        banned.append(book.add(ONE))
        clock.now_s += 0.1
    assert banned == [False, False, True]


def test_a_bucket_lets_a_burst_pass_and_then_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(rate_per_s=2, burst_max=5, clock=clock)
    assert [bucket.take(1) for _ in range(6)] == [True] * 5 + [False]
    clock.now_s += 1
    assert [bucket.take(1) for _ in range(3)] == [True, True, False]
    clock.now_s += 1000
    assert not bucket.take(6)
    assert bucket.take(5)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 5)), max_size=30))
def test_never_more_passes_than_the_burst_and_the_rate_allow(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate_per_s=3, burst_max=10, clock=clock)
    passed = 0
    for wait_s, amount in steps:
        clock.now_s += wait_s
        passed += amount if bucket.take(amount) else 0
        assert passed <= 10 + 3 * (clock.now_s - 100) + 1e-6

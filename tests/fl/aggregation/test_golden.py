"""R7: golden vectors are checked at start-up."""

import pytest

from fl.aggregation import RULES, GoldenVectorError, check_golden_vectors, golden
from fl.codecs import CODECS
from tests.fl.aggregation.test_fedavg import average_in_plain_python


def test_this_machine_computes_the_published_vectors() -> None:
    check_golden_vectors()


def test_every_rule_and_codec_has_a_published_vector() -> None:
    assert set(golden.DIGESTS) == {(rule, codec) for rule in RULES for codec in CODECS}


def test_the_small_vectors_agree_with_plain_python() -> None:
    for old, updates, expected in golden.SMALL:
        deltas = [(weight, [golden.from_bits(delta)[0].item()]) for weight, delta in updates]
        found = average_in_plain_python([golden.from_bits(old)[0].item()], deltas)
        assert found == [golden.from_bits(expected)[0].item()]


def test_a_machine_that_computes_other_bytes_is_told_to_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(golden.DIGESTS, ("fedavg", "int8"), "00")
    with pytest.raises(GoldenVectorError, match="rule fedavg, codec int8"):
        check_golden_vectors()


def test_a_machine_that_flushes_subnormals_is_told_to_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "SMALL", ((0x1, ((1, 0x3),), 0x0),))
    with pytest.raises(GoldenVectorError, match="subnormals"):
        check_golden_vectors()

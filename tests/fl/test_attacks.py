import numpy as np
import pytest

from fl.attacks import ATTACKS, apply_attack
from tests.fl.helpers_fl import make_model


def test_without_an_attack_the_delta_is_the_truth() -> None:
    delta = make_model()
    assert apply_attack(None, delta) is delta


def test_sign_flip_turns_the_delta_round_and_makes_it_longer() -> None:
    delta = make_model()
    np.testing.assert_array_equal(apply_attack("sign-flip", delta)["bias"], delta["bias"] * -4)
    assert tuple(ATTACKS) == ("sign-flip",)


def test_an_unknown_attack_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="sign-flip"):
        apply_attack("bribery", make_model())

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from fl.models import MODELS, build_model, load_tensors, to_tensors
from fl.tensors import encode_tensors


@pytest.mark.parametrize(
    ("name", "side", "hidden", "parameters"),
    [("mlp", 28, 128, 101_770), ("mlp", 8, 64, 4_810), ("cnn", 28, 0, 1_663_370), ("cnn", 8, 0, 188_810)],
)
def test_networks_have_the_published_sizes_and_ten_outputs(name: str, side: int, hidden: int, parameters: int) -> None:
    module = build_model(name, side, hidden, seed=0)
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert module(torch.zeros(3, 1, side, side)).shape == (3, 10)


@pytest.mark.parametrize("name", MODELS)
def test_the_initial_parameters_depend_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = encode_tensors(to_tensors(build_model(name, 8, 64, seed=3)))
    torch.manual_seed(2)
    assert encode_tensors(to_tensors(build_model(name, 8, 64, seed=3))) == first
    assert encode_tensors(to_tensors(build_model(name, 8, 64, seed=4))) != first


def test_the_initial_mlp_of_digits_is_the_published_one() -> None:
    data = encode_tensors(to_tensors(build_model("mlp", 8, 64, seed=0)))
    assert hashlib.sha256(data).hexdigest()[:16] == "9c5aa5da7c2e3ac3"


def test_tensors_go_into_a_module_and_come_out_again() -> None:
    module = build_model("mlp", 8, 64, seed=0)
    wanted = {name: np.full_like(array, i) for i, (name, array) in enumerate(to_tensors(module).items())}
    for array in wanted.values():
        array.flags.writeable = False
    load_tensors(module, wanted)
    assert encode_tensors(to_tensors(module)) == encode_tensors(wanted)


def test_tensors_are_copies() -> None:
    module = build_model("mlp", 8, 64, seed=0)
    to_tensors(module)["1.bias"][:] = 9
    assert not (to_tensors(module)["1.bias"] == 9).any()


def test_float_buffers_travel_and_integer_buffers_stay() -> None:
    tensors = to_tensors(nn.BatchNorm1d(3))
    assert set(tensors) == {"weight", "bias", "running_mean", "running_var"}


def test_other_float_types_are_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        to_tensors(nn.Linear(2, 2).double())


def test_an_unknown_model_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="mlp, cnn"):
        build_model("transformer", 8, 64, 0)

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from fl.models import build_model, to_tensors
from fl.tensors import encode_tensors
from fl.training import SCORE_MIN, Samples, evaluate, make_seed, train


def make_samples(count: int = 100) -> Samples:
    """Two classes that one number tells apart."""
    inputs = torch.linspace(-1, 1, count).reshape(-1, 1)
    return Samples(inputs, (inputs[:, 0] > 0).long())


def make_line(weight: float) -> nn.Module:
    module = nn.Linear(1, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-weight], [weight]]))
        module.bias.zero_()
    return module


def test_an_epoch_visits_every_sample_once_in_a_seeded_order() -> None:
    samples = make_samples(10)
    batches = list(samples.shuffled(4, torch.Generator().manual_seed(1)))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    seen = torch.cat([inputs for inputs, _ in batches])[:, 0]
    assert sorted(seen.tolist()) == samples.inputs[:, 0].tolist()
    assert seen.tolist() != samples.inputs[:, 0].tolist()
    again = torch.cat([inputs for inputs, _ in samples.shuffled(4, torch.Generator().manual_seed(1))])[:, 0]
    assert again.tolist() == seen.tolist()


def test_training_is_sgd_with_momentum() -> None:
    """Against the update written out: v = m v + g; w = w - lr v."""
    samples, lr, momentum = make_samples(8), 0.1, 0.9
    module, twin = make_line(0.3), make_line(0.3)
    assert train(module, [samples.batches(4), samples.batches(4)], lr, momentum)[0] == 8
    velocity = [torch.zeros_like(p) for p in twin.parameters()]
    for inputs, labels in [*samples.batches(4), *samples.batches(4)]:
        loss = -torch.log_softmax(twin(inputs), dim=1)[torch.arange(len(labels)), labels].mean()
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        with torch.no_grad():
            for p, v, g in zip(twin.parameters(), velocity, gradients, strict=True):
                v.mul_(momentum).add_(g)
                p.sub_(lr * v)
    for name, array in to_tensors(module).items():
        np.testing.assert_allclose(array, to_tensors(twin)[name], rtol=1e-5, atol=1e-7)


def test_a_parameter_that_the_loss_does_not_depend_on_stays() -> None:
    module = make_line(0.3)
    module.register_parameter("idle", nn.Parameter(torch.ones(2)))
    train(module, [make_samples(8).batches(4)], 0.1, 0.9)
    assert to_tensors(module)["idle"].tolist() == [1.0, 1.0]


def test_training_does_not_import_the_compiler() -> None:
    """torch._dynamo costs most of a second at every start of a fork server."""
    code = (
        "import sys, torch\n"
        "from fl.training import train\n"
        "train(torch.nn.Linear(1, 2), [[(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))]], 0.1, 0.9)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_training_learns_and_reports_the_loss_of_its_last_epoch() -> None:
    module, samples = make_line(0.0), make_samples()
    generator = torch.Generator().manual_seed(0)
    before = evaluate(module, samples.batches())
    _, loss = train(module, (samples.shuffled(10, generator) for _ in range(20)), 0.1, 0.9)
    after = evaluate(module, samples.batches())
    assert before.score == pytest.approx(-math.log(2))
    assert after.metrics["accuracy"] > 0.95
    assert after.score == pytest.approx(-loss, abs=0.05)


def test_the_score_is_minus_the_mean_cross_entropy_whatever_the_batches() -> None:
    module, samples = make_line(1.5), make_samples()
    logits = module(samples.inputs).detach().double()
    expected = float(torch.log_softmax(logits, 1)[torch.arange(100), samples.labels].mean())
    assert evaluate(module, samples.batches()).score == pytest.approx(expected, abs=1e-6)
    assert evaluate(module, samples.batches(7)).score == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("weight", [-1e6, math.nan, math.inf])
def test_a_hopeless_model_scores_minus_a_hundred(weight: float) -> None:
    assert evaluate(make_line(weight), make_samples().batches()).score == SCORE_MIN


def test_a_perfect_model_scores_zero_at_most() -> None:
    assert -1e-3 < evaluate(make_line(1e6), make_samples().batches()).score <= 0


def test_evaluation_leaves_the_parameters_alone() -> None:
    module = build_model("mlp", 8, 16, 0)
    before = encode_tensors(to_tensors(module))
    evaluate(module, [(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64))])
    assert encode_tensors(to_tensors(module)) == before


def test_each_local_training_has_its_own_seed() -> None:
    seeds = {make_seed(seed, shard, round) for seed in range(3) for shard in range(4) for round in range(5)}
    assert len(seeds) == 60
    assert make_seed(2**63 - 1, 7, 9) == make_seed(2**63 - 1, 7, 9) < 2**63

"""The floor: the trainings of a finished chain and their average, in one bare torch process.

Nothing of the chain, no codec, no checks, no scoring: read the images, and each round train the model on the shards
that the chain drew, one after the other, and average (McMahan et al. 2017, arXiv 1602.05629). The plan says whether
the step is torch.optim.SGD, as anybody would write it, or the chain's own (`fl.training`), which starts faster.

    python -m benchmarks.floor_process PLAN.json RESULT.json
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from fl.models import build_model
from fl.partition import partition
from fl.tasks.fashion import HIDDEN, read_fashion
from fl.tasks.images import Images
from fl.training import Batches, Samples, evaluate, make_seed, train

State = dict[str, Tensor]


def to_samples(images: Images, indices: object = slice(None)) -> Samples:
    """Images as the network takes them."""
    inputs, labels = images.take(indices)  # type: ignore[arg-type]
    return Samples(torch.from_numpy(inputs), torch.from_numpy(labels))


def train_plainly(module: nn.Module, epochs: Iterable[Batches], lr: float, momentum: float) -> None:
    """SGD on cross-entropy with torch's own optimiser."""
    optimiser = torch.optim.SGD(module.parameters(), lr=lr, momentum=momentum)
    for batches in epochs:
        for inputs, labels in batches:
            optimiser.zero_grad()
            functional.cross_entropy(module(inputs), labels).backward()
            optimiser.step()


def train_one(module: nn.Module, state: State, samples: Samples, settings: dict[str, float], seed: int) -> State:
    """One local training from `state`."""
    module.load_state_dict(state)
    torch.manual_seed(seed)
    epochs = (samples.shuffled(int(settings["batch"]), torch.default_generator) for _ in range(int(settings["epochs"])))
    step = train if settings["lean"] else train_plainly
    step(module, epochs, settings["lr"], settings["momentum"])
    return {name: value.clone() for name, value in module.state_dict().items()}


def average(states: Sequence[State], counts: Sequence[int]) -> State:
    """FedAvg: the mean of the models, weighted by their samples."""
    total = sum(counts)
    parts = [
        {name: value * (count / total) for name, value in s.items()} for s, count in zip(states, counts, strict=True)
    ]
    return {name: torch.stack([part[name] for part in parts]).sum(0) for name in parts[0]}


def main(plan_path: Path, result_path: Path) -> None:
    """Do what the plan says; write the accuracy on the images that the chain reports on."""
    plan = json.loads(plan_path.read_text(encoding="utf-8"))
    torch.set_num_threads(plan["threads"])
    settings, seed = plan["settings"], plan["seed"]
    report, _, images = read_fashion(plan["data"], plan["images"], plan["tests"])
    parts = partition(images.labels, plan["shards"], "iid", seed)
    shards = [to_samples(images, part) for part in parts]
    module = build_model("mlp", images.pixels.shape[1], HIDDEN, seed)
    state: State = {name: value.clone() for name, value in module.state_dict().items()}
    for round, trainers in enumerate(plan["rounds"]):
        states = [train_one(module, state, shards[at], settings, make_seed(seed, at, round)) for at in trainers]
        state = average(states, [len(shards[at].labels) for at in trainers])
    module.load_state_dict(state)
    accuracy = evaluate(module, to_samples(report).batches()).metrics["accuracy"]
    result_path.write_text(json.dumps({"accuracy": accuracy}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

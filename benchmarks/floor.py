"""The chain against the floor: the same trainings, once under committee consensus and once in a bare torch process.

Both are run in turn, so that a busy machine hits both alike, and compared pair by pair.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, Section, at_most, middle
from benchmarks.options import Options
from benchmarks.processes import Finished, run_command
from benchmarks.stats import paired_ratios
from benchmarks.testnets import TestnetRun, run_testnet
from ledger.heights import first_height, model_height
from ledger.types import UpdateBody
from node.audit_home import open_home

PEERS = 12
LIMIT_S = 300.0
IMAGES, TESTS = 18_000, 2_000
SETTINGS = {"epochs": 1, "batch": 32, "lr": 0.05, "momentum": 0.9}
SEED = 0
NOTES = (
    "floor: a bare torch process, torch.optim.SGD, one thread (two are slower), its start and import of torch included",
)
TITLE = "floor: 12 peers, 8 trainings a round, Fashion-MNIST, mlp 784-128-10, 10 rounds"


@dataclass(frozen=True, slots=True)
class Bare:
    """A bare process that ended, and the accuracy of its model."""

    finished: Finished
    accuracy: float

    def describe(self) -> dict[str, float]:
        """As the JSON file has it."""
        found = self.finished
        return {
            "wall_s": found.wall_s,
            "cpu_s": found.cpu_s,
            "memory_mb": found.memory_mb,
            "accuracy": self.accuracy,
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """One testnet and, right after it, its floor: with torch's own optimiser, and with the chain's leaner step."""

    chain: TestnetRun
    floor: Bare
    lean: Bare


def run(options: Options) -> Section:
    """Run the pairs; raises `CommandFailed`. The first pair warms the page cache and does not count."""
    if not options.has_fashion:
        return Section("floor", TITLE, notes=(options.explain_missing(),))
    rounds, repeat = (2, 1) if options.quick else (10, options.repeat)
    pairs = [run_pair(options, rounds) for _ in range(repeat + 1)][1:]
    raw = [
        {"chain": pair.chain.describe(), "floor": pair.floor.describe(), "lean": pair.lean.describe()} for pair in pairs
    ]
    return Section("floor", TITLE, _figures(pairs), NOTES, {"pairs": raw})


def run_pair(options: Options, rounds: int) -> Pair:
    """One testnet, then its floors."""
    given = f"--peers {PEERS} --committee 4 --round-length 9 --rounds {rounds} --task fashion-mnist --seed {SEED}"
    chosen = [f"--setting={name}={value}" for name, value in {**SETTINGS, "images": IMAGES, "tests": TESTS}.items()]
    home = options.work / "floor"
    chain = run_testnet(home, [*given.split(), "--data", str(options.data), *chosen], LIMIT_S)
    trainers = read_trainers(home, rounds)
    return Pair(chain, _run_bare(options, trainers, lean=False), _run_bare(options, trainers, lean=True))


def _run_bare(options: Options, trainers: list[list[int]], *, lean: bool) -> Bare:
    plan, result = options.work / "floor-plan.json", options.work / "floor-result.json"
    plan.write_text(json.dumps(make_plan(options.data, trainers, lean=lean)), encoding="utf-8")
    finished = run_command([sys.executable, "-m", "benchmarks.floor_process", str(plan), str(result)], LIMIT_S)
    return Bare(finished, float(json.loads(result.read_text(encoding="utf-8"))["accuracy"]))


def make_plan(data: Path, trainers: list[list[int]], *, lean: bool) -> dict[str, object]:
    """What the bare process is told; `trainers` are shard numbers by round. One thread: two are slower at this size."""
    return {
        "data": str(data),
        "images": IMAGES,
        "tests": TESTS,
        "shards": PEERS,
        "seed": SEED,
        "settings": {**SETTINGS, "lean": lean},
        "threads": 1,
        "rounds": trainers,
    }


def read_trainers(folder: Path, rounds: int) -> list[list[int]]:
    """Whose updates the chain has accepted, by round, as shard numbers (a peer's place in genesis)."""
    found = []
    with open_home(folder / "hospital-1") as home:
        shard_of = {member.member_key: at for at, member in enumerate(home.genesis.members)}
        k = home.genesis.params.round_length
        for round in range(rounds):
            bodies = [home.block(at).body for at in range(first_height(k, round), model_height(k, round))]
            found.append([shard_of[body.offer.trainer] for body in bodies if isinstance(body, UpdateBody)])
    return found


def _figures(pairs: Sequence[Pair]) -> tuple[Figure, ...]:
    chains = [pair.chain for pair in pairs]
    floors, leans = [pair.floor.finished for pair in pairs], [pair.lean.finished for pair in pairs]
    walls, floor_walls = [chain.table_s for chain in chains], [floor.wall_s for floor in floors]
    lean_walls = [lean.wall_s for lean in leans]
    cpus, floor_cpus = [chain.finished.cpu_s for chain in chains], [floor.cpu_s for floor in floors]
    memories, floor_memories = [chain.finished.memory_mb for chain in chains], [floor.memory_mb for floor in floors]
    accuracies, floor_accuracies = (
        [chain.totals["accuracy"] for chain in chains],
        [pair.floor.accuracy for pair in pairs],
    )
    losses = [100 * (floor - ours) for floor, ours in zip(floor_accuracies, accuracies, strict=True)]
    return (
        middle("wall, chain (command to table)", walls, "s"),
        middle("wall, floor", floor_walls, "s"),
        middle("wall, ratio", paired_ratios(walls, floor_walls), "x", at_most(3.0)),
        middle("wall, floor with the chain's leaner SGD", lean_walls, "s"),
        middle("wall, ratio to that", paired_ratios(walls, lean_walls), "x"),
        middle("of the chain's wall: start-up", [chain.totals["start_s"] for chain in chains], "s"),
        middle("CPU, chain", cpus, "CPU-s"),
        middle("CPU, floor", floor_cpus, "CPU-s"),
        middle("CPU, ratio", paired_ratios(cpus, floor_cpus), "x"),
        middle("memory of all processes (PSS), chain", memories, "MB"),
        middle("memory (PSS), floor", floor_memories, "MB"),
        middle("memory, ratio", paired_ratios(memories, floor_memories), "x"),
        middle("sent by all peers", [chain.totals["sent_mb"] for chain in chains], "MB"),
        middle("sent a round by all peers", [chain.totals["sent_mb_per_round"] for chain in chains], "MB"),
        middle("accuracy, chain", accuracies, ""),
        middle("accuracy, floor", floor_accuracies, ""),
        middle("accuracy lost against the floor", losses, "points", at_most(1.0)),
    )


def make_home(options: Options) -> Path:
    """The homes of a finished floor run, made now where there are none; for the benchmarks that read them."""
    home = options.work / "floor"
    if not (home / "model.safetensors").is_file():
        run_pair(options, 2 if options.quick else 10)
    return home

"""The chain against the floor: the same trainings, once under committee consensus and once in a bare torch process.

Both are run in turn, so that a busy machine hits both alike, and compared pair by pair.
"""

import json
import shutil
import sys
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
TITLE = "floor: 12 peers, 8 trainings a round, Fashion-MNIST, mlp 784-128-10, 10 rounds"


def run(options: Options) -> Section:
    """Run the pairs; raises `CommandFailed`. The first pair warms the page cache and does not count."""
    if not options.has_fashion:
        return Section("floor", TITLE, notes=(options.explain_missing(),))
    rounds, repeat = (2, 1) if options.quick else (10, options.repeat)
    pairs = [run_pair(options, rounds) for _ in range(repeat + 1)][1:]
    chains, floors = [chain for chain, _, _ in pairs], [floor for _, floor, _ in pairs]
    return Section("floor", TITLE, _figures(chains, floors, [found for _, _, found in pairs]), raw=_describe(pairs))


def run_pair(options: Options, rounds: int) -> tuple[TestnetRun, Finished, float]:
    """One testnet, then its floor: both runs and the accuracy of the floor's model."""
    given = f"--peers {PEERS} --committee 4 --round-length 9 --rounds {rounds} --task fashion-mnist --seed {SEED}"
    chosen = [f"--setting={name}={value}" for name, value in {**SETTINGS, "images": IMAGES, "tests": TESTS}.items()]
    home = options.work / "floor"
    chain = run_testnet(home, [*given.split(), "--data", str(options.data), *chosen], LIMIT_S)
    plan, result = options.work / "floor-plan.json", options.work / "floor-result.json"
    plan.write_text(json.dumps(make_plan(options.data, read_trainers(home, rounds))), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.floor_process", str(plan), str(result)]
    floor = run_command(command, LIMIT_S)
    return chain, floor, float(json.loads(result.read_text(encoding="utf-8"))["accuracy"])


def make_plan(data: Path, trainers: list[list[int]]) -> dict[str, object]:
    """What the bare process is told; `trainers` are shard numbers by round. One thread: two are slower at this size."""
    return {
        "data": str(data),
        "images": IMAGES,
        "tests": TESTS,
        "shards": PEERS,
        "seed": SEED,
        "settings": SETTINGS,
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


def _figures(chains: list[TestnetRun], floors: list[Finished], floor_accuracies: list[float]) -> tuple[Figure, ...]:
    walls, floor_walls = [chain.table_s for chain in chains], [floor.wall_s for floor in floors]
    cpus, floor_cpus = [chain.finished.cpu_s for chain in chains], [floor.cpu_s for floor in floors]
    memories, floor_memories = [chain.finished.memory_mb for chain in chains], [floor.memory_mb for floor in floors]
    accuracies = [chain.totals["accuracy"] for chain in chains]
    losses = [100 * (floor - ours) for floor, ours in zip(floor_accuracies, accuracies, strict=True)]
    return (
        middle("wall, chain (command to table)", walls, "s"),
        middle("wall, floor", floor_walls, "s"),
        middle("wall, ratio", paired_ratios(walls, floor_walls), "x", at_most(3.0)),
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


def _describe(pairs: list[tuple[TestnetRun, Finished, float]]) -> dict[str, object]:
    return {
        "pairs": [
            {
                "chain": chain.describe(),
                "floor": {"wall_s": floor.wall_s, "cpu_s": floor.cpu_s, "memory_mb": floor.memory_mb, "accuracy": found},
            }
            for chain, floor, found in pairs
        ]
    }


def make_home(options: Options) -> Path:
    """The homes of a finished floor run, made now where there are none; for the benchmarks that read them."""
    home = options.work / "floor"
    if not (home / "model.safetensors").is_file():
        shutil.rmtree(home, ignore_errors=True)
        run_pair(options, 2 if options.quick else 10)
    return home

"""Homes of n voters whose rounds close at once and stay empty, for measuring agreement alone, and their results."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.stats import median, percentile
from cli.drafts import make_draft, write_text
from cli.init import make_home
from cli.testnet_homes import choose_places, make_members
from cli.testnet_plan import CHAIN, Plan
from fl.tensors import encode_tensors
from ledger.blobs import file_ref
from ledger.genesis import GenesisModel
from node.config import parse_config
from node.home import Home

DEADLINE_MS = 1
COMMITTEE = 4
TASK = "none:none"
ABSENT_AFTER = 1000


@dataclass(frozen=True, slots=True)
class VoterResult:
    """What one voter measured: seconds from each final batch to the next, CPU seconds a batch, and the median sizes of
    what it sent, in bytes (0: nothing of that kind)."""

    intervals_s: tuple[float, ...]
    cpu_s_per_batch: float
    proposal_bytes: int
    vote_bytes: int


def make_plan(folder: Path, voters: int, rounds: int) -> Plan:
    """k = 2: a close of one empty slot, then a model block with the old model; two batches a round, nothing learned."""
    committee = min(COMMITTEE, voters - 1)
    params: dict[str, bool | int | float | str] = {"absent_after": ABSENT_AFTER}
    return Plan(folder, voters, committee, 2, rounds, task=TASK, deadline_ms=DEADLINE_MS, params=params)


def make_homes(folder: Path, voters: int, rounds: int) -> tuple[Path, ...]:
    """Keys, genesis and configuration for each voter, in order of genesis."""
    plan = make_plan(folder, voters, rounds)
    folder.mkdir(parents=True)
    places = choose_places(plan)
    cards = make_members(plan, places)
    document, model = folder / "genesis.json", folder / "genesis-model.safetensors"
    model.write_bytes(encode_tensors({"x": np.zeros(1, np.float32)}))
    ref = file_ref(model)
    params = plan.make_params(shared_test_set=False)
    draft = make_draft(
        CHAIN, time.time_ns() // 1_000_000, params, GenesisModel(blob=ref.blob, size=ref.size, task=TASK)
    )
    for card, place in zip(cards, places, strict=True):
        draft = draft.with_member(card, place.name)
    genesis = draft.check(str(document))
    assert genesis is not None, "all members are in"
    write_text(document, genesis.to_json())
    for place in places:
        table: dict[str, object] = {
            "peer": {"listen": place.listen},
            "api": {"listen": place.api},
            "task": {"name": TASK},
        }
        make_home(Home(folder / place.name), document, model, parse_config(table, place.name))
    return tuple(folder / place.name for place in places)


def write_result(
    path: Path,
    times_s: Sequence[float],
    counted: tuple[int, int],
    cpu_s: float,
    sizes: Mapping[str, Sequence[int]],
) -> None:
    """Write what a voter measured: `times_s` of all its commits, of which those from `counted` on to it count."""
    first, last = counted
    found = {
        "intervals_s": [after - before for before, after in pairwise(times_s[first - 1 : last])],
        "cpu_s_per_batch": cpu_s / (last - first),
        **{f"{name}_bytes": int(median(values)) if values else 0 for name, values in sizes.items()},
    }
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(found), encoding="utf-8")
    os.replace(fresh, path)


def read_result(path: Path) -> VoterResult:
    """Read it back."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return VoterResult(
        tuple(found["intervals_s"]), found["cpu_s_per_batch"], found["proposal_bytes"], found["vote_bytes"]
    )


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds a batch over all voters: median and 99th percentile, and the median of the model batches alone,
    which wait for no deadline; CPU milliseconds a voter a batch."""

    p50_ms: float
    p99_ms: float
    prompt_p50_ms: float
    cpu_ms: float


def summarise(results: Sequence[VoterResult]) -> Latency:
    """All voters' figures in one. The intervals begin with a close (an even number of batches warms up), and close and
    model batch take turns."""
    all_ms = [1000 * value for result in results for value in result.intervals_s]
    prompt_ms = [1000 * value for result in results for value in result.intervals_s[1::2]]
    cpu_ms = 1000 * sum(result.cpu_s_per_batch for result in results) / len(results)
    return Latency(median(all_ms), percentile(all_ms, 99), median(prompt_ms), cpu_ms)

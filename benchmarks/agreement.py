"""Agreement alone: empty batches among 4, 7 and 10 voters, beside a bare loop that sends and syncs the same."""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.figures import Figure, Section, at_most, middle
from benchmarks.options import Options
from benchmarks.processes import CommandFailed, Running
from benchmarks.stats import paired_ratios
from benchmarks.voters import Latency, VoterResult, make_homes, read_result, summarise

VOTERS = (4, 7, 10)
BATCHES, WARM_UP = 180, 20
EXTRA_PAIRS = 2
LIMIT_S = 180.0
POLL_S = 0.1
TITLE = "agreement alone: empty batches, mutual TLS on loopback"
NOTES = (
    "latency: from one final batch on disk to the next, at every voter. Half of the chain's batches wait for a",
    "deadline of 1 ms (R6); the ratio compares the others, the model blocks, which may be proposed at once",
)


def run(options: Options) -> Section:
    """Run chain and bare loop in turn; raises `CommandFailed`."""
    sizes, batches, repeat = ((4,), 60, 1) if options.quick else (VOTERS, BATCHES, options.repeat)
    figures: list[Figure] = []
    raw: dict[str, object] = {"batches": batches, "warm_up": WARM_UP}
    for voters in sizes:
        # bursts of other work last seconds and hit one side of a pair: the median of more pairs forgives them
        count = repeat + EXTRA_PAIRS if voters == VOTERS[0] and not options.quick else repeat
        pairs = [run_pair(options.work / f"agreement-{voters}", voters, batches) for _ in range(count)]
        figures += _figures(voters, [chain for chain, _ in pairs], [bare for _, bare in pairs])
        raw[f"{voters} voters"] = [{"chain": asdict(chain), "bare": asdict(bare)} for chain, bare in pairs]
    return Section("agreement", TITLE, tuple(figures), NOTES, raw)


def run_pair(folder: Path, voters: int, batches: int) -> tuple[Latency, Latency]:
    """The chain's voters, then the bare loop's, with messages of the sizes that the chain's had."""
    shutil.rmtree(folder, ignore_errors=True)
    homes = make_homes(folder, voters, rounds=(batches + 1) // 2)
    chain = run_voters("benchmarks.voter_process", homes, (batches, WARM_UP))
    sizes = (max(result.proposal_bytes for result in chain), max(result.vote_bytes for result in chain))
    bare = run_voters("benchmarks.bare_process", homes, (batches, WARM_UP, *sizes))
    return summarise(chain), summarise(bare)


def run_voters(module: str, homes: Sequence[Path], arguments: Sequence[int]) -> list[VoterResult]:
    """Start one process for each home, wait for all results, end them; raises `CommandFailed`."""
    results = [home / f"{module}.json" for home in homes]
    running: list[Running] = []
    try:
        for home, result in zip(homes, results, strict=True):
            command = [sys.executable, "-m", module, str(home), str(result), *map(str, arguments)]
            running.append(Running(command))
        _wait_for(results, running)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.stop()
    return [read_result(result) for result in results]


def _wait_for(results: Sequence[Path], running: Sequence[Running]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not all(result.is_file() for result in results):
        ended = next((process for process in running if process.poll() is not None), None)
        if ended is not None:
            raise CommandFailed(f"a voter ended with code {ended.poll()}\n{ended.output()}")
        if time.monotonic() > deadline_s:
            raise CommandFailed(f"the voters are not done after {LIMIT_S:.0f} s\n{running[0].output()}")
        time.sleep(POLL_S)


def _figures(voters: int, chains: Sequence[Latency], bares: Sequence[Latency]) -> list[Figure]:
    prompt, bare_p50s = [chain.prompt_p50_ms for chain in chains], [bare.p50_ms for bare in bares]
    target = at_most(2.5) if voters == VOTERS[0] else None
    return [
        middle(f"{voters} voters: p50", [chain.p50_ms for chain in chains], "ms"),
        middle(f"{voters} voters: p99", [chain.p99_ms for chain in chains], "ms"),
        middle(f"{voters} voters: CPU a voter a batch", [chain.cpu_ms for chain in chains], "CPU-ms"),
        middle(f"{voters} voters: bare loop's p50", bare_p50s, "ms"),
        middle(f"{voters} voters: bare loop's p99", [bare.p99_ms for bare in bares], "ms"),
        middle(f"{voters} voters: bare loop's CPU", [bare.cpu_ms for bare in bares], "CPU-ms"),
        middle(f"{voters} voters: p50 of the model blocks", prompt, "ms"),
        middle(f"{voters} voters: its ratio to the bare loop", paired_ratios(prompt, bare_p50s), "x", target),
    ]

"""The README's run: 8 peers learn digits for 10 rounds, for three seeds."""

from benchmarks.figures import Figure, Section, at_least, at_most, middle
from benchmarks.options import Options
from benchmarks.testnets import run_testnet

SEEDS = (0, 1, 2)
LIMIT_S = 300.0
TITLE = "digits: 8 peers, committee of 4, k = 5, 10 rounds"


def run(options: Options) -> Section:
    """Run it; raises `CommandFailed`."""
    rounds, seeds = (3, SEEDS[:1]) if options.quick else (10, SEEDS)
    runs = []
    for seed in seeds:
        given = (
            f"--peers 8 --committee 4 --round-length 5 --rounds {rounds} --task digits --partition iid --seed {seed}"
        )
        runs.append(run_testnet(options.work / f"digits-{seed}", given.split(), LIMIT_S))
    accuracies = [run.totals["accuracy"] for run in runs]
    figures = (
        Figure("accuracy, worst seed", min(accuracies), "", at_least(0.95)),
        *(Figure(f"accuracy, seed {seed}", value, "") for seed, value in zip(seeds, accuracies, strict=True)),
        middle("command to table", [run.table_s for run in runs], "s", at_most(60)),
        middle("of it start-up", [run.totals["start_s"] for run in runs], "s"),
        middle("CPU, all processes", [run.finished.cpu_s for run in runs], "CPU-s"),
        Figure("RSS of a peer, greatest", max(run.totals["rss_mb_max"] for run in runs), "MB", at_most(150)),
        middle("memory of all processes (PSS)", [run.finished.memory_mb for run in runs], "MB"),
        Figure("loop stall, greatest", max(run.totals["loop_stall_max_ms"] for run in runs), "ms", at_most(50)),
        middle("sent a round, all peers", [run.totals["sent_mb_per_round"] for run in runs], "MB"),
    )
    return Section("digits", TITLE, figures, raw={"seeds": list(seeds), "runs": [run.describe() for run in runs]})

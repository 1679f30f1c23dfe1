"""How long a peer's event loop stands still while training and scoring run beside it."""

import json

from benchmarks.figures import Figure, Section, at_most
from benchmarks.floor import make_home
from benchmarks.options import Options
from benchmarks.stats import median
from benchmarks.testnets import run_testnet

LIMIT_S = 400.0
TITLE = "event loop: the longest stall of any peer, training and scoring on the same cores"
NOTES = (
    "wall: between two beats of 10 ms, that interval included; own: without the time in which the loop's thread was",
    "ready to run and waited for a core that another process had (the kernel's schedstat)",
)
CNN_IMAGES = 2_400


def run(options: Options) -> Section:
    """The mlp of the floor run, and the FedAvg paper's cnn; raises `CommandFailed`."""
    if not options.has_fashion:
        return Section("loop", TITLE, notes=(options.explain_missing(),))
    summary = make_home(options).with_suffix(".json")
    stalls = {"mlp, 12 peers": _stalls(json.loads(summary.read_text(encoding="utf-8")))}
    if not options.quick:
        stalls["cnn, 8 peers"] = _stalls(_run_cnn(options))
    figures: list[Figure] = []
    for name, values in stalls.items():
        own, wall = values["loop_own_max_ms"], values["loop_stall_max_ms"]
        figures.append(Figure(f"{name}: longest stall, own", max(own), "ms", at_most(50)))
        figures.append(Figure(f"{name}: longest stall, wall", max(wall), "ms"))
        figures.append(Figure(f"{name}: median peer's longest, wall", median(wall), "ms"))
    return Section("loop", TITLE, tuple(figures), NOTES, {"stalls_ms": stalls})


def _run_cnn(options: Options) -> dict[str, object]:
    """1,663,370 parameters: 6.7 MB a model, two chunks an int8 update (B1)."""
    given = "--peers 8 --committee 4 --round-length 5 --rounds 2 --task fashion-mnist --model cnn --deadline-ms 120000"
    data = ["--data", str(options.data), f"--setting=images={CNN_IMAGES}", "--setting=tests=400"]
    return dict(run_testnet(options.work / "cnn", [*given.split(), *data], LIMIT_S).summary)


def _stalls(summary: dict[str, object]) -> dict[str, list[float]]:
    peers = summary["peers"]
    assert isinstance(peers, list)
    return {name: [float(peer[name]) for peer in peers] for name in ("loop_own_max_ms", "loop_stall_max_ms")}

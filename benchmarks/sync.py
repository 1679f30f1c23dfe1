"""Verifying a chain offline, and catching up from nothing."""

import json
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Figure, Section, middle
from benchmarks.floor import PEERS, make_home
from benchmarks.options import Options
from benchmarks.processes import MB, CommandFailed, Running, run_command
from benchmarks.testnets import node_command
from node.audit_home import open_home
from node.config import load_config
from node.home import Home

LIMIT_S = 120.0
ANSWER_LIMIT_S = 2.0
POLL_S = 0.01
SERVERS = 3
TITLE = "verify and sync: the floor run's chain"
NOTES = (
    "sync: from the first answer of the fresh peer's API on, torch's start for its aggregates included in the last two",
)


def run(options: Options) -> Section:
    """Verify and sync several times; raises `CommandFailed`."""
    if not options.has_fashion:
        return Section("sync", TITLE, notes=(options.explain_missing(),))
    folder = make_home(options)
    repeat = 1 if options.quick else options.repeat
    verified = [verify(folder / "hospital-1") for _ in range(repeat)]
    chain_bytes = _chain_bytes(folder / "hospital-1")
    synced = [sync(folder) for _ in range(repeat)]
    rounds = verified[0]["models"] - 1
    figures = (
        middle("chain verify", [found["blocks_per_s"] for found in verified], "blocks/s"),
        middle("chain verify", [found["mb_per_s"] for found in verified], "MB/s"),
        middle("chain verify, the whole command", [found["command_s"] for found in verified], "s"),
        middle("sync of a fresh peer: blocks", [found["blocks"] / found["tip_s"] for found in synced], "blocks/s"),
        middle("sync: blocks, updates, models made", [found["mb"] / found["models_s"] for found in synced], "MB/s"),
        middle("sync: from its command to the last model", [found["command_s"] for found in synced], "s"),
        Figure("blocks and certificates, a round", chain_bytes / rounds / 1000, "kB"),
        Figure("fetched by the fresh peer, a round", synced[0]["mb"] / rounds, "MB"),
    )
    raw = {"verify": verified, "sync": synced, "chain_bytes": chain_bytes}
    return Section("sync", TITLE, figures, NOTES, raw)


def verify(home: Path) -> dict[str, float]:
    """`fedchain-node chain verify`."""
    finished = run_command([node_command(), "chain", "verify", "--home", str(home), "--json"], LIMIT_S)
    text = "\n".join(line for _, line in finished.lines)
    found = json.loads(text[text.index("{") :])
    names = ("blocks", "models", "mb", "seconds", "blocks_per_s", "mb_per_s")
    return {**{name: float(found[name]) for name in names}, "command_s": finished.wall_s}


def _chain_bytes(path: Path) -> int:
    """Encoded final batches of a whole chain."""
    total, height = 0, 1
    with open_home(path) as home:
        while (batch := home.store.batch_at(height)) is not None:
            total += len(batch.encode())
            height = batch.certificate.last_height + 1
    return total


def sync(folder: Path) -> dict[str, float]:
    """Empty the data folder of the last peer and start it beside three others: how long until it has everything."""
    servers = [Home(folder / f"hospital-{at + 1}") for at in range(SERVERS)]
    fresh = Home(folder / f"hospital-{PEERS}")
    shutil.rmtree(fresh.data)
    with _started(servers):
        for server in servers:
            _wait_for(server, lambda status: True)
        return _measure(fresh, _number(_ask(servers[0]), "height"))


def _measure(fresh: Home, height: int) -> dict[str, float]:
    started_s = time.monotonic()
    with _started([fresh]):
        # what it has by its first answer does not count
        first_s, first = _wait_for(fresh, lambda status: True)
        tip_s, _ = _wait_for(fresh, lambda status: _number(status, "height") >= height)
        end_s, end = _wait_for(fresh, lambda status: not status["syncing"])
    return {
        "blocks": height - _number(first, "height"),
        "mb": (_number(end, "received_bytes") - _number(first, "received_bytes")) / MB,
        "tip_s": tip_s - first_s,
        "models_s": end_s - first_s,
        "command_s": end_s - started_s,
    }


def _number(status: dict[str, object], name: str) -> int:
    value = status[name]
    assert isinstance(value, int)
    return value


@contextmanager
def _started(homes: list[Home]) -> Iterator[None]:
    """Peers as a user starts them."""
    running: list[Running] = []
    try:
        for home in homes:
            running.append(Running([node_command(), "start", "--home", str(home.path)]))
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.stop()


def _wait_for(home: Home, wanted: Callable[[dict[str, object]], bool]) -> tuple[float, dict[str, object]]:
    """When a peer's status was first as wanted, and that status; raises `CommandFailed`."""
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        status = _ask(home)
        if status and wanted(status):
            return time.monotonic(), status
        time.sleep(POLL_S)
    raise CommandFailed(f"{home.path}: not in sync after {LIMIT_S:.0f} s")


def _ask(home: Home) -> dict[str, object]:
    """A peer's status; nothing while it does not answer."""
    url = f"http://{load_config(home.config).api.listen}/v1/status"
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_LIMIT_S) as answer:
            found = json.load(answer)
    except OSError:
        return {}
    return found if isinstance(found, dict) else {}

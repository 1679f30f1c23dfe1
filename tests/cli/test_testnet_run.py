"""Whole testnets: real processes, real TLS, real workers, of a task that needs no torch."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ledger.blobs import file_ref
from node.errors import ExitCode
from node.home import Home
from tests.cli.helpers_cli import Command

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
TASK = "tests.cli.helpers_task:QuickTask"
SMALL = ("--peers", "4", "--committee", "1", "--round-length", "3", "--task", TASK)
GONE_LIMIT_S = 15


@contextmanager
def running(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A running `fedchain-node testnet`; killed at the end where it still runs."""
    command = [sys.executable, "-m", "cli.main", "testnet", "--home", str(folder), *SMALL, *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """The lines up to the one that begins with `words`."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.split()[:1] == words.split()[:1]:
            return lines
    raise AssertionError("".join(lines))


def check_all_gone(processes: list[psutil.Process]) -> None:
    """Every one of them has ended."""
    _, alive = psutil.wait_procs(processes, timeout=GONE_LIMIT_S)
    assert alive == []


def test_a_small_network_learns_agrees_and_leaves_homes_that_verify(command: Command, tmp_path: Path) -> None:
    folder, summary = tmp_path / "t", tmp_path / "out.json"
    with running(folder, "--rounds", "2", "--json", str(summary)) as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, out + err
    assert "All 4 peers agree on block #6" in out
    found = json.loads(summary.read_text())
    assert [line["height"] for line in found["rounds"]] == [3, 6]  # H2
    assert {(peer["height"], peer["tip"], peer["state_root"]) for peer in found["peers"]} == {
        (6, found["peers"][0]["tip"], found["peers"][0]["state_root"])
    }
    for index in range(1, 5):
        home = folder / f"hospital-{index}"
        assert command("chain", "verify", "--home", home).code == 0
        assert command("model", "export", "--home", home, "--out", tmp_path / "m").code == 0
        assert file_ref(tmp_path / "m") == file_ref(folder / "model.safetensors")
    again = command("testnet", "--home", folder, *SMALL)
    assert again.code == ExitCode.USAGE
    assert "--replace" in again.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process_and_every_home_restartable(
    command: Command, tmp_path: Path, number: signal.Signals
) -> None:
    with running(tmp_path / "t", "--rounds", "100000") as process:
        read_until(process, "0")  # the first round is final
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 5
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == ExitCode.INTERRUPTED, err
        check_all_gone(family)
    for index in range(1, 5):
        home = Home(tmp_path / "t" / f"hospital-{index}")
        home.check()
        assert command("chain", "verify", "--home", home.path).code == 0


def test_a_killed_testnet_takes_its_peers_and_workers_with_it(tmp_path: Path) -> None:
    with running(tmp_path / "t", "--rounds", "100000") as process:
        read_until(process, "0")
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        check_all_gone(family)


def test_an_interruption_while_homes_are_made_leaves_no_process(tmp_path: Path) -> None:
    with running(tmp_path / "t", "--rounds", "100000") as process:
        read_until(process, "4")  # the line that says what is to come
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == ExitCode.INTERRUPTED, err
    # a process that may not be looked at shows no command line
    lines = [" ".join(item.info["cmdline"] or ()) for item in psutil.process_iter(["cmdline"])]
    assert [line for line in lines if str(tmp_path) in line] == []


def test_a_task_that_cannot_load_is_one_clear_error(command: Command, tmp_path: Path) -> None:
    words = ("--setting", "colour=1", "--rounds", "1")
    with running(tmp_path / "t", *words) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.TASK
    assert "colour" in err
    assert err.count("error:") == 1
    assert os.listdir(tmp_path) == ["t"]
    assert os.listdir(tmp_path / "t") == [], "the corrected command shall run without --replace"

"""The main job from the command to the table, with the real command line and real processes (issue's item 1)."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.testnet_homes import MARKER
from ledger.blobs import blob_id
from ledger.types import ModelBody
from tests.integration.helpers_chain import assert_one_history
from tests.integration.helpers_processes import run_command

pytestmark = pytest.mark.integration

PEERS, K, ROUNDS = 8, 5, 10


def run_digits(folder: Path, seed: int) -> dict[str, Any]:
    """The issue's command; what its JSON file says."""
    words = ["--peers", PEERS, "--committee", 4, "--round-length", K, "--rounds", ROUNDS, "--task", "digits"]
    words += ["--partition", "iid", "--seed", seed, "--home", folder, "--json", folder.with_suffix(".json")]
    ended = run_command("testnet", *words, limit_s=110)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Final model" in ended.stdout
    found: dict[str, Any] = json.loads(folder.with_suffix(".json").read_text())
    return found


def export_model(home: Path, height: int, out: Path) -> bytes:
    """The bytes that `model export` writes."""
    ended = run_command("model", "export", "--home", home, "--height", height, "--out", out)
    assert ended.returncode == 0, ended.stderr
    return out.read_bytes()


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_eight_peers_learn_and_agree_on_every_block_and_model(tmp_path: Path, seed: int) -> None:
    """H1, H2, H4, A1, R7: one tip, one state root, model blocks at k*(t+1), equal models, all homes verify."""
    folder = tmp_path / "net"
    summary = run_digits(folder, seed)
    homes = [folder / name for name in json.loads((folder / MARKER).read_text())["peers"]]
    assert len(homes) == PEERS
    assert {(peer["height"]) for peer in summary["peers"]} == {K * ROUNDS}
    assert len({(peer["tip"], peer["state_root"]) for peer in summary["peers"]}) == 1
    assert [line["height"] for line in summary["rounds"]] == [K * (t + 1) for t in range(ROUNDS)]
    assert summary["totals"]["accuracy"] >= 0.95
    chains = assert_one_history(homes)
    assert {len(chain) for chain in chains} == {K * ROUNDS}
    model_heights = [block.height for block in chains[0] if isinstance(block.body, ModelBody)]
    assert model_heights == [K * (t + 1) for t in range(ROUNDS)]  # H2
    assert chains[0][-1].header.id().hex() == summary["peers"][0]["tip"]
    for home in homes:
        ended = run_command("chain", "verify", "--home", home, "--json")
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["tip"] == summary["peers"][0]["tip"]


def test_the_exported_models_are_the_same_bytes_on_every_peer(tmp_path: Path) -> None:
    """R7, B1: and they are what the model block names."""
    folder = tmp_path / "net"
    words = ["--peers", 4, "--committee", 1, "--round-length", 3, "--rounds", 3, "--home", folder]
    ended = run_command("testnet", *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    homes = [folder / f"hospital-{index + 1}" for index in range(4)]
    (chain, *_) = assert_one_history(homes)
    for height in (3, 6, 9):
        body = chain[height - 1].body
        assert isinstance(body, ModelBody)
        exported = {export_model(home, height, tmp_path / f"{home.name}-{height}") for home in homes}
        assert len(exported) == 1
        assert blob_id(exported.pop()) == body.model.blob

"""Trainers that poison are found out by the committees and change nothing (issue's item 5; R3, R4, R6)."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ledger.genesis import load_genesis
from ledger.types import EmptyBody, Score, UpdateBody
from tests.integration.helpers_chain import read_blocks
from tests.integration.helpers_processes import run_command

pytestmark = pytest.mark.integration

PEERS, ATTACKERS, C, K, ROUNDS = 12, 3, 4, 9, 10


@dataclass
class Outcomes:
    """What became of the offers of one kind of trainer: scores of the accepted, and of those that were not."""

    accepted: list[tuple[Score, ...]] = field(default_factory=list)
    refused: list[tuple[Score, ...]] = field(default_factory=list)


def run_network(folder: Path, seed: int, attackers: int) -> dict[str, Any]:
    """The demonstration's command; its summary."""
    words = ["--peers", PEERS, "--committee", C, "--round-length", K, "--rounds", ROUNDS, "--task", "digits"]
    words += ["--seed", seed, "--home", folder, "--json", folder.with_suffix(".json")]
    ended = run_command("testnet", *words, "--attackers", attackers, "--attack", "sign-flip", limit_s=110)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found: dict[str, Any] = json.loads(folder.with_suffix(".json").read_text())
    return found


def outcomes_of(folder: Path, attackers: list[str]) -> tuple[Outcomes, Outcomes]:
    """The honest trainers' and the attackers' offers, as the chain lists them."""
    home = folder / "hospital-1"
    members = load_genesis(home / "config" / "genesis.json").members
    bad = {member.member_key for member in members if member.name in attackers}
    honest, poisoned = Outcomes(), Outcomes()
    for block in read_blocks(home):
        if isinstance(block.body, UpdateBody):
            (poisoned if block.body.offer.trainer in bad else honest).accepted.append(block.body.scores)
        elif isinstance(block.body, EmptyBody):
            for item in block.body.unfilled:
                if item.offer:
                    (poisoned if item.trainer in bad else honest).refused.append(item.scores)
    return honest, poisoned


def fails(score: Score, tolerance: int) -> bool:
    """R3, policy `relative`."""
    return score.code > 0 or score.value - score.baseline < -tolerance


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))], ids=lambda seed: f"seed-{seed}"
)
def test_every_sign_flipped_update_is_rejected_and_the_model_learns_as_well(tmp_path: Path, seed: int) -> None:
    """R3, R4, R6: each rejection stands on chain with its scores; at most 10 % of the honest updates are refused."""
    clean = run_network(tmp_path / "clean", seed, 0)
    poisoned = run_network(tmp_path / "poisoned", seed, ATTACKERS)
    assert len(poisoned["attackers"]) == ATTACKERS
    honest, attacks = outcomes_of(tmp_path / "poisoned", poisoned["attackers"])
    tolerance = load_genesis(tmp_path / "poisoned" / "genesis.json").params.score_tolerance
    assert attacks.accepted == []
    assert len(attacks.refused) >= ROUNDS  # 3 of 12, of whom 4 sit: two attacks a round on average
    for scores in attacks.refused:
        assert 2 * sum(fails(score, tolerance) for score in scores) >= C  # R4: rejected, not undecided
    assert len(honest.refused) <= 0.1 * (len(honest.accepted) + len(honest.refused))
    assert poisoned["totals"]["accuracy"] >= clean["totals"]["accuracy"] - 0.02

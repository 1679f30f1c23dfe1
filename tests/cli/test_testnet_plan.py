"""What a testnet may be asked to be."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli.testnet_plan import Plan
from ledger.genesis import GenesisError
from node.errors import ExitCode, NodeError
from tests.cli.helpers_cli import Command

PLAN = Plan(home=Path("unused"))


def test_the_defaults_are_a_testnet_of_eight_that_reaches_height_fifty() -> None:
    PLAN.check()
    params = PLAN.make_params(shared_test_set=True)
    assert (PLAN.peers, params.committee_size, params.round_length, params.rounds_max) == (8, 4, 5, 10)
    assert PLAN.last_height == 50  # H2
    assert params.batch_max == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peers": 1}, "--peers 1"),
        ({"peers": 32}, "--peers 32"),
        ({"committee": 8}, "--committee 8 is too large"),
        ({"round_length": 1}, "round_length"),
        ({"rounds": 0}, "rounds_max"),
        ({"partition": "random"}, "--partition"),
        ({"partition": "dirichlet:-1"}, "--partition"),
        ({"attackers": 9}, "--attackers 9"),
        ({"attack": "nice"}, "--attack 'nice'"),
        ({"voters": "nobody"}, "voters"),
        ({"election": "lottery"}, "election"),
        ({"codec": "zip"}, "--codec 'zip'"),
        ({"base_port": 80}, "--base-port"),
        ({"base_port": 65_530}, "--base-port"),
        ({"params": {"colour": 1}}, "colour"),
        ({"deadline_ms": 0}, "round_deadline_ms"),
    ],
)
def test_what_cannot_be_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises((NodeError, GenesisError)) as caught:
        replace(PLAN, **change).check()
    assert words in str(caught.value)


def test_each_peer_has_its_own_shard_of_one_seeded_split() -> None:
    plan = replace(PLAN, seed=7, partition="dirichlet:0.5", settings={"epochs": 1})
    found = [plan.settings_of(index) for index in range(plan.peers)]
    assert [item["shard"] for item in found] == list(range(8))
    assert {(item["seed"], item["shards"], item["partition"], item["epochs"]) for item in found} == {
        (7, 8, "dirichlet:0.5", 1)
    }


def test_a_task_of_ones_own_gets_only_the_settings_that_were_given() -> None:
    assert replace(PLAN, task="my.module:Task", settings={"a": 1}).settings_of(3) == {"a": 1}


def test_the_last_peers_attack() -> None:
    plan = replace(PLAN, attackers=2)
    assert [plan.attack_of(index) for index in range(8)] == [None] * 6 + ["sign-flip"] * 2


def test_parameters_can_be_overridden_one_by_one() -> None:
    params = replace(PLAN, params={"grace_ms": 17, "score_tolerance": 3}).make_params(shared_test_set=True)
    assert (params.grace_ms, params.score_tolerance) == (17, 3)


def test_skewed_shards_are_allowed_to_worsen_the_score_more() -> None:
    assert replace(PLAN, partition="dirichlet:0.5").score_tolerance > PLAN.score_tolerance


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("--data", "x"), ExitCode.USAGE, "--data"),
        (("--compose-endpoints",), ExitCode.USAGE, "--output"),
        (("--setting", "x"), ExitCode.USAGE, "NAME=VALUE"),
        (("--peers", "4"), ExitCode.GENESIS, "too large"),
        (("--peers", "many"), ExitCode.USAGE, "--peers"),
        (("--rounds", "0"), ExitCode.USAGE, "--rounds"),
        (("--committee", "0"), ExitCode.USAGE, "--committee"),
        (("--voters", "all"), ExitCode.USAGE, "--voters"),
    ],
)
def test_a_wrong_command_line_starts_nothing(
    command: Command, tmp_path: Path, words: tuple[str, ...], code: ExitCode, named: str
) -> None:
    ran = command("testnet", "--home", tmp_path / "t", *words)
    assert ran.code == code
    assert named in ran.err
    assert not (tmp_path / "t").exists()

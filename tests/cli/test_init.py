"""`init` and what `start` says of a home that is not complete."""

from pathlib import Path

import pytest

from node.config import load_config
from node.errors import ExitCode
from node.home import Home
from tests.cli.helpers_cli import Command, make_genesis, make_members


@pytest.fixture
def homes(tmp_path: Path) -> list[Home]:
    """Four members' homes, genesis.json and the model beside them."""
    made = make_members(tmp_path, 4)
    make_genesis(tmp_path, made)
    return made


def words(tmp_path: Path, home: Path) -> tuple[object, ...]:
    """The command line that makes `home` ready."""
    files = ("--genesis", tmp_path / "genesis.json", "--model", tmp_path / "genesis-model.safetensors")
    return ("init", "--home", home, *files)


def test_init_makes_a_home_that_passes_its_own_check(command: Command, tmp_path: Path, homes: list[Home]) -> None:
    ran = command(*words(tmp_path, homes[1].path), "--setting", "shard=1", "--setting", "partition=iid")
    assert ran.code == 0
    homes[1].check()
    config = load_config(homes[1].config)
    assert config.peer.listen == "127.0.0.1:27001"
    assert config.task.settings == {"shard": 1, "partition": "iid"}
    assert homes[1].genesis.read_bytes() == (tmp_path / "genesis.json").read_bytes()


def test_a_peer_behind_another_address_advertises_the_one_in_genesis(
    command: Command, tmp_path: Path, homes: list[Home]
) -> None:
    command(*words(tmp_path, homes[0].path), "--listen", "0.0.0.0:7000", "--codec", "f32")
    config = load_config(homes[0].config)
    assert (config.peer.listen, config.peer.advertise) == ("0.0.0.0:7000", "127.0.0.1:27000")
    assert config.training.codec == "f32"


def test_a_second_init_changes_nothing(command: Command, tmp_path: Path, homes: list[Home]) -> None:
    command(*words(tmp_path, homes[0].path))
    before = homes[0].config.read_text()
    ran = command(*words(tmp_path, homes[0].path), "--setting", "seed=9")
    assert ran.code == ExitCode.CONFIG
    assert "exists already" in ran.err
    assert homes[0].config.read_text() == before


def test_a_stranger_is_told_to_send_a_card(command: Command, tmp_path: Path, homes: list[Home]) -> None:
    stranger = make_members(tmp_path / "others", 1)[0]
    ran = command(*words(tmp_path, stranger.path))
    assert ran.code == ExitCode.KEYS
    assert "keys show" in ran.err


def test_a_home_without_keys_is_told_how_to_make_them(command: Command, tmp_path: Path, homes: list[Home]) -> None:
    ran = command(*words(tmp_path, tmp_path / "empty"))
    assert ran.code == ExitCode.KEYS
    assert "keys new" in ran.err


@pytest.mark.parametrize("option", [("--codec", "zip"), ("--listen", "nowhere"), ("--api", "127.0.0.1:99999")])
def test_a_wrong_option_is_named(command: Command, tmp_path: Path, homes: list[Home], option: tuple[str, str]) -> None:
    ran = command(*words(tmp_path, homes[0].path), *option)
    assert ran.code == ExitCode.CONFIG
    assert option[1] in ran.err
    assert not homes[0].genesis.exists()


def test_another_model_than_genesis_names_is_refused(command: Command, tmp_path: Path, homes: list[Home]) -> None:
    (tmp_path / "genesis-model.safetensors").write_bytes(b"something else")
    ran = command(*words(tmp_path, homes[0].path))
    assert ran.code == ExitCode.GENESIS
    assert "not the initial model" in ran.err


def test_start_of_an_incomplete_home_says_what_is_missing(command: Command, tmp_path: Path, homes: list[Home]) -> None:
    ran = command("start", "--home", homes[0].path)
    assert ran.code == ExitCode.CONFIG
    assert "fedchain-node init" in ran.err
    assert command("start", "--home", tmp_path / "nowhere").code == ExitCode.CONFIG


def test_start_without_the_signers_state_is_refused(command: Command, tmp_path: Path, homes: list[Home]) -> None:
    command(*words(tmp_path, homes[0].path))
    homes[0].keys.signer_state.unlink()
    ran = command("start", "--home", homes[0].path)
    assert ran.code == ExitCode.SIGNER_STATE  # A5
    assert "signed" in ran.err

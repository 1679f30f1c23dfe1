"""A testnet's folder: making it, refusing it, replacing it."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from cli.testnet_homes import MARKER, choose_places, container_places, make_members, prepare_folder
from cli.testnet_output import write_homes
from cli.testnet_plan import Plan
from ledger.genesis import load_genesis
from node.config import load_config
from node.errors import ExitCode, NodeError
from node.home import Home
from node.signer_log import SignerLog
from tests.cli.helpers_cli import Command

TASK = "tests.node.helpers_tasks:LinearTask"


def plan_in(folder: Path) -> Plan:
    """A small testnet of a task without torch."""
    return Plan(home=folder, peers=4, committee=1, round_length=3, rounds=2, task=TASK)


def made(folder: Path) -> Plan:
    """A testnet that got as far as its keys."""
    plan = plan_in(folder)
    prepare_folder(folder, replace=False)
    make_members(plan, container_places(plan.peers))
    return plan


def refusal(folder: Path, *, replace: bool) -> NodeError:
    """Why the folder is not taken."""
    with pytest.raises(NodeError) as caught:
        prepare_folder(folder, replace)
    return caught.value


def test_a_new_or_empty_folder_is_taken(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b", replace=False)
    prepare_folder(tmp_path / "a" / "b", replace=False)
    assert (tmp_path / "a" / "b").is_dir()


def test_an_earlier_testnet_is_refused_with_what_to_do(tmp_path: Path) -> None:
    made(tmp_path / "t")
    error = refusal(tmp_path / "t", replace=False)
    assert error.exit_code == ExitCode.USAGE
    assert "--replace" in str(error)
    assert (tmp_path / "t" / "peer-1" / "keys" / "member.key").is_file()


def test_replace_removes_what_a_testnet_made_and_nothing_else(tmp_path: Path) -> None:
    made(tmp_path / "t")
    (tmp_path / "t" / "notes.txt").write_text("mine")
    prepare_folder(tmp_path / "t", replace=True)
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_of_other_files_is_never_touched(tmp_path: Path, replace: bool) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert "no testnet" in str(refusal(tmp_path, replace=replace))
    assert (tmp_path / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", '{"peers": ["../up"]}', '{"peers": [".."]}', '{"peers": [""]}'])
def test_a_damaged_marker_removes_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "up").mkdir()
    (tmp_path / "t" / MARKER).write_text(text)
    assert "damaged" in str(refusal(tmp_path / "t", replace=True))
    assert (tmp_path / "up").is_dir()


def test_a_testnet_with_a_running_peer_is_not_replaced(tmp_path: Path) -> None:
    made(tmp_path / "t")
    log, _ = SignerLog.open(Home(tmp_path / "t" / "peer-2").keys.signer_state)
    try:
        error = refusal(tmp_path / "t", replace=True)
    finally:
        log.close()
    assert error.exit_code == ExitCode.DATA_LOCKED
    assert "peer-2" in str(error)
    assert (tmp_path / "t" / "peer-1" / "keys" / "member.key").is_file()


def test_free_ports_are_all_different(tmp_path: Path) -> None:
    places = choose_places(plan_in(tmp_path))
    ports = [int(text.rsplit(":", 1)[1]) for place in places for text in (place.listen, place.api)]
    assert len(set(ports)) == 8
    assert [place.name for place in places] == ["hospital-1", "hospital-2", "hospital-3", "hospital-4"]


def test_a_base_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        base = port - 3 if port > 60_000 else port
        with pytest.raises(NodeError) as caught:
            choose_places(replace(plan_in(tmp_path), base_port=base))
    assert caught.value.exit_code == ExitCode.PORT_IN_USE
    assert str(port) in str(caught.value)


def test_keys_are_random_whatever_the_seed(tmp_path: Path) -> None:
    keys = [make_members(plan_in(tmp_path / name), container_places(4)) for name in ("a", "b")]
    assert len({card.member_key for cards in keys for card in cards}) == 8


@pytest.mark.integration
def test_homes_for_containers_advertise_their_names(tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "homes"
    (folder / "peer-1").mkdir(parents=True)  # a volume is there before its home is
    words = ("--output", folder, "--compose-endpoints", "--peers", 4, "--committee", 1, "--task", TASK)
    assert command("testnet", *words).code == 0
    genesis = load_genesis(folder / "genesis.json")
    assert [member.endpoint for member in genesis.members] == [f"peer-{index}:7000" for index in range(1, 5)]
    for index in range(1, 5):
        home = Home(folder / f"peer-{index}")
        home.check()
        config = load_config(home.config)
        assert (config.peer.listen, config.peer.advertise) == ("0.0.0.0:7000", f"peer-{index}:7000")
        assert config.api.listen.startswith("127.0.0.1:")
    again = command("testnet", *words)
    assert again.code == 0
    assert "nothing was changed" in again.out
    assert load_genesis(folder / "genesis.json").chain_id == genesis.chain_id


def test_homes_that_are_only_partly_there_are_refused(tmp_path: Path) -> None:
    plan = made(tmp_path / "t")
    with pytest.raises(NodeError, match="not all homes are complete"):
        write_homes(plan, compose_endpoints=True)
    assert json.loads((tmp_path / "t" / MARKER).read_text())["peers"][0] == "peer-1"

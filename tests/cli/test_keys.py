"""`keys new` and `keys show`."""

from pathlib import Path

import pytest

from consensus.signer import SignerState, WalEntry
from node.errors import ExitCode
from node.home import Home
from node.keyfiles import load_member_key, load_public
from node.member_card import MemberCard, beacon_links, load_card
from node.signer_log import SignerLog
from tests.cli.helpers_cli import Command

NEW = ("--name", "hospital-1", "--endpoint", "127.0.0.1:7001", "--beacon-links", "20")


def test_new_keys_are_private_and_never_printed(command: Command, tmp_path: Path) -> None:
    ran = command("keys", "new", "--home", tmp_path / "h", *NEW)
    files = Home(tmp_path / "h").keys
    assert ran.code == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (files.member_key, files.transport_key))
    secret = load_member_key(files.member_key).private_bytes_raw().hex()
    pem_line = files.member_key.read_text().splitlines()[1]
    assert secret not in ran.out + ran.err
    assert pem_line not in ran.out + ran.err


def test_the_card_names_keys_certificate_endpoint_and_beacon_tip(command: Command, tmp_path: Path) -> None:
    ran = command("keys", "new", "--home", tmp_path / "h", *NEW, "--chain", "lungs", "--json")
    card = MemberCard.model_validate(ran.json)
    files = Home(tmp_path / "h").keys
    public = load_public(files)
    member = card.to_member()
    assert (member.name, member.endpoint) == ("hospital-1", "127.0.0.1:7001")
    assert (member.member_key, member.certificate) == (public.member, public.certificate)
    assert member.beacon_tip == beacon_links(load_member_key(files.member_key), "lungs", 20)[-1]  # R9


def test_beacons_of_two_chains_differ(tmp_path: Path, command: Command) -> None:
    command("keys", "new", "--home", tmp_path / "h", *NEW)
    key = load_member_key(Home(tmp_path / "h").keys.member_key)
    assert beacon_links(key, "a", 3)[-1] != beacon_links(key, "b", 3)[-1]


def test_the_signers_state_begins_with_the_new_key(command: Command, tmp_path: Path) -> None:
    command("keys", "new", "--home", tmp_path / "h", *NEW)
    files = Home(tmp_path / "h").keys
    log, records = SignerLog.open(files.signer_state)
    log.close()
    state = SignerState.replay(WalEntry.decode(record).record for record in records)  # A5
    assert state.public == load_public(files).member


def test_existing_keys_are_never_replaced(command: Command, tmp_path: Path) -> None:
    command("keys", "new", "--home", tmp_path / "h", *NEW)
    before = Home(tmp_path / "h").keys.member_key.read_bytes()
    ran = command("keys", "new", "--home", tmp_path / "h", *NEW)
    assert ran.code == ExitCode.KEYS
    assert "never overwritten" in ran.err
    assert Home(tmp_path / "h").keys.member_key.read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("--name", "x" * 65, ExitCode.KEYS),
        ("--name", "-dash", ExitCode.KEYS),
        ("--endpoint", "no-port", ExitCode.USAGE),
        ("--endpoint", "host:70000", ExitCode.USAGE),
    ],
)
def test_a_card_that_no_genesis_would_take_makes_no_keys(
    command: Command, tmp_path: Path, option: str, value: str, code: ExitCode
) -> None:
    ran = command("keys", "new", "--home", tmp_path / "h", *NEW, f"{option}={value}")
    assert ran.code == code
    assert option.removeprefix("--") in ran.err
    assert not Home(tmp_path / "h").keys.member_key.exists()
    assert command("keys", "new", "--home", tmp_path / "h", *NEW).code == 0


def test_show_prints_the_same_card_again(command: Command, tmp_path: Path) -> None:
    made = command("keys", "new", "--home", tmp_path / "h", *NEW, "--json").json
    assert command("keys", "show", "--home", tmp_path / "h", "--json").json == made
    assert command("keys", "show", "--home", tmp_path / "h", "--card", tmp_path / "c.json").code == 0
    assert load_card(tmp_path / "c.json").model_dump() == made


def test_show_refuses_the_card_of_other_keys(command: Command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        command("keys", "new", "--home", tmp_path / name, *NEW)
    card = tmp_path / "a" / "keys" / "card.json"
    card.write_bytes((tmp_path / "b" / "keys" / "card.json").read_bytes())
    ran = command("keys", "show", "--home", tmp_path / "a")
    assert ran.code == ExitCode.KEYS
    assert str(card) in ran.err


def test_show_without_keys_says_how_to_make_them(command: Command, tmp_path: Path) -> None:
    ran = command("keys", "show", "--home", tmp_path)
    assert ran.code == ExitCode.KEYS
    assert "keys" in ran.err


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"name": 3}', "\xff"])
def test_a_damaged_card_names_the_file_and_the_field(tmp_path: Path, command: Command, text: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text, encoding="latin-1")
    ran = command("genesis", "new", "--card", path)
    assert ran.code == ExitCode.KEYS
    assert str(path) in ran.err


def test_a_card_is_written_into_a_folder_that_was_not_there(command: Command, tmp_path: Path) -> None:
    card = tmp_path / "cards" / "1.json"
    assert command("keys", "new", "--home", tmp_path / "h", *NEW, "--card", card).code == 0
    assert load_card(card) == load_card(tmp_path / "h" / "keys" / "card.json")

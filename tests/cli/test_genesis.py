"""`genesis new`, `genesis add` and `genesis check`."""

import json
from pathlib import Path

import pytest

from cli.drafts import load_draft
from ledger.blobs import file_ref
from ledger.genesis import Genesis, load_genesis
from node.errors import ExitCode
from node.member_card import load_card
from tests.cli.helpers_cli import Command, make_genesis, make_members


@pytest.fixture
def cards(tmp_path: Path) -> list[Path]:
    """Cards of four members."""
    return [home.keys.folder / "card.json" for home in make_members(tmp_path, 4)]


@pytest.fixture
def draft(tmp_path: Path, cards: list[Path]) -> Path:
    """A document with c = 2 and its founder alone."""
    homes = make_members(tmp_path / "two", 3)
    document, _ = make_genesis(tmp_path, homes)
    whole = json.loads(document.read_text())
    founder = load_card(cards[0]).to_member().model_dump(mode="json")
    document.write_text(json.dumps({**whole, "members": [founder]}))
    return document


def test_members_are_added_until_the_document_is_whole(command: Command, draft: Path, cards: list[Path]) -> None:
    ran = command("genesis", "add", draft, cards[1])
    assert "add 1 more" in ran.out
    assert command("genesis", "check", draft).code == ExitCode.GENESIS
    assert command("genesis", "add", draft, *cards[2:]).code == 0
    found = load_genesis(draft)
    assert [member.name for member in found.members] == ["peer-0", "peer-1", "peer-2", "peer-3"]


def test_check_prints_the_chain_id_and_warnings(command: Command, draft: Path, cards: list[Path]) -> None:
    command("genesis", "add", draft, *cards[1:])
    ran = command("genesis", "check", draft, "--json")
    assert ran.json["chain_id"] == load_genesis(draft).chain_id.hex()
    assert any("N - c" in warning for warning in ran.json["warnings"])  # R9
    assert "warning: " in command("genesis", "check", draft).err


def test_a_member_is_added_once_only(command: Command, draft: Path, cards: list[Path]) -> None:
    before = draft.read_text()
    ran = command("genesis", "add", draft, cards[1], cards[1])
    assert ran.code == ExitCode.GENESIS
    assert "same name" in ran.err
    assert draft.read_text() == before


def test_a_card_with_a_beacon_for_other_rules_is_refused(command: Command, draft: Path, tmp_path: Path) -> None:
    name = ("--name", "late", "--endpoint", "127.0.0.1:9999")
    command("keys", "new", "--home", tmp_path / "late", *name, "--beacon-links", 99, "--card", tmp_path / "late.json")
    ran = command("genesis", "add", draft, tmp_path / "late.json")
    assert ran.code == ExitCode.GENESIS
    assert "--beacon-links 16" in ran.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"params": {"round_length": 1}}, "round_length"),  # k < 2 (H1)
        ({"params": {"committee_size": 4}}, "too large for N = 4"),
        ({"params": {"colour": "blue"}}, "unknown field"),
        ({"params": {"rounds_max": "ten"}}, "rounds_max"),
        ({"colour": "blue"}, "unknown field"),
        ({"model": {"blob": "00"}}, "64 hexadecimal digits"),
    ],
)
def test_check_names_the_field_that_is_wrong(
    command: Command, draft: Path, cards: list[Path], change: dict[str, object], words: str
) -> None:
    command("genesis", "add", draft, *cards[1:])
    whole = json.loads(draft.read_text())
    for name, value in change.items():
        whole[name] = {**whole[name], **value} if isinstance(value, dict) else value
    draft.write_text(json.dumps(whole))
    ran = command("genesis", "check", draft)
    assert ran.code == ExitCode.GENESIS
    assert words in ran.err
    assert str(draft) in ran.err


def test_check_refuses_duplicate_keys(command: Command, draft: Path, cards: list[Path]) -> None:
    command("genesis", "add", draft, *cards[1:])
    whole = json.loads(draft.read_text())
    whole["members"][1]["member_key"] = whole["members"][0]["member_key"]
    draft.write_text(json.dumps(whole))
    assert "same member_key" in command("genesis", "check", draft).err


def test_check_compares_the_model_file(command: Command, draft: Path, cards: list[Path], tmp_path: Path) -> None:
    command("genesis", "add", draft, *cards[1:])
    model = tmp_path / "genesis-model.safetensors"
    assert command("genesis", "check", draft, "--model", model).code == 0
    model.write_bytes(model.read_bytes() + b"\0")
    ran = command("genesis", "check", draft, "--model", model)
    assert ran.code == ExitCode.GENESIS
    assert "not the initial model" in ran.err


def test_a_model_file_that_is_not_there_is_named(command: Command, draft: Path, cards: list[Path]) -> None:
    command("genesis", "add", draft, *cards[1:])
    ran = command("genesis", "check", draft, "--model", "nowhere.safetensors")
    assert ran.code == ExitCode.GENESIS
    assert "nowhere.safetensors" in ran.err
    assert "Correct the path" in ran.err


@pytest.mark.parametrize("text", ["", "null", "[]", '{"format": "other"}'])
def test_a_damaged_draft_is_refused(command: Command, draft: Path, cards: list[Path], text: str) -> None:
    draft.write_text(text)
    ran = command("genesis", "add", draft, cards[1])
    assert ran.code == ExitCode.GENESIS
    assert str(draft) in ran.err


def test_the_order_of_fields_and_spaces_do_not_change_the_chain_id(
    command: Command, draft: Path, cards: list[Path]
) -> None:
    command("genesis", "add", draft, *cards[1:])
    before = load_genesis(draft).chain_id
    whole = json.loads(draft.read_text())
    draft.write_text(json.dumps(dict(reversed(whole.items())), separators=(",", ":")))
    assert load_genesis(draft).chain_id == before


@pytest.mark.integration
def test_new_founds_a_consortium_with_the_tasks_own_model(command: Command, cards: list[Path], tmp_path: Path) -> None:
    document, model = tmp_path / "g.json", tmp_path / "m.safetensors"
    rules = ("--committee", 2, "--round-length", 3, "--rounds", 4, "--param", "codecs=f32")
    task = ("--task", "tests.node.helpers_tasks:LinearTask")
    ran = command("genesis", "new", "--card", cards[0], *task, *rules, "--out", document, "--model-out", model)
    assert ran.code == 0, ran.err
    found = load_draft(document)
    assert found.model.size == model.stat().st_size
    assert (found.model.blob, found.params.test_set, found.params.codecs) == (file_ref(model).blob, "local", ("f32",))
    command("genesis", "add", document, *cards[1:])
    assert isinstance(load_genesis(document), Genesis)
    ran = command("genesis", "new", "--card", cards[0], *task, *rules, "--out", document, "--model-out", model)
    assert ran.code == ExitCode.USAGE
    assert "exists already" in ran.err


@pytest.mark.integration
def test_new_with_an_unknown_task_says_which_there_are(command: Command, cards: list[Path], tmp_path: Path) -> None:
    ran = command(
        "genesis", "new", "--card", cards[0], "--task", "letters", "--committee", 2,
        "--out", tmp_path / "g.json", "--model-out", tmp_path / "m.st",
    )  # fmt: skip
    assert ran.code == ExitCode.TASK
    assert "digits" in ran.err
    assert not (tmp_path / "g.json").exists()


def test_new_refuses_wrong_parameters_before_anything_is_made(
    command: Command, cards: list[Path], tmp_path: Path
) -> None:
    for words, named in [
        (("--round-length", 1), "round-length"),
        (("--rounds", 0), "rounds"),
        (("--committee", 0), "committee"),
        (("--param", "colour=1"), "unknown field"),
        (("--param", "colour"), "NAME=VALUE"),
        (("--voters", "everybody"), "voters"),
    ]:
        ran = command("genesis", "new", "--card", cards[0], *words, "--out", tmp_path / "g.json")
        assert ran.code in (ExitCode.GENESIS, ExitCode.USAGE)
        assert named in ran.err
    assert not (tmp_path / "g.json").exists()

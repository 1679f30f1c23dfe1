"""A home says what is missing, why it matters, and the command that helps (A5, Y1)."""

from pathlib import Path

import pytest

from node.errors import ExitCode, NodeError
from node.home import Home
from node.keyfiles import new_keys


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with everything that `start` needs."""
    made = Home(tmp_path / "peer")
    made.make()
    for path in (made.config, made.genesis, made.genesis_model):
        path.write_bytes(b"content")
    new_keys(made.keys.folder, "peer")
    return made


def test_a_whole_home_passes(home: Home) -> None:
    home.check()


def test_a_missing_data_folder_is_made_anew(home: Home) -> None:
    for folder in (home.partial, home.blobs, home.chain, home.work, home.data):
        folder.rmdir()
    home.check()
    assert home.partial.is_dir()
    assert home.chain.is_dir()


@pytest.mark.parametrize(
    ("name", "exit_code", "remedy"),
    [
        ("config/config.toml", ExitCode.CONFIG, "fedchain-node init"),
        ("config/genesis.json", ExitCode.GENESIS, "--genesis FILE"),
        ("config/genesis-model.safetensors", ExitCode.GENESIS, "copy it from another member"),
        ("keys/member.key", ExitCode.KEYS, "fedchain-node keys new"),
        ("keys/transport.key", ExitCode.KEYS, "fedchain-node keys new"),
        ("keys/transport.crt", ExitCode.KEYS, "fedchain-node keys new"),
    ],
)
def test_each_missing_file_is_named_with_the_command_that_makes_it(
    home: Home, name: str, exit_code: ExitCode, remedy: str
) -> None:
    (home.path / name).unlink()
    with pytest.raises(NodeError) as error:
        home.check()
    assert error.value.exit_code is exit_code
    assert str(home.path / name) in str(error.value)
    assert remedy in str(error.value)


def test_a_home_without_its_signer_state_is_refused_with_the_reason_and_the_way_out(home: Home) -> None:
    home.keys.signer_state.unlink()  # A5: as after a copy or a restored backup
    with pytest.raises(NodeError, match=r"copied or restored.*sign twice differently.*make new keys") as error:
        home.check()
    assert error.value.exit_code is ExitCode.SIGNER_STATE


def test_no_home_at_all_is_an_error_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="fedchain-node init"):
        Home(tmp_path / "nowhere").check()
    assert list(tmp_path.iterdir()) == []


def test_the_keys_folder_is_private(home: Home) -> None:
    assert home.keys.folder.stat().st_mode & 0o077 == 0


def test_a_home_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NodeError, match=str(tmp_path / "file")):
        Home(tmp_path / "file").make()

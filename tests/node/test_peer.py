"""A peer from its home: everything that can be wrong with one ends it with its own exit code and a message that says
what, where and what to do; SIGTERM ends it cleanly (A5, A8, Y2)."""

import asyncio
import gc
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import plyvel
import pytest

from consensus.signer import SignedOffer, WalEntry
from ledger.blobs import blob_ref
from ledger.keys import public_bytes
from ledger.store import LevelStore
from ledger.types import Offer
from node.errors import ExitCode, NodeError
from node.forkserver_process import choose_socket_path
from node.home import Home
from node.keyfiles import load_member_key, new_keys
from node.peer import open_home, run_peer
from node.signer_log import SignerLog
from tests.cli.helpers_cli import make_chain_home

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 2
WAIT_S = 30.0
PROGRAM = "import sys, pathlib, node.peer; sys.exit(node.peer.run_peer(pathlib.Path(sys.argv[1])))"


@pytest.fixture(autouse=True)
def _untouched_process() -> Iterator[None]:
    """`run_peer` owns its process: it sets up logging and freezes what the garbage collector knows."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    gc.unfreeze()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Homes of six members; the first has a chain that has learned all its rounds."""
    folder = tmp_path_factory.mktemp("homes")
    make_chain_home(folder, ROUNDS, rounds_max=ROUNDS)
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    """A whole home, stopped; its neighbours stand beside it."""
    shutil.copytree(template, tmp_path / "homes")
    return Home(tmp_path / "homes" / "peer-0")


def refusal(home: Home) -> NodeError:
    """The error that `open_home` ends with."""
    with pytest.raises(NodeError) as error, open_home(home.path):
        pass
    return error.value


def edit_genesis(home: Home, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(home.genesis.read_text())
    change(document)
    home.genesis.write_text(json.dumps(document))


def edit_config(home: Home, old: str, new: str) -> None:
    text = home.config.read_text()
    assert old in text
    home.config.write_text(text.replace(old, new))


def height_key(height: int) -> bytes:
    return b"b" + height.to_bytes(8, "big")


def edit_chain(home: Home, change: Callable[[Any], object]) -> None:
    """Change the chain's LevelDB behind the program's back."""
    database = plyvel.DB(str(home.chain))
    change(database)
    database.close()


def test_a_whole_home_opens_with_everything_in_it(home: Home) -> None:
    with open_home(home.path) as opened:
        assert opened.chain.state.height == 3 * ROUNDS
        assert opened.signer.public == opened.genesis.members[0].member_key
        assert opened.beacon[-1] == opened.genesis.members[0].beacon_tip
        assert opened.blobs.has(opened.genesis.initial_model.blob)


def test_a_home_can_be_opened_again_after_it_was_closed(home: Home) -> None:
    for _ in range(2):
        with open_home(home.path):
            pass


# ------------------------------------------------------------------------------------------------ genesis, config


def test_a_missing_genesis_is_named_with_the_command_that_gets_one(home: Home) -> None:
    home.genesis.unlink()
    error = refusal(home)
    assert error.exit_code is ExitCode.GENESIS
    assert str(home.genesis) in str(error)
    assert "fedchain-node init" in str(error)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda document: document["params"].update(round_length=1), "round_length"),
        (lambda document: document["params"].update(committee_size=7), "committee"),
        (lambda document: document["params"].update(colour="red"), "colour"),
        (lambda document: document["params"].update(rounds_max="two"), "rounds_max"),
        (lambda document: document["members"].append(document["members"][0]), "peer-0"),
    ],
    ids=["k", "c", "unknown-field", "wrong-type", "duplicate"],
)
def test_a_bad_genesis_is_refused_naming_what_is_wrong(
    home: Home, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    edit_genesis(home, change)
    error = refusal(home)
    assert error.exit_code is ExitCode.GENESIS
    assert told in str(error)


def test_a_genesis_that_is_no_json_is_refused(home: Home) -> None:
    home.genesis.write_bytes(b"{")
    assert refusal(home).exit_code is ExitCode.GENESIS


def test_the_key_of_no_member_is_refused(home: Home) -> None:
    shutil.rmtree(home.keys.folder)
    new_keys(home.keys.folder, "stranger")
    error = refusal(home)
    assert error.exit_code is ExitCode.GENESIS
    assert "no member of chain 'tests'" in str(error)


def test_a_beacon_tip_that_this_key_does_not_give_is_refused(home: Home) -> None:
    """R9: its reveals would never verify."""
    edit_genesis(home, lambda document: document["members"][0].update(beacon_tip="00" * 32))
    error = refusal(home)
    assert error.exit_code is ExitCode.GENESIS
    assert "beacon tip of 'peer-0'" in str(error)
    assert "member card" in str(error)


def test_a_codec_that_genesis_does_not_allow_is_refused(home: Home) -> None:
    edit_genesis(home, lambda document: document["params"].update(codecs=["f32"]))
    error = refusal(home)
    assert error.exit_code is ExitCode.CONFIG
    assert "'int8' is not allowed by genesis: use f32" in str(error)


def test_an_unknown_key_of_the_config_is_refused(home: Home) -> None:
    home.config.write_text(home.config.read_text() + "\n[colour]\nred = true\n")
    error = refusal(home)
    assert error.exit_code is ExitCode.CONFIG
    assert "colour" in str(error)


@pytest.mark.parametrize("damage", [b"", b"another model", b"x" * 10_000])
def test_another_initial_model_than_the_one_genesis_names_is_refused(home: Home, damage: bytes) -> None:
    shutil.rmtree(home.data)
    home.genesis_model.write_bytes(damage)
    error = refusal(home)
    assert error.exit_code is ExitCode.GENESIS
    assert f"{home.genesis_model}: is not the initial model" in str(error)


# ------------------------------------------------------------------------------------------------------------ keys


def test_a_signer_state_of_another_key_is_refused(home: Home) -> None:
    other = Home(home.path.parent / "peer-1")
    shutil.copyfile(other.keys.signer_state, home.keys.signer_state)
    error = refusal(home)
    assert error.exit_code is ExitCode.SIGNER_STATE
    assert str(home.keys.signer_state) in str(error)
    assert "do not belong together" in str(error)


def test_a_signer_state_that_names_no_key_is_refused(home: Home) -> None:
    home.keys.signer_state.write_bytes(b"FEDCSIGN\x01")
    assert refusal(home).exit_code is ExitCode.SIGNER_STATE


def test_keys_that_have_signed_on_another_chain_are_refused(home: Home) -> None:
    """A5: places are counted from 0 on each chain; the promises of one would answer for the other."""
    key = load_member_key(home.keys.member_key)
    me, no_hash = public_bytes(key), bytes(32)
    offer = Offer(no_hash, 0, me, no_hash, blob_ref(b""), no_hash, 1, "f32", no_hash).signed(key)
    log, _ = SignerLog.open(home.keys.signer_state)
    log.append([WalEntry(SignedOffer(offer)).encode()])
    log.close()
    error = refusal(home)
    assert error.exit_code is ExitCode.SIGNER_STATE
    assert f"signed on chain {bytes(8).hex()}" in str(error)


def test_a_home_without_its_signer_state_is_refused(home: Home) -> None:
    home.keys.signer_state.unlink()
    error = refusal(home)
    assert error.exit_code is ExitCode.SIGNER_STATE
    assert "copied or restored" in str(error)


def test_another_transport_certificate_than_the_one_genesis_names_is_refused(home: Home) -> None:
    """No member would let it in, and its operator would only see refused connections."""
    other = Home(home.path.parent / "peer-1").keys
    shutil.copyfile(other.transport_certificate, home.keys.transport_certificate)
    shutil.copyfile(other.transport_key, home.keys.transport_key)
    error = refusal(home)
    assert error.exit_code is ExitCode.KEYS
    assert "another certificate for 'peer-0'" in str(error)


# ------------------------------------------------------------------------------------------------------------ data


def test_a_home_in_use_is_locked(home: Home) -> None:
    with open_home(home.path):
        assert refusal(home).exit_code is ExitCode.DATA_LOCKED


def test_a_chain_that_another_process_has_open_is_locked(home: Home) -> None:
    with open_home(home.path) as opened:
        chain = opened.genesis.chain_id
    store = LevelStore(home.chain, chain)
    try:
        error = refusal(home)
    finally:
        store.close()
    assert error.exit_code is ExitCode.DATA_LOCKED
    assert str(home.chain) in str(error)


@pytest.mark.parametrize(
    "change",
    [
        lambda database: database.delete(b"tip"),
        lambda database: database.put(b"tip", b"rubbish"),
        lambda database: database.put(height_key(0), b"rubbish"),
        lambda database: database.delete(height_key(3 * ROUNDS)),
        lambda database: database.delete(b"meta"),
        lambda database: database.put(b"meta", b"\xc1"),
    ],
    ids=["no-tip", "bad-tip", "bad-genesis-block", "no-last-block", "no-schema", "bad-schema"],
)
def test_a_damaged_chain_is_refused_and_says_how_to_get_a_new_one(home: Home, change: Callable[[Any], object]) -> None:
    edit_chain(home, change)
    error = refusal(home)
    assert error.exit_code is ExitCode.DATA_DAMAGED
    assert f"Move {home.data} away" in str(error)
    assert "keys/ must stay" in str(error)


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST"])
def test_a_damaged_database_is_refused(home: Home, name: str) -> None:
    path = next(path for path in home.chain.iterdir() if path.name.startswith(name))
    path.write_bytes(b"\xff" * 64)
    assert refusal(home).exit_code is ExitCode.DATA_DAMAGED


def test_a_chain_of_another_genesis_is_refused(home: Home) -> None:
    edit_genesis(home, lambda document: document.update(time_ms=document["time_ms"] + 1))
    error = refusal(home)
    assert error.exit_code is ExitCode.DATA_DAMAGED
    assert "holds chain" in str(error)
    assert "restore the genesis.json" in str(error)


def test_a_missing_data_folder_is_made_anew_with_the_initial_model(home: Home) -> None:
    shutil.rmtree(home.data)
    with open_home(home.path) as opened:
        assert opened.chain.state.height == 0
        assert opened.blobs.has(opened.genesis.initial_model.blob)


def test_a_damaged_initial_model_is_replaced_by_the_copy_in_config(home: Home) -> None:
    with open_home(home.path) as opened:
        path = opened.blobs.path(opened.genesis.initial_model.blob)
    path.write_bytes(b"rot")
    with open_home(home.path):
        assert path.read_bytes() == home.genesis_model.read_bytes()


def test_what_a_killed_process_left_half_written_is_removed_at_the_start(home: Home) -> None:
    stale = [home.work / "update-3-1.part", home.blobs / "new-abcdef"]
    kept = [home.work / "residual.safetensors", home.partial / "1234.part"]
    for path in (*stale, *kept):
        path.write_bytes(b"half")
    with open_home(home.path):
        assert not any(path.exists() for path in stale)
        assert all(path.exists() for path in kept)  # what is fetched goes on where it stopped (B1)


def test_the_scratch_of_a_running_peer_is_left_alone(home: Home) -> None:
    with open_home(home.path):
        scratch = home.work / "update-3-1.part"
        scratch.write_bytes(b"half")
        refusal(home)
        assert scratch.exists()


def test_a_folder_that_is_no_home_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    assert refusal(Home(tmp_path / "nowhere")).exit_code is ExitCode.CONFIG
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------------- run_peer


def test_an_error_is_told_in_one_line_and_is_the_exit_code(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.genesis.unlink()
    assert run_peer(home.path) == ExitCode.GENESIS
    told = capsys.readouterr().err
    assert told.startswith(f"fedchain-node: error: {home.genesis} is missing")
    assert told.count("\n") == 1


@pytest.mark.parametrize("section", ["peer", "api"])
def test_a_port_in_use_is_named_and_the_home_stays_usable(
    home: Home, capsys: pytest.CaptureFixture[str], section: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        edit_config(home, f'[{section}]\nlisten = "127.0.0.1:0"', f'[{section}]\nlisten = "{place}"')
        assert run_peer(home.path) == ExitCode.PORT_IN_USE
    assert place.rpartition(":")[2] in capsys.readouterr().err
    with open_home(home.path):
        pass


def test_damage_that_is_found_after_the_opening_has_its_exit_code_too(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_chain(home, lambda database: database.delete(height_key(4)))
    shutil.rmtree(home.blobs)  # so that the models must be derived anew, from blocks that are not all there
    assert run_peer(home.path) == ExitCode.DATA_DAMAGED
    told = capsys.readouterr().err
    assert "block #4 is missing" in told
    assert "keys/ must stay" in told


def test_a_worker_socket_that_has_no_safe_place_is_told(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("d" * 120) / "peer-0"
    shutil.copytree(home.path, deep)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    choose_socket_path(Home(deep).work).parent.chmod(0o777)
    assert run_peer(deep) == ExitCode.CONFIG
    assert "not a private folder" in capsys.readouterr().err


def test_an_error_that_nobody_thought_of_has_a_number_and_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_peer("not a path") == ExitCode.FAULTY_MACHINE  # type: ignore[arg-type]
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "fedchain-node: error: AttributeError" in told


@pytest.mark.integration
def test_sigterm_ends_a_peer_cleanly_and_it_starts_again(home: Home) -> None:
    for _ in range(2):  # Y2: and once more from what is on disk
        asyncio.run(start_and_stop(home, signal.SIGTERM))
    with open_home(home.path) as opened:
        assert opened.chain.state.height == 3 * ROUNDS


@pytest.mark.integration
def test_ctrl_c_ends_a_peer_cleanly(home: Home) -> None:
    asyncio.run(start_and_stop(home, signal.SIGINT))


@pytest.mark.integration
def test_a_killed_peer_starts_again_without_repair(home: Home) -> None:
    asyncio.run(start_and_stop(home, signal.SIGKILL, -signal.SIGKILL))
    asyncio.run(start_and_stop(home, signal.SIGTERM))


@pytest.mark.integration
def test_a_peer_derives_its_lost_models_from_the_updates_that_it_has(home: Home) -> None:
    """A3, with a real worker process: models are derived, never fetched."""
    edit_config(home, 'name = "digits"', 'name = "tests.node.helpers_tasks:LinearTask"')
    with open_home(home.path) as opened:
        paths = [opened.blobs.path(blob) for blob in models_of(opened.chain.store)]
        before = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    asyncio.run(start_and_stop(home, signal.SIGTERM, until=lambda: all(path.exists() for path in paths)))
    assert [path.read_bytes() for path in paths] == before


def models_of(store: Any) -> list[bytes]:
    return [store.block(3 * (round + 1)).body.model.blob for round in range(ROUNDS)]


async def start_and_stop(
    home: Home, number: signal.Signals, exit_code: int = 0, until: Callable[[], bool] = lambda: True
) -> None:
    """Run the peer in a process of its own, send it a signal once it is up and `until` holds, check how it ends."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, home.path, cwd=ROOT, stderr=subprocess.PIPE, env=environment
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(WAIT_S):
            lines = [line := await process.stderr.readline()]
            while b"peer started" not in line:
                assert line, b"".join(lines).decode()
                lines.append(line := await process.stderr.readline())
            while not until():  # noqa: ASYNC110 - another process makes it true
                await asyncio.sleep(0.01)
            process.send_signal(number)
            rest = await process.stderr.read()
            assert await process.wait() == exit_code, rest.decode()
            assert exit_code or b"peer stopped" in rest
            assert b"Traceback" not in rest
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

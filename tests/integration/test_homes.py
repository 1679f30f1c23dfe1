"""Homes that must not start, or must be repaired first: each ends with its numbered exit code and says what to do
(issue's item 6 and "Bad input"; A5, A8)."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.testnet_homes import PeerHome
from ledger.types import ModelBody
from node.errors import ExitCode
from node.home import Home
from tests.integration.conftest import MakeNetwork
from tests.integration.helpers_chain import assert_one_history, offers_in, read_blocks
from tests.integration.helpers_network import Network
from tests.integration.helpers_processes import children_of, is_running, run_command, start_command, tail, wait_for

pytestmark = pytest.mark.integration

K = 3
PEERS = 5
DEADLINE_MS = 2_000


@pytest.fixture
def learned(network: MakeNetwork) -> Network:
    """Five stopped peers with two final rounds and more to come."""
    net = network(peers=PEERS, committee=1, round_length=K, deadline_ms=DEADLINE_MS)
    net.start()
    net.wait_height(2 * K)
    assert net.stop() == [ExitCode.OK] * PEERS
    return net


def start_and_end(net: Network, index: int) -> tuple[int, str]:
    """Start one peer that ends by itself; its exit code and the one line that it leaves."""
    net.start([index])
    code = net.wait_end(index)
    return code, (net.home(index) / "peer.log").read_text().splitlines()[-1]


def go_on(net: Network, index: int) -> None:
    """All peers start; the one that was repaired goes on with them, and its chain is the same as theirs."""
    height = len(read_blocks(net.home((index + 1) % PEERS)))
    net.start()
    net.wait_height(height + 2 * K)
    assert net.stop() == [ExitCode.OK] * PEERS
    assert_one_history([net.home(at) for at in net.all])
    assert run_command("chain", "verify", "--home", net.home(index)).returncode == ExitCode.OK


# ------------------------------------------------------------------------------------------------------ signer state


def test_a_copied_home_without_its_signer_state_refuses_to_start(learned: Network, tmp_path: Path) -> None:
    """A5: with the real command; it says why and what to do, and nothing else of the home is touched."""
    copy = tmp_path / "copy"
    shutil.copytree(learned.home(0), copy)
    Home(copy).keys.signer_state.unlink()
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    ended = run_command("start", "--home", copy)
    assert ended.returncode == ExitCode.SIGNER_STATE
    assert "signer.state is missing" in ended.stderr.replace("\n", " ")
    assert "make new keys" in ended.stderr.replace("\n", " ")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_a_damaged_signer_state_refuses_to_start(learned: Network) -> None:
    """A5: one byte changed inside a record is not a torn tail, and never passes for one."""
    path = Home(learned.home(0)).keys.signer_state
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, line = start_and_end(learned, 0)
    assert code == ExitCode.SIGNER_STATE
    assert "signer.state: damaged at byte" in line


def test_another_member_s_signer_state_refuses_to_start(learned: Network) -> None:
    """A5: a key and a log that do not belong together."""
    mine, other = (Home(learned.home(index)).keys.signer_state for index in (0, 1))
    shutil.copyfile(other, mine)
    code, line = start_and_end(learned, 0)
    assert code == ExitCode.SIGNER_STATE
    assert "do not belong together" in line


def test_a_torn_last_record_is_cut_off_and_the_peer_goes_on(learned: Network) -> None:
    """Y2: what a crash left half written had not left the machine."""
    path = Home(learned.home(0)).keys.signer_state
    with path.open("ab") as file:
        file.write(path.read_bytes()[9:40])
    go_on(learned, 0)


# ------------------------------------------------------------------------------------------------ one home, one peer


def test_a_second_process_on_one_home_ends_and_the_first_goes_on(network: MakeNetwork) -> None:
    """A5: one key signs in one place only."""
    net = network(peers=PEERS, committee=1, round_length=K)
    net.start()
    net.wait_height(K)
    ended = run_command("start", "--home", net.home(0))
    assert ended.returncode == ExitCode.DATA_LOCKED
    assert "another process uses this home" in ended.stderr.replace("\n", " ")
    net.wait_height(max(net.heights()) + K)
    assert net.stop() == [ExitCode.OK] * PEERS


def test_a_peer_whose_port_is_taken_names_the_port(learned: Network) -> None:
    """A8: both the peers' port and that of the API."""
    peer = learned.net.genesis.members[0]
    for endpoint in (peer.endpoint, learned.net.peers[0].api.removeprefix("http://")):
        port = int(endpoint.rsplit(":", 1)[1])
        with socket.create_server(("127.0.0.1", port)):
            code, line = start_and_end(learned, 0)
        assert code == ExitCode.PORT_IN_USE
        assert f"{port}" in line
        assert "in use" in line


# ------------------------------------------------------------------------------------------------- genesis, the chain


def test_a_home_with_another_genesis_keeps_its_chain_and_says_so(learned: Network, tmp_path: Path) -> None:
    """H2: a chain of one genesis is never continued under another."""
    path = Home(learned.home(0)).genesis
    text = path.read_text()
    assert '"time_ms": ' in text
    path.write_text(text.replace('"time_ms": ', '"time_ms": 1'))
    code, line = start_and_end(learned, 0)
    assert code == ExitCode.SIGNER_STATE
    assert "has signed on chain" in line
    path.write_text(text)
    go_on(learned, 0)


def test_a_peer_on_another_chain_is_refused_by_the_others_and_harms_nobody(network: MakeNetwork) -> None:
    """A8: the handshake compares the chain ids; both sides say that the genesis files differ."""
    net = network(peers=PEERS, committee=1, round_length=K, deadline_ms=DEADLINE_MS)
    path = Home(net.home(0)).genesis
    path.write_text(path.read_text().replace('"time_ms": ', '"time_ms": 1'))
    net.start()
    net.wait_height(2 * K, range(1, PEERS))
    log = net.home(0) / "peer.log"
    wait_for("refusal", lambda: "genesis files differ" in log.read_text(), 20, lambda: tail(log))
    status = net.await_status(0)
    assert status["height"] == 0
    assert status["peers_connected"] == 0
    assert net.stop() == [ExitCode.OK] * PEERS


def damaged_files(chain: Path) -> Iterator[Path]:
    """LevelDB's files with blocks or with the list of files in them."""
    return (path for path in sorted(chain.iterdir()) if path.suffix in (".log", ".ldb") or "MANIFEST" in path.name)


@pytest.mark.parametrize("how", ["truncated manifest", "changed byte", "no CURRENT"])
def test_a_damaged_chain_is_reported_and_moving_data_away_repairs_it(learned: Network, how: str) -> None:
    """A5, Y1: exit code 8 and the remedy; with data/ moved away the peer syncs from the others."""
    home = Home(learned.home(0))
    if how == "no CURRENT":
        (home.chain / "CURRENT").write_bytes(b"nonsense\n")
    for path in damaged_files(home.chain):
        data = bytearray(path.read_bytes())
        if how == "changed byte" and path.suffix in (".log", ".ldb") and data:
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(data)
        elif how == "truncated manifest" and "MANIFEST" in path.name:
            path.write_bytes(data[: len(data) // 2])
    code, line = start_and_end(learned, 0)
    assert code == ExitCode.DATA_DAMAGED, line
    assert f"Move {home.data} away" in line
    home.data.rename(home.path / "data.damaged")
    go_on(learned, 0)


@pytest.mark.parametrize("how", ["removed", "damaged"])
def test_a_removed_or_damaged_model_is_made_again(learned: Network, how: str) -> None:
    """A3, B1: without its newest model, or with a changed byte in it, a peer derives it again at its start."""
    home = Home(learned.home(0))
    model = read_model_path(learned.net.peers[0])
    whole = model.read_bytes()
    if how == "removed":
        model.unlink()
    else:
        model.write_bytes(whole[:-2] + bytes([whole[-2] ^ 0x3F]) + whole[-1:])
        ended = run_command("chain", "verify", "--home", home.path)
        assert ended.returncode == ExitCode.VERIFY_FAILED
        assert "is wrong" in ended.stderr
    learned.start()
    wait_for("model", lambda: model.is_file() and model.read_bytes() == whole, 30, lambda: learned.log(0))
    assert learned.stop() == [ExitCode.OK] * PEERS
    go_on(learned, 0)


def test_a_removed_update_is_named_by_the_audit_and_the_remedy_works(learned: Network) -> None:
    """B1, Y1: the audit names the block; with data/ moved away the peer has it all again."""
    home = Home(learned.home(0))
    found = [(block.height, offer) for block in read_blocks(home.path) for offer in offers_in(block)]
    height, offer = found[0]
    name = offer.update.blob.hex()
    (home.blobs / name[:2] / name).unlink()
    ended = run_command("chain", "verify", "--home", home.path)
    assert ended.returncode == ExitCode.VERIFY_FAILED
    said = " ".join(ended.stderr.split())
    assert f"block #{height} is wrong: its update blob is missing" in said
    assert f"Move its data folder ({home.data}) away and start the peer" in said
    home.data.rename(home.path / "data.damaged")
    go_on(learned, 0)


def read_model_path(peer: PeerHome) -> Path:
    """The file of a stopped peer's newest model."""
    bodies = [block.body for block in read_blocks(peer.home.path) if isinstance(block.body, ModelBody)]
    name = bodies[-1].model.blob.hex()
    return peer.home.blobs / name[:2] / name


# -------------------------------------------------------------------------------------------------- the real command


def test_a_home_starts_and_stops_with_the_real_command_alone(learned: Network, tmp_path: Path) -> None:
    """Y2: with a fork server of its own, from config.toml; SIGTERM leaves exit code 0 and no process."""
    learned.start(range(1, PEERS))
    log = tmp_path / "start.log"
    process = start_command(log, "start", "--home", learned.home(0))
    try:
        height = max(learned.heights()) + K
        wait_for("height of the real peer", lambda: _height(learned) >= height, 60, lambda: tail(log))
        children = wait_for("worker of its own", lambda: children_of(process.pid) or None, 30, lambda: tail(log))
        process.terminate()
        assert process.wait(20) == ExitCode.OK, tail(log)
    finally:
        process.kill()
        process.wait()
    wait_for("end of the workers", lambda: not any(is_running(pid) for pid in children), 10)
    assert learned.stop() == [ExitCode.OK] * (PEERS - 1)
    assert_one_history([learned.home(at) for at in learned.all])


def _height(net: Network) -> int:
    status = net.status(0)
    return int(status["height"]) if status else -1

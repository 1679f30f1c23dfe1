"""However a peer or a testnet is stopped, nothing is left behind and every home starts again (Y2)."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.errors import ExitCode
from tests.integration.conftest import MakeNetwork
from tests.integration.helpers_chain import assert_one_history, read_blocks
from tests.integration.helpers_network import Network
from tests.integration.helpers_processes import Machine, processes_of, start_command, tail, wait_for

pytestmark = pytest.mark.integration

PEERS, K = 5, 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_round_ends_a_peer_with_code_0(
    network: MakeNetwork, number: signal.Signals
) -> None:
    """Y2: all peers at once, while they train, twice; then every home goes on where it was."""
    net = network(peers=PEERS, committee=1, round_length=K)
    for round in range(2):
        net.start()
        net.wait_height(K * (2 * round + 1))
        assert net.stop(number=number) == [ExitCode.OK] * PEERS
    net.start()
    net.wait_height(K * 5)
    assert net.stop() == [ExitCode.OK] * PEERS
    assert_one_history([net.home(index) for index in net.all])


def await_learning(process: "subprocess.Popen[bytes]", folder: Path, log: Path) -> None:
    """Until some peer of this testnet has a final model."""

    def learned() -> bool:
        assert process.poll() is None, tail(log)
        return any("model final" in path.read_text(errors="replace") for path in folder.glob("*/peer.log"))

    wait_for("learning", learned, 60, lambda: tail(log))


@pytest.mark.parametrize("moment", ["starting", "learning"])
def test_ctrl_c_of_a_testnet_leaves_no_process_and_homes_that_start(
    machine: Machine, tmp_path: Path, moment: str
) -> None:
    """SIGINT to the process group, as a terminal sends it: exit code 130, no child left; the network goes on later."""
    folder, log = tmp_path / "net", tmp_path / "testnet.log"
    words = ("--peers", PEERS, "--committee", 1, "--round-length", K, "--rounds", 500, "--home", folder)
    process = start_command(log, "testnet", *words)
    try:
        if moment == "learning":
            await_learning(process, folder, log)
        else:
            wait_for("first peer", lambda: next(folder.glob("*/peer.log"), None), 60, lambda: tail(log))
        assert processes_of(folder)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == ExitCode.INTERRUPTED, tail(log)
    finally:
        process.kill()
        process.wait()
    wait_for("end of all", lambda: not processes_of(folder) or None, 10, lambda: str(processes_of(folder)))
    with Network.adopt(machine, folder) as net:
        net.start()
        net.wait_height(max(net.heights()) + 2 * K)
        assert net.stop() == [ExitCode.OK] * PEERS
        assert_one_history([net.home(index) for index in net.all])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_testnet_ended_by_another_signal_leaves_no_process_either(tmp_path: Path, number: signal.Signals) -> None:
    """Even SIGKILL, which the command cannot see, takes the peers, the fork server and the workers with it."""
    folder, log = tmp_path / "net", tmp_path / "testnet.log"
    process = start_command(log, "testnet", "--peers", 3, "--committee", 1, "--rounds", 500, "--home", folder)
    try:
        await_learning(process, folder, log)
        assert len(processes_of(folder)) > 3
        process.send_signal(number)
        process.wait(30)
    finally:
        process.kill()
        process.wait()
    wait_for("end of all", lambda: not processes_of(folder) or None, 15, lambda: str(processes_of(folder)))


# ---------------------------------------------------------------------------------------------------------- full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; skips where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not _mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)):
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*words: str) -> bool:
    try:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def fill(folder: Path) -> Path:
    """A file that takes all the space that is left."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


@pytest.mark.parametrize("part", ["keys", "data"])
def test_a_full_disk_ends_a_peer_with_code_10_and_loses_nothing(
    network: MakeNetwork, small_disk: Path, part: str
) -> None:
    """A5, A8: signer's state or data on a full disk; the others go on, and with space again so does the peer."""
    net = network(peers=PEERS, committee=1, round_length=K, deadline_ms=2_000)
    shutil.move(net.home(0) / part, small_disk / part)
    (net.home(0) / part).symlink_to(small_disk / part)
    net.start()
    net.wait_height(K)
    ballast = fill(small_disk)
    assert net.wait_end(0) == ExitCode.DISK_FULL, net.log(0)
    assert "the disk is full" in net.log(0) or "Free some space" in net.log(0)
    net.wait_height(max(net.heights()) + 2 * K)
    before = read_blocks(net.home(0)) if part == "keys" else []
    ballast.unlink()
    net.start([0])
    net.wait_height(max(net.heights()) + 2 * K)
    assert net.stop() == [ExitCode.OK] * PEERS
    chains = assert_one_history([net.home(index) for index in net.all])
    assert chains[0][: len(before)] == before

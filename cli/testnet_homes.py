"""A testnet's homes: keys, one genesis document, and a configuration for each peer."""

import errno
import fcntl
import json
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Final

from cli.drafts import make_draft, write_text
from cli.errors import file_error
from cli.init import make_home
from cli.keys import create_member
from cli.model_maker import TaskSource, make_model
from cli.testnet_plan import CHAIN, Plan
from ledger.genesis import Genesis
from node.config import NodeConfig, load_config, parse_config
from node.errors import ExitCode, NodeError, disk_error
from node.home import Home
from node.member_card import MemberCard

MARKER: Final = "testnet.json"
PORTS_FROM, PORTS_TO = 15_000, 30_000  # below the ports that systems give to outgoing connections
PORT_TRIES: Final = 200
OWN_FILES: Final = (MARKER, "genesis.json", "genesis-model.safetensors", "model.safetensors", "work.sock")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one peer listens; in containers `advertise` is its name in their network."""

    name: str
    listen: str
    advertise: str
    api: str


@dataclass(frozen=True, slots=True)
class PeerHome:
    """One peer of a testnet: its home, key, and where its API is."""

    name: str
    home: Home
    member_key: bytes
    api: str
    attack: str | None = None


@dataclass(frozen=True, slots=True)
class Net:
    """A testnet on disk."""

    folder: Path
    genesis: Genesis
    peers: tuple[PeerHome, ...]

    def names(self) -> dict[str, str]:
        """Peer names by member key in hexadecimal, as the API shows keys."""
        return {peer.member_key.hex(): peer.name for peer in self.peers}


def prepare_folder(folder: Path, replace: bool) -> None:
    """An empty folder; a previous testnet's is emptied with `replace`. Raises `NodeError` for anything else in it."""
    try:
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
    except OSError as error:
        raise file_error(error, f"reading {folder}") from error
    if not names:
        folder.mkdir(parents=True, exist_ok=True)
        return
    if MARKER not in names:
        message = f"{folder} holds other files ({names[0]}, ...) and no testnet. Choose another --home"
        raise NodeError(ExitCode.USAGE, message)
    if not replace:
        message = (
            f"{folder} holds an earlier testnet. Use --replace to remove it with its keys and chains, choose another "
            f"--home, or start one of its peers: fedchain-node start --home {folder}/NAME"
        )
        raise NodeError(ExitCode.USAGE, message)
    _remove(folder)


def _remove(folder: Path) -> None:
    """Remove what a testnet made there, and nothing else."""
    homes = [folder / name for name in _marked_peers(folder)]
    for home in homes:
        _check_unused(home)
    try:
        for home in homes:
            shutil.rmtree(home, ignore_errors=not home.exists())
        for name in OWN_FILES:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, f"removing the earlier testnet in {folder}") from error


def _marked_peers(folder: Path) -> list[str]:
    try:
        names = json.loads((folder / MARKER).read_text(encoding="utf-8"))["peers"]
        if all(isinstance(name, str) and name and "/" not in name and name not in (".", "..") for name in names):
            return list(names)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    message = f"{folder / MARKER} is damaged, so what may be removed is not known. Remove {folder} yourself"
    raise NodeError(ExitCode.USAGE, message)


def _check_unused(home: Path) -> None:
    """A running peer holds its signer's state locked (A5)."""
    path = Home(home).keys.signer_state
    if not path.is_file():
        return
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise disk_error(error, f"locking {path}") from error
            message = f"{home}: a peer runs there. Stop it first, then try again"
            raise NodeError(ExitCode.DATA_LOCKED, message) from error


def choose_places(plan: Plan) -> list[Place]:
    """Names and free loopback ports; raises `NodeError` PORT_IN_USE."""
    names = [f"hospital-{index + 1}" for index in range(plan.peers)]
    if plan.base_port is not None:
        first = plan.base_port
        if busy := _first_busy(first, 2 * plan.peers):
            message = f"port {busy} on 127.0.0.1 is in use. Choose another --base-port, or leave it out"
            raise NodeError(ExitCode.PORT_IN_USE, message)
    else:
        first = _find_free(2 * plan.peers)
    listens = [f"127.0.0.1:{first + index}" for index in range(plan.peers)]
    apis = [f"127.0.0.1:{first + plan.peers + index}" for index in range(plan.peers)]
    return [Place(*place) for place in zip(names, listens, listens, apis, strict=True)]


def _find_free(count: int) -> int:
    random = SystemRandom()
    for _ in range(PORT_TRIES):
        first = random.randrange(PORTS_FROM, PORTS_TO - count)
        if _first_busy(first, count) is None:
            return first
    message = f"no {count} free ports in a row on 127.0.0.1 between {PORTS_FROM} and {PORTS_TO}. Use --base-port"
    raise NodeError(ExitCode.PORT_IN_USE, message)


def _first_busy(first: int, count: int) -> int | None:
    for port in range(first, first + count):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return port
    return None


def container_places(peers: int) -> list[Place]:
    """Names and addresses for containers: each listens on the same ports of its own address."""
    names = [f"peer-{index + 1}" for index in range(peers)]
    return [Place(name, "0.0.0.0:7000", f"{name}:7000", "127.0.0.1:8000") for name in names]


def make_members(plan: Plan, places: Sequence[Place]) -> list[MemberCard]:
    """Keys and cards of all peers. Keys are random whatever the seed: it governs data and model alone."""
    marker = {"peers": [place.name for place in places], "parameters": plan.describe()}
    write_text(plan.home / MARKER, json.dumps(marker, indent=2) + "\n")
    cards = []
    for place in places:
        home = Home(plan.home / place.name)
        cards.append(create_member(home, place.name, "", place.advertise, CHAIN, plan.beacon_links))
    return cards


def make_net(plan: Plan, places: Sequence[Place], cards: Sequence[MemberCard], socket_path: Path | None) -> Net:
    """Initial model, genesis document and every home's configuration; raises `NodeError` or `GenesisError`."""
    document, model = plan.home / "genesis.json", plan.home / "genesis-model.safetensors"
    made = make_model(TaskSource(plan.task, plan.settings_of(0), socket_path), model)
    params = plan.make_params(shared_test_set=bool(made.test_set_digest))
    draft = make_draft(CHAIN, time.time_ns() // 1_000_000, params, made)
    for card, place in zip(cards, places, strict=True):
        draft = draft.with_member(card, place.name)
    genesis = draft.check(str(document))
    assert genesis is not None, "Plan.check has counted the members"
    write_text(document, genesis.to_json())
    for index, place in enumerate(places):
        make_home(Home(plan.home / place.name), document, model, _make_config(plan, index, place))
    return Net(plan.home, genesis, tuple(_peer(plan, *item) for item in enumerate(zip(places, cards, strict=True))))


def _peer(plan: Plan, index: int, made: tuple[Place, MemberCard]) -> PeerHome:
    place, card = made
    home = Home(plan.home / place.name)
    return PeerHome(place.name, home, bytes.fromhex(card.member_key), f"http://{place.api}", plan.attack_of(index))


def _make_config(plan: Plan, index: int, place: Place) -> NodeConfig:
    peer: dict[str, object] = {"listen": place.listen}
    if place.advertise != place.listen:
        peer["advertise"] = place.advertise
    training: dict[str, object] = {"codec": plan.codec}
    if (attack := plan.attack_of(index)) is not None:
        training["attack"] = attack
    table: dict[str, object] = {
        "peer": peer,
        "api": {"listen": place.api},
        "task": {"name": plan.task, "settings": plan.settings_of(index)},
        "training": training,
    }
    return parse_config(table, f"testnet peer {place.name}")


def is_complete(folder: Path, names: Sequence[str]) -> bool:
    """Whether homes of these names are all there and could start."""
    homes = [Home(folder / name) for name in names]
    if not all(home.genesis.is_file() and home.config.is_file() and home.keys.member_key.is_file() for home in homes):
        return False
    for home in homes:
        load_config(home.config)
    return True

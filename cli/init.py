"""`fedchain-node init`: a home that `start` can run, from keys, genesis document and initial model."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from cli.genesis import NO_ITEMS, SettingOption, check_model_file
from cli.options import HomeOption, parse_settings
from cli.output import program, say, warn
from ledger.genesis import Genesis, GenesisMember, load_genesis
from node.config import NodeConfig, parse_config, write_config
from node.errors import ExitCode, NodeError, disk_error
from node.home import Home
from node.keyfiles import load_public


def init(
    home: HomeOption,
    genesis: Annotated[Path, typer.Option("--genesis", help="The consortium's genesis document.")],
    model: Annotated[Path, typer.Option("--model", help="Its initial model.")],
    listen: Annotated[str | None, typer.Option("--listen", help="host:port for the other members.")] = None,
    api: Annotated[str, typer.Option("--api", help="host:port of the API.")] = "127.0.0.1:8001",
    setting: SettingOption = NO_ITEMS,
    codec: Annotated[str | None, typer.Option("--codec", help="How updates travel: int8 or f32.")] = None,
) -> None:
    """Make HOME ready to start: config/ beside the keys/ that `keys new` made, and data/ for the chain.

    Example: fedchain-node init --home hospital-1 --genesis genesis.json --model genesis-model.safetensors
    """
    document = load_genesis(genesis)
    check_model_file(document, model)
    place = Home(home)
    me = find_me(document, place)
    table = make_config(document, me, listen or me.endpoint, api, parse_settings(setting, "--setting"), codec)
    make_home(place, genesis, model, table)
    for warning in document.warnings():
        warn(warning)
    say(f"{home}: {me.name} of chain {document.chain!r} ({document.chain_id.hex()[:16]})")
    say(f"Next: {program()} start --home {home}")


def find_me(genesis: Genesis, home: Home) -> GenesisMember:
    """The member whose keys are in `home`; raises `NodeError` KEYS for a stranger or another certificate."""
    public = load_public(home.keys)
    me = next((member for member in genesis.members if member.member_key == public.member), None)
    if me is None:
        message = f"{home.keys.folder}: member {public.member.hex()[:16]} is not in this genesis. "
        raise NodeError(ExitCode.KEYS, message + "Send your card to the founder: fedchain-node keys show --json")
    if me.certificate != public.certificate:
        message = f"{home.keys.transport_certificate}: genesis names another certificate for {me.name!r}. "
        raise NodeError(ExitCode.KEYS, message + "Restore the one that was on your card")
    return me


def make_config(
    genesis: Genesis,
    me: GenesisMember,
    listen: str,
    api: str,
    settings: dict[str, bool | int | float | str],
    codec: str | None,
) -> NodeConfig:
    """The configuration of a new home; raises `NodeError` CONFIG."""
    chosen = codec or ("int8" if "int8" in genesis.params.codecs else genesis.params.codecs[0])
    if chosen not in genesis.params.codecs:
        allowed = ", ".join(genesis.params.codecs)
        raise NodeError(ExitCode.CONFIG, f"--codec {chosen}: this genesis allows {allowed}. Choose one of them")
    peer: dict[str, object] = {"listen": listen}
    if listen != me.endpoint:
        peer["advertise"] = me.endpoint
    table: dict[str, object] = {
        "peer": peer,
        "api": {"listen": api},
        "task": {"name": genesis.model.task, "settings": settings},
        "training": {"codec": chosen},
    }
    return parse_config(table, "command line")


def make_home(home: Home, genesis: Path, model: Path, config: NodeConfig) -> None:
    """Create folders, configuration and copies of both files; raises `NodeError` and never replaces a file."""
    home.make()
    for path in (home.genesis, home.genesis_model):
        if path.exists():
            message = f"{path} exists already: this home belongs to a chain. Choose another home"
            raise NodeError(ExitCode.CONFIG, message)
    try:
        shutil.copyfile(model, home.genesis_model)
        shutil.copyfile(genesis, home.genesis)
    except OSError as error:
        raise disk_error(error, f"copying genesis and model to {home.config.parent}") from error
    write_config(home.config, config)

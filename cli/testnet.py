"""`fedchain-node testnet`: n peers on this machine, as separate processes under mutual TLS."""

from pathlib import Path
from typing import Annotated

import typer

from cli.genesis import NO_ITEMS, ParamOption, SettingOption
from cli.options import Election, Voters, parse_settings, usage_error
from cli.testnet_plan import Plan


def run_network(
    home: Annotated[Path, typer.Option("--home", help="Folder for the peers' homes.")] = Path("testnet"),
    peers: Annotated[int, typer.Option("--peers", help="How many.")] = 8,
    committee: Annotated[int, typer.Option("--committee", min=1, help="c, the members of a committee.")] = 4,
    round_length: Annotated[int, typer.Option("--round-length", min=2, help="k, the blocks of a round (H1).")] = 5,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Learning ends after so many.")] = 10,
    task: Annotated[str, typer.Option("--task", help="digits, fashion-mnist or package.module:Class.")] = "digits",
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the task's data (fashion-mnist).")] = None,
    model: Annotated[str | None, typer.Option("--model", help="mlp or cnn.")] = None,
    partition: Annotated[str, typer.Option("--partition", help="iid or dirichlet:ALPHA.")] = "iid",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the split, the model and the training.")] = 0,
    attackers: Annotated[int, typer.Option("--attackers", min=0, help="The last so many peers poison.")] = 0,
    attack: Annotated[str, typer.Option("--attack", help="How they poison.")] = "sign-flip",
    voters: Annotated[Voters, typer.Option("--voters", help="Who votes on blocks.")] = "members",
    election: Annotated[Election, typer.Option("--election", help="How committees are elected (R9).")] = "draw",
    codec: Annotated[str, typer.Option("--codec", help="int8 or f32.")] = "int8",
    deadline_ms: Annotated[int, typer.Option("--deadline-ms", min=1, help="A round's deadline (R6).")] = 30_000,
    base_port: Annotated[int | None, typer.Option("--base-port", help="First of 2n ports; default: free ones.")] = None,
    setting: SettingOption = NO_ITEMS,
    param: ParamOption = NO_ITEMS,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the summary to this file.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Remove the testnet that is in --home.")] = False,
    keep_serving: Annotated[bool, typer.Option("--keep-serving", help="Peers serve on until Ctrl-C.")] = False,
    output: Annotated[Path | None, typer.Option("--output", help="Only write homes, to this folder.")] = None,
    compose_endpoints: Annotated[
        bool, typer.Option("--compose-endpoints", help="With --output: for containers peer-1, peer-2, ...")
    ] = False,
) -> None:
    """Run a whole network: keys, genesis, peers, live progress, and a table with the final model at the end.

    Every peer gets a home of its own in --home, which stays and starts later by itself. Ctrl-C leaves no process.

    Example: fedchain-node testnet --peers 8 --committee 4 --round-length 5 --rounds 10 --task digits --home testnet
    """
    if data is not None and task != "fashion-mnist":
        raise usage_error(f"--data: only task fashion-mnist reads a folder; for {task!r} use --setting NAME=VALUE")
    if output is None and compose_endpoints:
        raise usage_error("--compose-endpoints needs --output DIR")
    given: dict[str, bool | int | float | str] = {}
    if model is not None:
        given["model"] = model
    if data is not None:
        given["data"] = str(data.absolute())
    plan = Plan(
        home=output or home,
        peers=peers,
        committee=committee,
        round_length=round_length,
        rounds=rounds,
        task=task,
        settings={**given, **parse_settings(setting, "--setting")},
        partition=partition,
        seed=seed,
        attackers=attackers,
        attack=attack,
        voters=voters,
        election=election,
        codec=codec,
        deadline_ms=deadline_ms,
        base_port=base_port,
        params=parse_settings(param, "--param"),
    )
    if output is not None:
        from cli.testnet_output import write_homes

        raise typer.Exit(write_homes(plan, compose_endpoints=compose_endpoints))
    from cli.testnet_run import run_testnet

    raise typer.Exit(run_testnet(plan, replace=replace, json_path=json_path, keep_serving=keep_serving))

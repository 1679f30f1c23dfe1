"""`fedchain-node genesis`: found a consortium, admit its members, check the document."""

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.drafts import load_draft, make_draft, make_params, write_text
from cli.model_maker import TaskSource, make_model
from cli.options import Election, JsonOption, Voters, parse_settings, usage_error
from cli.output import print_json, print_table, program, say, warn
from ledger.blobs import file_ref
from ledger.genesis import Genesis, GenesisError, load_genesis
from ledger.params import Params
from node.member_card import load_card

app = typer.Typer()

GenesisArgument = Annotated[Path, typer.Argument(help="The genesis document.")]
CardsArgument = Annotated[list[Path], typer.Argument(help="Member cards, as `keys show --json` prints them.")]
ParamOption = Annotated[
    list[str], typer.Option("--param", help="Another parameter as NAME=VALUE, e.g. round_deadline_ms=60000.")
]
SettingOption = Annotated[list[str], typer.Option("--setting", help="A setting of the task as NAME=VALUE.")]
NO_ITEMS: list[str] = []


@app.command("new")
def new(
    card: Annotated[Path, typer.Option("--card", help="The founder's member card.")],
    task: Annotated[str, typer.Option("--task", help="digits, fashion-mnist or package.module:Class.")] = "digits",
    setting: SettingOption = NO_ITEMS,
    round_length: Annotated[int, typer.Option("--round-length", min=2, help="k, the blocks of a round (H1).")] = 5,
    committee: Annotated[int, typer.Option("--committee", min=1, help="c, the members of a committee.")] = 4,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Learning ends after so many rounds.")] = 10,
    voters: Annotated[Voters, typer.Option("--voters", help="Who votes on blocks.")] = "members",
    election: Annotated[Election, typer.Option("--election", help="How committees are elected (R9).")] = "draw",
    param: ParamOption = NO_ITEMS,
    output: Annotated[Path, typer.Option("--out", help="The document to write.")] = Path("genesis.json"),
    model: Annotated[Path, typer.Option("--model-out", help="The initial model to write.")] = Path(
        "genesis-model.safetensors"
    ),
) -> None:
    """Found a consortium: the document with its rules and first member, and the task's initial model beside it.

    Example: fedchain-node genesis new --card hospital-1.card.json --task digits --committee 4 --rounds 10
    """
    founder = load_card(card)
    for path in (output, model):
        if path.exists():
            raise usage_error(f"{path} exists already. Remove it first, or choose another file with --out, --model-out")
    fields: dict[str, object] = {
        "round_length": round_length,
        "rounds_max": rounds,
        "committee_size": committee,
        "voters": voters,
        "election": election,
        "batch_max": max(1, round_length - 1),
        "beacon_links": founder.beacon.links,
        **parse_settings(param, "--param"),
    }
    if isinstance(codecs := fields.get("codecs"), str):
        fields["codecs"] = tuple(codecs.split(","))
    params = make_params(fields)
    made = make_model(TaskSource(task, parse_settings(setting, "--setting")), model)
    if not made.test_set_digest:
        params = make_params({**fields, "test_set": "local"})
    draft = make_draft(founder.beacon.chain, time.time_ns() // 1_000_000, params, made)
    write_text(output, draft.with_member(founder, str(card)).to_json())
    say(f"{output}: chain {draft.chain!r} with 1 member; {model}: {made.size} bytes")
    say(f"Next: {program()} genesis add {output} CARD... (at least {committee} more members)")


@app.command("add")
def add(genesis: GenesisArgument, cards: CardsArgument) -> None:
    """Add the members whose cards these are; a card that does not fit changes nothing.

    Example: fedchain-node genesis add genesis.json hospital-2.card.json hospital-3.card.json
    """
    draft = load_draft(genesis)
    for path in cards:
        draft = draft.with_member(load_card(path), str(path))
        draft.check(str(genesis))
    write_text(genesis, draft.to_json())
    lacking = draft.params.committee_size + 1 - len(draft.members)
    say(f"{genesis}: {len(draft.members)} members")
    if lacking > 0:
        say(f"Next: add {lacking} more; committee_size {draft.params.committee_size} needs them")
    else:
        say(f"Next: {program()} genesis check {genesis}")
        say("Then send it and the initial model to every member; each runs the same check and compares the chain id")


@app.command("check")
def check(
    genesis: GenesisArgument,
    model: Annotated[Path | None, typer.Option("--model", help="The initial model, to check against it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a genesis document; print its chain id and what is allowed and yet unwise.

    Example: fedchain-node genesis check genesis.json --model genesis-model.safetensors
    """
    found = load_genesis(genesis)
    if model is not None:
        check_model_file(found, model)
    if as_json:
        print_json(describe(found))
        return
    described = describe(found)
    print_table(("genesis", ""), [(name, value) for name, value in described.items() if name != "warnings"])
    for warning in found.warnings():
        warn(warning)


def check_model_file(genesis: Genesis, path: Path) -> None:
    """Raise `GenesisError` unless the file is the document's initial model (H2, B1)."""
    try:
        found = file_ref(path)
    except OSError as error:
        advice = "Correct the path, or get the initial model from the founder"
        raise GenesisError(f"{path}: cannot be read ({error.strerror}). {advice}") from error
    if found != genesis.initial_model:
        raise GenesisError(
            f"{path}: is not the initial model of this genesis: blob {found.blob.hex()[:16]} of {found.size} bytes, "
            f"needed is {genesis.model.blob.hex()[:16]} of {genesis.model.size}. Get the file from the founder"
        )


def describe(genesis: Genesis) -> dict[str, object]:
    """What `genesis check` says."""
    params: Params = genesis.params
    return {
        "chain": genesis.chain,
        "chain_id": genesis.chain_id.hex(),
        "members": len(genesis.members),
        "committee": params.committee_size,
        "voters": params.voters,
        "election": params.election,
        "round_length": params.round_length,
        "rounds": params.rounds_max,
        "task": genesis.model.task,
        "model": genesis.model.blob.hex(),
        "warnings": genesis.warnings(),
    }

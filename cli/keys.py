"""`fedchain-node keys`: a member's two keys and its card."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import HomeOption, JsonOption, usage_error
from cli.output import print_json, print_table, say
from node.endpoint import Endpoint
from node.errors import ExitCode, NodeError
from node.home import Home
from node.keyfiles import NAME_CHARS_MAX, new_keys
from node.member_card import CARD_NAME, MemberCard, load_card, make_card, save_card

app = typer.Typer()

NameOption = Annotated[str, typer.Option("--name", help="The member's name: letters, digits, space, - _ .")]
OrganisationOption = Annotated[str, typer.Option("--organisation", help="Whose member it is, for people.")]
EndpointOption = Annotated[str, typer.Option("--endpoint", help="host:port at which the other members reach it.")]
ChainOption = Annotated[str, typer.Option("--chain", help="The consortium's chain name, as in genesis.")]
LinksOption = Annotated[int, typer.Option("--beacon-links", help="Links of its beacon, as in genesis (R9).")]
CardOption = Annotated[Path | None, typer.Option("--card", help="Write the card to this file, too.")]


@app.command("new")
def new(
    home: HomeOption,
    name: NameOption,
    organisation: OrganisationOption = "",
    endpoint: EndpointOption = "127.0.0.1:7001",
    chain: ChainOption = "fedchain",
    beacon_links: LinksOption = 10_000,
    card: CardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a member key, a transport key and the empty signer state in HOME/keys; existing ones are never replaced.

    Private keys stay in HOME/keys (mode 0600) and are never printed. The card has no secret: send it to the founder.

    Example: fedchain-node keys new --home hospital-1 --name hospital-1 --endpoint hospital-1.example:7001
    --card hospital-1.card.json
    """
    made = create_member(Home(home), name, organisation, endpoint, chain, beacon_links)
    if card is not None:
        save_card(card, made)
    _show(made, home, as_json)
    if not as_json:
        say(f"Next: send {card or Home(home).keys.folder / CARD_NAME} to the founder of {chain!r}")


@app.command("show")
def show(home: HomeOption, card: CardOption = None, as_json: JsonOption = False) -> None:
    """Show the public part of a home's keys: its member card.

    Example: fedchain-node keys show --home hospital-1 --json > hospital-1.card.json
    """
    found = load_member(Home(home))
    if card is not None:
        save_card(card, found)
    _show(found, home, as_json)


def create_member(home: Home, name: str, organisation: str, endpoint: str, chain: str, beacon_links: int) -> MemberCard:
    """New keys and card in `home`; raises `NodeError` KEYS and then leaves nothing behind."""
    if not 0 < len(name) <= NAME_CHARS_MAX:
        raise NodeError(ExitCode.KEYS, f"--name must have 1 to {NAME_CHARS_MAX} characters, not {len(name)}")
    _check_endpoint(endpoint)
    files = home.keys
    new_keys(files.folder, name)
    try:
        card = make_card(files, name, organisation, endpoint, chain, beacon_links)
        save_card(files.folder / CARD_NAME, card)
    except NodeError:
        for path in reversed(files.all()):  # nobody has seen these keys yet
            path.unlink(missing_ok=True)
        raise
    return card


def _check_endpoint(text: str) -> None:
    try:
        Endpoint.parse(text)
    except ValueError as error:
        raise usage_error(f"--endpoint: {error}") from error


def load_member(home: Home) -> MemberCard:
    """The card of a home, checked against its keys; raises `NodeError` KEYS."""
    path = home.keys.folder / CARD_NAME
    card = load_card(path)
    beacon = card.beacon
    made = make_card(home.keys, card.name, card.organisation, card.endpoint, beacon.chain, beacon.links)
    if made != card:
        message = f"{path}: is not the card of the keys beside it. Remove it, or restore the folder from a copy"
        raise NodeError(ExitCode.KEYS, message)
    return card


def _show(card: MemberCard, home: Path, as_json: bool) -> None:
    if as_json:
        print_json(card.model_dump())
        return
    rows = [
        ("name", card.name),
        ("organisation", card.organisation),
        ("endpoint", card.endpoint),
        ("member key", card.member_key),
        ("beacon tip", card.beacon.tip),
        ("beacon of", f"chain {card.beacon.chain!r}, {card.beacon.links} links"),
        ("keys in", Home(home).keys.folder),
    ]
    print_table(("member", ""), rows)

"""Options that several commands share, and `NAME=VALUE` settings."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from node.errors import ExitCode, NodeError

HomeOption = Annotated[Path, typer.Option("--home", envvar="FEDCHAIN_HOME", help="The peer's home folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]

# What `ledger.params` allows.
Voters = Literal["members", "committee"]
Election = Literal["draw", "score"]

Scalar = bool | int | float | str


def parse_settings(pairs: Sequence[str], option: str) -> dict[str, Scalar]:
    """`NAME=VALUE` pairs with values as in TOML; what is no TOML value is text. Raises `NodeError` USAGE."""
    settings: dict[str, Scalar] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise NodeError(ExitCode.USAGE, f"{option} {pair!r}: write NAME=VALUE, such as {option} seed=7")
        settings[name] = _scalar(text)
    return settings


def _scalar(text: str) -> Scalar:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str) else text


def usage_error(message: str) -> NodeError:
    """The error of a command line that cannot be carried out."""
    return NodeError(ExitCode.USAGE, message)

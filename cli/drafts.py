"""A genesis document in the making: its members are added one by one, so some of its rules cannot hold yet."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from cli.errors import file_error
from ledger.genesis import FORMAT, GENESIS_BYTES_MAX, Genesis, GenesisError, GenesisMember, GenesisModel, Name
from ledger.params import Params, Strict
from node.member_card import MemberCard


class Draft(Strict):
    """The fields of `Genesis`, without the rules that tie members and parameters together."""

    format: Annotated[str, Field(pattern=f"^{FORMAT}$")] = FORMAT
    chain: Name
    time_ms: Annotated[int, Field(ge=0, le=2**47)]
    params: Params
    model: GenesisModel
    members: tuple[GenesisMember, ...] = ()

    def to_json(self) -> str:
        """The document's file, as `Genesis.to_json` would write it."""
        return _unchecked(self).to_json()

    def with_member(self, card: MemberCard, source: str) -> "Draft":
        """The draft with one more member; raises `GenesisError` for a duplicate or a card made for other rules."""
        beacon = card.beacon
        wanted = (self.chain, self.params.beacon_links)
        if (beacon.chain, beacon.links) != wanted:
            raise GenesisError(
                f"{source}: its beacon was made for chain {beacon.chain!r} with {beacon.links} links, and this "
                f"document is {self.chain!r} with {self.params.beacon_links} (R9). Ask for a card made by: "
                f"fedchain-node keys new --chain {self.chain!r} --beacon-links {self.params.beacon_links}"
            )
        return self.model_copy(update={"members": (*self.members, card.to_member())})

    def check(self, source: str) -> Genesis | None:
        """The whole document once it has members enough; None before. Raises `GenesisError` for what no further
        member can mend."""
        count = len(self.members)
        if count > self.params.committee_size:
            return _complete(self, source)
        if count > 1:
            smaller = self.params.model_copy(update={"committee_size": count - 1})
            _complete(self.model_copy(update={"params": smaller}), source)
        return None


def _unchecked(draft: Draft) -> Genesis:
    return Genesis.model_construct(**{name: getattr(draft, name) for name in Draft.model_fields})


def _complete(draft: Draft, source: str) -> Genesis:
    try:
        return Genesis(**{name: getattr(draft, name) for name in Draft.model_fields})
    except ValidationError as error:
        raise _explained(error, source) from error


def _explained(error: ValidationError, source: str) -> GenesisError:
    lines = []
    for item in error.errors(include_url=False)[:10]:
        where = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown field: remove it, or correct its spelling"
        lines.append(f"{where}: {message}" if where else message)
    return GenesisError(f"{source}: {'; '.join(lines)}")


def make_params(fields: dict[str, object]) -> Params:
    """Checked parameters; raises `GenesisError` naming each that is wrong."""
    try:
        return Params(**fields)  # type: ignore[arg-type]
    except ValidationError as error:
        raise _explained(error, "genesis parameters") from error


def make_draft(chain: str, time_ms: int, params: Params, model: GenesisModel) -> Draft:
    """A draft without members; raises `GenesisError`."""
    try:
        return Draft(chain=chain, time_ms=time_ms, params=params, model=model)
    except ValidationError as error:
        raise _explained(error, "genesis") from error


def load_draft(path: Path) -> Draft:
    """The document in a file, complete or not; raises `GenesisError`."""
    try:
        if path.stat().st_size > GENESIS_BYTES_MAX:
            raise GenesisError(f"{path}: larger than {GENESIS_BYTES_MAX} bytes; is this a genesis document?")
        return Draft.model_validate_json(path.read_bytes())
    except OSError as error:
        advice = "Make one with: fedchain-node genesis new"
        raise GenesisError(f"{path}: cannot be read ({error.strerror}). {advice}") from error
    except ValidationError as error:
        raise _explained(error, str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write or replace a text file at once; raises `NodeError`."""
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, path)
    except OSError as error:
        raise file_error(error, f"writing {path}") from error

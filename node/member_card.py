"""A member's card: what it tells the consortium's founder, as a JSON file without any secret.

The beacon's tip (R9) depends on the chain's name and on the number of links, so the card says for which it was made.
"""

import base64
import json
import os
from pathlib import Path
from typing import Annotated, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.genesis import GenesisMember
from ledger.keys import BEACON_LINKS_MAX, beacon_chain
from node.errors import ExitCode, NodeError, disk_error
from node.keyfiles import KeyFolder, load_member_key, load_public

CARD_NAME: Final = "card.json"
CARD_BYTES_MAX: Final = 64 << 10


class Beacon(BaseModel):
    """The tip of the member's hash chain of `links` links, made for the chain called `chain` (R9)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    chain: Annotated[str, Field(min_length=1, max_length=64)]
    links: Annotated[int, Field(ge=1, le=BEACON_LINKS_MAX)]
    tip: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class MemberCard(BaseModel):
    """Name, organisation, endpoint, public key, certificate (base64 of DER) and beacon."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    organisation: str = ""
    endpoint: str
    member_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    certificate: str
    beacon: Beacon

    def to_member(self) -> GenesisMember:
        """The member as it stands in genesis; raises `ValidationError`."""
        fields = self.model_dump(exclude={"beacon"})
        return GenesisMember.model_validate({**fields, "beacon_tip": self.beacon.tip})

    def to_json(self) -> str:
        """The card's file."""
        return json.dumps(self.model_dump(), indent=2) + "\n"


def beacon_links(key: Ed25519PrivateKey, chain: str, links: int) -> list[bytes]:
    """Links 0..`links` of the member's beacon for the chain of that name (R9)."""
    return beacon_chain(key, links, chain.encode())


def make_card(files: KeyFolder, name: str, organisation: str, endpoint: str, chain: str, links: int) -> MemberCard:
    """The card of the keys in a folder; raises `NodeError` KEYS for bad key files or a name nobody may have."""
    public = load_public(files)
    tip = beacon_links(load_member_key(files.member_key), chain, links)[-1].hex()
    card = MemberCard(
        name=name,
        organisation=organisation,
        endpoint=endpoint,
        member_key=public.member.hex(),
        certificate=base64.b64encode(public.certificate).decode(),
        beacon=Beacon(chain=chain, links=links, tip=tip),
    )
    try:
        card.to_member()
    except ValidationError as error:
        raise NodeError(ExitCode.KEYS, f"card of {name!r}: {_explain(error)}. Correct the option") from error
    return card


def save_card(path: Path, card: MemberCard) -> None:
    """Write or replace the card's file at once."""
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(card.to_json(), encoding="utf-8")
        os.replace(fresh, path)
    except OSError as error:
        raise disk_error(error, f"writing {path}") from error


def load_card(path: Path) -> MemberCard:
    """The card in a file; raises `NodeError` KEYS naming each field that is wrong."""
    try:
        if path.stat().st_size > CARD_BYTES_MAX:
            raise NodeError(ExitCode.KEYS, f"{path}: larger than {CARD_BYTES_MAX} bytes; this is no member card")
        card = MemberCard.model_validate_json(path.read_bytes())
        card.to_member()
    except OSError as error:
        advice = "Its owner makes one with: fedchain-node keys show --json"
        raise NodeError(ExitCode.KEYS, f"{path}: cannot be read: {error.strerror}. {advice}") from error
    except ValidationError as error:
        raise NodeError(ExitCode.KEYS, f"{path}: {_explain(error)}. Ask its owner for another card") from error
    return card


def _explain(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False)[:5]
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'card'}: {item['msg']}" for item in found)

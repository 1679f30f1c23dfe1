"""The genesis document: who founds the consortium, by which rules, from which model.

It is a JSON file for people; its hash, the chain id, is taken over canonical bytes (docs/format.md), so white space
and the order of keys in the file do not matter.
"""

import base64
import binascii
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_serializer, field_validator, model_validator

from ledger.codec import pack
from ledger.keys import HASH_BYTES, digest
from ledger.params import VOTERS_MAX, Params, Strict
from ledger.types import ENDPOINT_CHARS_MAX, BlobRef

GENESIS_BYTES_MAX = 4 * 2**20
FORMAT = "fedchain-genesis-1"

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]


class GenesisError(ValueError):
    """A genesis document that cannot found a chain; the message names the file, the field and what it must be."""


def _from_hex(value: object, size: int, what: str) -> bytes:
    if isinstance(value, bytes):
        raw = value
    else:
        try:
            # `fromhex` skips white space: the length of the text refuses it
            raw = bytes.fromhex(value) if isinstance(value, str) and len(value) == 2 * size else b""
        except ValueError:
            raw = b""
    if len(raw) != size:
        raise ValueError(f"{what} must be {2 * size} hexadecimal digits")
    return raw


class GenesisMember(Strict):
    """One founding organisation: its keys, where it is reached, its beacon tip and its stake."""

    name: Name
    organisation: Annotated[str, Field(max_length=128)] = ""
    member_key: bytes
    certificate: bytes
    endpoint: Annotated[str, Field(max_length=ENDPOINT_CHARS_MAX, pattern=r"^[A-Za-z0-9._\-\[\]:]+:[0-9]{1,5}$")]
    beacon_tip: bytes
    stake: Annotated[int, Field(ge=0, le=2**62)] = 1_000_000

    @field_validator("member_key", "beacon_tip", mode="before")
    @classmethod
    def _hex32(cls, value: object) -> bytes:
        return _from_hex(value, HASH_BYTES, "a key or hash")

    @field_validator("certificate", mode="before")
    @classmethod
    def _base64(cls, value: object) -> bytes:
        if isinstance(value, bytes):
            return value
        try:
            raw = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
        except (binascii.Error, ValueError):
            raw = b""
        if not 64 <= len(raw) <= 4096:
            raise ValueError("certificate must be the base64 of a DER certificate of 64 to 4096 bytes")
        return raw

    @field_validator("endpoint")
    @classmethod
    def _port(cls, value: str) -> str:
        if not 1 <= int(value.rsplit(":", 1)[1]) <= 65535:
            raise ValueError("the endpoint's port must be from 1 to 65535")
        return value

    @field_serializer("member_key", "beacon_tip")
    def _to_hex(self, value: bytes) -> str:
        return value.hex()

    @field_serializer("certificate")
    def _to_base64(self, value: bytes) -> str:
        return base64.b64encode(value).decode()


class GenesisModel(Strict):
    """The initial model (#0): its blob id and size; the task that it belongs to and the digest of the shared test set
    (empty when each member scores on its own)."""

    blob: bytes
    size: Annotated[int, Field(ge=1, le=2**40)]
    task: Annotated[str, Field(min_length=1, max_length=200)]
    test_set_digest: bytes = b""

    @field_validator("blob", mode="before")
    @classmethod
    def _hex32(cls, value: object) -> bytes:
        return _from_hex(value, HASH_BYTES, "blob")

    @field_validator("test_set_digest", mode="before")
    @classmethod
    def _hex_or_empty(cls, value: object) -> bytes:
        return b"" if value in ("", b"") else _from_hex(value, HASH_BYTES, "test_set_digest")

    @field_serializer("blob", "test_set_digest")
    def _to_hex(self, value: bytes) -> str:
        return value.hex()


class Genesis(Strict):
    """The whole document. `chain_id` is its hash."""

    format: Annotated[str, Field(pattern=f"^{FORMAT}$")] = FORMAT
    chain: Name
    time_ms: Annotated[int, Field(ge=0, le=2**47)]
    params: Params
    model: GenesisModel
    members: Annotated[tuple[GenesisMember, ...], Field(max_length=VOTERS_MAX)]

    @model_validator(mode="after")
    def _founds_a_chain(self) -> "Genesis":
        for what in ("name", "member_key", "certificate", "endpoint", "beacon_tip"):
            seen: dict[object, str] = {}
            for member in self.members:
                value = getattr(member, what)
                if value in seen:
                    raise ValueError(
                        f"members {seen[value]!r} and {member.name!r} have the same {what}: give each its own"
                    )
                seen[value] = member.name
        if len(self.members) <= self.params.committee_size:
            raise ValueError(
                f"committee_size c = {self.params.committee_size} is too large for N = {len(self.members)} members: "
                "the committee does not train, so at least one other member is needed (recommended N >= 3c)"
            )
        if (self.params.test_set == "shared") != bool(self.model.test_set_digest):
            raise ValueError("test_set 'shared' needs model.test_set_digest, and 'local' must leave it empty (R3)")
        return self

    @cached_property
    def chain_id(self) -> bytes:
        """SHA-256 over the canonical document: a different rule, member or model is a different chain."""
        return digest("genesis", self.canonical_bytes())

    def canonical_bytes(self) -> bytes:
        """The document as nested [name, value] pairs in order of name (S5)."""
        return pack(_pairs(self.model_dump(mode="python")))

    @property
    def initial_model(self) -> BlobRef:
        return BlobRef(self.model.blob, self.model.size)

    def warnings(self) -> list[str]:
        """What is allowed and yet unwise (R9, A1)."""
        n, c = len(self.members), self.params.committee_size
        found = []
        if n - c < 2 * c:
            found.append(f"N - c = {n - c} is below 2c = {2 * c}: the next committee can be guessed (R9)")
        if (c - 1) % 3:
            found.append(f"c = {c} is not of the form 3f + 1: c = {c - (c - 1) % 3} tolerates as many faults")
        if self.model.size > self.params.update_bytes_max:
            found.append(
                f"the model has {self.model.size} bytes, update_bytes_max is {self.params.update_bytes_max}: "
                "an update in codec f32 does not fit (R2)"
            )
        if n < 4:
            found.append(f"{n} voters tolerate no fault at all: 4 tolerate one (A1)")
        return found

    def to_json(self) -> str:
        """The document as it stands in genesis.json."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"


def _pairs(value: Any) -> Any:
    if isinstance(value, dict):
        return [[name, _pairs(value[name])] for name in sorted(value)]
    if isinstance(value, list | tuple):
        return [_pairs(item) for item in value]
    return int(value) if isinstance(value, bool) else value


def parse_genesis(text: str | bytes, source: str = "genesis") -> Genesis:
    """The document in `text`; raises `GenesisError` naming each field that is wrong and what it must be."""
    if len(text) > GENESIS_BYTES_MAX:
        raise GenesisError(f"{source}: larger than {GENESIS_BYTES_MAX} bytes; is this a genesis document?")
    try:
        # JSON has no tuples or bytes: python-mode strictness applies to every other type.
        return Genesis.model_validate_json(text)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()[:10]]
        raise GenesisError(f"{source}: " + "; ".join(lines)) from error


def _explain(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        message = "unknown field: remove it, or correct its spelling"
    if item["type"] == "json_invalid":
        message = message.removeprefix("Invalid JSON: ")
        return f"not JSON ({message})"
    return f"{where}: {message}" if where else message


def load_genesis(path: Path) -> Genesis:
    """The document in the file `path`; raises `GenesisError`."""
    try:
        with path.open("rb") as file:
            data = file.read(GENESIS_BYTES_MAX + 1)
    except OSError as error:
        raise GenesisError(f"{path}: cannot be read ({error.strerror}). Correct the path") from error
    return parse_genesis(data, str(path))

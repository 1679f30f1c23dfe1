"""Signed messages, headers and votes: what is signed, what an id covers (S3, A1)."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.codec import CodecError
from ledger.keys import digest, public_bytes
from ledger.types import (
    NO_HASH,
    NO_SIGNATURE,
    PRECOMMIT,
    PREVOTE,
    Block,
    Certificate,
    EmptyBody,
    Header,
    ModelBody,
    Offer,
    Present,
    Proposal,
    Score,
    Signed,
    UpdateBody,
    Vote,
    body_root,
    keys_hash,
    type_names,
)
from tests.ledger.helpers_ledger import ChainBuilder, member_key
from tests.ledger.strategies_ledger import SIGNED, records

KEY = member_key(0)
PUBLIC = public_bytes(KEY)
BUILDER = ChainBuilder(n=5, c=2)
OFFER = BUILDER.offer(BUILDER.trainers[0])


def authored(message: Signed, author: bytes) -> Signed:
    """`message` with its author replaced."""
    names = {Offer: "trainer", Score: "scorer", Present: "member", Vote: "voter", Proposal: "proposer"}
    return replace(message, **{names[type(message)]: author})  # type: ignore[type-var]


# ------------------------------------------------------------------------------------------------ signatures


@pytest.mark.parametrize("cls", SIGNED, ids=lambda cls: str(cls.__name__))
def test_a_signed_message_ends_with_its_signature_and_has_a_domain(cls: type[Signed]) -> None:
    assert [field.name for field in fields(cls)][-1] == "signature"  # type: ignore[arg-type]
    assert cls.DOMAIN
    assert cls.__name__.lower() == cls.DOMAIN


def test_every_signed_type_has_a_domain_and_a_tag_of_its_own() -> None:
    assert len({cls.DOMAIN for cls in SIGNED}) == len({cls.TAG for cls in SIGNED}) == len(SIGNED)


@given(st.one_of([records(cls) for cls in SIGNED]))
@settings(max_examples=60)
def test_the_author_signs_the_domain_and_all_other_fields(message: Signed) -> None:
    message = authored(message, PUBLIC)
    plain = msgpack.unpackb(message.encode())
    assert message.signing_bytes() == msgpack.packb([message.DOMAIN, *plain[:-1]])
    assert message.id() == digest(message.DOMAIN, message.signing_bytes())
    signed = message.signed(KEY)
    assert signed.author() == PUBLIC
    assert signed.is_signed()
    assert signed.id() == message.id()
    assert not replace(signed, signature=NO_SIGNATURE).is_signed()  # type: ignore[type-var]
    assert not authored(signed, public_bytes(member_key(1))).is_signed()


@pytest.mark.parametrize(
    "changes",
    [
        {"chain": bytes(32)},
        {"round": 5},
        {"base": bytes(32)},
        {"update": replace(OFFER.update, size=1)},
        {"samples": 7},
        {"codec": "int8"},
        {"reveal": bytes(32)},
    ],
)
def test_a_change_of_any_field_breaks_signature_and_id(changes: dict[str, Any]) -> None:
    changed = replace(OFFER, **changes)
    assert OFFER.is_signed()
    assert not changed.is_signed()
    assert changed.id() != OFFER.id()


def test_a_score_never_passes_for_another_kind_of_message() -> None:
    # the domain keeps a present of three fields and any other message of the same fields apart
    present = Present(BUILDER.state.chain, 0, PUBLIC).signed(KEY)
    assert present.signing_bytes().startswith(b"\x94\xa7present")
    assert OFFER.signing_bytes().startswith(b"\x9a\xa5offer")


def test_the_bare_signed_type_has_no_author() -> None:
    with pytest.raises(NotImplementedError):
        Signed().author()


# ----------------------------------------------------------------------------------------------------- votes


def vote(step: int = PRECOMMIT, **changes: Any) -> Vote:
    """An unsigned vote."""
    return replace(Vote(bytes(32), 1, 0, step, 3, b"\x01" * 32, PUBLIC), **changes)


def test_a_vote_for_nothing_has_an_empty_hash() -> None:
    assert vote(last_hash=NO_HASH, last_height=0).is_nil
    assert not vote().is_nil


def test_steps_rounds_and_values_are_signed_apart() -> None:
    # A1: a vote signs chain, instance, round, step, last height and last hash
    changes: list[dict[str, Any]] = [
        {},
        {"step": PREVOTE},
        {"chain": b"\x02" * 32},
        {"instance": 2},
        {"round": 1},
        {"last_height": 4},
        {"last_hash": b"\x03" * 32},
    ]
    assert len({vote(**change).signing_bytes() for change in changes}) == len(changes)


def test_a_proposal_stores_its_valid_round_plus_one() -> None:
    proposal = Proposal(bytes(32), 1, 4, 0, 3, bytes(32), PUBLIC)
    assert proposal.valid_round == -1
    assert replace(proposal, valid_round_plus1=4).valid_round == 3


def test_a_certificate_gives_back_the_precommits_that_were_signed() -> None:
    signed = vote().signed(KEY)
    certificate = Certificate(signed.chain, 1, 0, 3, signed.last_hash, ())
    assert certificate.vote_of(PUBLIC, signed.signature) == signed


# ---------------------------------------------------------------------------------------------------- blocks

HEADER_CHANGES: list[dict[str, Any]] = [
    {"chain": bytes(32)},
    {"height": 7},
    {"kind": 2},
    {"round": 1},
    {"parent": bytes(32)},
    {"time_ms": 1},
    {"proposer": bytes(32)},
    {"body_root": bytes(32)},
    {"state_root": bytes(32)},
    {"voters": bytes(32)},
    {"committee": bytes(32)},
]


@pytest.mark.parametrize("changes", HEADER_CHANGES, ids=lambda changes: str(next(iter(changes))))
def test_the_blocks_hash_covers_every_field_of_its_header(changes: dict[str, Any]) -> None:
    # S3
    blocks, _ = BUILDER.blocks(BUILDER.update_body(OFFER))
    header = blocks[0].header
    assert replace(header, **changes).id() != header.id()
    assert header.id() == digest("header", header.encode())


def test_the_tested_changes_are_all_fields_but_the_version() -> None:
    assert [field.name for field in fields(Header)] == ["version", *(next(iter(item)) for item in HEADER_CHANGES)]


def test_a_block_knows_its_height_and_commits_to_its_body() -> None:
    blocks, _ = BUILDER.blocks(BUILDER.update_body(OFFER))
    assert blocks[0].height == blocks[0].header.height == 1
    assert blocks[0].header.body_root == body_root(blocks[0].body)
    assert Block.decode(blocks[0].encode()) == blocks[0]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (BUILDER.update_body(OFFER), "update"),
        (EmptyBody(()), "empty"),
        (BUILDER.model_body(), "model"),
    ],
)
def test_a_bodys_root_covers_its_kind_and_its_bytes(body: UpdateBody | EmptyBody | ModelBody, name: str) -> None:
    assert type_names[body.TAG] == name
    assert body_root(body) == digest("body", bytes([body.TAG]), body.encode())


def test_a_list_of_keys_is_hashed_in_its_order_and_for_its_purpose() -> None:
    keys = (b"\x01" * 32, b"\x02" * 32)
    make: Callable[..., bytes] = keys_hash
    assert len({make("voters", keys), make("voters", keys[::-1]), make("committee", keys), make("voters", ())}) == 4


@pytest.mark.parametrize("size", [1, 31, 33])
def test_a_vote_names_a_whole_hash_or_nothing(size: int) -> None:
    # S5: one encoding for "nil", and none for half a hash
    vote = Vote(bytes(32), 1, 0, 1, 0, bytes(size), bytes(32))
    with pytest.raises(CodecError, match="last_hash: expected 0 or 32 bytes"):
        vote.encode()

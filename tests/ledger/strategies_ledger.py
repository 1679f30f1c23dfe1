"""Hypothesis strategies for every wire type, read from the annotations that the codec itself reads (S5)."""

from dataclasses import fields
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from ledger.codec import Bytes, Choice, Int, Items, MaybeBytes, Record, Text
from ledger.merkle import Proof, Sibling
from ledger.state import Accepted, Listed, Member, RoundState, State
from ledger.types import (
    BlobRef,
    Block,
    Certificate,
    EmptyBody,
    FinalBatch,
    Header,
    ModelBody,
    Offer,
    Present,
    Proposal,
    ProposedBatch,
    Score,
    Signed,
    Unfilled,
    UpdateBody,
    Vote,
    VoterSignature,
)

SIGNED: tuple[type[Signed], ...] = (Offer, Score, Present, Vote, Proposal)
RECORDS: tuple[type[Record], ...] = (
    *SIGNED,
    BlobRef,
    UpdateBody,
    Unfilled,
    EmptyBody,
    ModelBody,
    Header,
    Block,
    ProposedBatch,
    VoterSignature,
    Certificate,
    FinalBatch,
    Member,
    RoundState,
    Accepted,
    Listed,
    State,
    Sibling,
    Proof,
)
ITEMS_DRAWN_MAX = 2
BYTES_DRAWN_MAX = 64

R = TypeVar("R", bound=Record)
PRINTABLE = st.characters(min_codepoint=32, max_codepoint=0x2FFF).filter(str.isprintable)


def _of_rule(base: Any, rule: Any) -> st.SearchStrategy[Any]:
    if isinstance(rule, Int):
        return st.integers(rule.low, rule.high)
    if isinstance(rule, Bytes):
        low = rule.size if rule.low is None else rule.low
        size = rule.size if rule.low is None else max(low, min(rule.size, BYTES_DRAWN_MAX))
        return st.binary(min_size=low, max_size=size)
    if isinstance(rule, MaybeBytes):
        return st.one_of(st.just(b""), st.binary(min_size=rule.size, max_size=rule.size))
    if isinstance(rule, Text):
        return st.text(PRINTABLE, max_size=min(rule.size, 8))
    if isinstance(rule, Choice):
        return st.one_of([records(cls) for cls in rule.types])
    assert isinstance(rule, Items)
    most = max(rule.least, min(rule.most, ITEMS_DRAWN_MAX))
    return st.lists(_of_hint(get_args(base)[0]), min_size=rule.least, max_size=most).map(tuple)


def _of_hint(hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) is Annotated:
        base, rule, *_ = get_args(hint)
        return _of_rule(base, rule)
    return records(hint)


def records(cls: type[R]) -> st.SearchStrategy[R]:
    """Any value of a wire type, within its bounds (lists stay short)."""
    hints = get_type_hints(cls, include_extras=True)
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    return st.builds(cls, **{name: _of_hint(hints[name]) for name in names})


def any_record() -> st.SearchStrategy[Record]:
    """A value of any wire type."""
    return st.one_of([records(cls) for cls in RECORDS])

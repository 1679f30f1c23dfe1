"""Certificates (A1): more than 2/3 of the voters, each with a good signature, for exactly these blocks."""

from dataclasses import replace
from typing import Any

import pytest

from ledger.certificate import InvalidCertificate, check_certificate, is_quorum, make_certificate
from ledger.state import get_voters
from ledger.types import NO_SIGNATURE, PREVOTE, Certificate, VoterSignature
from tests.ledger.helpers_ledger import ChainBuilder

BUILDER = ChainBuilder(n=7, c=2)
VOTERS = get_voters(BUILDER.params, BUILDER.state)
BATCH = BUILDER.batch(*BUILDER.fill_slots())
GOOD = BATCH.certificate


def refuse(certificate: Certificate, message: str) -> None:
    with pytest.raises(InvalidCertificate, match=message):
        check_certificate(certificate, BATCH.blocks, VOTERS)


def signed_by(*voters: bytes) -> Certificate:
    return BUILDER.certificate(BATCH.blocks, signers=voters)


@pytest.mark.parametrize(
    ("count", "voters", "enough"),
    [(0, 1, False), (1, 1, True), (2, 3, False), (3, 3, True), (3, 4, True), (4, 6, False), (5, 6, True),
     (5, 7, True), (4, 7, False), (20, 31, False), (21, 31, True), (0, 0, False)],
)  # fmt: skip
def test_a_quorum_is_more_than_two_thirds(count: int, voters: int, enough: bool) -> None:
    assert is_quorum(count, voters) is enough


@pytest.mark.parametrize("n", range(1, 32))
def test_two_quorums_share_more_than_a_third_of_the_voters(n: int) -> None:
    least = next(count for count in range(n + 1) if is_quorum(count, n))
    faults = (n - 1) // 3
    assert 2 * least - n > faults
    assert is_quorum(n - faults, n)


@pytest.mark.parametrize("count", [5, 6, 7])
def test_more_than_two_thirds_make_a_batch_final(count: int) -> None:
    check_certificate(signed_by(*VOTERS[:count]), BATCH.blocks, VOTERS)
    check_certificate(signed_by(*VOTERS[-count:]), BATCH.blocks, VOTERS)


def test_a_certificate_of_a_later_round_stands() -> None:
    check_certificate(BUILDER.certificate(BATCH.blocks, round=9), BATCH.blocks, VOTERS)


def test_a_certificate_names_its_first_and_last_block() -> None:
    assert (GOOD.instance, GOOD.last_height) == (1, 3)
    assert GOOD.last_hash == BATCH.blocks[-1].header.id()
    assert [item.voter for item in GOOD.precommits] == list(VOTERS)


def test_a_certificate_is_made_in_order_of_key_from_any_order() -> None:
    signatures = {item.voter: item.signature for item in reversed(GOOD.precommits)}
    assert make_certificate(BATCH.blocks, 0, signatures) == GOOD


@pytest.mark.parametrize("count", [1, 2, 4])
def test_two_thirds_or_less_are_not_enough(count: int) -> None:
    refuse(signed_by(*VOTERS[:count]), f"{count} of 7 voters are not more than 2/3")


@pytest.mark.parametrize(
    "changes",
    [{"chain": bytes(32)}, {"instance": 2}, {"instance": 0}, {"last_height": 2}, {"last_hash": bytes(32)}],
)
def test_a_certificate_for_other_blocks_is_refused(changes: dict[str, Any]) -> None:
    refuse(replace(GOOD, **changes), r"certificate of #1..#3: is for other blocks")


def test_a_certificate_of_a_shorter_batch_does_not_cover_a_longer_one() -> None:
    with pytest.raises(InvalidCertificate, match="other blocks"):
        check_certificate(GOOD, BATCH.blocks[:2], VOTERS)


def test_a_voter_listed_twice_or_out_of_order_is_refused() -> None:
    twice = (*GOOD.precommits[:5], GOOD.precommits[4])
    refuse(replace(GOOD, precommits=twice), "once each, in order of key")
    refuse(replace(GOOD, precommits=GOOD.precommits[::-1]), "once each, in order of key")


def test_a_stranger_among_the_signers_is_refused() -> None:
    stranger = ChainBuilder(n=8, c=2)
    outsider = next(key for key in stranger.indices if key not in VOTERS)
    vote = stranger.sign(GOOD.vote_of(outsider, NO_SIGNATURE))
    precommits = sorted([*GOOD.precommits, VoterSignature(outsider, vote.signature)], key=lambda item: item.voter)
    refuse(replace(GOOD, precommits=tuple(precommits)), "somebody who is no voter signed")


@pytest.mark.parametrize("at", range(7))
def test_a_single_bad_signature_spoils_the_certificate(at: int) -> None:
    bad = replace(GOOD.precommits[at], signature=GOOD.precommits[(at + 1) % 7].signature)
    precommits = (*GOOD.precommits[:at], bad, *GOOD.precommits[at + 1 :])
    refuse(replace(GOOD, precommits=precommits), f"bad signature of {VOTERS[at].hex()[:8]}")


def test_precommits_of_another_round_prove_nothing() -> None:
    refuse(replace(GOOD, round=1), "bad signature")


def test_prevotes_are_no_precommits() -> None:
    votes = [replace(GOOD.vote_of(voter, NO_SIGNATURE), step=PREVOTE) for voter in VOTERS]
    precommits = tuple(VoterSignature(vote.voter, BUILDER.sign(vote).signature) for vote in votes)
    refuse(replace(GOOD, precommits=precommits), "bad signature")


def test_with_voters_committee_the_committee_alone_certifies() -> None:
    builder = ChainBuilder(n=7, c=4, k=4, voters="committee")
    batch = builder.batch(*builder.fill_slots())
    voters = get_voters(builder.params, builder.state)
    assert set(voters) == set(builder.committee)
    check_certificate(batch.certificate, batch.blocks, voters)
    outsiders = [key for key in builder.indices if key not in voters]
    with pytest.raises(InvalidCertificate, match="no voter"):
        check_certificate(builder.certificate(batch.blocks, signers=outsiders), batch.blocks, voters)

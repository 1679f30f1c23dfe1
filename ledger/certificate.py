"""Certificates (A1): precommits of more than 2/3 of the voters make every block of a batch final."""

from collections.abc import Mapping, Sequence

from ledger.types import Block, Certificate, VoterSignature


class InvalidCertificate(ValueError):
    """A certificate that proves nothing; the message says why."""


def is_quorum(count: int, voters: int) -> bool:
    """Whether `count` of `voters` are more than 2/3: the 2f + 1 of Tendermint's Algorithm 1."""
    return 3 * count > 2 * voters


def make_certificate(blocks: Sequence[Block], round: int, signatures: Mapping[bytes, bytes]) -> Certificate:
    """The certificate of a decided batch from precommit signatures by voter key."""
    last = blocks[-1].header
    votes = tuple(VoterSignature(voter, signatures[voter]) for voter in sorted(signatures))
    return Certificate(last.chain, blocks[0].height, round, last.height, last.id(), votes)


def check_certificate(certificate: Certificate, blocks: Sequence[Block], voters: Sequence[bytes]) -> None:
    """Whether `voters` made these blocks final; raises `InvalidCertificate`."""
    first, last = blocks[0].header, blocks[-1].header
    where = f"certificate of #{first.height}..#{last.height}"
    claimed = (certificate.chain, certificate.instance, certificate.last_height, certificate.last_hash)
    if claimed != (last.chain, first.height, last.height, last.id()):
        raise InvalidCertificate(f"{where}: is for other blocks")
    signers = [item.voter for item in certificate.precommits]
    if signers != sorted(set(signers)):
        raise InvalidCertificate(f"{where}: voters must be listed once each, in order of key (S5)")
    if not set(signers) <= set(voters):
        raise InvalidCertificate(f"{where}: somebody who is no voter signed")
    if not is_quorum(len(signers), len(voters)):
        raise InvalidCertificate(f"{where}: {len(signers)} of {len(voters)} voters are not more than 2/3")
    for item in certificate.precommits:
        if not certificate.vote_of(item.voter, item.signature).is_signed():
            raise InvalidCertificate(f"{where}: bad signature of {item.voter.hex()[:8]}")

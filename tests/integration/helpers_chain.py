"""What stopped peers have on disk: their chains, compared block by block, and all that their signers have signed."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from consensus.signer import SignedOffer, SignedPresent, SignedProposal, SignedScore, SignedVote, WalEntry
from ledger.types import Block, EmptyBody, FinalBatch, ModelBody, Offer, Present, Proposal, Score, UpdateBody, Vote
from node.audit_home import open_home
from node.home import Home
from node.signer_log import SignerLog

Statement = Vote | Proposal | Offer | Score | Present
Place = tuple[object, ...]


def read_batches(home: Path) -> list[FinalBatch]:
    """The final batches of a stopped peer, in order."""
    with open_home(home) as opened:
        return list(_batches(opened.store.batch_at, 1))


def _batches(batch_at: object, height: int) -> Iterator[FinalBatch]:
    assert callable(batch_at)
    while (batch := batch_at(height)) is not None:
        yield batch
        height = batch.certificate.last_height + 1


def read_blocks(home: Path) -> list[Block]:
    """The blocks from #1 on."""
    return [block for batch in read_batches(home) for block in batch.blocks]


def assert_one_history(homes: Sequence[Path]) -> list[list[Block]]:
    """No two peers differ in any height that both have (A1); returns their blocks."""
    chains = [read_blocks(home) for home in homes]
    longest = max(chains, key=len)
    for home, chain in zip(homes, chains, strict=True):
        assert chain == longest[: len(chain)], f"{home} has another history than the longest one"
    return chains


def round_number(block: Block, k: int) -> int:
    """The round that a block belongs to (H2)."""
    return (block.height - 1) // k


def offers_in(block: Block) -> list[Offer]:
    """The offers that a block lists, accepted or not."""
    body = block.body
    if isinstance(body, UpdateBody):
        return [body.offer]
    return [offer for item in body.unfilled for offer in item.offer] if isinstance(body, EmptyBody) else []


def scores_in(block: Block) -> list[Score]:
    """The scores that a block lists, late ones included."""
    body = block.body
    if isinstance(body, UpdateBody):
        return list(body.scores)
    if isinstance(body, ModelBody):
        return list(body.late)
    return [score for item in body.unfilled for score in item.scores]


def workers_of(blocks: Iterable[Block]) -> set[bytes]:
    """Everybody of whom these blocks accept an update or list a score: who took part in the learning."""
    found: set[bytes] = set()
    for block in blocks:
        if isinstance(block.body, UpdateBody):
            found.add(block.body.offer.trainer)
        found |= {score.scorer for score in scores_in(block)}
    return found


def statements_in(batches: Iterable[FinalBatch]) -> Iterator[Statement]:
    """Every signed message that a chain holds: offers, scores, presents, and the precommits of its certificates."""
    for batch in batches:
        for item in batch.certificate.precommits:
            yield batch.certificate.vote_of(item.voter, item.signature)
        for block in batch.blocks:
            yield from offers_in(block)
            yield from scores_in(block)
            if isinstance(block.body, ModelBody):
                yield from block.body.present


def place_of(statement: Statement) -> Place:
    """What a signer may fill once only (A5)."""
    author = statement.author()
    match statement:
        case Vote():
            return (author, "vote", statement.instance, statement.round, statement.step)
        case Proposal():
            return (author, "proposal", statement.instance, statement.round)
        case Offer() | Present():
            return (author, type(statement).__name__, statement.round)
        case Score():
            return (author, "score", statement.round, statement.offer)


@dataclass
class Promises:
    """Everything that was ever seen signed, from whatever source, by its place; a contradiction fails the test."""

    seen: dict[Place, bytes] = field(default_factory=dict)

    def add(self, statements: Iterable[Statement], source: str) -> None:
        """Take note of signed messages; their signatures are checked, too."""
        for statement in statements:
            assert statement.is_signed(), f"{source}: a signature does not stand"
            known = self.seen.setdefault(place_of(statement), statement.id())
            assert known == statement.id(), f"{source}: signed twice differently at {place_of(statement)[1:]} (A5)"


def read_signer_log(home: Path, scratch: Path) -> tuple[bytes, list[Statement]]:
    """The bytes of a dead peer's signer log and what they promise; read from a copy, so that nothing is repaired."""
    source = Home(home).keys.signer_state
    copy = scratch / f"{home.name}.state"
    shutil.copyfile(source, copy)
    log, records = SignerLog.open(copy)
    log.close()
    return source.read_bytes()[: log.size_bytes], list(_statements(records))


def _statements(records: Iterable[bytes]) -> Iterator[Statement]:
    for data in records:
        match WalEntry.decode(data).record:
            case SignedVote(vote):
                yield vote
            case SignedProposal(batch):
                yield batch.proposal
            case SignedOffer(offer):
                yield offer
            case SignedScore(score):
                yield score
            case SignedPresent(present):
                yield present
            case _:
                pass

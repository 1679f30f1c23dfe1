"""Blocks and rounds as people and scripts see them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from cli.output import short
from ledger.endorsement import get_outcome
from ledger.heights import first_height, model_height
from ledger.types import Block, EmptyBody, ModelBody, Offer, Score, Unfilled, UpdateBody, type_names
from node.audit_home import OpenHome


def describe_block(opened: OpenHome, block: Block) -> dict[str, object]:
    """Header, body and certificate of a block, in JSON's types."""
    header, names = block.header, opened.names()
    certificate = opened.store.certificate(block.height)
    return {
        "height": block.height,
        "hash": header.id().hex(),
        "round": opened.round_of(block.height),
        "kind": type_names[header.kind],
        "parent": header.parent.hex(),
        "time_ms": header.time_ms,
        "proposer": _name(names, header.proposer),
        "state_root": header.state_root.hex(),
        "body_root": header.body_root.hex(),
        **_describe_body(names, block),
        "certificate_round": None if certificate is None else certificate.round,
        "signed_by": [] if certificate is None else [_name(names, item.voter) for item in certificate.precommits],
    }


def _describe_body(names: dict[bytes, str], block: Block) -> dict[str, object]:
    body = block.body
    if isinstance(body, UpdateBody):
        return {"offer": [_offer(names, body.offer)], "scores": _scores(names, body.scores), "weight": body.weight}
    if isinstance(body, EmptyBody):
        return {"unfilled": [_unfilled(names, item) for item in body.unfilled]}
    return {
        "model": body.model.blob.hex(),
        "model_bytes": body.model.size,
        "missing": list(body.missing),
        "late_scores": _scores(names, body.late),
        "present": [_name(names, item.member) for item in body.present],
    }


def _unfilled(names: dict[bytes, str], item: Unfilled) -> dict[str, object]:
    offers = [_offer(names, offer) for offer in item.offer]
    return {"trainer": _name(names, item.trainer), "offer": offers, "scores": _scores(names, item.scores)}


def _offer(names: dict[bytes, str], offer: Offer) -> dict[str, object]:
    return {
        "id": offer.id().hex(),
        "trainer": _name(names, offer.trainer),
        "update": offer.update.blob.hex(),
        "update_bytes": offer.update.size,
        "samples": offer.samples,
        "codec": offer.codec,
    }


def _scores(names: dict[bytes, str], scores: Sequence[Score]) -> list[dict[str, object]]:
    return [
        {"scorer": _name(names, item.scorer), "value": item.value, "baseline": item.baseline, "code": item.code}
        for item in scores
    ]


def _name(names: dict[bytes, str], key: bytes) -> str:
    return names.get(key, short(key))


def block_row(opened: OpenHome, block: Block) -> tuple[object, ...]:
    """One line of `chain blocks`."""
    names, header = opened.names(), block.header
    proposer = "genesis" if block.height == 0 else _name(names, header.proposer)
    kind, carries = type_names[header.kind], _carries(names, block)
    return (block.height, opened.round_of(block.height), kind, proposer, carries, short(header.id()))


def _carries(names: dict[bytes, str], block: Block) -> str:
    body = block.body
    if isinstance(body, UpdateBody):
        return f"update of {_name(names, body.offer.trainer)}, {len(body.scores)} scores, weight {body.weight}"
    if isinstance(body, EmptyBody):
        return f"close: {len(body.unfilled)} without an accepted update" if body.unfilled else "-"
    return f"model {short(body.model.blob)}, {body.model.size} bytes"


# ---------------------------------------------------------------------------------------------------------- rounds


@dataclass(frozen=True, slots=True)
class TrainerLine:
    """What became of one trainer's work; value and scores in millionths."""

    trainer: str
    outcome: str
    height: int | None
    samples: int | None
    value: int | None
    weight: int | None
    scores: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class RoundReport:
    """One final round."""

    round: int
    height: int
    committee: list[str]
    trainers: list[TrainerLine]
    model: str

    def rows(self) -> Iterator[tuple[object, ...]]:
        """The lines of a table."""
        for item in self.trainers:
            scores = ", ".join(_margin(score) for score in item.scores)
            value = None if item.value is None else f"{item.value / 1e6:.4f}"
            yield (item.trainer, item.outcome, item.height, item.samples, value, item.weight, scores or "-")

    def to_json(self) -> dict[str, object]:
        """The report in JSON's types."""
        return asdict(self)


def _margin(score: dict[str, object]) -> str:
    value, baseline, code = score["value"], score["baseline"], score["code"]
    assert isinstance(value, int)
    assert isinstance(baseline, int)
    return f"{score['scorer']} invalid({code})" if code else f"{score['scorer']} {(value - baseline) / 1e6:+.4f}"


def describe_round(opened: OpenHome, round: int) -> RoundReport:
    """Committee, trainers and model of a final round (R2-R7)."""
    k, names = opened.genesis.params.round_length, opened.names()
    height = model_height(k, round)
    lines: list[TrainerLine] = []
    for at in range(first_height(k, round), height):
        body = opened.block(at).body
        if isinstance(body, UpdateBody):
            lines.append(_accepted(names, at, body))
        elif isinstance(body, EmptyBody):
            lines += [_not_accepted(opened, item) for item in body.unfilled]
    body = opened.block(height).body
    assert isinstance(body, ModelBody)
    committee = [_name(names, key) for key in opened.state_at(k * round).round.committee]
    return RoundReport(round, height, committee, lines, body.model.blob.hex())


def _accepted(names: dict[bytes, str], height: int, body: UpdateBody) -> TrainerLine:
    offer = body.offer
    scores = _scores(names, body.scores)
    return TrainerLine(_name(names, offer.trainer), "accepted", height, offer.samples, body.value, body.weight, scores)


def _not_accepted(opened: OpenHome, item: Unfilled) -> TrainerLine:
    names, params = opened.names(), opened.genesis.params
    outcome = get_outcome(params, item.scores, params.committee_size) if item.offer else "no offer"
    samples = item.offer[0].samples if item.offer else None
    return TrainerLine(_name(names, item.trainer), outcome, None, samples, None, None, _scores(names, item.scores))

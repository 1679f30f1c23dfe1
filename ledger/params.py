"""The rules of one consortium, fixed by its genesis document: pydantic checks each value and names what is wrong."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ledger.keys import BEACON_LINKS_MAX
from ledger.types import COMMITTEE_MAX, ROUND_MAX, SCORE_ABS_MAX, SLOTS_MAX

VOTERS_MAX = 31
DAY_MS = 86_400_000

Duration = Annotated[int, Field(ge=1, le=30 * DAY_MS)]
Scored = Annotated[int, Field(ge=-SCORE_ABS_MAX, le=SCORE_ABS_MAX)]


class Strict(BaseModel):
    """No unknown field, no silent conversion, no change after validation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Params(Strict):
    """Everything that `apply` and the voters' own clocks need to know. Durations in ms, scores in millionths."""

    round_length: Annotated[int, Field(ge=2, le=SLOTS_MAX, description="k (H1)")]
    rounds_max: Annotated[int, Field(ge=1, le=ROUND_MAX)]
    committee_size: Annotated[int, Field(ge=1, le=COMMITTEE_MAX, description="c")]
    voters: Literal["members", "committee"] = "members"
    batch_max: Annotated[int, Field(ge=1, le=SLOTS_MAX)]
    election: Literal["draw", "score"] = "draw"
    acceptance: Literal["relative", "absolute"] = "relative"
    score_tolerance: Annotated[int, Field(ge=0, le=SCORE_ABS_MAX)] = 20_000
    score_threshold: Scored = 0
    score_min: Scored = -100_000_000
    score_max: Scored = 0
    weight: Literal["samples", "score", "uniform"] = "samples"
    samples_max: Annotated[int, Field(ge=1, le=2**40)] = 1_000_000
    aggregation: Literal["fedavg"] = "fedavg"
    updates_min: Annotated[int, Field(ge=1, le=SLOTS_MAX)] = 1
    update_norm_max: Annotated[int, Field(ge=1, le=10**15, description="millionths of the L2 norm")] = 20_000_000
    update_bytes_max: Annotated[int, Field(ge=1, le=2**32)] = 64 * 2**20
    codecs: Annotated[tuple[Literal["f32", "int8"], ...], Field(min_length=1, max_length=8)] = ("f32", "int8")
    test_set: Literal["shared", "local"] = "shared"
    verdict: Literal[False] = False
    beacon_links: Annotated[int, Field(ge=1, le=BEACON_LINKS_MAX, description="L (R9)")] = 10_000
    absent_after: Annotated[int, Field(ge=1, le=1000)] = 3
    round_deadline_ms: Duration = 30_000
    grace_ms: Duration = 1_000
    batch_wait_ms: Duration = 2_000
    fetch_deadline_ms: Duration = 15_000
    timeout_propose_ms: Duration = 2_000
    timeout_vote_ms: Duration = 1_000
    timeout_step_ms: Duration = 500
    timeout_max_ms: Duration = 30_000

    @model_validator(mode="after")
    def _fits_together(self) -> "Params":
        if self.batch_max < self.round_length - 1:
            raise ValueError(
                f"batch_max {self.batch_max} must be at least round_length - 1 = {self.round_length - 1} (R5)"
            )
        if self.beacon_links < self.rounds_max:
            raise ValueError(f"beacon_links {self.beacon_links} must be at least rounds_max = {self.rounds_max} (R9)")
        if self.score_min >= self.score_max:
            raise ValueError("score_min must be below score_max (R3)")
        if len(set(self.codecs)) != len(self.codecs):
            raise ValueError("codecs lists one twice")
        if self.updates_min > self.round_length - 1:
            raise ValueError("updates_min exceeds the update slots of a round (R7)")
        return self

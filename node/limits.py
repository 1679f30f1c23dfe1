"""The limits of the peer's network side, with defaults for a consortium of tens of members (config.toml `[limits]`)."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from consensus.events import HAVE_IDS_MAX, ID_PREFIX_BYTES
from ledger.params import VOTERS_MAX, Params

MIB = 1 << 20
SIGNED_BYTES_MAX = 512  # of an offer, a score, a present or a header in canonical bytes; 420 is the largest today

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Size = Annotated[int, Field(ge=1024, le=1 << 40)]
Rate = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Limits(BaseModel):
    """Every queue, frame and loop of the transport and the blob exchange has its limit here (A8)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    frame_bytes_max: Size = 16 * MIB
    queue_messages_max: Count = 4096
    queue_bytes_max: Size = 32 * MIB
    messages_per_s_max: Rate = 5_000.0
    messages_burst_max: Count = 20_000
    bytes_per_s_max: Rate = 8.0 * MIB
    bytes_burst_max: Size = 64 * MIB

    faults_max: Count = 10
    fault_decay_s: Seconds = 60.0
    ban_s: Seconds = 300.0

    hello_timeout_s: Seconds = 5.0
    dial_timeout_s: Seconds = 5.0
    answer_timeout_s: Seconds = 2.0
    heartbeat_s: Seconds = 15.0
    backoff_min_s: Seconds = 0.05
    backoff_max_s: Seconds = 5.0
    backoff_long_s: Seconds = 30.0
    settled_s: Seconds = 1.0

    requests_per_peer_max: Count = 16
    batches_bytes_max: Size = 4 * MIB
    fetch_timeout_s: Seconds = 30.0
    fetches_max: Count = 8
    fetches_per_peer_max: Count = 2
    fetch_passes_max: Count = 20
    partial_bytes_max: Size = 4096 * MIB


def fitted(limits: Limits, params: Params) -> Limits:
    """These limits with frames no longer than this chain can need: what a batch of its largest round or a `Have` takes.
    A longer frame only costs whoever decodes and keeps it (A8)."""
    seats, slots = params.committee_size, params.round_length
    offers = min(VOTERS_MAX, slots - 1)  # each with all its scores, in one batch: all accepted, all unfilled, or late
    records = 16 + slots + offers * (1 + seats) + VOTERS_MAX
    needed = SIGNED_BYTES_MAX * records + (ID_PREFIX_BYTES + 2) * HAVE_IDS_MAX
    return limits.model_copy(update={"frame_bytes_max": min(limits.frame_bytes_max, needed)})

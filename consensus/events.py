"""What goes into the consensus core and what comes out of it.

The core is a state machine without I/O: `Core.step(event, now_ms, wall_ms) -> list[Effect]`. The shell performs the
effects in order, with one liberty: a `Persist` or `Commit` may be done earlier than its turn, never later (A5).
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.codec import Bytes, Items, Record
from ledger.state import State
from ledger.types import (
    BlobRef,
    FinalBatch,
    Height,
    Offer,
    Present,
    ProposedBatch,
    Score,
    ViewRound,
    Vote,
)

HAVE_IDS_MAX = 8192
ID_PREFIX_BYTES = 8


@dataclass(frozen=True, slots=True)
class Have(Record):
    """What a peer holds: its tip, its view round in the open instance and the ids (first 8 bytes) of the round's
    messages. The receiver answers with what the sender lacks: votes and proposals are never hidden (A4)."""

    TAG: ClassVar[int] = 7
    height: Height
    view_round: ViewRound
    ids: Annotated[tuple[Annotated[bytes, Bytes(ID_PREFIX_BYTES)], ...], Items(HAVE_IDS_MAX)]


Message = Offer | Score | Present | Vote | ProposedBatch | Have


# ---------------------------------------------------------------------------------------------------------- timers


@dataclass(frozen=True, slots=True)
class ViewTimer:
    """Algorithm 1's timeouts of one view round: step is 'propose', 'prevote' or 'precommit'."""

    instance: int
    round: int
    step: str


@dataclass(frozen=True, slots=True)
class ProbeTimer:
    """The peers have had `grace` to show me votes of mine that I have forgotten (A5)."""


@dataclass(frozen=True, slots=True)
class RoundTimer:
    """A clock of the learning round: 'deadline' (R1), 'batch' (R5) or 'fetch' (R7)."""

    round: int
    name: str


@dataclass(frozen=True, slots=True)
class GossipTimer:
    """Time to tell the peers what I have."""


Timer = ViewTimer | RoundTimer | ProbeTimer | GossipTimer


# ---------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Started:
    """The shell is ready: connections are being made. Comes once, first."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message of a connected, authenticated member; it is decoded, its content is not yet checked."""

    sender: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class PeerUp:
    member: bytes


@dataclass(frozen=True, slots=True)
class PeerDown:
    member: bytes


@dataclass(frozen=True, slots=True)
class Fired:
    timer: Timer


@dataclass(frozen=True, slots=True)
class Trained:
    """My update of `round` is a blob on disk (B3), and `seal` is my seal of it (B4)."""

    round: int
    update: BlobRef
    seal: bytes
    samples: int
    codec: str


@dataclass(frozen=True, slots=True)
class Scored:
    """I hold the offer's blob and have scored it, in millionths; code > 0 is INVALID (R3)."""

    round: int
    offer: bytes
    value: int
    baseline: int
    code: int


@dataclass(frozen=True, slots=True)
class Aggregated:
    """The candidate model of `round`, with the updates at heights `missing` left out, is a blob on disk (R7)."""

    round: int
    missing: tuple[int, ...]
    model: BlobRef


@dataclass(frozen=True, slots=True)
class Held:
    """These blobs are on disk, whole and verified, their sizes too."""

    blobs: tuple[BlobRef, ...]


@dataclass(frozen=True, slots=True)
class Synced:
    """A final batch that a peer served (Y1); its certificate is not yet checked."""

    sender: bytes
    batch: FinalBatch


@dataclass(frozen=True, slots=True)
class SyncEnded:
    """This member has served what it had, or failed to."""

    member: bytes


Event = Started | Received | PeerUp | PeerDown | Fired | Trained | Scored | Aggregated | Held | Synced | SyncEnded


# --------------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Persist:
    """Append to the signer's log and sync, before anything later in the list leaves this machine (A5)."""

    record: Record


@dataclass(frozen=True, slots=True)
class Commit:
    """Write the final batch and the state after it, atomically and synced."""

    batch: FinalBatch
    state: State


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one member, or to every connected one when `to` is None."""

    message: Message
    to: bytes | None = None


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire `timer` once after `after_ms`; setting it again replaces it."""

    timer: Timer
    after_ms: int


@dataclass(frozen=True, slots=True)
class Train:
    """Train on my data from the global model (R2) and answer `Trained`."""

    round: int
    model: BlobRef


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Fetch the offer's blob, score it against the model (R3) and answer `Scored`."""

    round: int
    offer: Offer
    model: BlobRef


@dataclass(frozen=True, slots=True)
class AggregateInput:
    """One accepted update in block order: its height, blob, codec and weight score."""

    height: int
    trainer: bytes
    update: BlobRef
    codec: str
    weight: int


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Fetch what is not held of `updates` (from `holders` first), answering `Held` for each; apply the rule to `model`
    with the heights `missing` left out and answer `Aggregated` (R7)."""

    round: int
    model: BlobRef
    updates: tuple[AggregateInput, ...]
    missing: tuple[int, ...]
    holders: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """Work and fetches of this round may be cancelled; what is still wanted of it is asked for again after this."""

    round: int


@dataclass(frozen=True, slots=True)
class SyncFrom:
    """This member has final batches above my tip: fetch from `height` on and answer `Synced` (Y1)."""

    member: bytes
    height: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A peer sent what it must not send: drop, count, ban (A8)."""

    member: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Halt:
    """An invariant of this machine is broken: stop with an exit code and say what to do (A3, A8)."""

    reason: str


Effect = Persist | Commit | Send | SetTimer | Train | Evaluate | Aggregate | RoundEnded | SyncFrom | Fault | Halt

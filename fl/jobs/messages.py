"""What a worker process is asked and what it answers. Models and updates travel as files, named by path."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TrainJob:
    """Train one local round from the model file and write the encoded update (R2).

    `residual_path` keeps what a lossy codec dropped from one round to the next; None forgets it.
    `attack` is None but in demonstrations (see `fl.attacks`).
    """

    model_path: str
    update_path: str
    residual_path: str | None
    round: int
    codec: str
    update_norm_max: float
    attack: str | None = None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """`samples` and `metrics` of the local training; `norm`: length of the delta as it will be decoded."""

    samples: int
    metrics: dict[str, float]
    norm: float


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """Check an update file and score it against the model alone (R3)."""

    model_path: str
    update_path: str
    codec: str
    update_norm_max: float
    update_bytes_max: int


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """Scores in millionths with the update (`value`) and without (`baseline`); `code` != 0 means INVALID, both 0."""

    value: int
    baseline: int
    code: int


@dataclass(frozen=True, slots=True)
class AggregateJob:
    """Write the candidate model (R7) from `updates`: (path, codec, weight) in block order."""

    rule: str
    model_path: str
    updates: tuple[tuple[str, str, int], ...]
    output_path: str


@dataclass(frozen=True, slots=True)
class AggregateResult:
    """How many updates had a part in the candidate."""

    used: int


@dataclass(frozen=True, slots=True)
class EvaluateJob:
    """Evaluate a model file on the scoring set, or with `report` on the one that nothing else sees."""

    model_path: str
    report: bool


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """The score in millionths, and the metrics for people."""

    score_millionths: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InitialModelJob:
    """Write the task's initial model, the one of block #0 (H2)."""

    output_path: str


@dataclass(frozen=True, slots=True)
class InitialModelResult:
    """SHA-256 of the shared scoring set, for genesis (R3); b"" where the task has none."""

    test_set_digest: bytes


Job = TrainJob | ScoreJob | AggregateJob | EvaluateJob | InitialModelJob
Result = TrainResult | ScoreResult | AggregateResult | EvaluateResult | InitialModelResult

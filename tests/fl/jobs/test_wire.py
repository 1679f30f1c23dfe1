import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.jobs import (
    AggregateJob,
    AggregateResult,
    EvaluateJob,
    EvaluateResult,
    InitialModelJob,
    InitialModelResult,
    Job,
    Result,
    ScoreJob,
    ScoreResult,
    TrainJob,
    TrainResult,
    WireError,
    job_from_wire,
    job_to_wire,
    result_from_wire,
    result_to_wire,
)

TEXT = st.text(max_size=10)
NUMBER = st.floats(allow_nan=False)
INTEGER = st.integers(-(2**63), 2**63 - 1)
METRICS = st.dictionaries(TEXT, NUMBER, max_size=3)
JOBS: st.SearchStrategy[Job] = st.one_of(
    st.builds(TrainJob, TEXT, TEXT, st.none() | TEXT, INTEGER, TEXT, NUMBER, st.none() | TEXT),
    st.builds(ScoreJob, TEXT, TEXT, TEXT, NUMBER, INTEGER),
    st.builds(AggregateJob, TEXT, TEXT, st.lists(st.tuples(TEXT, TEXT, INTEGER), max_size=3).map(tuple), TEXT),
    st.builds(EvaluateJob, TEXT, st.booleans()),
    st.builds(InitialModelJob, TEXT),
)
RESULTS: st.SearchStrategy[Result] = st.one_of(
    st.builds(TrainResult, INTEGER, METRICS, NUMBER),
    st.builds(ScoreResult, INTEGER, INTEGER, INTEGER),
    st.builds(AggregateResult, INTEGER),
    st.builds(EvaluateResult, INTEGER, METRICS),
    st.builds(InitialModelResult, st.binary(max_size=32)),
)


@settings(max_examples=50, deadline=None)
@given(JOBS)
def test_jobs_survive_msgpack(job: Job) -> None:
    assert job_from_wire(msgpack.unpackb(msgpack.packb(job_to_wire(job)))) == job


@settings(max_examples=50, deadline=None)
@given(RESULTS)
def test_results_survive_msgpack(result: Result) -> None:
    assert result_from_wire(msgpack.unpackb(msgpack.packb(result_to_wire(result)))) == result


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (None, "must be a list"),
        ([], "must be a list"),
        ([7], "must be a list"),
        (["dance"], "unknown worker message 'dance'"),
        (["evaluate", "m"], "has 1 fields, not 2"),
        (["evaluate", "m", 1], "evaluate.report"),
        (["evaluate", b"m", True], "evaluate.model_path"),
        (["train", "m", "u", 3, 0, "f32", 1.0, None], "train.residual_path"),
        (["train", "m", "u", None, True, "f32", 1.0, None], "train.round"),
        (["train", "m", "u", None, 0, "f32", "1", None], "train.update_norm_max"),
        (["aggregate", "fedavg", "m", [["p", "f32"]], "o"], "aggregate.updates"),
        (["aggregate", "fedavg", "m", [["p", "f32", "w"]], "o"], "aggregate.updates"),
        (["aggregate", "fedavg", "m", {"p": 1}, "o"], "aggregate.updates"),
        (["aggregate", "fedavg", "m", [["p", "f32", 1]] * 65_537, "o"], "aggregate.updates"),
    ],
)
def test_messages_that_are_not_jobs_are_refused(wire: object, message: str) -> None:
    with pytest.raises(WireError, match=message):
        job_from_wire(wire)


def test_messages_that_are_not_results_are_refused() -> None:
    with pytest.raises(WireError, match=r"train\.metrics"):
        result_from_wire(["train", 1, {"loss": "low"}, 1.0])
    with pytest.raises(WireError, match=r"initial-model\.test_set_digest"):
        result_from_wire(["initial-model", "text"])


def test_a_whole_number_where_a_float_belongs_becomes_one() -> None:
    job = job_from_wire(["score", "m", "u", "f32", 3, 100])
    assert isinstance(job, ScoreJob)
    assert isinstance(job.update_norm_max, float)

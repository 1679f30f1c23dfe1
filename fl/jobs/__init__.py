"""What a worker process runs: a job in, a result out, all large data in files.

`run_job` does the work of one job; `job_to_wire` and its three sisters carry jobs and results between processes.
Importing this module does not import torch; the task that a worker loads does.
"""

from fl.jobs.messages import (
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
)
from fl.jobs.run import run_job, warm_up
from fl.jobs.wire import WireError, job_from_wire, job_to_wire, result_from_wire, result_to_wire

__all__ = [
    "AggregateJob",
    "AggregateResult",
    "EvaluateJob",
    "EvaluateResult",
    "InitialModelJob",
    "InitialModelResult",
    "Job",
    "Result",
    "ScoreJob",
    "ScoreResult",
    "TrainJob",
    "TrainResult",
    "WireError",
    "job_from_wire",
    "job_to_wire",
    "result_from_wire",
    "result_to_wire",
    "run_job",
    "warm_up",
]

"""Jobs and results as plain lists, for msgpack between a node and its workers; never pickle.

A message is [name, field, field, ...] in the order of the dataclass. Reading checks the name, the number of
fields and every type, so that a worker of another version is refused with a clear error.
"""

import types
import typing
from dataclasses import astuple, fields
from typing import Final, cast

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

ITEMS_MAX: Final = 65_536

_JOBS: Final[dict[str, type[Job]]] = {
    "train": TrainJob,
    "score": ScoreJob,
    "aggregate": AggregateJob,
    "evaluate": EvaluateJob,
    "initial-model": InitialModelJob,
}
_RESULTS: Final[dict[str, type[Result]]] = {
    "train": TrainResult,
    "score": ScoreResult,
    "aggregate": AggregateResult,
    "evaluate": EvaluateResult,
    "initial-model": InitialModelResult,
}
_JOB_NAMES: Final = {kind: name for name, kind in _JOBS.items()}
_RESULT_NAMES: Final = {kind: name for name, kind in _RESULTS.items()}


class WireError(ValueError):
    """A message between a node and its worker that is not what it should be."""


def job_to_wire(job: Job) -> list[object]:
    """Return the job as a list that msgpack can carry."""
    return [_JOB_NAMES[type(job)], *astuple(job)]


def job_from_wire(wire: object) -> Job:
    """Read a job; raise `WireError` naming the field that is wrong."""
    return cast(Job, _from_wire(wire, _JOBS))


def result_to_wire(result: Result) -> list[object]:
    """Return the result as a list that msgpack can carry."""
    return [_RESULT_NAMES[type(result)], *astuple(result)]


def result_from_wire(wire: object) -> Result:
    """Read a result; raise `WireError` naming the field that is wrong."""
    return cast(Result, _from_wire(wire, _RESULTS))


def _from_wire(wire: object, kinds: dict[str, type[Job]] | dict[str, type[Result]]) -> object:
    if not isinstance(wire, list | tuple) or not wire or not isinstance(wire[0], str):
        raise WireError("a worker message must be a list that starts with its name")
    name, *values = wire
    kind = kinds.get(name)
    if kind is None:
        raise WireError(f"unknown worker message {name!r}; known are {', '.join(kinds)}")
    hints = typing.get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    if len(values) != len(names):
        raise WireError(f"worker message {name!r} has {len(values)} fields, not {len(names)}")
    read = (_read(value, hints[n], f"{name}.{n}") for n, value in zip(names, values, strict=True))
    return kind(*read)  # type: ignore[arg-type]


def _read(value: object, hint: object, where: str) -> object:
    """Return `value` as the annotation wants it; lists become tuples."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _read(value, arguments[0], where)
    if origin is tuple and isinstance(value, list | tuple) and len(value) <= ITEMS_MAX:
        hints = [arguments[0]] * len(value) if arguments[1:] == (...,) else list(arguments)
        if len(hints) == len(value):
            return tuple(_read(v, h, where) for v, h in zip(value, hints, strict=True))
    if origin is dict and isinstance(value, dict) and len(value) <= ITEMS_MAX:
        return {_read(k, arguments[0], where): _read(v, arguments[1], where) for k, v in value.items()}
    if type(value) is hint:
        return value
    if hint is float and type(value) is int:
        return float(value)
    raise WireError(f"worker message field {where} must be {hint}, not {type(value).__name__}")

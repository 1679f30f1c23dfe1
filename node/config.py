"""config.toml: what one peer's operator decides. Everything that the members share stands in genesis instead."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from node.endpoint import Endpoint
from node.errors import ExitCode, NodeError
from node.limits import Limits

CONFIG_BYTES_MAX = 1 << 20
Scalar = bool | int | Annotated[float, Field(allow_inf_nan=False)] | str


def _endpoint(text: str) -> str:
    Endpoint.parse(text)
    return text


EndpointText = Annotated[str, AfterValidator(_endpoint)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PeerSection(_Section):
    """Where the other members reach this peer; `advertise` is what genesis says where that differs from `listen`."""

    listen: EndpointText = "127.0.0.1:7001"
    advertise: EndpointText | None = None


class ApiSection(_Section):
    """Where the REST and WebSocket API listens; only on this machine unless told otherwise."""

    listen: EndpointText = "127.0.0.1:8001"


class TaskSection(_Section):
    """A built-in task's name or `package.module:Class`, and whatever settings that task knows."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    settings: dict[str, Scalar] = {}


class TrainingSection(_Section):
    """How updates are encoded; `attack` makes a poisoner of this peer, for demonstrations."""

    codec: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")] = "int8"
    attack: Annotated[str, Field(pattern=r"^[a-z0-9:.-]{1,64}$")] | None = None


class WorkerSection(_Section):
    """Training and scoring processes: `socket` names a fork server that several peers of a machine share."""

    socket: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    nice: Annotated[int, Field(ge=0, le=19)] = 15


class LogSection(_Section):
    """Lines for people or as JSON, from which level on."""

    format: Literal["human", "json"] = "human"
    level: Literal["debug", "info", "warning", "error"] = "info"


class NodeConfig(_Section):
    """The whole of config.toml."""

    task: TaskSection
    peer: PeerSection = PeerSection()
    api: ApiSection = ApiSection()
    training: TrainingSection = TrainingSection()
    worker: WorkerSection = WorkerSection()
    log: LogSection = LogSection()
    limits: Limits = Limits()


def load_config(path: Path) -> NodeConfig:
    """Read config.toml; raises `NodeError` CONFIG naming the file, each wrong key and what is allowed there."""
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise NodeError(ExitCode.CONFIG, f"{path}: larger than {CONFIG_BYTES_MAX} bytes; this is no config.toml")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise NodeError(ExitCode.CONFIG, f"{path}: not valid TOML: {error}. Correct that place") from error
    except OSError as error:
        advice = "`fedchain-node init` makes one"
        raise NodeError(ExitCode.CONFIG, f"{path}: cannot be read: {error.strerror}. {advice}") from error
    return parse_config(table, str(path))


def parse_config(table: dict[str, object], where: str) -> NodeConfig:
    """The checked configuration of a parsed TOML table; raises `NodeError` CONFIG; `where` is the file's name."""
    try:
        return NodeConfig.model_validate(table)
    except ValidationError as error:
        problems = "; ".join(_problem(tuple(item["loc"]), item["type"], item["msg"]) for item in error.errors())
        raise NodeError(ExitCode.CONFIG, f"{where}: {problems}. Correct the file and start again") from error


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    key = ".".join(str(part) for part in location if part not in ("bool", "int", "float", "str"))
    if kind == "extra_forbidden":
        return f"unknown key {key!r}; allowed there: {', '.join(_allowed(location[:-1]))}"
    return f"{key!r}: {message[0].lower()}{message[1:]}"


def _allowed(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = NodeConfig
    for part in location:
        inner = model.model_fields[str(part)].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return sorted(model.model_fields)


_COMMENTS = {
    "peer": "Where the other members reach this peer. `advertise` if genesis names another address than `listen`.",
    "api": "The REST API. Keep it on 127.0.0.1 unless a firewall or proxy stands before it.",
    "task": 'What is learned: a built-in task, or your own as "package.module:Class".',
    "task.settings": "Whatever the task knows, such as a data folder.",
    "training": "How updates are encoded on their way: int8 (small) or f32 (exact).",
    "worker": "Training and scoring run in processes of their own, at this niceness.",
    "log": 'format = "human" or "json"; level = "debug", "info", "warning" or "error".',
    "limits": "Limits of the network side; the defaults suit a consortium of tens of members.",
}


def config_text(config: NodeConfig) -> str:
    """config.toml with comments; only limits that differ from the defaults are written out."""
    lines = ["# The settings of this peer alone. What all members share stands in genesis.json."]
    for name, section in config.model_dump(exclude_none=True).items():
        values = dict(section)
        if name == "limits":
            defaults = Limits().model_dump()
            values = {key: value for key, value in values.items() if value != defaults[key]}
        settings = values.pop("settings", None)
        lines += _section_lines(name, values)
        if settings:
            lines += _section_lines("task.settings", settings)
    return "\n".join(lines) + "\n"


def _section_lines(name: str, values: dict[str, Scalar]) -> list[str]:
    entries = [f"{_key(key)} = {_toml(value)}" for key, value in values.items()]
    return ["", f"# {_COMMENTS[name]}", f"[{name}]", *entries]


def _key(key: str) -> str:
    return key if key.replace("_", "a").replace("-", "a").isalnum() and key.isascii() else _toml(key)


def _toml(value: Scalar) -> str:
    """A TOML scalar: JSON's strings are TOML's, but for the delete character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_config(path: Path, config: NodeConfig) -> None:
    """Write a new config.toml; an existing one is never overwritten (`NodeError` CONFIG)."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(config_text(config))
    except FileExistsError as error:
        raise NodeError(ExitCode.CONFIG, f"{path}: exists already. Edit it, or choose another home") from error
    except OSError as error:
        raise NodeError(ExitCode.CONFIG, f"{path}: cannot be written: {error.strerror}") from error

"""Logging of a peer: one line a record, for people or as JSON, on stderr; what a faulty peer can repeat is limited.

`Log` adds structured fields to the standard library's loggers: `log.info("round closed", round=3, accepted=4)`.
A warning that another peer can cause names that peer as `source`, and each (message, source) has a small budget: a
flood fills neither the disk nor the screen (A8).
"""

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Final, Literal, TextIO

from node.log_flood import FloodFilter, get_fields

LogFormat = Literal["human", "json"]
FIELD_CHARS_MAX: Final = 200
_LEVELS: Final = ("debug", "info", "warning", "error")


class Log:
    """A logger with structured fields; `bind` returns one that adds the same fields each time."""

    def __init__(self, name: str, bound: Mapping[str, object] | None = None) -> None:
        self._logger = logging.getLogger(name)
        self._bound = dict(bound or {})

    def bind(self, **fields: object) -> "Log":
        """Return a log that adds `fields` to every record."""
        return Log(self._logger.name, {**self._bound, **fields})

    def debug(self, message: str, /, **fields: object) -> None:
        """What only a developer wants to know."""
        self._write(logging.DEBUG, message, None, fields)

    def info(self, message: str, /, **fields: object) -> None:
        """What an operator likes to see."""
        self._write(logging.INFO, message, None, fields)

    def warning(self, message: str, /, *, source: str | None = None, **fields: object) -> None:
        """What is wrong though the peer goes on; `source` names the peer that can cause it again and again."""
        self._write(logging.WARNING, message, source, fields)

    def error(self, message: str, /, *, exc_info: BaseException | None = None, **fields: object) -> None:
        """What an operator has to do something about."""
        self._write(logging.ERROR, message, None, fields, exc_info)

    def _write(
        self,
        level: int,
        message: str,
        source: str | None,
        fields: Mapping[str, object],
        exc_info: BaseException | None = None,
    ) -> None:
        if self._logger.isEnabledFor(level):
            named = {**self._bound, **fields, **({} if source is None else {"source": source})}
            extra = {"fields": named, "source": source}
            # passed as an argument: a "%" in the message stays one
            self._logger.log(level, "%s", message, exc_info=exc_info, extra=extra)


def get_log(name: str) -> Log:
    """Return the log of a module: `get_log(__name__)`."""
    return Log(name)


class HumanFormatter(logging.Formatter):
    """`12:34:56.789 INFO  node.loop round closed round=3 accepted=4`, local time."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback below it where there is one."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        head = f"{clock}.{int(record.msecs):03d} {record.levelname:<7} {record.name} {_one_line(record.getMessage())}"
        fields = "".join(f" {name}={_show(value)}" for name, value in (get_fields(record) or {}).items())
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info and record.exc_info[0] else ""
        return head + fields + trace


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC, RFC 3339), `level`, `logger`, `message`, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; fields never replace the four names above."""
        time_utc = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{time_utc}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in (get_fields(record) or {}).items():
            line.setdefault(name, _plain(value))
        if record.exc_info and record.exc_info[0]:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def setup_logging(
    log_format: LogFormat = "human",
    level: str = "info",
    stream: TextIO | None = None,
    flood_filter: FloodFilter | None = None,
) -> None:
    """Send every record to `stream` (stderr by default); replaces what an earlier call set up.

    Raises ValueError for an unknown format or level.
    """
    if log_format not in ("human", "json"):
        raise ValueError(f"unknown log format {log_format!r}: use human or json")
    if level not in _LEVELS:
        raise ValueError(f"unknown log level {level!r}: use one of {', '.join(_LEVELS)}")
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else HumanFormatter())
    handler.addFilter(FloodFilter() if flood_filter is None else flood_filter)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # asyncio tells at debug level which selector it uses, aiohttp each request
    logging.getLogger("asyncio").setLevel(max(logging.INFO, root.level))
    logging.getLogger("aiohttp").setLevel(max(logging.INFO, root.level))


def _one_line(text: str) -> str:
    """Escape what isn't printable: a peer's bytes never start a line of their own or move the cursor."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _shorten(text: str) -> str:
    return text if len(text) <= FIELD_CHARS_MAX else f"{text[:FIELD_CHARS_MAX]}...({len(text)} chars)"


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)  # JSON has neither
    return _shorten(value.hex() if isinstance(value, bytes) else str(value))


def _show(value: object) -> str:
    plain = _plain(value)
    if isinstance(plain, float):
        return f"{plain:.6g}"
    text = _one_line(str(plain))
    return json.dumps(text) if not text or " " in text or '"' in text else text

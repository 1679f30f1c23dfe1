"""The lines that a peer writes: for people, and as JSON."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from node.log_flood import FloodFilter, RateLimiter
from node.logs import FIELD_CHARS_MAX, LogFormat, get_log, setup_logging


@pytest.fixture(autouse=True)
def _root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def set_up(log_format: LogFormat, level: str = "info", **options: FloodFilter) -> io.StringIO:
    stream = io.StringIO()
    setup_logging(log_format, level, stream, **options)
    return stream


def test_a_human_line_has_time_level_name_message_and_fields() -> None:
    stream = set_up("human")
    get_log("node.loop").info("round closed", round=3, accuracy=0.95, why="no more", tip=b"\xab")
    time, rest = stream.getvalue().split(" ", 1)
    assert len(time) == len("12:34:56.789")
    assert rest == 'INFO    node.loop round closed round=3 accuracy=0.95 why="no more" tip=ab\n'


def test_a_json_line_is_one_object_with_the_fields_beside_the_four_names() -> None:
    stream = set_up("json")
    get_log("node.loop").info("round closed", round=3, ratio=float("nan"), message_id=None, level="mine")
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "node.loop",
        "message": "round closed",
        "round": 3,
        "ratio": "nan",
        "message_id": None,
    }


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_another_peers_text_never_starts_a_line_or_sends_escapes(log_format: LogFormat) -> None:
    stream = set_up(log_format)
    get_log("x").info("hello\nworld", name="a\n12:00:00 INFO forged\x1b[2J")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_a_long_field_is_cut_and_says_how_long_it_was() -> None:
    stream = set_up("human")
    get_log("x").info("m", blob="a" * 5000)
    assert f"{'a' * FIELD_CHARS_MAX}...(5000 chars)" in stream.getvalue()
    assert len(stream.getvalue()) < 400


def test_a_percent_sign_in_a_message_stays_one() -> None:
    stream = set_up("human")
    get_log("x").info("100 %s sure")
    assert "100 %s sure" in stream.getvalue()


def test_bound_fields_come_with_every_record() -> None:
    stream = set_up("json")
    log = get_log("x").bind(peer="p1").bind(height=4)
    log.warning("odd", round=1)
    assert json.loads(stream.getvalue()).items() >= {"peer": "p1", "height": 4, "round": 1}.items()


def test_levels_below_the_chosen_one_are_not_written() -> None:
    stream = set_up("human", "warning")
    log = get_log("x")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["c", "d"]


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_an_error_carries_its_traceback(log_format: LogFormat) -> None:
    stream = set_up(log_format)
    try:
        raise KeyError("lost")
    except KeyError as error:
        get_log("x").error("broken", exc_info=error)
    assert "KeyError: 'lost'" in stream.getvalue()


def test_a_library_without_fields_is_written_too() -> None:
    stream = set_up("human")
    logging.getLogger("lib").warning("%d things", 3)
    assert "lib 3 things" in stream.getvalue()


def test_a_flood_from_a_faulty_peer_is_a_few_lines() -> None:
    """A8: a fault of a peer costs that peer, not our disk."""
    never = RateLimiter(5, 0, clock=lambda: 0.0)
    stream = set_up("human", flood_filter=FloodFilter(never))
    for number in range(10_000):
        get_log("x").warning("bad frame", source="peer-7", number=number)
    assert stream.getvalue().count("\n") == 5


def test_setting_up_again_replaces_the_first_stream() -> None:
    first, second = set_up("human"), set_up("json")
    get_log("x").info("m")
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["message"] == "m"


@pytest.mark.parametrize(("log_format", "level"), [("xml", "info"), ("json", "loud")])
def test_an_unknown_format_or_level_is_refused(log_format: str, level: str) -> None:
    with pytest.raises(ValueError, match="unknown log"):
        setup_logging(log_format, level)  # type: ignore[arg-type]

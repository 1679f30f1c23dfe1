"""config.toml: written with comments, read back alike, and every mistake named with file, key and what is allowed."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.config import NodeConfig, TaskSection, config_text, load_config, parse_config, write_config
from node.errors import ExitCode, NodeError
from node.limits import MIB, Limits

FULL = """
[peer]
listen = "0.0.0.0:7001"
advertise = "clinic-a.example:7001"
[api]
listen = "127.0.0.1:8080"
[task]
name = "my_hospital.xray:XrayTask"
[task.settings]
folder = "/srv/images"
batch = 32
rate = 0.05
shuffle = true
[training]
codec = "f32"
attack = "sign-flip"
[worker]
socket = "fork.sock"
nice = 5
[log]
format = "json"
level = "debug"
[limits]
frame_bytes_max = 33554432
ban_s = 60
"""


def parsed(text: str, tmp_path: Path) -> NodeConfig:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_every_setting_is_read(tmp_path: Path) -> None:
    config = parsed(FULL, tmp_path)
    assert config.peer.advertise == "clinic-a.example:7001"
    assert config.task.settings == {"folder": "/srv/images", "batch": 32, "rate": 0.05, "shuffle": True}
    assert config.training.attack == "sign-flip"
    assert config.limits.frame_bytes_max == 32 * MIB
    assert config.limits.ban_s == 60.0


def test_only_the_task_is_needed(tmp_path: Path) -> None:
    config = parsed('[task]\nname = "digits"\n', tmp_path)
    assert (config.peer.listen, config.api.listen) == ("127.0.0.1:7001", "127.0.0.1:8001")
    assert (config.training.codec, config.worker.nice, config.log.format) == ("int8", 15, "human")
    assert config.limits == Limits()


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ["'task'", "required"]),
        ('[task]\nname = "d"\n[pear]\nlisten = "a:1"', ["unknown key 'pear'", "api, limits, log, peer, task"]),
        ('[task]\nname = "d"\n[peer]\nport = 1', ["unknown key 'peer.port'", "advertise, listen"]),
        ('[task]\nname = "d"\n[limits]\nframes = 1', ["unknown key 'limits.frames'", "frame_bytes_max"]),
        ('[task]\nname = "d"\n[peer]\nlisten = "7001"', ["'peer.listen'", "host:port"]),
        ('[task]\nname = "d"\n[peer]\nlisten = 7001', ["'peer.listen'", "valid string"]),
        ('[task]\nname = ""', ["'task.name'", "at least 1 character"]),
        ('[task]\nname = "d"\n[worker]\nnice = 20', ["'worker.nice'", "less than or equal to 19"]),
        ('[task]\nname = "d"\n[worker]\nnice = true', ["'worker.nice'", "valid integer"]),
        ('[task]\nname = "d"\n[log]\nformat = "xml"', ["'log.format'", "'human' or 'json'"]),
        ('[task]\nname = "d"\n[limits]\nban_s = -1', ["'limits.ban_s'", "greater than 0"]),
        ('[task]\nname = "d"\n[limits]\nban_s = inf', ["'limits.ban_s'"]),
        ('[task]\nname = "d"\n[training]\ncodec = "INT 8"', ["'training.codec'", "pattern"]),
        ('[task]\nname = "d"\n[task.settings]\nrate = nan', ["'task.settings.rate'"]),
        ('[task]\nname = "d"\n[task.settings]\nlist = [1]', ["'task.settings.list'"]),
        ("[task\nname = 1", ["not valid TOML", "line 1"]),
        ('[task]\nname = "a"\nname = "b"', ["not valid TOML"]),
    ],
)
def test_each_mistake_is_named_with_file_key_and_what_is_allowed(
    text: str, messages: list[str], tmp_path: Path
) -> None:
    with pytest.raises(NodeError) as error:
        parsed(text, tmp_path)
    assert error.value.exit_code is ExitCode.CONFIG
    for message in [str(tmp_path / "config.toml"), *messages]:
        assert message in str(error.value)


def test_several_mistakes_are_named_at_once() -> None:
    with pytest.raises(NodeError, match=r"'task\.name'.*'worker\.nice'"):
        parse_config({"task": {"name": 1}, "worker": {"nice": 99}}, "config.toml")


def test_a_file_that_is_missing_oversized_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="fedchain-node init"):
        load_config(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(NodeError, match="not valid TOML"):
        load_config(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_bytes(b"#" * (MIB + 1))
    with pytest.raises(NodeError, match="larger than"):
        load_config(tmp_path / "config.toml")


def test_a_written_config_reads_back_and_explains_itself(tmp_path: Path) -> None:
    config = parsed(FULL, tmp_path)
    path = tmp_path / "again.toml"
    write_config(path, config)
    assert load_config(path) == config
    text = path.read_text(encoding="utf-8")
    assert "# What is learned" in text
    assert "heartbeat_s" not in text


def test_an_existing_config_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(NodeError, match="exists already"):
        write_config(path, NodeConfig(task=TaskSection(name="digits")))
    assert path.read_text(encoding="utf-8") == "mine"
    with pytest.raises(NodeError, match="cannot be written"):
        write_config(tmp_path / "no" / "config.toml", NodeConfig(task=TaskSection(name="digits")))


SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=100)
@given(st.dictionaries(TEXTS.filter(bool), SCALARS | TEXTS, max_size=4))
def test_any_task_settings_survive_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, bool | int | float | str]
) -> None:
    path = tmp_path_factory.mktemp("config") / "config.toml"
    config = NodeConfig(task=TaskSection(name="digits", settings=values))
    path.write_text(config_text(config), encoding="utf-8", newline="\n")
    assert load_config(path) == config

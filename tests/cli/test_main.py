"""The command line as a whole: help, errors and exit codes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cli.main import COMMANDS, build_app
from node.errors import ExitCode
from tests.cli.helpers_cli import Command

ROOT = Path(__file__).resolve().parents[2]


def leaves(app: typer.Typer, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command below `app`, as the words that call it."""
    found = [(*prefix, str(info.name)) for info in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found += leaves(group.typer_instance, (*prefix, str(group.name)))
    return found


ALL = leaves(build_app())


def test_every_command_of_the_table_is_there() -> None:
    assert {words[0] for words in ALL} == set(COMMANDS)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_of_every_command_has_an_example_that_calls_it(command: Command, words: tuple[str, ...]) -> None:
    ran = command(*words, "--help")
    assert ran.code == 0
    assert f"Example: fedchain-node {' '.join(words)}" in " ".join(ran.out.split())


def test_help_lists_the_commands_and_imports_neither_network_nor_numbers() -> None:
    probe = (
        "import sys, cli.main; code = cli.main.run(['--help']); "
        "print(code, [name for name in ('torch', 'numpy', 'aiohttp', 'ledger.chain') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in COMMANDS)
    assert done.stdout.endswith("0 []\n")


def test_no_command_is_a_usage_error_that_shows_the_help(command: Command) -> None:
    ran = command()
    assert ran.code == ExitCode.USAGE
    assert "testnet" in ran.out + ran.err


def test_an_unknown_command_is_a_usage_error(command: Command) -> None:
    assert command("mine").code == ExitCode.USAGE


def test_the_version_is_printed(command: Command) -> None:
    assert re.fullmatch(r"fedchain-node (\d+\.\d+\.\d+|0\+source)\n", command("--version").out)


def test_an_error_is_one_line_on_stderr_and_no_traceback(command: Command, tmp_path: Path) -> None:
    ran = command("genesis", "check", tmp_path / "none.json")
    assert ran.code == ExitCode.GENESIS
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert "none.json" in ran.err


def test_debug_raises_the_error_itself(command: Command, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json"):
        command("--debug", "genesis", "check", tmp_path / "none.json")


def test_interruption_ends_with_code_130() -> None:
    probe = (
        "import os, signal, cli.main, cli.status\n"
        "def fetch(*_): os.kill(os.getpid(), signal.SIGINT)\n"
        "cli.status.fetch = fetch\n"
        "import sys; sys.argv = ['fedchain-node', 'status', '--api', 'http://x']\n"
        "cli.main.main()"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.INTERRUPTED
    assert done.stderr == "interrupted\n"


def documented_commands() -> list[tuple[str, ...]]:
    """`fedchain-node ...` lines of the README, as words up to the first option or file."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    found = re.findall(r"fedchain-node((?: [a-z][a-z-]*)+)", text)
    return [tuple(words.split()) for words in found]


def test_every_command_in_the_readme_exists() -> None:
    known = {words[:1] for words in ALL} | {words[:2] for words in ALL}
    unknown = [words for words in documented_commands() if words[:1] not in known]
    groups = {words[0] for words in ALL if len(words) > 1}
    unknown += [words for words in documented_commands() if words[0] in groups and words[:2] not in known]
    assert unknown == []

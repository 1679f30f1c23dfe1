"""Fixtures of the command line's tests."""

from pathlib import Path

import pytest

from node.home import Home
from tests.cli.helpers_cli import Command, make_chain_home


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `fedchain-node WORDS...` in this process."""
    return Command(capsys)


@pytest.fixture
def chain_home(tmp_path: Path) -> Home:
    """A stopped peer's home: three final rounds of one accepted and one rejected update."""
    return make_chain_home(tmp_path, rounds=3, reject=1)

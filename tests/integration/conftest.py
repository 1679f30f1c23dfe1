"""Fixtures of the tests with real processes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cli.testnet_plan import Plan
from tests.integration.helpers_network import Network
from tests.integration.helpers_processes import Machine

ROUNDS_MANY = 3000  # more than any test waits for

MakeNetwork = Callable[..., Network]


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The launcher and the fork server of this session."""
    with Machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture
def network(machine: Machine, tmp_path: Path) -> Iterator[MakeNetwork]:
    """Makes networks; whatever of them still runs at the end is killed."""
    with ExitStack() as stack:

        def make(**fields: Any) -> Network:
            plan = Plan(home=tmp_path / "net", **{"rounds": ROUNDS_MANY, **fields})
            return stack.enter_context(Network.make(machine, plan))

        yield make

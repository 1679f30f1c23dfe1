"""The five import packages have plain names, so nothing else that is installed may claim one of them."""

from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.guards.helpers_guards import PACKAGES, ROOT


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_claims_the_name(package: str) -> None:
    owners = {name.lower() for name in packages_distributions().get(package, [])}
    assert owners <= {"fedchain"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_under_test_is_the_one_of_this_checkout(package: str) -> None:
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    assert [Path(place).resolve() for place in spec.submodule_search_locations] == [ROOT / package]

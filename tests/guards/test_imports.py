"""Imports point downwards only; the cores are pure; torch stays in fl (docs: ARCHITECTURE, `[tool.importlinter]`)."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.guards.helpers_guards import PACKAGES, ROOT, imported_modules, imported_tops, python_files

# what each package may import of the five
ALLOWED = {
    "ledger": {"ledger"},
    "fl": {"fl"},
    "consensus": {"consensus", "ledger"},
    "node": {"node", "consensus", "fl", "ledger"},
    "cli": set(PACKAGES),
}
IMPURE = {"aiohttp", "asyncio", "datetime", "random", "secrets", "socket", "subprocess", "time", "torch", "uvloop"}


def offenders(package: str, forbidden: set[str]) -> list[str]:
    """`file imports name` for each import in `package` of a forbidden top-level name."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in python_files(package)
        for name in sorted(imported_tops(path.read_text(encoding="utf-8")) & forbidden)
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_packages_below_it(package: str) -> None:
    assert python_files(package), f"the package {package} is missing"
    assert offenders(package, set(PACKAGES) - ALLOWED[package]) == []


@pytest.mark.parametrize("package", ["ledger", "consensus"])
def test_a_core_imports_no_clock_loop_randomness_or_torch(package: str) -> None:
    assert offenders(package, IMPURE) == []


@pytest.mark.parametrize("package", ["ledger", "consensus", "node", "cli"])
def test_torch_is_imported_in_fl_only(package: str) -> None:
    assert offenders(package, {"torch"}) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_shipped_code_imports_no_tests(package: str) -> None:
    assert offenders(package, {"tests", "benchmarks", "pytest"}) == []


def test_the_import_contracts_of_pyproject_hold(tmp_path: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    command = [str(linter), "--no-logo", "--config", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_command_line_starts_without_loading_torch() -> None:
    # A peer's main process stays small because only forked workers load torch.
    probe = "import sys, cli.main; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "False"


def test_the_scanner_sees_every_form_of_import() -> None:
    source = "import a.b\nfrom c import d\ndef f():\n    import e\n    from .g import h\n"
    assert imported_modules(source) == {"a.b", "c", "c.d", "e"}
    assert imported_tops(source) == {"a", "c", "e"}

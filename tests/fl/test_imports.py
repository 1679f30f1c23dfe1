"""A peer's main process stays small: torch is imported by the modules that need it, and by no other."""

import subprocess
import sys

import pytest

LIGHT = ["fl.tensors", "fl.codecs", "fl.aggregation", "fl.jobs", "fl.task", "fl.attacks", "fl.idx", "fl.partition"]


@pytest.mark.parametrize("heavy", ["torch", "sklearn", "ledger", "consensus", "node", "cli"])
def test_the_light_modules_import_nothing_heavy_and_no_other_room(heavy: str) -> None:
    code = f"import sys, {', '.join(LIGHT)}; sys.exit({heavy!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

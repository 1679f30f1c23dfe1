"""What the guards share: where the sources are, and the names and rules that they are checked for."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ledger", "consensus", "fl", "node", "cli")
RULE_ID = re.compile(r"\b[HBRASY]\d{1,2}\b")
_BULLET = re.compile(r"^- (?:\*\*)?([HBRASY]\d{1,2})(?:\*\*)?(\s*\(planned\b[^)]*\))?(?=\s)")


def python_files(*folders: str, root: Path = ROOT) -> list[Path]:
    """Every Python file under the named top-level folders that exist, sorted."""
    return sorted(path for folder in folders for path in (root / folder).rglob("*.py"))


def project_files(root: Path = ROOT) -> list[Path]:
    """Every file that git tracks or would track; outside a git checkout, nothing."""
    listing = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    result = subprocess.run(listing, capture_output=True, check=False)
    if result.returncode != 0:
        return []
    names = result.stdout.decode().split("\0")
    return [root / name for name in names if name and (root / name).is_file()]


def imported_modules(source: str) -> set[str]:
    """Absolute dotted names that `source` imports anywhere, inside functions too.

    `from a import b` gives `a` and `a.b`, since b may be a module.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def imported_tops(source: str) -> set[str]:
    """Top-level packages that `source` imports."""
    return {name.partition(".")[0] for name in imported_modules(source)}


def prose(source: str) -> str:
    """The comments and strings (docstrings among them) of a Python source, in order."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join(token.string for token in tokens if token.type in (tokenize.COMMENT, tokenize.STRING))


def cited_rules(source: str) -> set[str]:
    """Rule numbers that stand in the comments and strings of a Python source; names do not count."""
    return set(RULE_ID.findall(prose(source)))


def rules(document: str) -> Iterator[tuple[str, bool]]:
    """Each rule bullet of a protocol document as (id, planned), in order.

    A rule is planned if `(planned...)` follows its id, or a line `Status: planned` stands above it in its section.
    """
    planned_section = False
    for line in document.splitlines():
        if line.startswith("#"):
            planned_section = False
        elif line.strip() == "Status: planned":
            planned_section = True
        elif bullet := _BULLET.match(line):
            yield bullet[1], planned_section or bullet[2] is not None


def oversized_functions(source: str, lines_max: int) -> list[tuple[str, int]]:
    """(name, lines) of every function in `source` that is longer than `lines_max`, decorators not counted."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > lines_max:
                found.append((node.name, lines))
    return found

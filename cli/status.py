"""`fedchain-node status`: one look at a running peer through its API."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.options import JsonOption, usage_error
from cli.output import print_json, print_table
from node.config import load_config
from node.errors import ExitCode, NodeError
from node.home import Home

TIMEOUT_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 8 << 20


def status(
    home: Annotated[Path | None, typer.Option("--home", envvar="FEDCHAIN_HOME", help="The peer's home.")] = None,
    api: Annotated[str | None, typer.Option("--api", help="Its API, e.g. http://127.0.0.1:8001.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a running peer for its tip, round, committee, role and costs.

    Example: fedchain-node status --home testnet/hospital-1
    """
    if api is None:
        if home is None:
            raise usage_error("say which peer: --home DIR or --api URL")
        api = f"http://{load_config(Home(home).config).api.listen}"
    found = fetch(api, "/v1/status")
    if as_json:
        print_json(found)
        return
    print_table(("peer", ""), [(name, _show(value)) for name, value in found.items() if name != "last_rounds"])


def fetch(api: str, path: str, timeout_s: float = TIMEOUT_S) -> dict[str, object]:
    """The JSON object at `path` of an API; raises `NodeError` NETWORK or USAGE."""
    url = (api if "://" in api else f"http://{api}").rstrip("/") + path
    if not url.startswith(("http://", "https://")):
        raise usage_error(f"--api {api}: write an address such as http://127.0.0.1:8001")
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            data = answer.read(ANSWER_BYTES_MAX)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        advice = "Is the peer running, and is this its API ([api] listen in config.toml)?"
        raise NodeError(ExitCode.NETWORK, f"{url}: no answer ({reason}). {advice}") from error
    return _parse(url, data)


def _parse(url: str, data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NodeError(ExitCode.NETWORK, f"{url}: the answer is no JSON object. Is this a FedChain peer's API?")
    return found


def _show(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(str(item)[:8] for item in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "-"
    return f"{value:.1f}" if isinstance(value, float) else value

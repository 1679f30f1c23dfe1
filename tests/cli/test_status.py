"""`status` against an API that answers well, badly or not at all."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from node.errors import ExitCode
from node.home import Home
from tests.cli.helpers_cli import Command

STATUS = {
    "name": "peer-0",
    "height": 9,
    "committee": ["ab" * 32],
    "faults": {"flood": 2},
    "last_rounds": [{"round": 1}],
}


@contextmanager
def serving(body: bytes, code: int = 200) -> Iterator[str]:
    """An HTTP server that gives one answer to everything; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body if self.path == "/v1/status" else b"")

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is logged."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_status_shows_what_the_peer_says(command: Command) -> None:
    with serving(json.dumps(STATUS).encode()) as api:
        assert command("status", "--api", f"http://{api}", "--json").json == STATUS
        shown = command("status", "--api", api)
    assert shown.code == 0
    assert "peer-0" in shown.out
    assert "flood 2" in shown.out
    assert "abababab" in shown.out


def test_status_of_a_home_asks_the_api_of_its_config(command: Command, chain_home: Home) -> None:
    with serving(json.dumps(STATUS).encode()) as api:
        chain_home.config.write_text(f'task.name = "digits"\n[api]\nlisten = "{api}"\n')
        assert command("status", "--home", chain_home.path, "--json").json["height"] == 9


def test_a_peer_that_does_not_run_is_a_network_error(command: Command) -> None:
    with serving(b"") as api:
        pass
    ran = command("status", "--api", api)
    assert ran.code == ExitCode.NETWORK
    assert api in ran.err


@pytest.mark.parametrize(("body", "code"), [(b"not json", 200), (b"[1]", 200), (b"{}", 500)])
def test_an_answer_that_is_no_status_is_a_network_error(command: Command, body: bytes, code: int) -> None:
    with serving(body, code) as api:
        ran = command("status", "--api", api)
    assert ran.code == ExitCode.NETWORK


def test_status_needs_to_know_which_peer(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDCHAIN_HOME", raising=False)
    assert command("status").code == ExitCode.USAGE
    assert command("status", "--api", "ftp://x").code == ExitCode.USAGE
    assert command("status", "--home", tmp_path).code == ExitCode.CONFIG


def test_an_unknown_key_in_the_config_is_named(command: Command, chain_home: Home) -> None:
    chain_home.config.write_text('task.name = "digits"\ncolour = "blue"\n')
    ran = command("status", "--home", chain_home.path)
    assert ran.code == ExitCode.CONFIG
    assert "'colour'" in ran.err

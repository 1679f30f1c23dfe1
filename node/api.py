"""The HTTP interface for people and machines that watch a peer: `/livez`, `/readyz`, `/v1/status`.

Read-only JSON on 127.0.0.1 unless told otherwise. An error is {"error": {"code", "message"}}.
"""

import errno
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Final, Protocol, Self

from aiohttp import web

from node.errors import ExitCode, NodeError
from node.logs import get_log

HOST_DEFAULT: Final = "127.0.0.1"
BLOCKS_BEHIND_DEFAULT: Final = 2
BLOCKS_BEHIND_MAX: Final = 1_000_000
_HEADER_BYTES_MAX: Final = 4096
_CONNECTIONS_WAITING_MAX: Final = 64
_KEEPALIVE_S: Final = 15.0
_CLOSE_LIMIT_S: Final = 1.0

_log = get_log(__name__)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Status:
    """One look at a peer. Keys, hashes and ids are lower-case hexadecimal."""

    member: str
    name: str
    chain: str
    height: int  # of the last final block
    tip: str  # its hash
    state_root: str
    round: int
    phase: str
    committee: list[str]
    trainers: list[str]
    role: str
    peers_connected: int
    peers_known: int
    model: str  # blob id of the global model
    syncing: bool
    behind_blocks: int
    sent_bytes: int
    received_bytes: int
    cpu_s: float
    rss_mb: float
    loop_stall_max_ms: float  # wall time, waits for a core included
    loop_own_max_ms: float  # without them: what this process itself caused
    faults: dict[str, int]  # how often other peers broke which rule (A8)
    last_rounds: list[dict[str, object]]


class StatusSource(Protocol):
    """Whoever knows how the peer is; asked in the event loop, so it must be quick."""

    def status(self) -> Status:
        """Return how the peer is now."""
        ...


class ApiServer:
    """Serves one peer's status from `start` to `close`."""

    def __init__(self, source: StatusSource, port: int, host: str = HOST_DEFAULT) -> None:
        """`port` 0 takes a free one."""
        self._source = source
        self._address = (host, port)
        self._runner = web.AppRunner(
            make_app(source),
            access_log=None,
            handle_signals=False,
            keepalive_timeout=_KEEPALIVE_S,
            max_line_size=_HEADER_BYTES_MAX,
            max_field_size=_HEADER_BYTES_MAX,
            shutdown_timeout=_CLOSE_LIMIT_S,
        )

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def start(self) -> None:
        """Listen; raises `NodeError` (PORT_IN_USE, CONFIG)."""
        host, port = self._address
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, backlog=_CONNECTIONS_WAITING_MAX).start()
        except OSError as error:
            await self._runner.cleanup()
            raise _to_node_error(error, host, port) from error

    @property
    def port(self) -> int:
        """The port that it listens on, after `start`."""
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Listen no more and end open connections."""
        await self._runner.cleanup()


def make_app(source: StatusSource) -> web.Application:
    """Return the application, for a server or a test."""

    async def get_live(request: web.Request) -> web.Response:
        _check_query(request, set())
        return _reply(200, {"live": True})

    async def get_ready(request: web.Request) -> web.Response:
        _check_query(request, {"max_blocks_behind"})
        allowed = _read_count(request, "max_blocks_behind", BLOCKS_BEHIND_DEFAULT, BLOCKS_BEHIND_MAX)
        status = source.status()
        reason = explain_unready(status, allowed)
        body = {"ready": reason is None, "height": status.height, "behind_blocks": status.behind_blocks}
        return _reply(200 if reason is None else 503, {**body, "reason": reason})

    async def get_status(request: web.Request) -> web.Response:
        _check_query(request, set())
        return _reply(200, asdict(source.status()))

    app = web.Application(middlewares=[_answer_errors], client_max_size=0)
    app.router.add_get("/livez", get_live)
    app.router.add_get("/readyz", get_ready)
    app.router.add_get("/v1/status", get_status)
    return app


def explain_unready(status: Status, blocks_behind_max: int) -> str | None:
    """Return why the peer isn't ready, or None where it is."""
    if status.behind_blocks > blocks_behind_max:
        return f"{status.behind_blocks} blocks behind; at most {blocks_behind_max} are allowed"
    if status.syncing and status.behind_blocks == 0:
        return "syncing, and how far behind is not known yet"
    return None


@web.middleware
async def _answer_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn every refusal into JSON; a bug of ours is logged and costs one answer."""
    try:
        return await handler(request)
    except _BadRequestError as error:
        return _refuse(400, "bad-parameter", str(error))
    except web.HTTPNotFound:
        return _refuse(404, "unknown-path", "there are /livez, /readyz?max_blocks_behind=N and /v1/status")
    except web.HTTPMethodNotAllowed:
        return _refuse(405, "method-not-allowed", f"{request.path} can only be read: use GET")
    except web.HTTPException as error:
        return _refuse(error.status, "refused", error.reason)
    except Exception as error:
        _log.error("API request failed", path=request.path, exc_info=error)
        return _refuse(500, "internal", "an error of the peer itself; its log tells more")


class _BadRequestError(Exception):
    """A parameter that cannot be; the message says which and what is allowed."""


def _check_query(request: web.Request, known: set[str]) -> None:
    for name in request.query:
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise _BadRequestError(f"unknown parameter {name[:40]!r} of {request.path}; known: {allowed}")
        if len(request.query.getall(name)) != 1:
            raise _BadRequestError(f"parameter {name!r} is given more than once")


def _read_count(request: web.Request, name: str, default: int, count_max: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    # int() would also take signs, spaces, underscores and the digits of other scripts
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(count_max)) and int(text) <= count_max):
        raise _BadRequestError(f"{name} must be a whole number from 0 to {count_max}, not {text[:40]!r}")
    return int(text)


def _reply(status: int, body: dict[str, object]) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, text=json.dumps(body), content_type="application/json", headers=headers)


def _refuse(status: int, code: str, message: str) -> web.Response:
    return _reply(status, {"error": {"code": code, "message": message}})


def _to_node_error(error: OSError, host: str, port: int) -> NodeError:
    if error.errno == errno.EADDRINUSE:
        advice = "end the process that holds it (is this peer running already?), or set another API port in config.toml"
        return NodeError(ExitCode.PORT_IN_USE, f"API port {port} on {host} is in use: {advice}")
    advice = "set the API's host and port in config.toml to an address of this machine and a free port"
    return NodeError(ExitCode.CONFIG, f"the API cannot listen on {host}:{port} ({error.strerror or error}): {advice}")

"""What a peer answers over HTTP to whoever watches it."""

import dataclasses
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from node.api import BLOCKS_BEHIND_DEFAULT, ApiServer, Status, explain_unready, make_app
from node.errors import ExitCode, NodeError

STATUS = Status(
    member="ab" * 32,
    name="peer-0",
    chain="digits-testnet",
    height=25,
    tip="cd" * 32,
    state_root="ef" * 32,
    round=5,
    phase="train",
    committee=["ab" * 32],
    trainers=["01" * 32, "02" * 32],
    role="committee",
    peers_connected=7,
    peers_known=8,
    model="ee" * 32,
    syncing=False,
    behind_blocks=0,
    sent_bytes=1000,
    received_bytes=2000,
    cpu_s=1.5,
    rss_mb=70.5,
    loop_stall_max_ms=12.5,
    loop_own_max_ms=3.5,
    faults={"bad-signature": 2},
    last_rounds=[{"round": 4, "height": 25, "accuracy": 0.91}],
)


class Source:
    """A peer whose state a test sets."""

    def __init__(self) -> None:
        self.value = STATUS
        self.broken = False

    def status(self) -> Status:
        if self.broken:
            raise RuntimeError("not today")
        return self.value

    def set(self, **changes: object) -> None:
        self.value = dataclasses.replace(STATUS, **changes)  # type: ignore[arg-type]


Client = TestClient[web.Request, web.Application]


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def client(source: Source) -> AsyncIterator[Client]:
    async with TestClient(TestServer(make_app(source))) as client:
        yield client


async def test_it_is_live_while_the_loop_runs(client: Client) -> None:
    response = await client.get("/livez")
    assert (response.status, await response.json()) == (200, {"live": True})


async def test_the_status_is_every_field_as_json(client: Client) -> None:
    response = await client.get("/v1/status")
    assert response.status == 200
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert await response.json() == dataclasses.asdict(STATUS)


async def test_a_peer_at_the_tip_is_ready(client: Client) -> None:
    response = await client.get("/readyz")
    assert response.status == 200
    assert await response.json() == {"ready": True, "height": 25, "behind_blocks": 0, "reason": None}


async def test_a_peer_too_far_behind_is_not_ready_and_says_why(client: Client, source: Source) -> None:
    source.set(behind_blocks=10, syncing=True)
    response = await client.get("/readyz", params={"max_blocks_behind": "9"})
    assert response.status == 503
    assert (await response.json())["reason"] == "10 blocks behind; at most 9 are allowed"
    assert (await client.get("/readyz", params={"max_blocks_behind": "10"})).status == 200


def test_a_sync_of_unknown_length_is_not_ready() -> None:
    status = dataclasses.replace(STATUS, syncing=True)
    assert explain_unready(status, BLOCKS_BEHIND_DEFAULT) == "syncing, and how far behind is not known yet"


@pytest.mark.parametrize("value", ["", "-1", "+1", "1.5", "ten", "1000001", "9" * 500, "1_0", " 1", "\u0663"])
async def test_a_bad_number_is_refused_with_what_is_allowed(client: Client, value: str) -> None:
    response = await client.get("/readyz", params={"max_blocks_behind": value})
    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (400, "bad-parameter")
    assert "max_blocks_behind must be a whole number from 0 to 1000000" in error["message"]
    assert len(error["message"]) < 200


async def test_a_parameter_given_twice_is_refused(client: Client) -> None:
    response = await client.get("/readyz?max_blocks_behind=1&max_blocks_behind=2")
    assert response.status == 400
    assert "more than once" in (await response.json())["error"]["message"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/status"])
async def test_an_unknown_parameter_is_refused(client: Client, path: str) -> None:
    response = await client.get(path, params={"verbose": "1"})
    assert response.status == 400
    assert "unknown parameter 'verbose'" in (await response.json())["error"]["message"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/status", "/livez/", "/..%2fetc"])
async def test_an_unknown_path_is_answered_with_the_known_ones(client: Client, path: str) -> None:
    response = await client.get(path)
    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (404, "unknown-path")
    assert "/v1/status" in error["message"]


async def test_nothing_can_be_written(client: Client) -> None:
    response = await client.post("/v1/status", json={"height": 1})
    assert response.status == 405
    assert "use GET" in (await response.json())["error"]["message"]


async def test_a_bug_of_ours_costs_one_answer_and_hides_its_details(client: Client, source: Source) -> None:
    source.broken = True
    response = await client.get("/v1/status")
    assert response.status == 500
    assert "not today" not in await response.text()
    assert (await client.get("/livez")).status == 200


async def test_a_server_listens_on_loopback_until_it_is_closed(source: Source) -> None:
    async with ApiServer(source, port=0) as server, ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{server.port}/livez") as response:
            assert response.status == 200
        port = server.port
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_port_in_use_is_an_error_with_a_number_and_advice(source: Source) -> None:
    async with ApiServer(source, port=0) as first:
        with pytest.raises(NodeError, match=f"API port {first.port} on 127.0.0.1 is in use") as caught:
            await ApiServer(source, first.port).start()
    assert caught.value.exit_code is ExitCode.PORT_IN_USE


async def test_an_address_of_another_machine_is_a_configuration_error(source: Source) -> None:
    with pytest.raises(NodeError, match=r"cannot listen on 192\.0\.2\.1") as caught:
        await ApiServer(source, 0, host="192.0.2.1").start()  # TEST-NET-1: nobody's address
    assert caught.value.exit_code is ExitCode.CONFIG

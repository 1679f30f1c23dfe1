"""Real TLS on loopback: links, frames, faults and bans (A8), strangers and doubles (A7)."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from node.errors import ExitCode, NodeError
from node.limits import MIB
from node.tls import TlsIdentity
from node.transport_link import bundle
from node.wire import Goodbye, Hello, decode, encode
from tests.node.helpers_net import (
    CHAIN,
    QUICK,
    WAIT_S,
    Logged,
    Member,
    Recorder,
    connected_pair,
    logged,
    make_members,
    make_transport,
    running,
)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    return make_members(tmp_path_factory.mktemp("keys"), 3)


@pytest.fixture
def lines() -> Iterator[Logged]:
    with logged() as handler:
        yield handler


async def said_by_server(port: int, identity: TlsIdentity, messages: Sequence[bytes]) -> list[bytes]:
    """What a server answers to a dialler that sends raw WebSocket messages; the frames without their lengths."""
    answers: list[bytes] = []
    url = f"https://127.0.0.1:{port}/p2p/v1/stream"
    async with (
        asyncio.timeout(WAIT_S),
        aiohttp.ClientSession() as session,
        session.ws_connect(url, ssl=identity.client_context, compress=0) as stream,
    ):
        for message in messages:
            await stream.send_bytes(message)
        async for answer in stream:
            answers.append(answer.data[4:])
    return answers


def identity_of(member: Member, members: Sequence[Member]) -> TlsIdentity:
    certificates = {m.key: m.peer.certificate for m in members}
    return TlsIdentity(member.files.transport_certificate, member.files.transport_key, certificates)


def hello_of(member: Member, chain: bytes = CHAIN) -> bytes:
    return bundle([encode(Hello(chain, member.key, 0))])


async def test_frames_arrive_in_order_in_both_directions(members: list[Member]) -> None:
    frames = [bytes([number % 251]) * (1 + number) for number in range(500)] + [b"x" * (2 * MIB)]
    async with connected_pair(members) as pair:
        for frame in frames:
            assert pair.low_side.send(pair.high.key, frame)
            pair.high_side.broadcast(frame)
        await pair.high_heard.until(lambda: len(pair.high_heard.frames[pair.low.key]) == len(frames))
        await pair.low_heard.until(lambda: len(pair.low_heard.frames[pair.high.key]) == len(frames))
        assert pair.high_heard.frames[pair.low.key] == frames
        assert pair.low_heard.frames[pair.high.key] == frames
        sent = pair.low_side.stats(pair.high.key)
        received = pair.high_side.stats(pair.low.key)
        assert sent.sent_messages == received.received_messages == len(frames) + 1
        assert received.received_bytes == sent.sent_bytes > 2 * MIB
        assert received.height == 7


async def test_a_whole_network_has_one_link_a_pair(members: list[Member]) -> None:
    ports: dict[bytes, int] = {}
    heard = {member.key: Recorder() for member in members}
    async with running(make_transport(members[2], members, ports), heard[members[2].key]) as third:
        ports[members[2].key] = third.port
        async with running(make_transport(members[1], members, ports), heard[members[1].key]) as second:
            ports[members[1].key] = second.port
            async with running(make_transport(members[0], members, ports), heard[members[0].key]) as first:
                for member in members:
                    recorder = heard[member.key]
                    await recorder.until(lambda recorder=recorder: len(recorder.log) == 2)  # type: ignore[misc]
                assert first.connected() == [members[1].key, members[2].key]
                assert third.connected() == [members[0].key, members[1].key]


async def test_sending_to_nobody_says_so_and_an_oversized_frame_of_mine_never_leaves(members: list[Member]) -> None:
    async with connected_pair(members, limits=QUICK.model_copy(update={"frame_bytes_max": 2048})) as pair:
        assert not pair.low_side.send(members[2].key, b"frame")
        assert not pair.low_side.send(pair.high.key, b"x" * 2049)
        assert pair.low_side.send(pair.high.key, b"x" * 2048)
        await pair.high_heard.until(lambda: bool(pair.high_heard.frames))
        assert pair.high_side.stats(pair.low.key).faults == 0


async def test_a_link_comes_back_after_the_other_side_restarts_on_its_port(members: list[Member]) -> None:
    low, high = members[:2]
    heard = Recorder()
    first = make_transport(high, members, {})
    await first.start(Recorder())
    async with running(make_transport(low, members, {high.key: first.port}), heard) as dialler:
        await heard.until(lambda: heard.ups(high.key) == 1)
        await first.stop()
        await heard.until(lambda: heard.downs(high.key) == 1)
        assert dialler.connected() == []
        again = make_transport(high, members, {}, listen=f"127.0.0.1:{first.port}")
        async with running(again, Recorder()):
            await heard.until(lambda: heard.ups(high.key) == 2)


async def test_a_started_peer_knocks_so_that_nobody_waits_for_the_end_of_a_backoff(members: list[Member]) -> None:
    low, high = members[:2]
    slow = QUICK.model_copy(update={"backoff_min_s": 3600.0, "backoff_max_s": 3600.0})
    heard = Recorder()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with running(make_transport(low, members, {high.key: port}, limits=slow), heard) as dialler:
        late = make_transport(high, members, {low.key: dialler.port}, listen=f"127.0.0.1:{port}")
        async with running(late, Recorder()):
            await heard.until(lambda: heard.ups(high.key) == 1)


async def test_a_port_in_use_is_an_error_with_its_own_exit_code(members: list[Member]) -> None:
    async with running(make_transport(members[0], members, {}), Recorder()) as first:
        second = make_transport(members[1], members, {}, listen=f"127.0.0.1:{first.port}")
        with pytest.raises(NodeError, match=r"port is in use.*\[peer\] listen") as error:
            await second.start(Recorder())
        assert error.value.exit_code is ExitCode.PORT_IN_USE
        await second.stop()


async def test_a_stranger_is_refused_by_its_certificate(members: list[Member], tmp_path: Path) -> None:
    (stranger,) = make_members(tmp_path, 1)
    async with running(make_transport(members[1], members, {}), Recorder()) as server:
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await said_by_server(server.port, identity_of(stranger, [*members, stranger]), [])
        assert server.strangers > 0
        assert server.connected() == []


async def test_a_stranger_at_a_members_endpoint_is_not_taken_for_the_member(
    members: list[Member], lines: Logged, tmp_path: Path
) -> None:
    low, high = members[:2]
    (stranger,) = make_members(tmp_path, 1)
    async with running(make_transport(stranger, [*members, stranger], {}), Recorder()) as impostor:
        heard = Recorder()
        dialler = make_transport(low, members, {high.key: impostor.port})
        async with running(dialler, heard):
            await lines.until("shows a stranger's certificate")
            assert heard.log == []


async def test_a_member_at_another_members_endpoint_is_named(members: list[Member], lines: Logged) -> None:
    low, middle, high = members
    async with running(make_transport(high, members, {}), Recorder()) as server:
        dialler = make_transport(low, members, {middle.key: server.port})
        async with running(dialler, Recorder()):
            await lines.until(f"{high.peer.name} ({high.key.hex()[:8]}) answers at its endpoint")
            assert dialler.connected() == []


async def test_an_endpoint_where_nobody_listens_is_logged_in_plain_words(members: list[Member], lines: Logged) -> None:
    low, high = members[:2]
    with socket.socket() as silent:  # bound, so that nobody else takes the port, and not listening
        silent.bind(("127.0.0.1", 0))
        dialler = make_transport(low, members, {high.key: silent.getsockname()[1]})
        async with running(dialler, Recorder()):
            await lines.until("'reason': 'Connection refused'")


async def test_an_endpoint_that_leads_back_to_this_peer_is_named(members: list[Member], lines: Logged) -> None:
    low, high = members[:2]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dialler = make_transport(low, members, {high.key: port}, listen=f"127.0.0.1:{port}")
    async with running(dialler, Recorder()):
        await lines.until("leads back to this peer itself")


async def test_a_peer_of_another_chain_is_told_so(members: list[Member]) -> None:
    async with running(make_transport(members[1], members, {}), Recorder()) as server:
        answers = await said_by_server(server.port, identity_of(members[0], members), [hello_of(members[0], bytes(32))])
        goodbye = decode(answers[-1])
        assert isinstance(goodbye, Goodbye)
        assert "another chain" in goodbye.reason
        assert "genesis" in goodbye.reason
        assert server.stats(members[0].key).faults == 0


async def test_two_chains_never_connect(members: list[Member], lines: Logged) -> None:
    low, high = members[:2]
    async with running(make_transport(high, members, {}), Recorder()) as server:
        other = make_transport(low, members, {high.key: server.port}, chain=bytes(32))
        async with running(other, Recorder()):
            await lines.until("refused: another chain")
            assert server.connected() == other.connected() == []


async def test_a_hello_of_another_member_and_a_higher_key_that_dials_are_refused(members: list[Member]) -> None:
    low, middle, high = members
    async with running(make_transport(middle, members, {}), Recorder()) as server:
        answers = await said_by_server(server.port, identity_of(low, members), [hello_of(high)])
        goodbye = decode(answers[-1])
        assert isinstance(goodbye, Goodbye)
        assert "another member than the certificate" in goodbye.reason
        answers = await said_by_server(server.port, identity_of(high, members), [])
        goodbye = decode(answers[-1])
        assert isinstance(goodbye, Goodbye)
        assert "lower member key dials" in goodbye.reason


async def test_my_own_key_at_the_other_end_is_refused_with_the_reason(members: list[Member]) -> None:
    async with running(make_transport(members[1], members, {}), Recorder()) as server:
        answers = await said_by_server(server.port, identity_of(members[1], members), [])
        goodbye = decode(answers[-1])
        assert isinstance(goodbye, Goodbye)
        assert "my own key" in goodbye.reason


async def test_of_two_peers_with_one_key_the_first_that_answers_stays(members: list[Member]) -> None:
    async with connected_pair(members) as pair:
        answers = await said_by_server(pair.high_side.port, identity_of(pair.low, members), [hello_of(pair.low)])
        goodbye = decode(answers[-1])
        assert isinstance(goodbye, Goodbye)
        assert "two peers run with one key" in goodbye.reason
        assert pair.high_side.connected() == [pair.low.key]
        assert pair.high_heard.downs(pair.low.key) == 0


async def test_a_dead_connection_makes_room_for_a_new_one(members: list[Member]) -> None:
    low, high = members[:2]
    limits = QUICK.model_copy(update={"answer_timeout_s": 0.05})
    heard = Recorder()
    url = "https://127.0.0.1:{}/p2p/v1/stream"
    async with (
        running(make_transport(high, members, {}, limits=limits), heard) as server,
        aiohttp.ClientSession() as session,
    ):
        context = identity_of(low, members).client_context
        # A dialler that never reads answers no ping, as one whose machine has vanished.
        dead = await session.ws_connect(url.format(server.port), ssl=context, autoping=False, compress=0)
        await dead.send_bytes(hello_of(low))
        await heard.until(lambda: heard.ups(low.key) == 1)
        async with session.ws_connect(url.format(server.port), ssl=context, compress=0) as fresh:
            await fresh.send_bytes(hello_of(low))
            await heard.until(lambda: heard.ups(low.key) == 2)
            assert heard.log == [("up", low.key), ("down", low.key), ("up", low.key)]
        await dead.close()


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (b"\x00\x00", "truncated bundle"),
        (b"\x00\x00\x00\x09abc", "truncated frame"),
        (b"\x00\x00\x00\x00", "frame of 0 bytes"),
        (b"\xff\xff\xff\xff", "frame of 4294967295 bytes"),
        (b"x" * (2048 + 65_536 + 1), "too long"),
    ],
)
async def test_garbage_is_a_fault_of_the_sender_and_stops_nobody(
    members: list[Member], lines: Logged, message: bytes, what: str
) -> None:
    limits = QUICK.model_copy(update={"frame_bytes_max": 2048})
    heard = Recorder()
    async with running(make_transport(members[1], members, {}, limits=limits), heard) as server:
        identity = identity_of(members[0], members)
        await said_by_server(server.port, identity, [hello_of(members[0]), message])
        await lines.until(what)
        await heard.until(lambda: heard.downs(members[0].key) == 1)
        assert server.stats(members[0].key).faults == 1
        await said_by_server(server.port, identity, [message])
        await heard.until(lambda: server.stats(members[0].key).faults == 2)


async def test_a_flood_of_messages_is_a_fault(members: list[Member]) -> None:
    limits = QUICK.model_copy(update={"messages_per_s_max": 0.001, "messages_burst_max": 100})
    async with connected_pair(members, high_limits=limits) as pair:
        for _ in range(200):
            pair.low_side.send(pair.high.key, b"spam")
        await pair.high_heard.until(lambda: pair.high_heard.downs(pair.low.key) == 1)
        assert pair.high_side.stats(pair.low.key).faults >= 1
        assert len(pair.high_heard.frames[pair.low.key]) <= 100


async def test_repeated_faults_ban_the_member_and_nobody_else(members: list[Member]) -> None:
    limits = QUICK.model_copy(update={"faults_max": 3})
    async with connected_pair(members, limits=limits) as pair:
        for _ in range(2):
            pair.high_side.fault(pair.low.key, "a bad signature")
        assert pair.high_side.connected() == [pair.low.key]
        pair.high_side.fault(pair.low.key, "a bad signature")
        assert pair.high_side.connected() == []
        assert pair.high_side.banned_for_s(pair.low.key) > 0
        assert pair.high_side.stats(pair.low.key).bans == 1
        await pair.low_heard.until(lambda: pair.low_heard.downs(pair.high.key) == 1)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await said_by_server(pair.high_side.port, identity_of(pair.low, members), [])
        pair.high_side.fault(b"nobody", "is no member and changes nothing")


async def test_a_full_send_queue_drops_its_oldest_frames_and_counts_them(members: list[Member]) -> None:
    limits = QUICK.model_copy(update={"queue_messages_max": 10})
    async with connected_pair(members, limits=limits) as pair:
        for number in range(30):
            assert pair.low_side.send(pair.high.key, bytes([number + 1]))
        await pair.high_heard.until(lambda: len(pair.high_heard.frames[pair.low.key]) == 10)
        assert pair.high_heard.frames[pair.low.key] == [bytes([number + 1]) for number in range(20, 30)]
        assert pair.low_side.stats(pair.high.key).dropped_messages == 20


async def test_members_can_change_while_the_transport_runs(members: list[Member]) -> None:
    _, high, late = members
    async with connected_pair(members[:2]) as pair:
        heard = Recorder()
        async with running(make_transport(late, members, {}), heard) as newcomer:
            ports = {high.key: pair.high_side.port, late.key: newcomer.port}
            everyone = {m.key: replace(m.peer, endpoint=f"127.0.0.1:{ports.get(m.key, 1)}") for m in members}
            pair.low_side.set_members(everyone)  # S4
            await pair.low_heard.until(lambda: pair.low_heard.ups(late.key) == 1)
            del everyone[high.key]
            pair.low_side.set_members(everyone)
            await pair.low_heard.until(lambda: pair.low_heard.downs(high.key) == 1)
            assert pair.low_side.connected() == [late.key]


async def test_a_peer_that_answers_no_heartbeat_is_disconnected(members: list[Member]) -> None:
    low, high = members[:2]
    heard = Recorder()
    limits = QUICK.model_copy(update={"heartbeat_s": 0.05})
    async with (
        running(make_transport(high, members, {}, limits=limits), heard) as server,
        aiohttp.ClientSession() as web,
    ):
        url = f"https://127.0.0.1:{server.port}/p2p/v1/stream"
        dead = await web.ws_connect(url, ssl=identity_of(low, members).client_context, autoping=False, compress=0)
        await dead.send_bytes(hello_of(low))
        await heard.until(lambda: heard.log == [("up", low.key), ("down", low.key)])
        assert server.stats(low.key).faults == 0
        await dead.close()


async def test_heartbeats_are_answered_on_both_sides(members: list[Member]) -> None:
    limits = QUICK.model_copy(update={"heartbeat_s": 0.02})
    async with connected_pair(members, limits=limits) as pair:
        for side, other in ((pair.low_side, pair.high.key), (pair.high_side, pair.low.key)):
            link = side._board.link(other)
            assert link is not None
            for _ in range(20):
                assert await link.answers(WAIT_S)
        assert pair.low_heard.downs(pair.high.key) == pair.high_heard.downs(pair.low.key) == 0


class Failing(Recorder):
    """A handler with a bug."""

    def on_frame(self, member: bytes, frame: bytes) -> None:
        raise RuntimeError("a bug")


async def test_a_bug_of_the_handler_is_logged_and_the_member_is_dialled_again(
    members: list[Member], lines: Logged
) -> None:
    low, high = members[:2]
    heard, answering = Failing(), Recorder()
    async with running(make_transport(high, members, {}), answering) as server:
        dialler = make_transport(low, members, {high.key: server.port})
        async with running(dialler, heard):
            await answering.until(lambda: answering.ups(low.key) == 1)
            assert server.send(low.key, b"frame")
            await lines.until("handling a frame failed")
            await heard.until(lambda: heard.ups(high.key) == 2)


async def test_small_packets_are_not_held_back(members: list[Member]) -> None:
    async with connected_pair(members) as pair:
        for side, other in ((pair.low_side, pair.high.key), (pair.high_side, pair.low.key)):
            link = side._board.link(other)
            assert link is not None
            raw = link._socket.get_extra_info("socket")
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_stopping_does_not_wait_for_peers_that_answer_nothing(members: list[Member]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        ports = {member.key: silent.getsockname()[1] for member in members}
        transport = make_transport(members[1], members, ports)
        await transport.start(Recorder())
        async with asyncio.timeout(4):
            await transport.stop()

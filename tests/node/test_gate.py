"""A member's connections are limited: it cannot take every file descriptor of a peer (A8)."""

import asyncio
import resource

import pytest

from node.gate import CONNECTIONS_PER_MEMBER_MAX, allow_many_files
from node.tls import TlsIdentity
from tests.node.helpers_net import WAIT_S, Member, Recorder, make_members, make_transport, running

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    return make_members(tmp_path_factory.mktemp("keys"), 3)


async def knock(stream: Stream) -> bool:
    """Whether the server answers a request on this connection, and does not end it."""
    reader, writer = stream
    try:
        writer.write(b"GET /p2p/v1/knock HTTP/1.1\r\nHost: x\r\n\r\n")
        return (await reader.readline()).startswith(b"HTTP/1.1 204")
    except ConnectionError:
        return False


async def connect(member: Member, members: list[Member], port: int, count: int) -> list[Stream]:
    files = member.files
    certificates = {m.key: m.peer.certificate for m in members}
    context = TlsIdentity(files.transport_certificate, files.transport_key, certificates).client_context
    return [await asyncio.open_connection("127.0.0.1", port, ssl=context) for _ in range(count)]


async def close(streams: list[Stream]) -> None:
    for _, writer in streams:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in streams), return_exceptions=True)


async def test_connections_above_the_limit_are_cut_off_and_other_members_served(members: list[Member]) -> None:
    """A8: idle ones count too; one that ends makes room."""
    limit = CONNECTIONS_PER_MEMBER_MAX
    async with asyncio.timeout(WAIT_S), running(make_transport(members[0], members, {}), Recorder()) as server:
        idle = await connect(members[1], members, server.port, limit - 1)
        more = await connect(members[1], members, server.port, 2)
        assert [await knock(stream) for stream in more] == [True, False]
        others = await connect(members[2], members, server.port, 1)
        assert await knock(others[0])
        await close([*idle, *more])
        while True:  # the server hears of the ends a moment later
            again = await connect(members[1], members, server.port, 1)
            served = await knock(again[0])
            await close(again)
            if served:
                break
        await close(others)


def test_as_many_files_as_may_be_can_be_open() -> None:
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, most), most))
        allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))

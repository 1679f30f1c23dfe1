"""Blobs and batches over HTTPS: what is served, what is refused (B4), what is malformed (A8)."""

import asyncio
import threading
from pathlib import Path

import pytest
from aiohttp import web

from ledger.blobs import CHUNK_BYTES, BlobStore
from node.limits import MIB
from node.transport import FetchError, FetchKind
from tests.node.helpers_net import QUICK, Member, Recorder, connected_pair, make_members, make_transport, running


class Slow(Recorder):
    """Counts how many of its batches are being read at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._lock = threading.Lock()

    def serve_batches(self, member: bytes, height: int, bytes_max: int) -> list[bytes]:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        threading.Event().wait(0.02)  # as long as reading them takes
        with self._lock:
            self.now -= 1
        return []


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    return make_members(tmp_path_factory.mktemp("keys"), 2)


async def test_a_blob_of_one_chunk_costs_one_request(members: list[Member], tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    ref = store.put_bytes(b"a small update")
    async with connected_pair(members, store=store) as pair:
        head = await pair.low_side.fetch_head(pair.high.key, ref.blob, 4)
        assert head.first == b"a small update"
        assert head.digests == store.chunk_digests(ref.blob)
        assert pair.high_heard.asked == [("head", 0)]
        assert pair.high_side.stats(pair.low.key).sent_bytes > len(head.first)


async def test_a_blob_of_several_chunks_is_served_chunk_by_chunk(members: list[Member], tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    data = bytes(CHUNK_BYTES) + b"x" * CHUNK_BYTES + b"tail"
    ref = store.put_bytes(data)
    async with connected_pair(members, store=store) as pair:
        head = await pair.low_side.fetch_head(pair.high.key, ref.blob, 4)
        rest = [await pair.low_side.fetch_chunk(pair.high.key, ref.blob, index) for index in (1, 2)]
        assert head.first + b"".join(rest) == data
        with pytest.raises(FetchError) as error:
            await pair.low_side.fetch_chunk(pair.high.key, ref.blob, 3)
        assert error.value.kind is FetchKind.MISSING


async def test_the_dialled_side_fetches_from_the_dialler_too(members: list[Member], tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    ref = store.put_bytes(b"held by the lower key")
    low, high = members
    async with running(make_transport(low, members, {}), Recorder(store)) as low_side:
        high_side = make_transport(high, members, {low.key: low_side.port})
        async with running(high_side, Recorder()):
            head = await high_side.fetch_head(low.key, ref.blob, 1)
            assert head.first == b"held by the lower key"


async def test_what_is_missing_or_refused_is_told_apart(members: list[Member], tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    ref = store.put_bytes(b"secret until the slots are final")
    async with connected_pair(members, store=store) as pair:
        with pytest.raises(FetchError) as missing:
            await pair.low_side.fetch_head(pair.high.key, bytes(32), 4)
        pair.high_heard.refused = True  # B4
        with pytest.raises(FetchError, match="only the committee") as refused:
            await pair.low_side.fetch_chunk(pair.high.key, ref.blob, 0)
        assert (missing.value.kind, refused.value.kind) == (FetchKind.MISSING, FetchKind.REFUSED)


async def test_batches_come_as_they_are_stored(members: list[Member]) -> None:
    async with connected_pair(members) as pair:
        pair.high_heard.batches = [b"first batch", b"second batch" * 1000]
        assert await pair.low_side.fetch_batches(pair.high.key, 12) == pair.high_heard.batches
        assert pair.high_heard.asked == [("batches", 12)]


async def test_who_cannot_be_reached_or_is_no_member_is_said(members: list[Member]) -> None:
    transport = make_transport(members[0], members, {})
    with pytest.raises(FetchError) as early:
        await transport.fetch_chunk(members[1].key, bytes(32), 0)
    async with running(transport, Recorder()):
        with pytest.raises(FetchError) as away:
            await transport.fetch_chunk(members[1].key, bytes(32), 0)
        with pytest.raises(FetchError) as stranger:
            await transport.fetch_chunk(bytes(32), bytes(32), 0)
    kinds = (early.value.kind, away.value.kind, stranger.value.kind)
    assert kinds == (FetchKind.UNREACHABLE, FetchKind.UNREACHABLE, FetchKind.REFUSED)


async def test_a_banned_member_is_neither_served_nor_asked(members: list[Member]) -> None:
    async with connected_pair(members, limits=QUICK.model_copy(update={"faults_max": 1})) as pair:
        pair.high_side.fault(pair.low.key, "bad bytes")
        with pytest.raises(FetchError, match="banned") as served:
            await pair.low_side.fetch_batches(pair.high.key, 0)
        with pytest.raises(FetchError, match="banned") as asked:
            await pair.high_side.fetch_batches(pair.low.key, 0)
        assert served.value.kind is asked.value.kind is FetchKind.REFUSED


class Malformed:
    """A member whose port answers every GET with `body`."""

    def __init__(self, member: Member, members: list[Member], body: bytes) -> None:
        self._identity = make_transport(member, members, {})._tls
        self._body = body

    async def __aenter__(self) -> int:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(body=self._body)

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._identity.server_context)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\x00",
        b"\x00\x00\x00\x40" + bytes(32),
        b"\xff\xff\xff\xff" + bytes(64),
        bytes(4) + bytes(CHUNK_BYTES + 1),
        bytes(4 + 4 * 32 + CHUNK_BYTES + 1),
    ],
)
async def test_a_malformed_blob_head_is_a_fault_of_its_server(members: list[Member], body: bytes) -> None:
    low, high = members
    async with (
        Malformed(low, members, body) as port,
        running(make_transport(high, members, {low.key: port}), Recorder()) as asker,
    ):
        with pytest.raises(FetchError) as error:
            await asker.fetch_head(low.key, bytes(32), 4)
        assert error.value.kind is FetchKind.BAD
        assert asker.stats(low.key).faults == 1


@pytest.mark.parametrize(
    "body", [b"", b"\xc0", b"\x91\x01", b"\x91\xa1a", b"\x91\xc4\x01a\x00", b"\xdc\x00\x01\xc4\x01a"]
)
async def test_malformed_batches_are_a_fault_of_their_server(members: list[Member], body: bytes) -> None:
    low, high = members
    async with (
        Malformed(low, members, body) as port,
        running(make_transport(high, members, {low.key: port}), Recorder()) as asker,
    ):
        with pytest.raises(FetchError) as error:
            await asker.fetch_batches(low.key, 1)
        assert error.value.kind is FetchKind.BAD
        assert asker.stats(low.key).faults == 1


async def test_an_answer_without_end_is_cut_off(members: list[Member]) -> None:
    low, high = members
    body = bytes(2 * MIB)
    async with (
        Malformed(low, members, body) as port,
        running(make_transport(high, members, {low.key: port}), Recorder()) as asker,
    ):
        with pytest.raises(FetchError, match="longer than 1048576"):
            await asker.fetch_chunk(low.key, bytes(32), 0)


async def test_requests_of_batches_wait_for_each_other(members: list[Member]) -> None:
    """A8: encoding them takes the interpreter; many at once would stop the event loop."""
    low, high = members
    slow = Slow()
    async with (
        running(make_transport(low, members, {}), slow) as low_side,
        running(make_transport(high, members, {low.key: low_side.port}), Recorder()) as high_side,
    ):
        await asyncio.gather(*(high_side.fetch_batches(low.key, 1) for _ in range(6)))
    assert slow.most == 1

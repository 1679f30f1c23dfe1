"""A member with genuine keys that keeps no rule, and a stranger: it costs them, and nobody else (A8)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from ledger.codec import pack
from ledger.keys import public_bytes
from ledger.types import NO_SIGNATURE, PREVOTE, BlobRef, Offer, Score, Vote
from node.errors import ExitCode
from node.home import Home
from node.keyfiles import KeyFolder, load_member_key, new_keys
from node.limits import Limits
from node.wire import Frame, Goodbye, Hello, encode
from tests.integration.conftest import MakeNetwork
from tests.integration.helpers_chain import assert_one_history
from tests.integration.helpers_hostile import greeted, intrude
from tests.integration.helpers_network import Network
from tests.integration.helpers_processes import wait_for

pytestmark = pytest.mark.integration

PEERS, K = 5, 3
TRIES_MAX = 20
MESSAGES = {
    "too short for a length": b"\x00\x00",
    "a length that lies": b"\x00\x00\xff\xffabc",
    "an empty frame": bytes(4),
    "a frame too long": (1 << 31).to_bytes(4, "big") + bytes(64),
}
FRAMES = {
    "no msgpack": b"\xc1\xc1\xc1",
    "no array": b"\xa5hello",
    "another version": pack([9, 4]),
    "unknown tag": pack([1, 99]),
    "too few fields": pack([1, 4, 1]),
    "a claim of four billion items": b"\xdd\xff\xff\xff\xff",
    "deep nesting": b"\x91" * 2000 + b"\xc0",
}


@pytest.fixture
def besieged(network: MakeNetwork) -> tuple[Network, int]:
    """Four running peers of five; the fifth, whose lowest key lets it dial everybody, is the test's."""
    net = network(peers=PEERS, committee=1, round_length=K, deadline_ms=1_500)
    hostile = min(net.all, key=lambda index: net.net.peers[index].member_key)
    net.start(index for index in net.all if index != hostile)
    net.wait_height(K)
    return net, hostile


def total_faults(net: Network, index: int) -> int:
    """How many faults of others a peer has counted; its operator sees them in the status."""
    return sum(net.await_status(index)["faults"].values())


async def misbehave(
    net: Network, hostile: int, victim: int, messages: Sequence[bytes], frames: Sequence[Frame | bytes]
) -> None:
    """A connection with a correct Hello, and then none of it."""
    peer = net.net.peers[victim]
    async with greeted(net.home(hostile), net.net.peers[hostile].member_key, net.net.genesis, peer) as intruder:
        for message in messages:
            await intruder.send_message(message)
        for frame in frames:
            await intruder.send(frame)
        if messages:
            await intruder.await_end()


def expect_faults(net: Network, victim: int, at_least: int, what: str) -> None:
    wait_for(f"fault for {what}", lambda: total_faults(net, victim) >= at_least or None, 20, lambda: net.log(victim))


async def test_garbage_is_counted_then_banned_and_the_network_goes_on(besieged: tuple[Network, int]) -> None:
    """A8, S5: every kind of garbage is one fault; after faults_max of them the member is refused for a while."""
    net, hostile = besieged
    victim = net.running[0]
    count = total_faults(net, victim)
    misdeeds: list[tuple[str, list[bytes], list[Frame | bytes]]] = []
    misdeeds += [(what, [data], []) for what, data in MESSAGES.items()]
    misdeeds += [(what, [], [frame]) for what, frame in FRAMES.items()]
    me, chain = net.net.peers[hostile].member_key, net.net.genesis.chain_id
    hello = Hello(chain, me, 1)
    misdeeds += [("a second Hello", [], [hello])]
    assert len(misdeeds) > Limits().faults_max
    for number, (what, messages, frames) in enumerate(misdeeds[: Limits().faults_max], count + 1):
        await misbehave(net, hostile, victim, messages, frames)
        expect_faults(net, victim, number, what)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await misbehave(net, hostile, victim, [], [])
    assert refused.value.status == 403
    assert "peer banned" in (net.home(victim) / "peer.log").read_text()
    other = net.running[1]  # nobody else has a quarrel with it yet
    for what, messages, frames in misdeeds[Limits().faults_max :]:
        before = total_faults(net, other)
        await misbehave(net, hostile, other, messages, frames)
        expect_faults(net, other, before + 1, what)
    assert_goes_on(net)


def assert_goes_on(net: Network) -> None:
    """More rounds, the same chain everywhere, and clean ends."""
    net.wait_height(max(net.heights()) + 2 * K)
    running = net.running
    assert net.stop() == [ExitCode.OK] * len(running)
    assert_one_history([net.home(index) for index in running])


async def test_false_signed_messages_cost_their_sender(besieged: tuple[Network, int]) -> None:
    """A1, R2, R3: votes that nobody signed, an offer of another chain, a score from outside the committee."""
    net, hostile = besieged
    victim = net.running[0]
    key = load_member_key(Home(net.home(hostile)).keys.member_key)
    me, chain = public_bytes(key), net.net.genesis.chain_id
    someone = net.net.peers[victim].member_key
    status = net.await_status(victim)
    here, rounds = int(status["height"]), int(status["round"])
    unsigned = [Vote(chain, at, 0, PREVOTE, at, bytes(32), someone, NO_SIGNATURE) for at in range(here, here + 30)]
    offer = Offer(chain, rounds, me, bytes(32), BlobRef(bytes(32), 1), bytes(32), 1, "int8", bytes(32))
    before = total_faults(net, victim)
    await misbehave(net, hostile, victim, [], [*unsigned])
    expect_faults(net, victim, before + 1, "unsigned votes")
    other = net.running[1]
    before = total_faults(net, other)
    await misbehave(net, hostile, other, [], [replace(offer, chain=bytes(32)).signed(key)])
    expect_faults(net, other, before + 1, "an offer of another chain")
    await score_from_outside(net, hostile, net.running[2])
    assert_goes_on(net)


async def score_from_outside(net: Network, hostile: int, victim: int) -> None:
    """Scores of a round in whose committee their signer does not sit, tried until one comes in its round."""
    key = load_member_key(Home(net.home(hostile)).keys.member_key)
    me, chain = public_bytes(key), net.net.genesis.chain_id
    before = total_faults(net, victim)
    for _ in range(TRIES_MAX):
        status = net.await_status(victim)
        if me.hex() not in status["committee"]:
            rounds = range(status["round"], status["round"] + 2)
            await misbehave(net, hostile, victim, [], [Score(chain, at, me, me, 0, 0, 0).signed(key) for at in rounds])
        net.wait_height(status["height"] + K, [victim])
        if total_faults(net, victim) > before:
            return
    raise AssertionError(f"a score from outside the committee was never refused. {net.log(victim)}")


async def test_a_member_of_another_chain_is_told_why_it_is_refused(besieged: tuple[Network, int]) -> None:
    """A8: a wrong genesis is an operator's mistake, so the answer names it."""
    net, hostile = besieged
    victim, me = net.net.peers[net.running[0]], net.net.peers[hostile].member_key
    async with intrude(Home(net.home(hostile)).keys, net.net.genesis, victim) as intruder:
        await intruder.send(Hello(bytes(32), me, 0))
        goodbye = await intruder.await_end()
    assert isinstance(goodbye, Goodbye)
    assert "another chain" in goodbye.reason
    assert "compare genesis.json" in goodbye.reason
    assert_goes_on(net)


async def test_a_member_that_claims_another_s_name_is_refused(besieged: tuple[Network, int]) -> None:
    """The Hello must name the member whose certificate the connection has."""
    net, hostile = besieged
    victim, other = (net.net.peers[index] for index in net.running[:2])
    async with intrude(Home(net.home(hostile)).keys, net.net.genesis, victim) as intruder:
        await intruder.send(Hello(net.net.genesis.chain_id, other.member_key, 0))
        goodbye = await intruder.await_end()
    assert isinstance(goodbye, Goodbye)
    assert "another member than the certificate" in goodbye.reason
    assert_goes_on(net)


async def say_hello(keys: KeyFolder, net: Network, victim: int) -> Frame:
    """The answer to a Hello in the first member's name; raises where the connection is closed instead."""
    async with intrude(keys, net.net.genesis, net.net.peers[victim]) as intruder:
        await intruder.send(Hello(net.net.genesis.chain_id, net.net.peers[0].member_key, 0))
        if (answer := await intruder.listen()) is None:
            raise ConnectionResetError
        return answer


async def test_a_stranger_s_certificate_gets_no_further_than_the_handshake(
    besieged: tuple[Network, int], tmp_path: Path
) -> None:
    """TLS with pinned certificates: whoever is not in genesis cannot say a word."""
    net, _ = besieged
    new_keys(tmp_path / "stranger", "stranger")
    victim = net.running[0]
    for _ in range(3):
        with pytest.raises((aiohttp.ClientError, OSError)):
            await say_hello(KeyFolder(tmp_path / "stranger"), net, victim)
    assert "a stranger's connection was refused" in (net.home(victim) / "peer.log").read_text()
    assert total_faults(net, victim) == 0  # a stranger is nobody's fault
    assert_goes_on(net)


def test_the_frames_of_this_module_are_not_what_a_correct_peer_sends() -> None:
    """S5: none of them decodes."""
    from node.wire import WireError, decode

    for frame in FRAMES.values():
        with pytest.raises(WireError):
            decode(frame)
    assert decode(encode(Goodbye("bye"))) == Goodbye("bye")

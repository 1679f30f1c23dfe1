"""How a control connection begins: Hello from the dialler, Hello or Goodbye from the one dialled."""

import asyncio
from collections.abc import Callable

from node.switchboard import Switchboard
from node.transport_link import Dismissed, Link, LinkFault
from node.wire import Hello, WireError, decode, encode


class Greeter:
    """Says and checks Hellos: the right chain, the right member, one connection a pair."""

    def __init__(self, board: Switchboard, chain: bytes, height: Callable[[], int]) -> None:
        self._board = board
        self._chain = chain
        self._height = height

    async def approach(self, link: Link) -> None:
        """The dialler's half; raises `Dismissed`, `LinkFault`, `OSError` or `TimeoutError`."""
        async with asyncio.timeout(self._board.limits.hello_timeout_s):
            await link.greet(self._hello())
            reason = self._check(link, await link.expect())
        if reason is not None:
            await link.close(reason)
            raise Dismissed(reason)

    async def welcome(self, link: Link) -> str | None:
        """The half of the one dialled: None when both have said Hello, or why the newcomer is to be refused.

        Raises `LinkFault`, `Dismissed`, `OSError` or `TimeoutError`.
        """
        if reason := self._check_newcomer(link.member):
            return reason
        async with asyncio.timeout(self._board.limits.hello_timeout_s):
            reason = self._check(link, await link.expect())
        reason = reason or await self._check_double(link.member)
        if reason is None:
            await link.greet(self._hello())
        return reason

    def _hello(self) -> bytes:
        return encode(Hello(self._chain, self._board.me, self._height()))

    def _check(self, link: Link, frame: bytes) -> str | None:
        try:
            hello = decode(frame)
        except WireError as error:
            raise LinkFault(f"no Hello: {error}") from error
        if not isinstance(hello, Hello):
            raise LinkFault("no Hello came first")
        if hello.chain != self._chain:
            theirs, mine = hello.chain.hex()[:16], self._chain.hex()[:16]
            return f"another chain: the peers' genesis files differ (chain {theirs} and {mine}); compare genesis.json"
        if hello.member != link.member:
            return "the Hello names another member than the certificate: check the keys in the home folder"
        self._board.stats(link.member).height = hello.height
        return None

    def _check_newcomer(self, member: bytes) -> str | None:
        if member == self._board.me:
            return "this is my own key: two peers run with one key, or a peer dials itself. Stop one of them (A7)"
        if member > self._board.me:
            return "the lower member key dials; wait for my connection"
        return None

    async def _check_double(self, member: bytes) -> str | None:
        """An older connection that still answers stays; a dead one makes room."""
        while (old := self._board.link(member)) is not None:
            if await old.answers(self._board.limits.answer_timeout_s):
                return "this member is connected already: do two peers run with one key? Stop one of them (A7)"
            self._board.drop(old)
            self._board.spawn(old.close())
        return None

"""Who is connected: the live links of all members, their counters, and what faults cost them (A8)."""

import asyncio
from collections.abc import Coroutine, Mapping

from node.faults import Clock, FaultBook
from node.limits import Limits
from node.logs import get_log
from node.transport import Handler, Peer, PeerStats
from node.transport_link import Dismissed, Link, LinkFault

log = get_log(__name__)


class Switchboard:
    """The links, at most one a member, behind which listener and dialler are alike."""

    def __init__(self, me: bytes, peers: Mapping[bytes, Peer], limits: Limits, clock: Clock) -> None:
        self.me = me
        self.peers = dict(peers)
        self.limits = limits
        self.clock = clock
        self.handler: Handler | None = None
        self.closing = False
        self._links: dict[bytes, Link] = {}
        self._stats: dict[bytes, PeerStats] = {}
        self._faults = FaultBook(limits.faults_max, limits.fault_decay_s, limits.ban_s, clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._wakes: dict[bytes, asyncio.Event] = {}

    def name(self, member: bytes) -> str:
        """For people: the member's name and the start of its key."""
        peer = self.peers.get(member)
        return f"{peer.name} ({member.hex()[:8]})" if peer else f"stranger ({member.hex()[:8]})"

    def stats(self, member: bytes) -> PeerStats:
        """The member's counters; they outlive its connections."""
        return self._stats.setdefault(member, PeerStats())

    def wake(self, member: bytes) -> asyncio.Event:
        """Set when the member has shown that it can be dialled now."""
        return self._wakes.setdefault(member, asyncio.Event())

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run `work` beside; `close` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --------------------------------------------------------------------------------------------------- links

    def connected(self) -> list[bytes]:
        return sorted(self._links)

    def link(self, member: bytes) -> Link | None:
        return self._links.get(member)

    def send(self, member: bytes, frame: bytes) -> bool:
        link = self._links.get(member)
        if link is None or not self._fits(frame):
            return False
        link.send(frame)
        return True

    def broadcast(self, frame: bytes) -> None:
        if self._fits(frame):
            for link in self._links.values():
                link.send(frame)

    def _fits(self, frame: bytes) -> bool:
        if 0 < len(frame) <= self.limits.frame_bytes_max:
            return True
        log.error(
            "a frame of mine is too long and was not sent: raise limits.frame_bytes_max on all peers, or lower the "
            "sizes in genesis",
            size_bytes=len(frame),
            allowed_bytes=self.limits.frame_bytes_max,
        )
        return False

    async def serve(self, link: Link) -> None:
        """Hand over the frames of a link that has been greeted, until it ends; raises `Dismissed`."""
        if self.closing or self.handler is None or link.member in self._links:
            await link.close()
            return
        self._links[link.member] = link
        self.stats(link.member).connects += 1
        log.info("peer connected", source=link.member.hex(), peer=self.name(link.member))
        self.handler.on_up(link.member)
        try:
            await link.run(self.handler.on_frame)
        except LinkFault as fault:
            self.fault(link.member, str(fault))
        except Dismissed:
            raise
        except Exception as error:  # the handler's own mistake, which must not end the dialling of this member
            log.error("handling a frame failed", peer=self.name(link.member), exc_info=error)
        finally:
            self.drop(link)

    def drop(self, link: Link) -> None:
        """Forget a link that has ended or is about to be closed."""
        if self._links.get(link.member) is link and self.handler is not None:
            del self._links[link.member]
            log.info("peer disconnected", source=link.member.hex(), peer=self.name(link.member))
            self.handler.on_down(link.member)

    # -------------------------------------------------------------------------------------------------- faults

    def banned_for_s(self, member: bytes) -> float:
        return self._faults.banned_for_s(member)

    def fault(self, member: bytes, reason: str) -> None:
        """Count a fault; at the threshold close the link and refuse the member for a while (A8)."""
        if member not in self.peers:
            return
        stats = self.stats(member)
        stats.faults += 1
        log.warning("fault of a peer", source=member.hex(), peer=self.name(member), reason=reason, faults=stats.faults)
        if not self._faults.add(member):
            return
        stats.bans += 1
        log.warning("peer banned", source=member.hex(), peer=self.name(member), seconds=self.limits.ban_s)
        if link := self._links.get(member):
            self.drop(link)
            self.spawn(link.close(f"banned for {self.limits.ban_s:.0f} s; the last of several faults: {reason}"))

    # ---------------------------------------------------------------------------------------------------- life

    def set_peers(self, peers: Mapping[bytes, Peer]) -> None:
        """From now on these are the members (S4); the links of others are closed."""
        self.peers = dict(peers)
        for member, link in list(self._links.items()):
            if member not in peers:
                self.drop(link)
                self.spawn(link.close("no longer a member"))

    async def close(self) -> None:
        """Close every link and wait for all that was spawned."""
        self.closing = True
        links = list(self._links.values())
        for link in links:
            self.drop(link)
        await asyncio.gather(*(link.close() for link in links))
        await asyncio.gather(*self._tasks)

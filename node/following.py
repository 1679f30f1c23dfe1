"""Following the others (Y1): fetch final batches above the tip from one member at a time, hand them to the core."""

import asyncio
from collections.abc import Callable

from consensus.events import Event, Synced, SyncEnded
from ledger.codec import CodecError
from ledger.types import FinalBatch
from node.logs import get_log
from node.transport import FetchError, Transport

PATIENCE_S = 10.0
TURN_S = 20.0
OWED_MAX = 64

log = get_log(__name__)


class Follower:
    """One sync at a time; `height` is the tip, `owed` how much work the models of what was synced still make."""

    def __init__(
        self,
        transport: Transport,
        post: Callable[[Event], None],
        height: Callable[[], int],
        owed: Callable[[], int],
        patience_s: float = PATIENCE_S,
        turn_s: float = TURN_S,
    ) -> None:
        """`patience_s` is how long nothing may move before a sync is given up; after `turn_s` it is another member's
        turn, as one that serves batch by batch, each at the last moment, would otherwise be followed for ever."""
        self._transport, self._post, self._height, self._owed = transport, post, height, owed
        self._patience_s, self._turn_s = patience_s, turn_s
        self._task: asyncio.Task[None] | None = None
        self._member = b""
        self._progress = asyncio.Event()

    @property
    def is_active(self) -> bool:
        """Whether a sync is under way."""
        return self._task is not None and not self._task.done()

    def moved(self) -> None:
        """The core has taken events."""
        self._progress.set()

    def blame(self, member: bytes) -> None:
        """What this member served was refused: no more of it."""
        if self.is_active and member == self._member and self._task is not None:
            self._task.cancel()

    def follow(self, member: bytes, height: int) -> None:
        """Fetch from `member` what is final from `height` on, unless a sync runs already."""
        if not self.is_active:
            self._member = member
            self._task = asyncio.create_task(self._run(member, height), name="sync")

    async def stop(self) -> None:
        """Cancel the sync and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, member: bytes, height: int) -> None:
        first, ends_s = height, asyncio.get_running_loop().time() + self._turn_s
        try:
            while await self._taken(height - 1) and (batches := await self._fetch(member, height)):
                for batch in batches:
                    self._post(Synced(member, batch))
                height = batches[-1].blocks[-1].height + 1
                if asyncio.get_running_loop().time() >= ends_s:
                    break
        except FetchError as error:
            log.debug("sync broke off", member=member[:4], height=height, reason=str(error))
        finally:
            self._post(SyncEnded(member))
        if height > first:
            log.info("synced", member=member[:4], from_height=first, to_height=self._height())

    async def _fetch(self, member: bytes, height: int) -> list[FinalBatch]:
        data = await self._transport.fetch_batches(member, height)
        try:
            batches = await asyncio.to_thread(lambda: [FinalBatch.decode(item) for item in data])
        except CodecError as error:
            self._transport.fault(member, f"served something that is no batch: {error}")
            return []
        for batch in batches:
            if batch.blocks[0].height != height:  # the core would only ignore it
                self._transport.fault(member, f"served a batch of another height than #{height}")
                return []
            height = batch.blocks[-1].height + 1
        return batches

    async def _taken(self, last: int) -> bool:
        """Wait until the core has taken the batches and the models are not too far behind; False when nothing moves
        any more."""
        while (place := self._place()) and (place[0] < last or place[1] > OWED_MAX):
            try:
                async with asyncio.timeout(self._patience_s):
                    while self._place() == place:  # the core takes events all the time: what counts is what moves
                        self._progress.clear()
                        await self._progress.wait()
            except TimeoutError:
                return False
        return True

    def _place(self) -> tuple[int, int]:
        return self._height(), self._owed()

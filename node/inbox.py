"""The one loop's queue of events. What the peers send is bounded, sender by sender, so that no flood crowds out the
others; what this machine itself reports is never dropped (A8)."""

from collections import deque
from dataclasses import dataclass

from consensus.events import Event

FRAMES_MAX = 16_384
BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class Frame:
    """What a member sent, not decoded yet: that costs time, which the loop spends within its budget."""

    member: bytes
    data: bytes


@dataclass(slots=True)
class _Waiting:
    frames: int = 0
    size_bytes: int = 0


class Inbox:
    """First in, first out. Each member has room for `frames_max` frames of together `bytes_max` (as they travelled)."""

    def __init__(self, frames_max: int = FRAMES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._frames_max, self._bytes_max = frames_max, bytes_max
        self._items: deque[Event | Frame] = deque()
        self._waiting: dict[bytes, _Waiting] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, event: Event) -> None:
        """Queue an event of this machine."""
        self._items.append(event)

    def put_frame(self, member: bytes, data: bytes) -> bool:
        """Queue a frame; False when its sender has no room left: then it counts as dropped. An empty place takes a
        frame of any size."""
        waiting = self._waiting.setdefault(member, _Waiting())
        full = waiting.frames >= self._frames_max or waiting.size_bytes + len(data) > self._bytes_max
        if waiting.frames and full:
            self.dropped += 1
            return False
        waiting.frames += 1
        waiting.size_bytes += len(data)
        self._items.append(Frame(member, data))
        return True

    def pop(self) -> Event | Frame:
        """The oldest item; raises `IndexError` when there is none."""
        item = self._items.popleft()
        if isinstance(item, Frame):
            waiting = self._waiting[item.member]
            waiting.frames -= 1
            waiting.size_bytes -= len(item.data)
            if waiting.frames == 0:
                del self._waiting[item.member]
        return item

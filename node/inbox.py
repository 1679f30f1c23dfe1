"""The one loop's queue of events. What the peers send is bounded, sender by sender, so that no flood crowds out the
others; what this machine itself reports is never dropped (A8)."""

from collections import deque
from dataclasses import dataclass

from consensus.events import Event

FRAMES_MAX = 16_384
BYTES_MAX = 64 << 20


@dataclass(slots=True)
class _Waiting:
    frames: int = 0
    size_bytes: int = 0


class Inbox:
    """First in, first out. Each member has room for `frames_max` frames of together `bytes_max` (as they travelled)."""

    def __init__(self, frames_max: int = FRAMES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._frames_max, self._bytes_max = frames_max, bytes_max
        self._events: deque[tuple[Event, bytes, int]] = deque()
        self._waiting: dict[bytes, _Waiting] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: Event) -> None:
        """Queue an event of this machine."""
        self._events.append((event, b"", 0))

    def has_room(self, member: bytes, size_bytes: int) -> bool:
        """Whether a frame of this member may be queued; one that may not counts as dropped. An empty place takes a
        frame of any size."""
        waiting = self._waiting.get(member)
        if waiting is None or (
            waiting.frames < self._frames_max and waiting.size_bytes + size_bytes <= self._bytes_max
        ):
            return True
        self.dropped += 1
        return False

    def put_frame(self, member: bytes, event: Event, size_bytes: int) -> None:
        """Queue what a frame of `size_bytes` said, after `has_room`."""
        waiting = self._waiting.setdefault(member, _Waiting())
        waiting.frames += 1
        waiting.size_bytes += size_bytes
        self._events.append((event, member, size_bytes))

    def pop(self) -> Event:
        """The oldest event; raises `IndexError` when there is none."""
        event, member, size_bytes = self._events.popleft()
        waiting = self._waiting.get(member)
        if waiting is not None:
            waiting.frames -= 1
            waiting.size_bytes -= size_bytes
            if waiting.frames == 0:
                del self._waiting[member]
        return event

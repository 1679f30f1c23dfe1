"""Repair by anti-entropy (A4): peers tell each other what they hold and send what the other lacks; messages that are
early wait for their turn. Everything is bounded by sender."""

from collections import deque
from collections.abc import Iterable, Iterator

from consensus.events import HAVE_IDS_MAX, ID_PREFIX_BYTES, Have, Message
from ledger.types import ProposedBatch

LATER_MAX = 1024
LATER_BATCHES_MAX = 16
REPLY_MAX = 1024
ANSWERS_MAX = 8


def short_id(message: Message) -> bytes:
    """The first bytes of a message's id: enough to tell what a peer lacks, not to prove anything."""
    assert not isinstance(message, Have)
    signed = message.proposal if isinstance(message, ProposedBatch) else message
    return signed.id()[:ID_PREFIX_BYTES]


def make_have(height: int, view_round: int, messages: Iterable[Message]) -> Have:
    """What I hold, as one message."""
    ids = sorted({short_id(message) for message in messages})[:HAVE_IDS_MAX]
    return Have(height, view_round, tuple(ids))


def get_lacking(have: Have, messages: Iterable[Message]) -> Iterator[Message]:
    """Of `messages`, those that the sender of `have` lacks; at most `REPLY_MAX`, the rest comes with its next one."""
    known = set(have.ids)
    lacking = (message for message in messages if short_id(message) not in known)
    for _, message in zip(range(REPLY_MAX), lacking, strict=False):
        yield message


class Answers:
    """How often each member's `Have` was answered: at most `ANSWERS_MAX` times in a window. A `Have` is 30 bytes, its
    answer is all that is held: without this limit one member could keep the others busy with nothing else (A8)."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._given: dict[bytes, tuple[int, int]] = {}

    def allow(self, member: bytes, now_ms: int) -> bool:
        """Whether this member is answered now; if so, it counts."""
        since_ms, count = self._given.get(member, (now_ms, 0))
        if now_ms - since_ms >= self._window_ms:
            since_ms, count = now_ms, 0
        if count >= ANSWERS_MAX:
            return False
        self._given[member] = since_ms, count + 1
        return True


class Later:
    """Messages of the next instance or round that came early. Each sender has room for `LATER_MAX`, and for
    `LATER_BATCHES_MAX` proposals, which may be large (A8); the newest stay, the others come again with gossip (A4)."""

    def __init__(self) -> None:
        self._held: dict[tuple[bytes, bool], deque[Message]] = {}

    def keep(self, sender: bytes, message: Message) -> None:
        """Keep an early message of this sender."""
        is_batch = isinstance(message, ProposedBatch)
        room = LATER_BATCHES_MAX if is_batch else LATER_MAX
        self._held.setdefault((sender, is_batch), deque(maxlen=room)).append(message)

    def forget(self, sender: bytes) -> None:
        """The sender is gone."""
        for is_batch in (False, True):
            self._held.pop((sender, is_batch), None)

    def take(self) -> list[tuple[bytes, Message]]:
        """All that was kept, to be looked at again."""
        held, self._held = self._held, {}
        return [(sender, message) for (sender, _), messages in held.items() for message in messages]


class Heights:
    """How high the others say that they are, and whom to sync from (Y1). A claim is only a hint: what a peer then
    serves is verified."""

    def __init__(self) -> None:
        self._claims: dict[bytes, int] = {}
        self._asked: dict[bytes, int] = {}
        self._turn = 0
        self.behind_since_ms: int | None = None

    def note(self, member: bytes, height: int, mine: int, now_ms: int) -> None:
        """A peer says how high it is."""
        self._claims[member] = height
        if height > mine and self.behind_since_ms is None:
            self.behind_since_ms = now_ms

    def forget(self, member: bytes) -> None:
        """The peer is gone, or has nothing more for me."""
        self._claims.pop(member, None)

    def moved(self, mine: int) -> None:
        """My tip has moved: I am behind only if somebody still claims more."""
        if not self.ahead(mine):
            self.behind_since_ms = None

    def ahead(self, mine: int) -> list[bytes]:
        """Who claims to be higher, the one asked longest ago first."""
        members = [member for member, height in self._claims.items() if height > mine]
        return sorted(members, key=lambda member: (self._asked.get(member, 0), member))

    def pick(self, mine: int) -> bytes | None:
        """Whom to sync from now; taking turns, so that one liar or dead peer costs one try."""
        ahead = self.ahead(mine)
        if not ahead:
            return None
        self._turn += 1
        self._asked[ahead[0]] = self._turn
        return ahead[0]

    def known(self) -> set[bytes]:
        """Who has made a claim."""
        return set(self._claims)

    def credible(self) -> int:
        """The height that more than a third of the claims reach: a few liars do not make me look behind."""
        claims = sorted(self._claims.values(), reverse=True)
        return claims[len(claims) // 3] if claims else 0

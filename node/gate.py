"""How many connections each member may hold open here (A8): without a limit one member could take every file descriptor
of this process, and the next blob or block could not be written."""

import asyncio
import resource
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Final, cast

CONNECTIONS_PER_MEMBER_MAX: Final = 32


def allow_many_files() -> None:
    """Raise this process's limit of open files as far as it may go: connections of strangers count against it until
    their handshakes have failed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Gate:
    """Counts the members' connections after the TLS handshake; strangers and those above the limit are cut off."""

    def __init__(
        self, member_of: Callable[[ssl.SSLObject | None], bytes | None], limit: int = CONNECTIONS_PER_MEMBER_MAX
    ) -> None:
        self._member_of = member_of
        self._limit = limit
        self._open: Counter[bytes] = Counter()

    def guard(self, inner: asyncio.Protocol) -> "Guarded":
        """The protocol to be given to the listening socket in the place of `inner`."""
        return Guarded(self, inner)

    def enter(self, transport: asyncio.BaseTransport) -> bytes | None:
        """The member, counted from now on; None when this connection must end."""
        member = self._member_of(transport.get_extra_info("ssl_object"))
        if member is None or self._open[member] >= self._limit:
            return None
        self._open[member] += 1
        return member

    def leave(self, member: bytes) -> None:
        """One connection less."""
        self._open[member] -= 1


class Guarded(asyncio.Protocol):
    """One connection: the server's own protocol behind the gate."""

    def __init__(self, gate: Gate, inner: asyncio.Protocol) -> None:
        self._gate, self._inner = gate, inner
        self._member: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._member = self._gate.enter(transport)
        if self._member is not None:
            self._inner.connection_made(transport)
        else:
            cast(asyncio.Transport, transport).abort()

    def data_received(self, data: bytes) -> None:
        if self._member is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._member is not None else None

    def pause_writing(self) -> None:
        if self._member is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._member is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        member, self._member = self._member, None
        if member is not None:
            self._gate.leave(member)
            self._inner.connection_lost(exc)

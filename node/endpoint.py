"""Endpoints: "host:port", with an IPv6 address in brackets, as in config.toml and in genesis."""

from dataclasses import dataclass
from typing import Self

PORT_MAX = 65_535
HOST_CHARS_MAX = 253


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host name or address and a TCP port; port 0 means any free port when listening."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The endpoint written as `text`; raises `ValueError` saying what is wrong."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        bare = host[1:-1] if bracketed else host
        if not colon or not bare or (":" in bare and not bracketed) or len(bare) > HOST_CHARS_MAX:
            raise ValueError(f"{text!r} is not an endpoint: write host:port, such as 127.0.0.1:7001 or [::1]:7001")
        if not (port.isascii() and port.isdecimal() and int(port) <= PORT_MAX):
            raise ValueError(f"{text!r} has no port from 0 to {PORT_MAX}")
        if any(char.isspace() or char in "/@?#" for char in bare):
            raise ValueError(f"{text!r} has a character that no host name has")
        return cls(bare, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

"""Endpoints are host:port, with IPv6 in brackets; anything else is refused with what to write."""

import pytest

from node.endpoint import Endpoint


@pytest.mark.parametrize("text", ["127.0.0.1:7001", "peer-1.hospital.example:443", "[::1]:0", "localhost:65535"])
def test_an_endpoint_comes_back_as_it_was(text: str) -> None:
    assert str(Endpoint.parse(text)) == text


def test_brackets_are_no_part_of_the_host() -> None:
    assert Endpoint.parse("[2001:db8::7]:7001") == Endpoint("2001:db8::7", 7001)


@pytest.mark.parametrize(
    "text",
    ["", "host", ":7001", "host:", "host:x", "host:-1", "host:65536", "host:٣", "::1:7001", "[]:1", "a b:1", "a/b:1",
     "user@host:1", "h" * 254 + ":1"],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"endpoint|port|character"):
        Endpoint.parse(text)

"""Mutual TLS 1.3 between members in memory: who is at the other end, and who is refused (S4)."""

import ssl
from pathlib import Path

import pytest

from node.errors import ExitCode, NodeError
from node.tls import TlsIdentity
from tests.node.helpers_net import Member, make_members


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    return make_members(tmp_path_factory.mktemp("keys"), 3)


def identity(me: Member, trusted: list[Member]) -> TlsIdentity:
    certificates = {member.key: member.peer.certificate for member in trusted}
    return TlsIdentity(me.files.transport_certificate, me.files.transport_key, certificates)


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake in memory; raises `ssl.SSLError` of the first end that refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for end in ends:
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
    return ends


def test_both_ends_know_whom_they_have_reached(members: list[Member]) -> None:
    one, two = identity(members[0], members), identity(members[1], members)
    client, server = handshake(one.client_context, two.server_context)
    assert client.version() == "TLSv1.3"
    assert one.member_of(client) == members[1].key
    assert two.member_of(server) == members[0].key
    assert one.member_of(None) is None


def test_older_tls_is_refused(members: list[Member]) -> None:
    server = identity(members[1], members).server_context
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(old, server)


def test_a_strangers_certificate_is_refused_and_told(members: list[Member]) -> None:
    told: list[str] = []
    certificates = {member.key: member.peer.certificate for member in members[:2]}
    me = members[0].files
    server = TlsIdentity(me.transport_certificate, me.transport_key, certificates, told.append)
    stranger = identity(members[2], members)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(stranger.client_context, server.server_context)
    assert told == ["self-signed certificate"]


def test_no_certificate_at_all_is_refused_and_told(members: list[Member]) -> None:
    told: list[str] = []
    me = members[0].files
    server = TlsIdentity(me.transport_certificate, me.transport_key, {}, told.append)
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError):
        handshake(bare, server.server_context)
    assert told == ["no certificate was shown"]


def test_a_pinned_context_accepts_that_member_alone(members: list[Member]) -> None:
    one, two = identity(members[0], members), identity(members[1], members)
    handshake(one.client_context_of(members[1].key), two.server_context)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(one.client_context_of(members[2].key), two.server_context)
    with pytest.raises(KeyError):
        one.client_context_of(b"nobody")
    assert one.client_context_of(members[1].key) is one.client_context_of(members[1].key)


def test_members_come_and_go(members: list[Member]) -> None:
    one, two = identity(members[0], members[:2]), identity(members[2], members)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(one.client_context, two.server_context)
    one.set_members({member.key: member.peer.certificate for member in members})  # S4
    client, _ = handshake(one.client_context, two.server_context)
    assert one.member_of(client) == members[2].key
    one.set_members({member.key: member.peer.certificate for member in members[:2]})
    client, _ = handshake(one.client_context, two.server_context)
    assert one.member_of(client) is None
    with pytest.raises(KeyError):
        one.client_context_of(members[2].key)


def test_a_shared_or_broken_certificate_in_genesis_is_refused(members: list[Member]) -> None:
    me = members[0].files
    shared = {members[0].key: members[0].peer.certificate, members[1].key: members[0].peer.certificate}
    with pytest.raises(NodeError, match="share a certificate") as error:
        TlsIdentity(me.transport_certificate, me.transport_key, shared)
    assert error.value.exit_code is ExitCode.GENESIS
    with pytest.raises(NodeError, match="the certificate of member"):
        TlsIdentity(me.transport_certificate, me.transport_key, {members[0].key: b"not DER"})


def test_a_key_that_is_not_the_certificates_is_refused(members: list[Member], tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="not a certificate and its key") as error:
        TlsIdentity(members[0].files.transport_certificate, members[1].files.transport_key, {})
    assert error.value.exit_code is ExitCode.KEYS
    with pytest.raises(NodeError, match="not a certificate and its key"):
        TlsIdentity(tmp_path / "none.crt", members[1].files.transport_key, {})

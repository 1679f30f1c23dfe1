"""Mutual TLS 1.3 with pinned certificates: a member is whoever holds the key of the certificate that is on chain.

Members' certificates are self-signed and serve as the only trust anchors (RFC 8446; no name is checked, no date ends
them); after the handshake the certificate is matched byte for byte.
"""

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography import x509

from node.errors import ExitCode, NodeError


class TlsIdentity:
    """This peer's certificate and the members' certificates, as contexts for both directions."""

    def __init__(
        self,
        certificate: Path,
        key: Path,
        members: Mapping[bytes, bytes],
        on_stranger: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`members` maps member keys to certificates (DER). `on_stranger` is told why a dialler was refused.

        Raises `NodeError` KEYS for this peer's files, GENESIS for a member's certificate.
        """
        self._files = (certificate, key)
        self._on_stranger = on_stranger
        self.server_context = self._context(ssl.PROTOCOL_TLS_SERVER)
        self.client_context = self._context(ssl.PROTOCOL_TLS_CLIENT)
        self._by_certificate: dict[bytes, bytes] = {}
        self._certificates: dict[bytes, bytes] = {}
        self._contexts: dict[bytes, ssl.SSLContext] = {}
        self.set_members(members)

    def set_members(self, members: Mapping[bytes, bytes]) -> None:
        """Trust these members from now on (S4). A member that is gone fails `member_of`, though its handshake passes:
        OpenSSL forgets no anchor."""
        by_certificate: dict[bytes, bytes] = {}
        for member, der in members.items():
            if by_certificate.setdefault(der, member) != member:
                both = f"{by_certificate[der].hex()[:12]} and {member.hex()[:12]}"
                message = f"genesis: members {both} share a certificate. Each needs its own: fedchain-node keys new"
                raise NodeError(ExitCode.GENESIS, message)
        for member, der in members.items():
            if self._certificates.get(member) != der:
                _trust((self.server_context, self.client_context), member, der)
                self._contexts.pop(member, None)
        self._contexts = {member: made for member, made in self._contexts.items() if member in members}
        self._certificates = dict(members)
        self._by_certificate = by_certificate

    def member_of(self, ssl_object: ssl.SSLObject | None) -> bytes | None:
        """The member whose certificate the other end has shown, by exact match; None for a stranger."""
        certificate = ssl_object.getpeercert(True) if ssl_object is not None else None
        return self._by_certificate.get(certificate) if certificate is not None else None

    def client_context_of(self, member: bytes) -> ssl.SSLContext:
        """A client context that accepts this member and nobody else; raises `KeyError` for one who is none."""
        if member not in self._contexts:
            context = self._context(ssl.PROTOCOL_TLS_CLIENT)
            _trust((context,), member, self._certificates[member])
            self._contexts[member] = context
        return self._contexts[member]

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        certificate, key = self._files
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:
            message = f"{certificate} and {key.name}: not a certificate and its key: {error}. Restore both files"
            raise NodeError(ExitCode.KEYS, message) from error
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # sessions are never resumed: every connection shows its certificate
            context.sslobject_class = self._watched()
        return context

    def _watched(self) -> type[ssl.SSLObject]:
        """The server's end of a connection; a failed client certificate is told to `on_stranger`."""
        on_stranger = self._on_stranger

        class Watched(ssl.SSLObject):
            def do_handshake(self) -> None:
                try:
                    super().do_handshake()
                except ssl.SSLError as error:
                    if isinstance(error, ssl.SSLCertVerificationError) or "PEER_DID_NOT" in str(error.reason):
                        on_stranger(getattr(error, "verify_message", "") or "no certificate was shown")
                    raise

        return Watched


def _trust(contexts: tuple[ssl.SSLContext, ...], member: bytes, der: bytes) -> None:
    try:
        x509.load_der_x509_certificate(der).public_key()
        for context in contexts:
            context.load_verify_locations(cadata=der)
    except Exception as error:  # cryptography and OpenSSL raise many kinds for bytes that are no certificate
        message = f"genesis: the certificate of member {member.hex()[:12]} is none: {error}"
        raise NodeError(ExitCode.GENESIS, f"{message}. Check it with: fedchain-node genesis check") from error

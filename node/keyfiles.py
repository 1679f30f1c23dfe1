"""A member's two keys on disk: the member key signs what goes on chain, the transport key is its TLS certificate.

PEM PKCS8 files, mode 0600, never overwritten. The member key and the signer's empty state are made together (A5).
"""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from consensus.signer import Identity, WalEntry
from ledger.keys import public_bytes
from node import signer_log
from node.errors import ExitCode, NodeError, disk_error

NAME_CHARS_MAX = 64
KEY_FILE_BYTES_MAX = 65_536
NOT_BEFORE = datetime(2000, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280, 4.1.2.5: no well-defined expiry


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """Where the files of one member's keys are."""

    folder: Path

    @property
    def member_key(self) -> Path:
        return self.folder / "member.key"

    @property
    def transport_key(self) -> Path:
        return self.folder / "transport.key"

    @property
    def transport_certificate(self) -> Path:
        return self.folder / "transport.crt"

    @property
    def signer_state(self) -> Path:
        return self.folder / "signer.state"

    def all(self) -> tuple[Path, ...]:
        """Every file, the member key last: while it is missing, the folder is not yet in use."""
        return (self.signer_state, self.transport_key, self.transport_certificate, self.member_key)


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """What the other members may know: the raw member key (32 bytes) and the transport certificate (DER)."""

    member: bytes
    certificate: bytes


def new_keys(folder: Path, name: str) -> PublicKeys:
    """Make both keys, the certificate, and the signer's state that begins with the member key (A5), or nothing at all.

    Raises `NodeError` KEYS when one of the files exists already, or the folder cannot be written.
    """
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise NodeError(ExitCode.KEYS, f"the name must have 1 to {NAME_CHARS_MAX} printable characters")
    files = KeyFolder(folder)
    if existing := [path.name for path in files.all() if path.exists()]:
        message = f"{folder} has {', '.join(existing)} already; keys are never overwritten. Choose another folder"
        raise NodeError(ExitCode.KEYS, message)
    member, transport = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    certificate = make_certificate(transport, name, public_bytes(member))
    pem = certificate.public_bytes(Encoding.PEM)
    identity = WalEntry(Identity(public_bytes(member))).encode()
    steps: list[tuple[Path, Callable[[], None]]] = [
        (files.signer_state, partial(signer_log.create, files.signer_state, [identity])),
        (files.transport_key, partial(_write_new, files.transport_key, _pem(transport))),
        (files.transport_certificate, partial(_write_new, files.transport_certificate, pem)),
        (files.member_key, partial(_write_new, files.member_key, _pem(member))),
    ]
    _all_or_nothing(folder, steps)
    return PublicKeys(public_bytes(member), certificate.public_bytes(Encoding.DER))


def _all_or_nothing(folder: Path, steps: Sequence[tuple[Path, Callable[[], None]]]) -> None:
    done: list[Path] = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, write in steps:
            write()
            done.append(path)
    except (OSError, NodeError) as error:
        for path in done:
            path.unlink(missing_ok=True)
        raise error if isinstance(error, NodeError) else disk_error(error, f"writing keys to {folder}") from error


def make_certificate(key: Ed25519PrivateKey, name: str, member: bytes) -> x509.Certificate:
    """A self-signed certificate of the transport key. It names the member key, so that no two have one subject."""
    attributes = [
        x509.NameAttribute(NameOID.COMMON_NAME, name),
        x509.NameAttribute(NameOID.SERIAL_NUMBER, member.hex()[:64]),
    ]
    subject = x509.Name(attributes)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(NOT_BEFORE).not_valid_after(NOT_AFTER)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, None)


def load_member_key(path: Path) -> Ed25519PrivateKey:
    """The private key in `path`; raises `NodeError` KEYS saying what is wrong with the file."""
    data = _read_private(path)
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        message = f"{path}: not a whole unencrypted PEM key. Restore the file, or make keys: fedchain-node keys new"
        raise NodeError(ExitCode.KEYS, message) from error
    if not isinstance(key, Ed25519PrivateKey):
        kind = type(key).__name__.removeprefix("_")
        raise NodeError(ExitCode.KEYS, f"{path}: an Ed25519 key is needed, not {kind}. Is it another program's key?")
    return key


load_transport_key = load_member_key


def load_certificate(path: Path) -> bytes:
    """The DER bytes of the PEM certificate in `path`; raises `NodeError` KEYS."""
    try:
        certificate = x509.load_pem_x509_certificate(_read(path))
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NodeError(ExitCode.KEYS, f"{path}: not a whole PEM certificate. Restore the file from a copy") from error
    if not isinstance(key, Ed25519PublicKey):
        raise NodeError(ExitCode.KEYS, f"{path}: an Ed25519 certificate is needed. Is it another program's?")
    return certificate.public_bytes(Encoding.DER)


def load_public(files: KeyFolder) -> PublicKeys:
    """Member key and certificate of the folder; raises `NodeError` KEYS also when key and certificate don't match."""
    member = load_member_key(files.member_key)
    transport = load_transport_key(files.transport_key)
    certificate = load_certificate(files.transport_certificate)
    if x509.load_der_x509_certificate(certificate).public_key() != transport.public_key():
        message = f"{files.transport_certificate}: not the certificate of {files.transport_key.name}. Restore both"
        raise NodeError(ExitCode.KEYS, message)
    return PublicKeys(public_bytes(member), certificate)


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_new(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read_private(path: Path) -> bytes:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise _unreadable(path, error) from error
    if mode & 0o077:
        message = f"{path}: others may read this private key (mode {mode:04o}). Run: chmod 600 {path}"
        raise NodeError(ExitCode.KEYS, message)
    return _read(path)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > KEY_FILE_BYTES_MAX:
            raise NodeError(ExitCode.KEYS, f"{path}: too large for a key or certificate. Restore the right file")
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> NodeError:
    advice = "Make keys with: fedchain-node keys new"
    return NodeError(ExitCode.KEYS, f"{path}: cannot be read: {error.strerror}. {advice}")

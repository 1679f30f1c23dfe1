"""Key files: made together with the signer's state (A5), private, never overwritten; errors name file and remedy."""

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from consensus.signer import Identity, WalEntry
from ledger.keys import public_bytes
from node import keyfiles
from node.errors import ExitCode, NodeError
from node.keyfiles import KeyFolder, load_certificate, load_member_key, load_public, new_keys
from node.signer_log import SignerLog


def test_new_keys_are_whole_private_and_read_back(tmp_path: Path) -> None:
    public = new_keys(tmp_path / "keys", "clinic-a")
    files = KeyFolder(tmp_path / "keys")
    assert load_public(files) == public
    assert public_bytes(load_member_key(files.member_key)) == public.member
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.all()} == {0o600}
    log, records = SignerLog.open(files.signer_state)
    log.close()
    assert [WalEntry.decode(record).record for record in records] == [Identity(public.member)]  # A5


def test_member_key_and_transport_key_differ(tmp_path: Path) -> None:
    public = new_keys(tmp_path, "a")
    transport = x509.load_der_x509_certificate(public.certificate).public_key()
    assert transport.public_bytes_raw() != public.member  # type: ignore[union-attr]


def test_the_certificate_never_expires_and_names_the_member(tmp_path: Path) -> None:
    public = new_keys(tmp_path, "clinic-a")
    certificate = x509.load_der_x509_certificate(public.certificate)
    assert certificate.not_valid_after_utc.isoformat() == "9999-12-31T23:59:59+00:00"
    assert b"99991231235959Z" in public.certificate  # RFC 5280, 4.1.2.5
    assert public.member.hex() in certificate.subject.rfc4514_string()
    certificate.verify_directly_issued_by(certificate)


@pytest.mark.parametrize("name", ["member.key", "transport.key", "transport.crt", "signer.state"])
def test_existing_files_are_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(NodeError, match=f"{name} already") as error:
        new_keys(tmp_path, "a")
    assert error.value.exit_code is ExitCode.KEYS
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: b"precious"}


def test_keys_are_made_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(key: Ed25519PrivateKey) -> bytes:
        monkeypatch.undo()
        (tmp_path / "member.key").write_bytes(b"another process was faster")
        return b"pem"

    monkeypatch.setattr(keyfiles, "_pem", fail)
    with pytest.raises(NodeError, match="writing keys"):
        new_keys(tmp_path, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["member.key"]


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines"])
def test_a_name_that_cannot_stand_in_a_certificate_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NodeError, match="printable"):
        new_keys(tmp_path, name)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_may_read_is_refused_with_the_command(tmp_path: Path, mode: int) -> None:
    new_keys(tmp_path, "a")
    path = tmp_path / "member.key"
    path.chmod(mode)
    with pytest.raises(NodeError, match=f"chmod 600 {path}") as error:
        load_member_key(path)
    assert error.value.exit_code is ExitCode.KEYS


def test_a_truncated_missing_or_oversized_key_is_refused(tmp_path: Path) -> None:
    new_keys(tmp_path, "a")
    path = tmp_path / "member.key"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(NodeError, match="not a whole unencrypted PEM key"):
        load_member_key(path)
    path.write_bytes(bytes(100_000))
    with pytest.raises(NodeError, match="too large"):
        load_member_key(path)
    with pytest.raises(NodeError, match="cannot be read"):
        load_member_key(tmp_path / "nowhere.key")


def test_a_key_of_another_kind_or_with_a_password_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.key"
    path.touch(0o600)
    other = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(NodeError, match="an Ed25519 key is needed"):
        load_member_key(path)
    encryption = BestAvailableEncryption(b"secret")
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    with pytest.raises(NodeError, match="unencrypted"):
        load_member_key(path)


def test_a_certificate_that_is_none_or_anothers_is_refused(tmp_path: Path) -> None:
    new_keys(tmp_path / "one", "one")
    new_keys(tmp_path / "two", "two")
    files = KeyFolder(tmp_path / "one")
    files.transport_certificate.write_bytes((tmp_path / "two" / "transport.crt").read_bytes())
    with pytest.raises(NodeError, match=r"not the certificate of transport\.key"):
        load_public(files)
    files.transport_certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(NodeError, match="not a whole PEM certificate"):
        load_certificate(files.transport_certificate)

"""The chain on disk: LevelDB through plyvel, one atomic and synced write for each final batch (A5, Y2).

Keys: `meta` (schema version, chain id), `tip` (the state after the last block), `b` + height -> block,
`c` + first height of a batch -> certificate, `r` + blob id -> height of the block that names it first.
"""

from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Protocol, TypeVar

import plyvel

from ledger.codec import CodecError, Record, pack, unpack
from ledger.state import State
from ledger.types import Block, Certificate, EmptyBody, FinalBatch, UpdateBody

SCHEMA_VERSION = 1
META, TIP = b"meta", b"tip"


class StoreError(Exception):
    """The chain on disk cannot be used; the message says what is wrong and what to do."""


class StoreLocked(StoreError):
    """Another process has this data folder open."""


class StoreDamaged(StoreError):
    """What is on disk is not what was written."""


def _height_key(prefix: bytes, height: int) -> bytes:
    return prefix + height.to_bytes(8, "big")


def get_blob_refs(block: Block) -> list[bytes]:
    """The blob ids that a block names: its update, the offers a close lists, or its model."""
    body = block.body
    if isinstance(body, UpdateBody):
        return [body.offer.update.blob]
    if isinstance(body, EmptyBody):
        return [offer.update.blob for item in body.unfilled for offer in item.offer]
    return [body.model.blob]


class Store(Protocol):
    """What the node needs of a chain store; `LevelStore` is the one on disk, `MemoryStore` its twin."""

    def tip(self) -> State | None: ...
    def block(self, height: int) -> Block | None: ...
    def certificate(self, height: int) -> Certificate | None: ...
    def batch_at(self, height: int) -> FinalBatch | None: ...
    def named_at(self, blob: bytes) -> int | None: ...
    def append(self, blocks: tuple[Block, ...], certificate: Certificate | None, state: State) -> None: ...
    def find_stray(self, height: int, starts: Set[int], named: Mapping[bytes, int]) -> tuple[int, str] | None: ...
    def close(self) -> None: ...


def _writes(blocks: tuple[Block, ...], certificate: Certificate | None, state: State) -> list[tuple[bytes, bytes]]:
    writes = [(_height_key(b"b", block.height), block.encode()) for block in blocks]
    if certificate is not None:
        writes.append((_height_key(b"c", certificate.instance), certificate.encode()))
    writes.append((TIP, state.encode()))
    return writes


class KeyValueStore:
    """The store's logic over anything that gets and puts bytes; subclasses say where the bytes live."""

    def _get(self, key: bytes) -> bytes | None:
        raise NotImplementedError

    def _floor(self, prefix: bytes, key: bytes) -> bytes | None:
        """The value under the greatest key <= `key` that starts with `prefix`."""
        raise NotImplementedError

    def _put(self, writes: list[tuple[bytes, bytes]]) -> None:
        raise NotImplementedError

    def _keys(self) -> Iterator[bytes]:
        raise NotImplementedError

    def tip(self) -> State | None:
        """The state after the last final block; raises `StoreDamaged`."""
        data = self._get(TIP)
        return None if data is None else _decoded(State, data, "the state at the tip")

    def block(self, height: int) -> Block | None:
        """The block at `height`; raises `StoreDamaged`."""
        data = self._get(_height_key(b"b", height))
        return None if data is None else _decoded(Block, data, f"block #{height}")

    def certificate(self, height: int) -> Certificate | None:
        """The certificate of the batch that holds `height` (none for #0); raises `StoreDamaged`."""
        data = self._floor(b"c", _height_key(b"c", height))
        if data is None:
            return None
        found = _decoded(Certificate, data, f"the certificate of #{height}")
        return found if found.instance <= height <= found.last_height else None

    def batch_at(self, height: int) -> FinalBatch | None:
        """The final batch that starts at `height`, or None; raises `StoreDamaged`."""
        certificate = self.certificate(height)
        if certificate is None or certificate.instance != height:
            return None
        blocks = [self.block(at) for at in range(height, certificate.last_height + 1)]
        if any(block is None for block in blocks):
            raise StoreDamaged(f"a block of the batch at #{height} is missing: run `fedchain-node chain verify`")
        return FinalBatch(tuple(block for block in blocks if block is not None), certificate)

    def named_at(self, blob: bytes) -> int | None:
        """The height of the first final block that names this blob."""
        data = self._get(b"r" + blob)
        return None if data is None else int.from_bytes(data, "big")

    def append(self, blocks: tuple[Block, ...], certificate: Certificate | None, state: State) -> None:
        """Write a final batch and the state after it: atomic, and synced before this returns."""
        writes = _writes(blocks, certificate, state)
        named: dict[bytes, int] = {}
        for block in blocks:
            for blob in get_blob_refs(block):
                if self.named_at(blob) is None:
                    named.setdefault(blob, block.height)
        self._put(writes + [(b"r" + blob, height.to_bytes(8, "big")) for blob, height in named.items()])

    def find_stray(self, height: int, starts: Set[int], named: Mapping[bytes, int]) -> tuple[int, str] | None:
        """What is here beside the blocks up to `height`, a certificate for each batch start and the index `named`, or
        is wrong in that index: (height, reason). None of it is final, and yet it decides what this peer serves."""
        for key in self._keys():
            place = int.from_bytes(key[1:9], "big")
            expected = (
                key in (META, TIP)
                or (key == _height_key(b"b", place) and place <= height)
                or (key == _height_key(b"c", place) and place in starts)
                or (key[:1] == b"r" and key[1:] in named)
            )
            if not expected:
                at = min(place, height) if len(key) == 9 else height
                return at, f"the store holds a record that no block calls for (key {key[:40].hex()})"
        for blob, at in named.items():
            if self.named_at(blob) != at:
                return at, f"the store's index does not lead from blob {blob.hex()[:16]} to this block"
        return None


R = TypeVar("R", bound=Record)


def _decoded(cls: type[R], data: bytes, what: str) -> R:
    try:
        return cls.decode(data)
    except CodecError as error:
        raise StoreDamaged(f"{what} is damaged on disk: {error}") from error


class MemoryStore(KeyValueStore):
    """The store in memory, for simulations and tests: the same logic, nothing on disk."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}

    def _get(self, key: bytes) -> bytes | None:
        return self.data.get(key)

    def _floor(self, prefix: bytes, key: bytes) -> bytes | None:
        keys = [name for name in list(self.data) if name.startswith(prefix) and len(name) == len(key) and name <= key]
        return self.data[max(keys)] if keys else None

    def _put(self, writes: list[tuple[bytes, bytes]]) -> None:
        self.data.update(writes)

    def _keys(self) -> Iterator[bytes]:
        return iter(sorted(self.data))

    def close(self) -> None:
        """Nothing to close: the data stays, as a disk's would."""


class LevelStore(KeyValueStore):
    """The store in a LevelDB folder, opened by one process at a time."""

    def __init__(self, folder: Path, chain: bytes, create: bool = True) -> None:
        self.folder = folder
        self._db = _open(folder, create)
        try:
            self._check_meta(chain)
        except StoreError:
            self._db.close()
            raise

    def _check_meta(self, chain: bytes) -> None:
        meta = self._get(META)
        if meta is None:
            if any(True for _ in self._db.iterator(include_value=False)):
                raise StoreDamaged(f"{self.folder}: has data but no schema record: it is not a FedChain store")
            self._put([(META, pack([SCHEMA_VERSION, chain]))])
            return
        try:
            version, owner = unpack(meta)
            if type(owner) is not bytes:
                raise ValueError("the chain id is not bytes")
        except ValueError as error:
            raise StoreDamaged(f"{self.folder}: the schema record is damaged") from error
        if version != SCHEMA_VERSION:
            raise StoreError(f"{self.folder}: schema {version}, this program reads {SCHEMA_VERSION}: use its version")
        if owner != chain:
            raise StoreError(
                f"{self.folder}: holds chain {owner.hex()[:16]}, genesis.json founds {chain.hex()[:16]}: "
                "restore the genesis.json that this home was made with, or use another home"
            )

    def _get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key, verify_checksums=True)
        except plyvel.Error as error:
            raise StoreDamaged(f"{self.folder}: LevelDB cannot read ({error})") from error
        return value

    def _floor(self, prefix: bytes, key: bytes) -> bytes | None:
        try:
            with self._db.iterator(
                start=prefix, stop=key, include_stop=True, reverse=True, verify_checksums=True
            ) as rows:
                for _, value in rows:
                    found: bytes = value
                    return found
        except plyvel.Error as error:
            raise StoreDamaged(f"{self.folder}: LevelDB cannot read ({error})") from error
        return None

    def _put(self, writes: list[tuple[bytes, bytes]]) -> None:
        try:
            with self._db.write_batch(transaction=True, sync=True) as batch:
                for key, value in writes:
                    batch.put(key, value)
        except plyvel.IOError as error:
            raise OSError(
                28 if "No space" in str(error) else 5, f"LevelDB cannot write: {error}", str(self.folder)
            ) from error

    def _keys(self) -> Iterator[bytes]:
        try:
            with self._db.iterator(include_value=False, verify_checksums=True) as keys:
                yield from keys
        except plyvel.Error as error:
            raise StoreDamaged(f"{self.folder}: LevelDB cannot read ({error})") from error

    def heights(self) -> Iterator[int]:
        """The heights of all stored blocks, in order."""
        with self._db.iterator(prefix=b"b", include_value=False) as keys:
            for key in keys:
                if len(key) == 9:
                    yield int.from_bytes(key[1:], "big")

    def close(self) -> None:
        """Close the database and free its lock."""
        self._db.close()


def _open(folder: Path, create: bool) -> "plyvel.DB":
    if create:
        folder.parent.mkdir(parents=True, exist_ok=True)
    elif not (folder / "CURRENT").exists():
        raise StoreError(f"{folder}: there is no chain: start the peer once, or correct the path")
    try:
        return plyvel.DB(str(folder), create_if_missing=create, paranoid_checks=True)
    except plyvel.IOError as error:
        if "IO error: lock " in str(error):
            raise StoreLocked(f"{folder}: another process has it open: stop that peer first") from error
        raise StoreError(f"{folder}: LevelDB cannot open it ({error})") from error
    except plyvel.Error as error:
        raise StoreDamaged(f"{folder}: LevelDB cannot open it ({error})") from error

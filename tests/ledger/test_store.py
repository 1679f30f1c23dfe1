"""The chain on disk (Y2, A5): LevelDB and its twin in memory behave the same, and damage is named."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import plyvel
import pytest

from ledger.blobs import blob_ref
from ledger.codec import CodecError, pack
from ledger.store import (
    META,
    SCHEMA_VERSION,
    TIP,
    KeyValueStore,
    LevelStore,
    MemoryStore,
    StoreDamaged,
    StoreError,
    StoreLocked,
    get_blob_refs,
)
from ledger.types import FinalBatch
from tests.guards.helpers_guards import ROOT
from tests.ledger.helpers_ledger import ChainBuilder, play

BUILDER = play(ChainBuilder(n=6, c=2, k=4), 2)
CHAIN = BUILDER.genesis.chain_id
BATCHES: list[FinalBatch] = list(BUILDER.chain.batches())
MakeStore = Callable[[], KeyValueStore]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "chain"


@pytest.fixture(params=["level", "memory"])
def empty(request: pytest.FixtureRequest, folder: Path) -> Iterator[LevelStore | MemoryStore]:
    """A store of each kind."""
    store = LevelStore(folder, CHAIN) if request.param == "level" else MemoryStore()
    yield store
    store.close()


@pytest.fixture
def store(empty: LevelStore | MemoryStore) -> LevelStore | MemoryStore:
    """A store of each kind that holds two rounds."""
    play(ChainBuilder(n=6, c=2, k=4, store=empty), 2)
    return empty


def overwrite(store: KeyValueStore, key: bytes, value: bytes) -> None:
    """Damage one value behind the store's back."""
    if isinstance(store, MemoryStore):
        store.data[key] = value
    else:
        assert isinstance(store, LevelStore)
        store._db.put(key, value)


def height_key(prefix: bytes, height: int) -> bytes:
    return prefix + height.to_bytes(8, "big")


# ------------------------------------------------------------------------------------------ both stores alike


def test_a_new_store_is_empty(empty: LevelStore | MemoryStore) -> None:
    assert empty.tip() is None
    assert empty.block(0) is None
    assert empty.certificate(1) is None
    assert empty.batch_at(1) is None
    assert empty.named_at(bytes(32)) is None


def test_what_was_appended_is_read_back(store: KeyValueStore) -> None:
    assert store.tip() == BUILDER.state
    for batch in BATCHES:
        first, last = batch.blocks[0].height, batch.blocks[-1].height
        assert store.batch_at(first) == batch
        for block in batch.blocks:
            assert store.block(block.height) == block
            assert store.certificate(block.height) == batch.certificate
        for height in range(first + 1, last + 1):
            assert store.batch_at(height) is None  # no batch starts there
    assert store.block(0) == BUILDER.chain.genesis_block
    assert store.block(9) is None
    assert store.certificate(0) is None
    assert store.certificate(9) is None
    assert store.batch_at(9) is None


def test_each_blob_is_known_by_the_first_block_that_names_it(store: KeyValueStore) -> None:
    assert store.named_at(BUILDER.genesis.initial_model.blob) == 0
    for batch in BATCHES:
        for block in batch.blocks:
            for blob in get_blob_refs(block):
                assert store.named_at(blob) == block.height
    assert store.named_at(bytes(32)) is None


def test_a_model_that_stays_is_known_by_its_oldest_block(empty: LevelStore | MemoryStore) -> None:
    builder = ChainBuilder(n=4, c=1, k=3, store=empty)
    builder.full_round(accept=[])
    assert empty.named_at(builder.state.round.model.blob) == 0


def test_a_blob_named_twice_in_one_batch_is_known_by_the_first_of_the_two(empty: LevelStore | MemoryStore) -> None:
    builder = ChainBuilder(n=6, c=1, k=4, store=empty)
    same = blob_ref(b"copied")
    builder.append(*(builder.update_body(builder.offer(trainer, update=same)) for trainer in builder.trainers))
    assert empty.named_at(same.blob) == 1


def test_the_blobs_of_a_block_are_its_update_its_listed_offers_or_its_model() -> None:
    builder = ChainBuilder(n=6, c=2, k=5)
    accepted, rejected, *_ = builder.trainers
    slots, model = builder.full_round(accept=[accepted], reject=[rejected])
    update, close, empty_slot, _ = slots.blocks
    assert get_blob_refs(update) == [blob_ref(f"update 0 {builder.indices[accepted]}".encode()).blob]
    assert get_blob_refs(close) == [blob_ref(f"update 0 {builder.indices[rejected]}".encode()).blob]
    assert get_blob_refs(empty_slot) == []
    assert get_blob_refs(model.blocks[0]) == [builder.state.round.model.blob]


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"\x92\x01\x02", bytes(1000)])
def test_a_damaged_value_is_named(store: KeyValueStore, garbage: bytes) -> None:
    cases: list[tuple[bytes, Callable[[], object], str]] = [
        (TIP, store.tip, "the state at the tip is damaged on disk"),
        (height_key(b"b", 5), lambda: store.block(5), "block #5 is damaged on disk"),
        (height_key(b"c", 5), lambda: store.certificate(6), "the certificate of #6 is damaged on disk"),
    ]
    for key, read, message in cases:
        overwrite(store, key, garbage)
        with pytest.raises(StoreDamaged, match=message):
            read()


def test_a_batch_with_a_missing_block_is_named(empty: LevelStore | MemoryStore) -> None:
    batch = BATCHES[0]
    empty.append((BUILDER.chain.genesis_block,), None, BUILDER.state)
    empty.append(batch.blocks[:2], batch.certificate, BUILDER.state)
    with pytest.raises(StoreDamaged, match="a block of the batch at #1 is missing: run `fedchain-node chain verify`"):
        empty.batch_at(1)


def test_an_append_that_cannot_be_encoded_leaves_nothing(empty: LevelStore | MemoryStore) -> None:
    batch = BATCHES[0]
    bad = replace(batch.blocks[2], header=replace(batch.blocks[2].header, time_ms=-1))
    with pytest.raises(CodecError):
        empty.append((*batch.blocks[:2], bad), batch.certificate, BUILDER.state)
    assert empty.tip() is None
    assert [empty.block(height) for height in range(1, 4)] == [None] * 3
    assert empty.certificate(1) is None
    assert empty.named_at(get_blob_refs(batch.blocks[0])[0]) is None


def test_the_bare_logic_has_no_place_for_bytes() -> None:
    bare = KeyValueStore()
    for ask in (bare.tip, lambda: bare.certificate(1), lambda: bare.append((), None, BUILDER.state)):
        with pytest.raises(NotImplementedError):
            ask()


# --------------------------------------------------------------------------------------------------- LevelDB


def test_a_write_that_fails_half_way_leaves_nothing(folder: Path) -> None:
    # Y2: one atomic write for each batch
    store = LevelStore(folder, CHAIN)
    with pytest.raises(TypeError):
        store._put([(b"first", b"1"), (b"second", 2)])  # type: ignore[list-item]
    assert store._get(b"first") is None
    store.close()


def test_a_chain_survives_closing_and_opening(folder: Path) -> None:
    # Y2
    builder = play(ChainBuilder(n=6, c=2, k=4, store=LevelStore(folder, CHAIN)), 1)
    state = builder.state
    builder.store.close()
    again = ChainBuilder(n=6, c=2, k=4, store=LevelStore(folder, CHAIN, create=False))
    assert again.state == state
    play(again, 1)
    assert again.state == BUILDER.state
    store = again.store
    assert isinstance(store, LevelStore)
    assert list(store.heights()) == list(range(9))
    store.close()


def test_an_append_is_on_disk_when_it_returns(folder: Path) -> None:
    # Y2: the process dies at once after the append
    script = (
        "import os, sys; from pathlib import Path;"
        "from ledger.store import LevelStore; from tests.ledger.helpers_ledger import ChainBuilder, make_document;"
        "chain = make_document(n=6, committee_size=2, round_length=4).chain_id;"
        "b = ChainBuilder(n=6, c=2, k=4, store=LevelStore(Path(sys.argv[1]), chain)); b.full_round(); os._exit(9)"
    )
    result = subprocess.run([sys.executable, "-c", script, str(folder)], cwd=ROOT, check=False, timeout=60)
    assert result.returncode == 9
    store = LevelStore(folder, CHAIN)
    tip = store.tip()
    assert tip is not None
    assert tip.height == 4
    assert store.batch_at(1) == BATCHES[0]
    store.close()


def test_a_store_in_use_by_another_process_is_said_to_be_locked(folder: Path) -> None:
    store = LevelStore(folder, CHAIN)
    script = (
        "import sys; from pathlib import Path; from ledger.store import LevelStore, StoreLocked\n"
        "try:\n    LevelStore(Path(sys.argv[1]), bytes(32))\n"
        "except StoreLocked as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", script, str(folder)]
    result = subprocess.run(command, cwd=ROOT, check=False, timeout=60, capture_output=True, text=True)
    assert result.stdout.strip() == f"{folder}: another process has it open: stop that peer first", result.stderr
    store.close()


def test_a_store_opened_twice_by_one_process_is_said_to_be_locked(folder: Path) -> None:
    store = LevelStore(folder, CHAIN)
    with pytest.raises(StoreLocked, match="another process has it open: stop that peer first"):
        LevelStore(folder, CHAIN)
    store.close()
    LevelStore(folder, CHAIN).close()


def test_a_folder_that_is_a_file_is_not_called_locked(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    file.write_text("not a folder")
    with pytest.raises(StoreError, match="LevelDB cannot open it") as caught:
        LevelStore(file, CHAIN)
    assert not isinstance(caught.value, StoreLocked)


def test_a_missing_store_is_not_made_where_one_is_expected(folder: Path) -> None:
    with pytest.raises(StoreError, match="there is no chain: start the peer once, or correct the path"):
        LevelStore(folder, CHAIN, create=False)
    assert not folder.exists()


def test_the_store_of_another_chain_is_refused_and_freed(folder: Path) -> None:
    LevelStore(folder, CHAIN).close()
    with pytest.raises(StoreError, match=f"holds chain {CHAIN.hex()[:16]}, genesis.json founds 0000000000000000"):
        LevelStore(folder, bytes(32))
    LevelStore(folder, CHAIN).close()  # the refusal gave the lock back


def test_a_store_of_another_schema_is_refused(folder: Path) -> None:
    store = LevelStore(folder, CHAIN)
    overwrite(store, META, pack([SCHEMA_VERSION + 1, CHAIN]))
    store.close()
    with pytest.raises(StoreError, match="schema 2, this program reads 1: use its version"):
        LevelStore(folder, CHAIN)


@pytest.mark.parametrize(
    "meta", [b"", b"x", b"\x91\x01", pack([1, 5]), pack([1, "chain"]), pack([1, CHAIN, 3]), pack([[1]]), b"\xc0"]
)
def test_a_damaged_schema_record_is_named(folder: Path, meta: bytes) -> None:
    store = LevelStore(folder, CHAIN)
    overwrite(store, META, meta)
    store.close()
    with pytest.raises(StoreDamaged, match="the schema record is damaged"):
        LevelStore(folder, CHAIN)


def test_a_database_of_somebody_else_is_not_taken_over(folder: Path) -> None:
    folder.parent.mkdir()
    database = plyvel.DB(str(folder), create_if_missing=True)
    database.put(b"theirs", b"1")
    database.close()
    with pytest.raises(StoreDamaged, match="has data but no schema record: it is not a FedChain store"):
        LevelStore(folder, CHAIN)


def files_of(folder: Path, pattern: str) -> list[Path]:
    found = sorted(path for path in folder.glob(pattern) if path.stat().st_size)
    assert found
    return found


@pytest.mark.parametrize("pattern", ["MANIFEST-*", "CURRENT"])
def test_a_damaged_index_of_the_database_is_an_error_of_ours(folder: Path, pattern: str) -> None:
    play(ChainBuilder(n=6, c=2, k=4, store=LevelStore(folder, CHAIN)), 1).store.close()
    for path in files_of(folder, pattern):
        path.write_bytes(bytes(byte ^ 0x55 for byte in path.read_bytes()))
    with pytest.raises(StoreError, match=str(folder)):
        LevelStore(folder, CHAIN)


def test_damage_inside_the_database_is_noticed_by_its_checksums(folder: Path) -> None:
    builder = play(ChainBuilder(n=6, c=2, k=4, store=LevelStore(folder, CHAIN)), 2)
    builder.store.close()
    plyvel.DB(str(folder)).compact_range()  # from the log into tables
    for path in files_of(folder, "*.ldb"):
        data = bytearray(path.read_bytes())
        data[200:900] = bytes(700)
        path.write_bytes(bytes(data))
    with pytest.raises(StoreDamaged):  # noqa: PT012  whichever read comes first meets the damage
        store = LevelStore(folder, CHAIN)
        try:
            for height in range(9):
                store.block(height)
                store.certificate(height)
            store.tip()
        finally:
            store.close()


def test_a_disk_that_takes_no_more_is_an_os_error_and_nothing_is_lost(folder: Path) -> None:
    play(ChainBuilder(n=6, c=2, k=4, store=LevelStore(folder, CHAIN)), 1).store.close()
    script = (
        "import resource, sys; from pathlib import Path;"
        "from ledger.store import LevelStore; from tests.ledger.helpers_ledger import ChainBuilder, make_document;"
        "chain = make_document(n=6, committee_size=2, round_length=4).chain_id;"
        "b = ChainBuilder(n=6, c=2, k=4, store=LevelStore(Path(sys.argv[1]), chain));"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n    b.full_round()\n"
        "except OSError as error:\n    print(error.filename, error.strerror)\n"
    )
    command = [sys.executable, "-c", script, str(folder)]
    result = subprocess.run(command, cwd=ROOT, check=False, timeout=60, capture_output=True, text=True)
    assert result.stdout.startswith(f"{folder} LevelDB cannot write"), result.stderr
    store = LevelStore(folder, CHAIN)
    tip = store.tip()
    assert tip is not None
    assert tip.height == 4
    assert store.block(5) is None
    store.close()

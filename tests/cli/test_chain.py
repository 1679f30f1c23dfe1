"""`chain blocks`, `block`, `round` and `verify` on a chain on disk."""

import shutil
from itertools import pairwise
from pathlib import Path

import plyvel

from ledger.blobs import BlobStore
from ledger.genesis import load_genesis
from ledger.store import LevelStore
from ledger.types import EmptyBody, ModelBody, UpdateBody
from node.audit_home import open_home
from node.errors import ExitCode
from node.home import Home
from tests.cli.helpers_cli import Command, Ran


def verify(command: Command, home: Home) -> Ran:
    """`chain verify` of a home."""
    return command("chain", "verify", "--home", home.path)


def test_blocks_lists_heights_rounds_and_kinds(command: Command, chain_home: Home) -> None:
    blocks = command("chain", "blocks", "--home", chain_home.path, "--json").json
    assert [block["height"] for block in blocks] == list(range(10))
    assert [block["kind"] for block in blocks] == ["model"] + ["update", "empty", "model"] * 3  # H2, H4
    assert [block["round"] for block in blocks] == [None, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(later["parent"] == block["hash"] for block, later in pairwise(blocks))


def test_blocks_shows_the_part_that_was_asked_for(command: Command, chain_home: Home) -> None:
    where = ("--home", chain_home.path, "--json")
    assert [b["height"] for b in command("chain", "blocks", *where, "--limit", 2).json] == [8, 9]
    assert [b["height"] for b in command("chain", "blocks", *where, "--from", 3, "--limit", 2).json] == [3, 4]
    assert "close: 1 without" in command("chain", "blocks", "--home", chain_home.path).out


def test_blocks_beyond_the_tip_is_a_usage_error(command: Command, chain_home: Home) -> None:
    ran = command("chain", "blocks", "--home", chain_home.path, "--from", 10)
    assert ran.code == ExitCode.USAGE
    assert "#9" in ran.err


def test_block_shows_scores_and_who_signed(command: Command, chain_home: Home) -> None:
    block = command("chain", "block", 1, "--home", chain_home.path, "--json").json
    assert len(block["scores"]) == 2
    assert block["weight"] == block["offer"][0]["samples"]
    assert sorted(block["signed_by"]) == [f"peer-{index}" for index in range(6)]
    assert "offer 1: trainer" in command("chain", "block", 1, "--home", chain_home.path).out


def test_block_above_the_tip_is_a_usage_error(command: Command, chain_home: Home) -> None:
    ran = command("chain", "block", 99, "--home", chain_home.path)
    assert ran.code == ExitCode.USAGE
    assert "#9" in ran.err


def test_round_shows_committee_outcomes_and_scores(command: Command, chain_home: Home) -> None:
    found = command("chain", "round", 2, "--home", chain_home.path, "--json").json
    assert (found["height"], len(found["committee"])) == (9, 2)
    assert [item["outcome"] for item in found["trainers"]] == ["accepted", "rejected"]  # R4
    for item in found["trainers"]:
        assert {score["scorer"] for score in item["scores"]} == set(found["committee"])
    assert "rejected" in command("chain", "round", 2, "--home", chain_home.path).out


def test_round_that_is_not_final_is_a_usage_error(command: Command, chain_home: Home) -> None:
    ran = command("chain", "round", 3, "--home", chain_home.path)
    assert ran.code == ExitCode.USAGE
    assert "not final" in ran.err


def test_verify_covers_every_block_and_model_and_reports_its_speed(command: Command, chain_home: Home) -> None:
    found = command("chain", "verify", "--home", chain_home.path, "--json").json
    assert (found["height"], found["blocks"], found["models"]) == (9, 10, 4)
    assert found["blocks_per_s"] > 0
    assert found["mb_per_s"] > 0
    assert "blocks/s" in verify(command, chain_home).out


def all_blobs(home: Home) -> dict[bytes, int]:
    """Every blob that the chain names, and the height that names it first."""
    named: dict[bytes, int] = {}
    with open_home(home.path) as opened:
        for height in range(opened.tip().height + 1):
            body = opened.block(height).body
            if isinstance(body, UpdateBody):
                found = [body.offer.update.blob]
            elif isinstance(body, EmptyBody):
                found = [offer.update.blob for item in body.unfilled for offer in item.offer]
            else:
                assert isinstance(body, ModelBody)
                found = [body.model.blob]
            for blob in found:
                named.setdefault(blob, height)
    return named


def test_verify_names_the_block_of_every_blob_that_was_changed(command: Command, chain_home: Home) -> None:
    for blob, height in all_blobs(chain_home).items():
        path = BlobStore(chain_home.blobs).path(blob)
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
        ran = verify(command, chain_home)
        assert ran.code == ExitCode.VERIFY_FAILED
        assert f"block #{height} is wrong" in ran.err  # B1
        path.write_bytes(whole)
    assert verify(command, chain_home).code == 0


def test_verify_names_the_block_whose_blob_is_missing(command: Command, chain_home: Home) -> None:
    blob, height = next((blob, height) for blob, height in all_blobs(chain_home).items() if height == 4)
    BlobStore(chain_home.blobs).path(blob).unlink()
    ran = verify(command, chain_home)
    assert ran.code == ExitCode.VERIFY_FAILED
    assert f"block #{height} is wrong" in ran.err
    assert "missing" in ran.err


def test_blobs_that_a_stopped_peer_has_not_fetched_yet_are_pending(command: Command, chain_home: Home) -> None:
    blobs = BlobStore(chain_home.blobs)
    for blob, height in all_blobs(chain_home).items():
        if height >= 7:
            blobs.path(blob).unlink()
    ran = verify(command, chain_home)
    assert ran.code == 0
    assert "from #7 on" in ran.err
    assert command("chain", "verify", "--home", chain_home.path, "--json").json["pending_from"] == 7


def test_a_model_that_is_missing_in_the_middle_is_not_pending(command: Command, chain_home: Home) -> None:
    model = next(blob for blob, height in all_blobs(chain_home).items() if height == 6)
    BlobStore(chain_home.blobs).path(model).unlink()
    ran = verify(command, chain_home)
    assert ran.code == ExitCode.VERIFY_FAILED
    assert "block #6 is wrong: its model blob is missing" in ran.err


def test_verify_names_the_block_of_any_byte_that_was_changed(command: Command, chain_home: Home) -> None:
    database = plyvel.DB(str(chain_home.chain))
    rows = {key: value for key, value in database if key[:1] in (b"b", b"c") and len(key) == 9}
    database.close()
    for key, value in rows.items():
        at = len(value) // 2
        changed = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
        _put(chain_home, key, changed)
        ran = verify(command, chain_home)
        height = int.from_bytes(key[1:], "big")
        assert ran.code == ExitCode.VERIFY_FAILED, key
        named = f"block #{height} is wrong" if key[:1] == b"b" else f"#{height}"
        assert named in ran.err
        _put(chain_home, key, value)
    assert verify(command, chain_home).code == 0


def _put(home: Home, key: bytes, value: bytes) -> None:
    database = plyvel.DB(str(home.chain))
    database.put(key, value)
    database.close()


def test_verify_finds_an_aggregate_that_all_voters_signed_and_that_is_wrong(
    command: Command, chain_home: Home, tmp_path: Path
) -> None:
    # R7: another member's chain is consistent in itself; only the recomputation shows that its model was invented
    with open_home(chain_home.path) as opened:
        genesis = opened.genesis
    from tests.cli.helpers_cli import HomeBuilder

    homes = [Home(tmp_path / f"peer-{index}") for index in range(6)]
    builder = HomeBuilder(homes, genesis)
    try:
        builder.append(*builder.fill_slots())
        lie = builder.blobs.put_bytes(b"not the aggregate")
        builder.append(builder.model_body(lie))
    finally:
        builder.store.close()
    ran = verify(command, chain_home)
    assert ran.code == ExitCode.VERIFY_FAILED
    assert "block #12 is wrong: the model is not the aggregate" in ran.err


def test_a_chain_that_a_peer_has_open_is_locked(command: Command, chain_home: Home) -> None:
    store = LevelStore(chain_home.chain, load_genesis(chain_home.genesis).chain_id)
    try:
        ran = verify(command, chain_home)
    finally:
        store.close()
    assert ran.code == ExitCode.DATA_LOCKED
    assert "stop that peer first" in ran.err


def test_a_home_without_chain_and_a_home_that_is_not_there_are_told_apart(
    command: Command, chain_home: Home, tmp_path: Path
) -> None:
    assert command("chain", "blocks", "--home", tmp_path / "none").code == ExitCode.CONFIG
    shutil.rmtree(chain_home.chain)
    ran = verify(command, chain_home)
    assert ran.code == ExitCode.DATA_DAMAGED
    assert "start the peer once" in ran.err


def test_a_chain_of_another_genesis_is_refused(command: Command, chain_home: Home) -> None:
    text = chain_home.genesis.read_text()
    chain_home.genesis.write_text(text.replace('"chain": "tests"', '"chain": "other"'))
    ran = verify(command, chain_home)
    assert ran.code == ExitCode.DATA_DAMAGED
    assert "restore the genesis.json" in ran.err


def test_a_damaged_database_file_is_reported_and_not_followed(command: Command, chain_home: Home) -> None:
    for path in chain_home.chain.iterdir():
        if path.suffix in (".ldb", ".log") and path.stat().st_size > 100:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(bytes(data))
    ran = verify(command, chain_home)
    assert ran.code in (ExitCode.VERIFY_FAILED, ExitCode.DATA_DAMAGED)

"""An offer's seal: made with the update, compared with the blob before it is scored (B4, R3)."""

from pathlib import Path

import pytest

from consensus.events import Evaluate, Scored, Train, Trained
from fl.codes import InvalidCode
from fl.tensors import encode_tensors
from ledger.blobs import BlobStore, make_seal
from ledger.types import BlobRef
from node.errors import ExitCode
from tests.node.helpers_shell import key_of
from tests.node.helpers_workroom import HOLDER, ME, MODEL, ROUND, make_update, opened


@pytest.mark.parametrize("seal", [bytes(32), make_seal(ME, make_update()), make_seal(HOLDER, b"other bytes")])
async def test_an_offer_whose_maker_did_not_have_the_bytes_is_invalid_and_not_evaluated(
    tmp_path: Path, seal: bytes
) -> None:
    # B4, R3: the id alone is broadcast, and with it the seal of the trainer that is copied
    async with opened(tmp_path) as room:
        offer = room.offer(make_update(), seal=seal)
        room.workers.pause()
        room.room.evaluate(Evaluate(ROUND, offer, room.model))
        await room.until(lambda: bool(room.told(Scored)))
        assert room.told(Scored) == [Scored(ROUND, offer.id(), 0, 0, int(InvalidCode.SEAL))]
        assert room.workers.load == 0
        assert room.errors == []


async def test_a_copy_by_id_is_refused_while_the_same_bytes_under_another_seal_are_scored(tmp_path: Path) -> None:
    # B4: an honest duplicate stays legal, and in no order does the copy harm it
    async with opened(tmp_path) as room:
        copy, honest = room.offer(make_update(), seal=bytes(32)), room.offer(make_update())
        twin = room.offer(make_update(), key_of(2))
        for offer in (copy, honest, twin):
            room.room.evaluate(Evaluate(ROUND, offer, room.model))
        await room.until(lambda: len(room.told(Scored)) == 3)
        codes = {event.offer: event.code for event in room.told(Scored) if isinstance(event, Scored)}
        assert codes == {copy.id(): int(InvalidCode.SEAL), honest.id(): 0, twin.id(): 0}


async def test_a_blob_that_was_damaged_here_ends_the_peer_and_no_offer_is_blamed(tmp_path: Path) -> None:
    # A8: a fault of this machine's own
    async with opened(tmp_path) as room:
        offer = room.offer(make_update())
        ref = room.mine.put_bytes(make_update())
        room.mine.path(ref.blob).write_bytes(make_update(2.0))
        room.room.evaluate(Evaluate(ROUND, offer, room.model))
        await room.until(lambda: bool(room.errors))
        assert room.errors[0].exit_code is ExitCode.FAULTY_MACHINE
        assert "not the blob that its name says" in str(room.errors[0])
        assert room.told(Scored) == []


async def test_an_update_that_the_disk_lost_is_not_offered_and_ends_the_peer(tmp_path: Path) -> None:
    class LosingStore(BlobStore):
        def adopt(self, path: Path) -> BlobRef:
            ref = super().adopt(path)
            self.path(ref.blob).unlink()
            return ref

    blobs = LosingStore(tmp_path / "mine")
    blobs.put_bytes(encode_tensors(MODEL))
    async with opened(tmp_path, blobs=blobs) as room:
        room.room.train(Train(ROUND, room.model))
        await room.until(lambda: bool(room.errors))
        assert room.errors[0].exit_code is ExitCode.FAULTY_MACHINE
        assert room.told(Trained) == []

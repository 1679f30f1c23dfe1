"""Learning work: fetched, done by a worker, stored durably, told to the core; and every way in which it fails (R2, R3,
R7, A3, A8)."""

import asyncio
import errno
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from consensus.events import (
    Aggregate,
    Aggregated,
    Evaluate,
    Held,
    Scored,
    Train,
    Trained,
)
from fl.codecs import decode_delta
from fl.codes import InvalidCode
from fl.jobs import AggregateResult, Job, Result, TrainJob, TrainResult
from fl.tensors import decode_tensors, encode_tensors
from ledger.blobs import BlobStore, blob_ref, make_seal
from ledger.types import BlobRef
from node.errors import ExitCode
from node.workers import WorkError
from node.workroom import TRIES_MAX
from tests.node.helpers_workroom import (
    HOLDER,
    ME,
    MODEL,
    ROUND,
    WAIT_S,
    by_hand,
    make_offer,
    make_order,
    make_update,
    opened,
    work,
)

# --------------------------------------------------------------------------------------------------------- training


async def test_an_update_is_durable_before_the_core_hears_of_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        room.room.train(Train(ROUND, room.model))
        await room.until(lambda: bool(room.events))
        (trained,) = room.events
        assert isinstance(trained, Trained)
        assert (trained.round, trained.samples, trained.codec) == (ROUND, 64, "f32")
        data = room.mine.read(trained.update.blob)  # B3
        assert trained.seal == make_seal(ME, data)  # B4
        delta = decode_delta("f32", data, MODEL)
        assert np.any(delta["w"])


async def test_a_metric_may_be_called_like_anything(tmp_path: Path) -> None:
    """The linear task reports a metric named `round`: it must not end the peer."""

    def odd(job: Job) -> Result:
        result = work(job)
        assert isinstance(result, TrainResult)
        return TrainResult(result.samples, dict.fromkeys(("round", "norm", "message", "self"), 1.0), result.norm)

    async with opened(tmp_path, odd) as room:
        room.room.train(Train(ROUND, room.model))
        await room.until(lambda: bool(room.events or room.errors))
        assert room.errors == []


async def test_a_task_that_counts_no_samples_still_offers_one(tmp_path: Path) -> None:
    def idle(job: Job) -> Result:
        work(job)
        return TrainResult(0, {}, 0.0)

    async with opened(tmp_path, idle) as room:
        room.room.train(Train(ROUND, room.model))
        await room.until(lambda: bool(room.events))
        assert isinstance(room.events[0], Trained)
        assert room.events[0].samples == 1


# ---------------------------------------------------------------------------------------------------------- scoring


async def test_an_offer_is_fetched_from_its_trainer_and_scored(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        offer = room.offer(make_update())
        room.room.evaluate(Evaluate(ROUND, offer, room.model))
        await room.until(lambda: len(room.events) == 2)
        held, scored = room.events
        assert held == Held((offer.update,))
        assert isinstance(scored, Scored)
        assert (scored.round, scored.offer, scored.code) == (ROUND, offer.id(), 0)
        assert scored.value > scored.baseline
        assert room.mine.has(offer.update.blob)


@pytest.mark.parametrize(
    ("update", "code"),
    [
        ((8).to_bytes(8, "little") + b"not json", InvalidCode.MALFORMED),
        (b"a header that lies about its size", InvalidCode.SIZE),
        (make_update(1e9), InvalidCode.NORM),
        (encode_tensors({"w": np.full(3, np.nan, np.float32)}), InvalidCode.NOT_FINITE),
        (encode_tensors({"w": np.full(3, np.inf, np.float32)}), InvalidCode.NOT_FINITE),
        (encode_tensors({"w": np.zeros(2, np.float32)}), InvalidCode.SCHEMA),
        (encode_tensors({"v": np.zeros(3, np.float32)}), InvalidCode.SCHEMA),
        (make_update() + b"more", InvalidCode.SIZE),
    ],
    ids=["not-safetensors", "header-lie", "norm", "nan", "infinity", "shape", "name", "size"],
)
async def test_a_bad_update_is_scored_invalid_and_nothing_breaks(
    tmp_path: Path, update: bytes, code: InvalidCode
) -> None:
    async with opened(tmp_path) as room:
        offer = room.offer(update)
        room.room.evaluate(Evaluate(ROUND, offer, room.model))
        await room.until(lambda: bool(room.told(Scored)))
        assert room.told(Scored) == [Scored(ROUND, offer.id(), 0, 0, int(code))]
        assert room.errors == []


async def test_an_offer_that_lies_about_its_size_is_scored_invalid(tmp_path: Path) -> None:
    # R3: otherwise the offer stays undecided, and every such round waits for its deadline
    async with opened(tmp_path) as room:
        ref = blob_ref(make_update())
        offer = room.offer(make_update(), update=BlobRef(ref.blob, ref.size + 1))
        room.room.evaluate(Evaluate(ROUND, offer, room.model))
        await room.until(lambda: bool(room.told(Scored)))
        assert room.told(Scored) == [Scored(ROUND, offer.id(), 0, 0, int(InvalidCode.SIZE))]
        assert [type(event.code) for event in room.told(Scored) if isinstance(event, Scored)] == [int]
        assert not room.mine.has(ref.blob)


async def test_an_accepted_update_that_lies_about_its_size_ends_nothing(tmp_path: Path) -> None:
    # R7: without it the round goes on after `fetch_deadline`
    async with opened(tmp_path) as room:
        order = make_order(room, make_update())
        lie = replace(order.updates[0], update=BlobRef(order.updates[0].update.blob, 1))
        room.room.aggregate(replace(order, updates=(lie,)))
        await room.idle()
        assert room.told(Aggregated) == []
        assert room.errors == []


async def test_a_task_that_cannot_be_loaded_ends_the_peer(tmp_path: Path) -> None:
    # A8: a fault of this machine's own has a number
    async with opened(tmp_path) as room:
        room.workers.refuse(WorkError("start", "no such task"))
        room.room.prepare()
        await room.until(lambda: bool(room.errors))
        (error,) = room.errors
        assert error.exit_code is ExitCode.TASK
        assert "no such task" in str(error)


async def test_a_fetch_is_tried_until_the_holder_has_the_blob(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        update = make_update()
        offer = make_offer(update)
        room.room.evaluate(Evaluate(ROUND, offer, room.model))
        await room.until(lambda: len(room.waits) == 3)
        assert room.waits == [0.5, 1.0, 2.0]
        room.theirs.put_bytes(update)
        await room.until(lambda: bool(room.told(Scored)))


async def test_the_wait_between_two_fetches_is_bounded(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        room.room.evaluate(Evaluate(ROUND, make_offer(b"nowhere"), room.model))
        await room.until(lambda: len(room.waits) == 8)
        assert max(room.waits) == 10.0


async def test_a_holder_that_serves_other_bytes_is_not_scored_and_pays(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        room.holder.damage = lambda chunk: b"X" + chunk[1:]
        offer = room.offer(make_update())
        room.room.evaluate(Evaluate(ROUND, offer, room.model))
        await room.until(lambda: len(room.waits) == 2)
        assert room.events == []
        assert room.transport.stats(HOLDER).faults >= 1


# ------------------------------------------------------------------------------------------------------ aggregation


async def test_the_candidate_is_the_aggregate_of_the_fetched_updates(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        updates = make_update(), make_update(2.0)
        room.room.aggregate(make_order(room, *updates))
        await room.until(lambda: bool(room.told(Aggregated)))
        (told,) = room.told(Aggregated)
        assert told == Aggregated(ROUND, (), blob_ref(by_hand(*updates)))
        assert isinstance(told, Aggregated)
        assert room.mine.read(told.model.blob) == by_hand(*updates)
        assert len(room.told(Held)) == 2


async def test_a_missing_update_is_neither_fetched_nor_counted(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        order = make_order(room, make_update(), make_update(2.0))
        without = Aggregate(ROUND, order.model, order.updates, (2,), order.holders)
        room.room.aggregate(without)
        await room.until(lambda: bool(room.told(Aggregated)))
        assert room.told(Aggregated) == [Aggregated(ROUND, (2,), blob_ref(by_hand(make_update())))]
        assert not room.mine.has(order.updates[1].update.blob)


async def test_an_update_that_does_not_decode_weighs_nothing(tmp_path: Path) -> None:
    """R7: the same on every machine, so it must not stop this one."""
    async with opened(tmp_path) as room:
        room.room.aggregate(make_order(room, make_update(), b"accepted by colluding scorers"))
        await room.until(lambda: bool(room.told(Aggregated)))
        assert room.told(Aggregated) == [Aggregated(ROUND, (), blob_ref(by_hand(make_update())))]


async def test_an_aggregate_waits_for_the_model_that_it_starts_from(tmp_path: Path) -> None:
    """A3: what a restart owes is derived in the order of the rounds, whatever order it was asked in."""
    async with opened(tmp_path) as room:
        first = by_hand(make_update())
        base = decode_tensors(first)
        room.workers.pause()
        room.room.aggregate(make_order(room, make_update(3.0), round=1, model=blob_ref(first)))
        room.room.aggregate(make_order(room, make_update()))
        room.workers.resume()
        await room.until(lambda: len(room.told(Aggregated)) == 2)
        assert sorted(room.told(Aggregated), key=lambda told: isinstance(told, Aggregated) and told.round) == [
            Aggregated(0, (), blob_ref(first)),
            Aggregated(1, (), blob_ref(by_hand(make_update(3.0), base=base))),
        ]


async def test_a_model_that_arrives_while_one_looks_for_it_is_not_missed(tmp_path: Path) -> None:
    wanted = blob_ref(by_hand(make_update()))

    class StaleStore(BlobStore):
        """Answers of the wanted model what was true before it came."""

        came: threading.Event
        resume: Callable[[], object]
        stale = True

        def has(self, blob: bytes) -> bool:
            answer = super().has(blob)
            if blob == wanted.blob and self.stale:
                self.stale = False
                self.resume()
                assert self.came.wait(WAIT_S)
            return answer

    blobs = StaleStore(tmp_path / "mine")
    blobs.put_bytes(encode_tensors(MODEL))
    async with opened(tmp_path, blobs=blobs) as room:
        loop = asyncio.get_running_loop()
        blobs.came, blobs.resume = room.aggregated, lambda: loop.call_soon_threadsafe(room.workers.resume)
        room.workers.pause()
        room.room.aggregate(make_order(room, make_update()))
        room.room.train(Train(1, wanted))
        await room.until(lambda: bool(room.told(Trained)))
        assert [type(event) for event in room.events] == [Held, Aggregated, Trained]


async def test_an_aggregate_is_never_given_up(tmp_path: Path) -> None:
    failures = iter(["task", "timeout", "io", "full"])

    def failing(job: Job) -> Result:
        kind = next(failures, None)
        if kind is not None:
            raise WorkError(kind, "not now")  # type: ignore[arg-type]
        return work(job)

    async with opened(tmp_path, failing) as room:
        room.room.aggregate(make_order(room, make_update()))
        await room.until(lambda: bool(room.told(Aggregated)))
        assert room.waits == [0.5, 1.0, 2.0, 4.0]
        assert room.errors == []


# --------------------------------------------------------------------------------------------------------- failures


async def test_a_crashed_worker_gets_the_job_again(tmp_path: Path) -> None:
    tries: list[Job] = []

    def crashing(job: Job) -> Result:
        tries.append(job)
        if len(tries) < TRIES_MAX:
            raise WorkError("crashed", "the process ended")
        return work(job)

    async with opened(tmp_path, crashing) as room:
        room.room.train(Train(ROUND, room.model))
        await room.until(lambda: bool(room.told(Trained)))
        assert len(tries) == TRIES_MAX


@pytest.mark.parametrize(("kind", "tries"), [("crashed", TRIES_MAX), ("start", TRIES_MAX), ("task", 1), ("timeout", 1)])
async def test_work_that_keeps_failing_is_given_up_and_the_peer_goes_on(tmp_path: Path, kind: str, tries: int) -> None:
    jobs: list[Job] = []

    def failing(job: Job) -> Result:
        jobs.append(job)
        raise WorkError(kind, "again")  # type: ignore[arg-type]

    async with opened(tmp_path, failing) as room:
        room.room.train(Train(ROUND, room.model))
        await room.idle()
        assert len(jobs) == tries
        assert room.events == []
        assert room.errors == []


async def test_a_full_disk_of_a_worker_ends_the_peer(tmp_path: Path) -> None:
    def full(job: Job) -> Result:
        raise WorkError("disk-full", "OSError: No space left on device")

    async with opened(tmp_path, full) as room:
        room.room.train(Train(ROUND, room.model))
        await room.until(lambda: bool(room.errors))
        assert room.errors[0].exit_code is ExitCode.DISK_FULL
        assert "Free some space" in str(room.errors[0])


async def test_a_full_disk_under_the_store_ends_the_peer(tmp_path: Path) -> None:
    class FullStore(BlobStore):
        def adopt(self, path: Path) -> BlobRef:
            raise OSError(errno.ENOSPC, "No space left on device")

    blobs = FullStore(tmp_path / "mine")
    blobs.put_bytes(encode_tensors(MODEL))
    async with opened(tmp_path, blobs=blobs) as room:
        room.room.train(Train(ROUND, room.model))
        await room.until(lambda: bool(room.errors))
        assert room.errors[0].exit_code is ExitCode.DISK_FULL
        assert room.events == []


async def test_a_full_disk_while_fetching_ends_the_peer(tmp_path: Path) -> None:
    class FullStore(BlobStore):
        def put_bytes(self, data: bytes) -> BlobRef:
            if data == make_update():
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().put_bytes(data)

    blobs = FullStore(tmp_path / "mine")
    blobs.put_bytes(encode_tensors(MODEL))
    async with opened(tmp_path, blobs=blobs) as room:
        room.room.aggregate(make_order(room, make_update(), make_update(2.0)))
        await room.until(lambda: bool(room.errors))
        assert room.errors[0].exit_code is ExitCode.DISK_FULL


async def test_a_bug_of_our_own_ends_the_peer_and_names_the_work(tmp_path: Path) -> None:
    async with opened(tmp_path, lambda job: AggregateResult(0)) as room:  # no answer to what was asked
        room.room.train(Train(ROUND, room.model))
        await room.until(lambda: bool(room.errors))
        assert room.errors[0].exit_code is ExitCode.FAULTY_MACHINE
        assert "train-0" in str(room.errors[0])


# ------------------------------------------------------------------------------------------------------ end of work


async def test_the_end_of_a_round_cancels_its_work_and_no_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        room.workers.pause()
        room.room.train(Train(0, room.model))
        room.room.train(Train(1, room.model))
        room.room.evaluate(Evaluate(0, make_offer(b"nowhere"), room.model))
        await room.until(lambda: bool(room.waits))
        assert room.room.owed == 3
        room.room.end_round(0)
        room.workers.resume()
        await room.idle()
        assert [event.round for event in room.told(Trained) if isinstance(event, Trained)] == [1]
        assert room.workers.load == 0
        assert room.exchange.active == 0
        assert room.errors == []


async def test_work_that_was_cancelled_leaves_no_scratch(tmp_path: Path) -> None:
    half = asyncio.Event()

    def slow(job: Job) -> Result:
        assert isinstance(job, TrainJob)
        Path(job.update_path).write_bytes(b"half an update")
        half.set()
        raise WorkError("crashed", "in the middle")

    async with opened(tmp_path, slow) as room:
        room.room.train(Train(ROUND, room.model))
        await half.wait()
        assert len(list(room.work.glob("*.part"))) == 1
        room.room.end_round(ROUND)
        await room.idle()
        assert list(room.work.glob("*.part")) == []


async def test_what_a_dying_worker_still_writes_is_removed_with_the_next_work(tmp_path: Path) -> None:
    paths: list[Path] = []

    def noting(job: Job) -> Result:
        assert isinstance(job, TrainJob)
        paths.append(Path(job.update_path))
        if len(paths) == 1:
            raise WorkError("crashed", "in the middle")
        return work(job)

    async with opened(tmp_path, noting) as room:
        room.room.train(Train(0, room.model))
        await room.until(lambda: bool(room.waits))
        room.workers.pause()
        room.room.end_round(0)
        await room.idle()
        paths[0].write_bytes(b"after its cancellation")
        room.workers.resume()
        room.room.train(Train(1, room.model))
        await room.until(lambda: bool(room.told(Trained)))
        assert not paths[0].exists()


async def test_a_stop_ends_all_work(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        room.workers.pause()
        room.room.train(Train(ROUND, room.model))
        room.room.aggregate(make_order(room, make_update()))
        await room.room.stop()
        assert room.room.owed == 0
        assert room.told(Trained) == []


async def test_nothing_is_told_to_be_wrong_when_the_workers_are_closed(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        room.workers.pause()
        room.room.train(Train(ROUND, room.model))
        await asyncio.sleep(0)
        await room.workers.close()
        await room.idle()
        assert room.errors == []

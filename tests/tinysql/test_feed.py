"""Streams of batches: the same from any place on, fresh rows once each, documents packed with little padding."""

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_example
from tinysql.models.packing import Packing
from tinysql.tokens import Tokenizer
from tinysql.training import feed as feeds
from tinysql.training.batches import Batch, TrainingRows, pack, packed_batches
from tinysql.training.feed import Bucketed, Feed, Generated, Packed, Place, mixed_texts

SOURCES = tuple(
    DataConfig(command_sets=("cs1", "cs3"), lexicon="demo", max_columns=4, variant=v) for v in ("base", "nat")
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = (f"{prompt} {sql}" for prompt, sql in mixed_texts(SOURCES, range(300)))
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    Tokenizer.train(texts, vocab_size=600).save(file)
    return file


@pytest.fixture
def rows(tokenizer: Path) -> TrainingRows:
    return TrainingRows.encode(mixed_texts(SOURCES, range(200)), Tokenizer.load(tokenizer), n_ctx=400)


def feed_of(kind: str, rows: TrainingRows, tokenizer: Path, workers: int = 0) -> Feed:
    if kind == "bucketed":
        return Bucketed(rows, 16, 3, 0.0)
    if kind == "packed":
        return Packed(rows, 400, 4, 3, 0.0)
    return Generated(SOURCES, tokenizer, 400, 400, 8, 3, 0.0, workers=workers)


def same(a: Batch, b: Batch) -> bool:
    tensors = ("ids", "real", "places", "targets", "weights")
    alike = all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)
    if a.packing is None or b.packing is None:
        return alike and a.packing is b.packing
    assert a.packing.bounds is not None
    assert b.packing.bounds is not None
    return (
        alike
        and torch.equal(a.packing.segments, b.packing.segments)
        and torch.equal(a.packing.positions, b.packing.positions)
        and torch.equal(a.packing.bounds, b.packing.bounds)
        and (a.packing.longest, a.tokens) == (b.packing.longest, b.tokens)
    )


@pytest.mark.parametrize("kind", ["bucketed", "packed", "generated"])
@pytest.mark.parametrize("stop", [1, 5, 14])
def test_a_stream_goes_on_from_any_place(
    kind: str, stop: int, rows: TrainingRows, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "BLOCK", 200)
    feed = feed_of(kind, rows, tokenizer)
    whole = [batch for batch, _ in islice(feed.batches(Place()), 20)]
    [*_, (_, place)] = islice(feed.batches(Place()), stop)
    rest = [batch for batch, _ in islice(feed.batches(place), 20 - stop)]
    assert all(same(a, b) for a, b in zip(whole[stop:], rest, strict=True))
    assert not any(same(a, b) for i, a in enumerate(whole) for b in whole[:i])


def test_worker_processes_give_the_stream_of_one_process(rows: TrainingRows, tokenizer: Path) -> None:
    one, two = (
        [batch for batch, _ in islice(feed_of("generated", rows, tokenizer, workers).batches(Place(1, 2)), 3)]
        for workers in (0, 2)
    )
    assert all(same(a, b) for a, b in zip(one, two, strict=True))


def test_batches_of_other_processes_hold_no_files_open(rows: TrainingRows, tokenizer: Path) -> None:
    stream = feed_of("generated", rows, tokenizer, workers=1).batches(Place())
    before = len(os.listdir("/proc/self/fd"))
    kept = [batch for batch, _ in islice(stream, 40)]
    assert len(kept) == 40
    assert len(os.listdir("/proc/self/fd")) < before + 20  # of the process and its queues


def test_no_more_processes_make_rows_than_training_can_use(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Pool:
        def __init__(self, workers: int, *_: object, **__: object) -> None:
            asked.append(workers)
            raise InterruptedError

    monkeypatch.setattr(feeds, "ProcessPoolExecutor", Pool)
    for cores in (3, 200):
        monkeypatch.setattr(feeds, "spare_cores", lambda cores=cores: cores)
        feed = Generated(SOURCES, tokenizer, 400, 400, 8, 3, 0.0)
        with pytest.raises(InterruptedError):
            next(feed.batches(Place()))
    assert asked == [3, feeds.MOST_WORKERS]


def test_worker_processes_end_when_training_is_killed(tokenizer: Path) -> None:
    program = f"""
import multiprocessing, os, signal
from pathlib import Path
from data_gen.config import DataConfig
from tinysql.training import feed
if __name__ == "__main__":
    feed.BLOCK = 200
    sources = (DataConfig(command_sets=("cs1",), lexicon="demo", max_columns=3),)
    stream = feed.Generated(sources, Path({str(tokenizer)!r}), 400, 400, 2, 3, 0.0, workers=1)
    batches = stream.batches(feed.Place())
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    file = tokenizer.with_name("killed.py")
    file.write_text(program)
    # The worker holds the standard output too: the call returns when it has ended, or by the time limit.
    done = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, check=False, timeout=40
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split()


def test_a_worker_process_that_is_killed_is_told_in_a_sentence(
    rows: TrainingRows, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "AHEAD", 1)
    stream = feed_of("generated", rows, tokenizer, 1).batches(Place())
    next(stream)
    for worker in multiprocessing.active_children():
        worker.kill()
    with pytest.raises(InputError, match="a process that makes training rows was killed"):
        for _ in islice(stream, 1000):
            pass


def test_a_mixture_takes_its_sources_in_turn() -> None:
    texts = mixed_texts(SOURCES, range(7, 40))
    for number, text in enumerate(texts, start=7):
        example = make_example(SOURCES[number % 2], number // 2)
        assert text == (example.prompt.string, example.sql.string)


def test_a_packed_batch_holds_whole_rows_once_each(rows: TrainingRows) -> None:
    wanted = {tuple(rows.ids[a:b]) for a, b in zip(rows.starts[:-1], rows.starts[1:], strict=True)}
    found = []
    for batch in packed_batches(rows, width=300, batch_size=4, seed=[0], prompt_loss=0.0):
        for row in range(4):
            segments = batch.packing.segments[row]
            for document in segments.unique().tolist():
                ids = batch.ids[row][segments == document].tolist()
                if set(ids) != {rows.pad_id}:
                    found.append(tuple(ids))
                    assert batch.packing.positions[row][segments == document].tolist() == list(
                        range(len(ids))
                    )
    assert len(set(found)) == len(found)
    assert set(found) <= wanted
    assert len(found) > 0.85 * len(wanted)


def test_packed_answers_are_scored_and_nothing_else(rows: TrainingRows) -> None:
    batch = next(packed_batches(rows, width=300, batch_size=4, seed=[0], prompt_loss=0.0))
    answers = {
        tuple(rows.ids[a + skip : b])
        for a, b, skip in zip(rows.starts[:-1], rows.starts[1:], rows.answers, strict=True)
    }
    flat, segments = batch.ids.flatten(), batch.packing.segments.flatten()
    runs = np.split(batch.places.numpy(), np.flatnonzero(np.diff(batch.places.numpy()) > 1) + 1)
    assert {tuple(flat[run + 1].tolist()) for run in map(torch.from_numpy, runs)} <= answers
    assert torch.equal(flat[batch.places + 1], batch.targets)
    assert torch.equal(segments[batch.places], segments[batch.places + 1])
    assert batch.weights.sum().item() == pytest.approx(1)


def test_packing_wastes_less_than_a_tenth() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(30, 250, 3000)
    bins = pack(lengths, 512)
    assert sorted(row for some in bins for row in some) == list(range(3000))
    assert all(lengths[some].sum() <= 512 for some in bins)
    assert lengths.sum() > 0.97 * 512 * len(bins)


def test_a_row_longer_than_a_packed_row_is_refused() -> None:
    with pytest.raises(InputError, match="a row has 40 tokens and packed rows hold 30"):
        pack(np.array([10, 40]), 30)


def test_rows_that_do_not_fill_one_packed_batch_are_refused(rows: TrainingRows) -> None:
    # Without that, the stream would look for a batch for ever.
    with pytest.raises(
        InputError, match="200 documents fill .* rows of 400 tokens, fewer than a batch of 256"
    ):
        next(packed_batches(rows, width=400, batch_size=256, seed=[0], prompt_loss=0.0))


def test_fresh_rows_that_fit_no_packed_row_are_left_out(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "BLOCK", 200)
    feed = Generated(SOURCES, tokenizer, 400, 120, 2, 3, 0.0, workers=0)
    batch, _ = next(feed.batches(Place()))
    assert batch.ids.shape == (2, 120)


def test_rows_that_are_all_too_long_are_refused(tokenizer: Path) -> None:
    texts = mixed_texts(SOURCES, range(5))
    with pytest.raises(InputError, match="all 5 rows have more than 20 tokens"):
        TrainingRows.encode(texts, Tokenizer.load(tokenizer), n_ctx=20, drop_long=True)


@pytest.mark.parametrize("packed", [False, True])
def test_pieces_of_a_batch_add_up_to_it(rows: TrainingRows, packed: bool) -> None:
    batch = (
        next(packed_batches(rows, width=300, batch_size=4, seed=[0], prompt_loss=0.3))
        if packed
        else rows.batch(range(8), prompt_loss=0.3)
    )
    pieces = batch.split(2)
    assert torch.equal(torch.cat([piece.ids for piece in pieces]), batch.ids)
    assert torch.equal(torch.cat([piece.targets for piece in pieces]), batch.targets)
    assert sum(piece.weights.sum() for piece in pieces).item() == pytest.approx(1.3)
    for piece in pieces:
        assert torch.equal(piece.ids.flatten()[piece.places + 1], piece.targets)
        if packed:
            starts = piece.packing.bounds[:-1][piece.packing.bounds.diff() > 0]
            segments = piece.packing.segments
            begins = torch.ones_like(segments, dtype=torch.bool)
            begins[:, 1:] = segments.diff(dim=1) > 0
            assert starts.tolist() == begins.flatten().nonzero().flatten().tolist()


def test_pieces_of_a_packed_batch_without_bounds_keep_their_own_documents(rows: TrainingRows) -> None:
    batch = next(packed_batches(rows, width=300, batch_size=4, seed=[0], prompt_loss=0.0))
    bare = replace(batch, packing=Packing.of(batch.packing.segments))
    for piece, expected in zip(bare.split(4), batch.packing.segments, strict=True):
        assert piece.packing.segments.tolist() == [expected.tolist()]
        assert torch.equal(piece.packing.positions, Packing.of(expected[None]).positions)


def test_a_batch_that_cannot_be_shared_out_is_refused(rows: TrainingRows) -> None:
    with pytest.raises(InputError, match="a batch of 9 rows cannot be split into 2 equal parts"):
        rows.batch(range(9)).split(2)

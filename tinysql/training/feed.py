"""Recipe -> an endless, exactly repeatable stream of training batches.

Rows come in blocks: block *j* is a pure function of (recipe, *j*), made and tokenised by worker processes ahead of
need, or in this process when there are none. A stream can begin at any batch of any block, which is all that an
exact resume has to remember.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.store.cluster import end_with_parent
from data_gen.store.tables import rows_table
from tinysql.models.packing import Packing
from tinysql.tokens import Tokenizer
from tinysql.training.batches import Batch, BatchOrder, TrainingRows, packed_batches

BLOCK = 4096
"""Rows per block: enough to pack well and to hide what starting a block costs."""
AHEAD = 2
"""Blocks per worker that are made before they are needed."""
MOST_WORKERS = 16
"""Twice what `bm1` reads on an H100: a core makes .3 M tokens a second for it, and a process holds .5 GB."""


@dataclass(frozen=True)
class Place:
    """Where a stream stands: the next batch is number `taken` of block `block`."""

    block: int = 0
    taken: int = 0


@runtime_checkable
class Feed(Protocol):
    """A stream of batches from any place, each with the place behind it."""

    def batches(self, place: Place) -> Generator[tuple[Batch, Place]]:
        """Batches from `place` on, without end."""
        ...


@dataclass(frozen=True)
class Bucketed:
    """Rows in memory, shuffled every epoch; one document per row, rows of like length together."""

    rows: TrainingRows
    batch_size: int
    seed: int
    prompt_loss: float

    def batches(self, place: Place) -> Generator[tuple[Batch, Place]]:
        order = BatchOrder(self.rows.lengths, batch_size=self.batch_size, seed=self.seed)
        taken = place.taken
        while True:
            batch = self.rows.batch(order.rows(taken), prompt_loss=self.prompt_loss)
            taken += 1
            yield batch, Place(0, taken)


@dataclass(frozen=True)
class Packed:
    """Rows in memory, packed anew every epoch; an epoch is a block."""

    rows: TrainingRows
    width: int
    batch_size: int
    seed: int
    prompt_loss: float

    def batches(self, place: Place) -> Generator[tuple[Batch, Place]]:
        block = place.block
        while True:
            yield from _behind(place, block, self._block(block))
            block += 1

    def _block(self, block: int) -> Iterator[Batch]:
        return packed_batches(
            self.rows,
            width=self.width,
            batch_size=self.batch_size,
            seed=[self.seed, block],
            prompt_loss=self.prompt_loss,
        )


@dataclass(frozen=True)
class Generated:
    """Fresh rows straight from the generator, each seen once."""

    sources: Sequence[DataConfig]
    tokenizer: Path
    """File of the tokenizer."""
    n_ctx: int
    width: int
    batch_size: int
    seed: int
    prompt_loss: float
    workers: int | None = None
    """Processes that make rows; None means one less than this process may use cores, up to `MOST_WORKERS`; 0 means
    this process."""

    def batches(self, place: Place) -> Generator[tuple[Batch, Place]]:
        block = place.block
        for batches in self._blocks(block):
            yield from _behind(place, block, iter(batches))
            block += 1

    def block(self, tokenizer: Tokenizer, number: int) -> list[Batch]:
        """Batches of one block; rows longer than the context or a packed row are left out."""
        texts = mixed_texts(self.sources, range(number * BLOCK, (number + 1) * BLOCK))
        longest = min(self.n_ctx, self.width)
        rows = TrainingRows.encode(texts, tokenizer, n_ctx=longest, drop_long=True)
        return list(
            packed_batches(
                rows,
                width=self.width,
                batch_size=self.batch_size,
                seed=[self.seed, number],
                prompt_loss=self.prompt_loss,
            )
        )

    def _blocks(self, first: int) -> Iterator[list[Batch]]:
        workers = self.workers if self.workers is not None else min(spare_cores(), MOST_WORKERS)
        if not workers:
            tokenizer = Tokenizer.load(self.tokenizer)
            while True:
                yield self.block(tokenizer, first)
                first += 1
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(self,)) as pool:
            waiting: list[Future[list[dict[str, Any]]]] = []
            try:
                while True:
                    while len(waiting) < AHEAD * workers:
                        waiting.append(pool.submit(_make, first + len(waiting)))
                    yield [_batch(arrays) for arrays in waiting.pop(0).result()]
                    first += 1
            except BrokenProcessPool as error:
                raise InputError(
                    "a process that makes training rows was killed, perhaps for lack of memory",
                    hint="go on from the last checkpoint with --resume",
                ) from error
            finally:
                for future in waiting:
                    future.cancel()


def spare_cores() -> int:
    """The cores that this process may use, but for one."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return len(allowed) - 1


def _behind(place: Place, block: int, batches: Iterator[Batch]) -> Iterator[tuple[Batch, Place]]:
    """The batches of a block that lie behind `place`."""
    skip = place.taken if block == place.block else 0
    for number, batch in enumerate(batches):
        if number >= skip:
            yield batch, Place(block, number + 1)


def mixed_texts(sources: Sequence[DataConfig], rows: range) -> list[tuple[str, str]]:
    """Rows of a mixture as (prompt, SQL): row i is row `i // n` of source `i % n`."""
    found: list[tuple[str, str]] = [("", "")] * len(rows)
    for number, source in enumerate(sources):
        mine = [i for i in rows if i % len(sources) == number]
        if mine:
            some = range(mine[0] // len(sources), mine[-1] // len(sources) + 1)
            table = rows_table(source, some, ("prompt", "sql_statement"))
            texts = zip(table["prompt"].to_pylist(), table["sql_statement"].to_pylist(), strict=True)
            for i, text in zip(mine, texts, strict=True):
                found[i - rows.start] = text
    return found


_worker: tuple[Generated, Tokenizer] | None = None


def _start(feed: Generated) -> None:
    """Runs once in each worker."""
    global _worker
    end_with_parent()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    _worker = (feed, Tokenizer.load(feed.tokenizer))


def _make(number: int) -> list[dict[str, Any]]:
    """The batches of a block, as arrays: a tensor of another process keeps a file open for as long as it lives."""
    assert _worker is not None
    feed, tokenizer = _worker
    return [_arrays(batch) for batch in feed.block(tokenizer, number)]


def _arrays(source: Batch | Packing) -> dict[str, Any]:
    """Its fields, with arrays in place of tensors."""
    return {field.name: _plain(getattr(source, field.name)) for field in fields(source)}


def _plain(value: Any) -> Any:
    if isinstance(value, Packing):
        return _arrays(value)
    return value.numpy() if isinstance(value, Tensor) else value


def _batch(arrays: dict[str, Any]) -> Batch:
    """The batch that `_arrays` took apart."""
    packing = arrays["packing"]
    return Batch(**_tensors(arrays) | {"packing": packing and Packing(**_tensors(packing))})


def _tensors(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(a) if isinstance(a, np.ndarray) else a for name, a in arrays.items()}

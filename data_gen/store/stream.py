"""Config -> rows one after the other, as many as are wanted, in constant memory.

For a `torch.utils.data.IterableDataset`, worker i of n takes every n-th row (after `import data_gen`):

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        start, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return data_gen.stream(self.config, start=start, step=step)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import Example, make_examples
from data_gen.store.columns import COLUMNS
from data_gen.store.job import Record
from data_gen.store.tables import rows_table

BATCH, BULK = 256, 8192
"""Examples, and records, that are made together; it makes no difference to any of them."""


def stream(
    config: DataConfig, start: int = 0, stop: int | None = None, step: int = 1, *, batch: int = BATCH
) -> Iterator[Example]:
    """Rows `start`, `start + step`, ... below `stop`, or without end; each is `make_example`'s.

    Raises:
        InputError: a number that makes no sense.
    """
    ranges = _ranges(start, stop, step, batch)
    return (example for some in ranges for example in make_examples(config, some.start, some.stop, some.step))


def stream_records(
    config: DataConfig,
    start: int = 0,
    stop: int | None = None,
    step: int = 1,
    *,
    batch: int = BULK,
    columns: Sequence[str] = COLUMNS,
) -> Iterator[Record]:
    """The same rows as dictionaries with the columns of a dataset on disk, or some of them.

    Rows of the published command sets come many times faster than from `stream`.

    Raises:
        InputError: as `stream`.
    """
    ranges = _ranges(start, stop, step, batch)
    return (record for some in ranges for record in _records(config, some, columns))


def _records(config: DataConfig, some: range, columns: Sequence[str]) -> list[Record]:
    records: list[Record] = rows_table(config, some, columns).to_pylist()
    return records


def _ranges(start: int, stop: int | None, step: int, batch: int) -> Iterator[range]:
    if start < 0:
        raise InputError(f"start is {start}, expected 0 or more", hint="the first row is 0")
    for name, value in (("step", step), ("batch", batch)):
        if value < 1:
            raise InputError(
                f"{name} is {value}, expected at least 1", hint=f"leave out {name} for the usual one"
            )
    stride = step * batch
    if stop is None:
        return (range(first, first + stride, step) for first in count(start, stride))
    return (range(first, min(first + stride, stop), step) for first in range(start, stop, stride))

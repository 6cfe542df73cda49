"""What is to be written -> the names and rows of its shards, and which of them each part writes."""

from __future__ import annotations

import gc
import platform
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

from data_gen.errors import InputError
from data_gen.store.formats import check_format, encode_table

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 10_000
"""Most rows of a shard, unless told otherwise; a shard is made in memory."""
MOST_SHARD_ROWS = 1_000_000
"""Most rows that a shard may be told to have."""
MOST_FILES = 100_000
"""Most shards of a job: with longer numbers in their names, readers that sort names would mix up the order."""
FEWEST_SHARDS, FEWEST_ROWS = 8, 1_000
"""Data of some size come in at least so many shards, for several processes to share, but in no tiny ones."""

Record = dict[str, Any]
"""One row: column name -> plain value."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be written; two equal jobs write the same bytes, but for `made_by`."""

    kind: str
    """`dataset` or `pairs`."""
    settings: Record
    """Everything that determines the rows, as plain JSON values."""
    make: Callable[[int, int], pa.Table]
    """The rows from a start to a stop; a function that other processes can be sent."""
    split: str
    stem: str
    """Shards are called `<stem>-00000-of-00008.parquet`, ..."""
    rows: int
    format: str = "parquet"
    shard_rows: int | None = None

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise InputError(f"rows is {self.rows}, expected at least 1", hint="pass how many to write")
        if self.shard_rows is not None and self.shard_rows < 1:
            raise InputError(
                f"shard_rows is {self.shard_rows}, expected at least 1 row in a file",
                hint=f"leave it out to have up to {MOST_ROWS:,}",
            )
        check_format(self.format)
        self._check_size()

    def _check_size(self) -> None:
        largest = MOST_FILES * MOST_SHARD_ROWS
        if self.rows > largest:
            raise InputError(
                f"rows is {self.rows:,}, expected at most {largest:,}",
                hint="write several datasets, each with a --seed of its own",
            )
        if min(self.rows, self.rows_per_shard) > MOST_SHARD_ROWS:
            raise InputError(
                f"shard_rows is {self.rows_per_shard:,}, expected at most {MOST_SHARD_ROWS:,}: "
                "a file is made in memory",
                hint="leave --shard-rows out, or pass fewer",
            )
        if self.count > MOST_FILES:
            raise InputError(
                f"{self.rows:,} rows make {self.count:,} files of {self.rows_per_shard:,} rows, "
                f"expected at most {MOST_FILES:,} files",
                hint=f"pass --shard-rows {-(-self.rows // MOST_FILES)} or more",
            )

    @property
    def rows_per_shard(self) -> int:
        if self.shard_rows is not None:
            return self.shard_rows
        return min(MOST_ROWS, max(FEWEST_ROWS, -(-self.rows // FEWEST_SHARDS)))

    @property
    def count(self) -> int:
        """How many shards there are."""
        return -(-self.rows // self.rows_per_shard)

    def file(self, shard: int) -> str:
        """The name of a shard."""
        return f"{self.stem}-{shard:05d}-of-{self.count:05d}.{self.format}"

    @property
    def files(self) -> Iterator[str]:
        """The names of all shards, in order."""
        return map(self.file, range(self.count))

    def range(self, shard: int) -> tuple[int, int]:
        """The first row of a shard, and the first that it does not have any more."""
        return shard * self.rows_per_shard, min((shard + 1) * self.rows_per_shard, self.rows)

    def header(self) -> Record:
        """The job as JSON: what `unfinished.json` holds besides what made it; `config.json` adds the shards."""
        return {
            "kind": self.kind,
            **self.settings,
            "split": self.split,
            "rows": self.rows,
            "format": self.format,
            "shard_rows": self.rows_per_shard,
            "versions": self._versions(),
        }

    def _versions(self) -> dict[str, str]:
        """What the bytes depend on besides the settings; databases are chosen by what SQLite answers."""
        found = {name: _version(name) for name in ("tinysql", "pyarrow")}
        if self.settings.get("databases"):
            found |= {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
        return found

    def encode(self, shard: int) -> bytes:
        """The whole file of one shard."""
        with _without_collector():
            return encode_table(self.make(*self.range(shard)), self.format)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@contextmanager
def _without_collector() -> Iterator[None]:
    """Rows hold no cycles, and looking for some among millions of objects takes a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Part(NamedTuple):
    """One of several processes that write a job together, each a group of its shards; numbers begin at 0."""

    number: int = 0
    parts: int = 1

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read `i/n`.

        Raises:
            InputError: it is something else, or i is not one of 0 to n - 1.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text, re.ASCII)
        if match is None:
            raise InputError(
                f"shards is `{text}`, expected a part and the number of parts",
                hint="write i/n, for example 0/8",
            )
        return cls(int(match[1]), int(match[2])).check()

    def check(self) -> Part:
        """The part itself.

        Raises:
            InputError: there is no such part.
        """
        if self.parts < 1:
            raise InputError(
                f"shards is {self.number}/{self.parts}, expected at least 1 part",
                hint="the only part of 1 is 0/1",
            )
        if not 0 <= self.number < self.parts:
            raise InputError(
                f"shards is {self.number}/{self.parts}, expected a part from 0 to {self.parts - 1}",
                hint=f"the parts are 0/{self.parts} to {self.parts - 1}/{self.parts}",
            )
        return self

    def shards(self, job: Job) -> Sequence[int]:
        """The shards that this part writes.

        Raises:
            InputError: there are fewer shards than parts.
        """
        count = job.count
        if count < self.parts:
            raise InputError(
                f"{job.rows:,} rows make {count} file{'s'[: count > 1]}, fewer than the {self.parts} parts",
                hint=self._remedy(job),
            )
        return range(self.number, count, self.parts)

    def _remedy(self, job: Job) -> str:
        fewer = f"take at most {job.count:,} part{'s'[: job.count > 1]}"
        # So many rows a file leave one row at least for the last part.
        rows = (job.rows - 1) // (self.parts - 1)
        smallest = -(-job.rows // MOST_FILES)
        if rows >= smallest:
            return f"{fewer}, or --shard-rows {rows}"
        return f"{fewer}, or up to {-(-job.rows // smallest):,} with --shard-rows {smallest}"

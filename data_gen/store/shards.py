"""A job and its rows -> a directory of shards, each written whole or not at all, finished by `config.json`.

`unfinished.json` holds the job while it runs. A killed job leaves whole shards and that file, so `resume`
goes on with the shards that are missing and ends with the same bytes. `config.json` comes last and holds the
SHA-256 of each shard, so nothing cut short is ever read as whole. Shards can be written in any order, by several
processes or machines: which rows a shard holds, and so its bytes, depends on the job alone.
"""

from __future__ import annotations

import gc
import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_gen.errors import InputError
from data_gen.files import claim_directory, read_json, remove_leftovers, write_atomic
from data_gen.store.card import write_card
from data_gen.store.formats import (
    FORMATS,
    check_format,
    count_rows,
    encode_table,
    features,
    plain_schema,
    read_tables,
    side_files,
)

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 10_000
"""Most rows of a shard, unless told otherwise; a shard is made in memory."""
FEWEST_SHARDS, FEWEST_ROWS = 8, 1_000
"""Data of some size come in at least so many shards, for several processes to share, but in no tiny ones."""

Record = dict[str, Any]
"""One row: column name -> plain value."""
Report = Callable[[int, int], None]
"""Told how many rows are done, and of how many, after each shard."""


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
            raise InputError(f"rows is {self.rows}, expected at least 1")
        if self.shard_rows is not None and self.shard_rows < 1:
            raise InputError(f"shard_rows is {self.shard_rows}, expected at least 1 row in a file")
        check_format(self.format)

    @property
    def rows_per_shard(self) -> int:
        if self.shard_rows is not None:
            return self.shard_rows
        return min(MOST_ROWS, max(FEWEST_ROWS, -(-self.rows // FEWEST_SHARDS)))

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all shards."""
        count = -(-self.rows // self.rows_per_shard)
        return tuple(f"{self.stem}-{shard:05d}-of-{count:05d}.{self.format}" for shard in range(count))

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
            "versions": {name: _version(name) for name in ("tinysql", "pyarrow")},
        }

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
            raise InputError(f"shards is `{text}`, expected i/n, for example 0/8")
        return cls(int(match[1]), int(match[2])).check()

    def check(self) -> Part:
        """The part itself.

        Raises:
            InputError: there is no such part.
        """
        if not 0 <= self.number < self.parts:
            last = f"0/{self.parts} to {self.parts - 1}/{self.parts}" if self.parts else "0/1"
            raise InputError(
                f"shards is {self.number}/{self.parts}, expected a number below {self.parts}",
                hint=f"the parts are {last}",
            )
        return self

    def shards(self, job: Job) -> Sequence[int]:
        """The shards that this part writes.

        Raises:
            InputError: there are fewer shards than parts.
        """
        count = len(job.files)
        if count < self.parts:
            raise InputError(
                f"{job.rows:,} rows make {count} file{'s'[: count > 1]}, fewer than the {self.parts} parts",
                hint=f"take fewer parts, or --shard-rows {-(-job.rows // self.parts)}",
            )
        return range(self.number, count, self.parts)


Engine = Callable[[Job, Path, Sequence[int]], Iterator[tuple[int, str]]]
"""Writes these shards to the directory and tells of each, when it is written, its number and its SHA-256."""


def in_turn(job: Job, out: Path, shards: Sequence[int]) -> Iterator[tuple[int, str]]:
    """The engine of one process: one shard after the other."""
    for shard in shards:
        yield shard, write_shard(job, out, shard)


def write_shard(job: Job, out: Path, shard: int) -> str:
    """Write one shard and return its SHA-256.

    Raises:
        InputError: the disk is full, or the directory cannot be written.
    """
    data = job.encode(shard)
    write_atomic(out / job.files[shard], data)
    return sha256(data).hexdigest()


def write_job(
    job: Job,
    out: Path | str,
    *,
    part: Part | None = None,
    engine: Engine = in_turn,
    overwrite: bool = False,
    resume: bool = False,
    report: Report | None = None,
) -> Path:
    """Write `job`, or one part of it, to the directory `out`; the last part to end finishes the directory.

    Raises:
        InputError: `out` holds something else, cannot be written, or the disk is full. Whole shards stay.
    """
    out = Path(out)
    mine = (Part() if part is None else part.check()).shards(job)
    if part is not None and overwrite:
        raise InputError(
            "cannot overwrite with one part of a job: each part would delete what the others wrote",
            hint="empty the directory before the parts begin",
        )
    if not _claim(job, out, part, overwrite=overwrite, resume=resume):
        return out
    total = sum(stop - start for start, stop in map(job.range, mine))
    # A shard gets its name only when it is whole, so one that is there is done.
    missing = [shard for shard in mine if not _is_whole(job, out, shard)]
    done = total - sum(stop - start for start, stop in map(job.range, missing))
    digests: dict[int, str] = {}
    if report is not None and done:
        report(done, total)
    for shard, digest in engine(job, out, missing):
        digests[shard] = digest
        start, stop = job.range(shard)
        done += stop - start
        if report is not None:
            report(done, total)
    _finish(job, out, digests)
    return out


def _finish(job: Job, out: Path, digests: dict[int, str]) -> None:
    header = _begun(out)
    header.pop("shards", None)
    write_atomic(out / "README.md", write_card(header, f"{job.stem}-*.{job.format}"))
    if not all((out / name).exists() for name in job.files):
        # Another part is still at work, and the last one finishes.
        return
    if job.format == "arrow":
        with open(out / job.files[0], "rb") as file:
            import pyarrow as pa

            schema = features(plain_schema(pa.ipc.open_stream(file).schema))
        identity = json.dumps(job.header())
        for name, text in side_files(schema, job.files, job.split, identity).items():
            write_atomic(out / name, text)
    shards = [
        {"file": name, "sha256": digests.get(shard) or _digest(out / name)}
        for shard, name in enumerate(job.files)
    ]
    # The header as it was begun, so that `made_by` is the command that began it and not one that resumed it.
    write_atomic(out / "config.json", json.dumps({**header, "shards": shards}, indent=1) + "\n")
    (out / "unfinished.json").unlink(missing_ok=True)
    for name in job.files:
        # What writers of other machines left when they were killed.
        for leftover in out.glob(f".{name}.*.tmp"):
            leftover.unlink(missing_ok=True)


def _begun(out: Path) -> Record:
    """The header that the job was begun with."""
    unfinished = out / "unfinished.json"
    return read_json(unfinished if unfinished.is_file() else out / "config.json")


def _is_whole(job: Job, out: Path, shard: int) -> bool:
    """Whether a shard is there with all of its rows: ours are renamed when whole, but a file may be cut later."""
    path, (start, stop) = out / job.files[shard], job.range(shard)
    return path.is_file() and count_rows(path, job.format) == stop - start


def _claim(job: Job, out: Path, part: Part | None, *, overwrite: bool, resume: bool) -> bool:
    """Make `out` ready for the shards that are missing; False if none is."""
    unfinished, finished = out / "unfinished.json", out / "config.json"
    for attempt in range(20):
        if out.is_dir():
            remove_leftovers(out)
        if (resume or part is not None) and (finished.is_file() or unfinished.is_file()):
            _check_same(job, _begun(out), out)
            whole = all(_is_whole(job, out, shard) for shard in range(len(job.files)))
            if finished.is_file() and whole:
                unfinished.unlink(missing_ok=True)
                return False
            return True
        if unfinished.is_file() and not overwrite and not finished.is_file():
            raise InputError(
                f"output directory `{out}` holds an unfinished {job.kind}",
                hint="pass --resume to go on with it, or --overwrite to begin again",
            )
        try:
            claim_directory(out, overwrite, kind="dataset")
        except InputError:
            # Another part may be about to give `unfinished.json` its name.
            if part is None or attempt == 19 or not all(name.name.endswith(".tmp") for name in out.iterdir()):
                raise
            time.sleep(0.05)
            continue
        break
    write_atomic(unfinished, json.dumps({**job.header(), "made_by": _made_by()}, indent=1) + "\n")
    return True


def _made_by() -> Record:
    return {"command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}


def _check_same(job: Job, found: Record, out: Path) -> None:
    for key, value in job.header().items():
        if found.get(key) != value:
            raise InputError(
                f"cannot resume `{out}`: its {key} is {json.dumps(found.get(key))}, not {json.dumps(value)}",
                hint="repeat the command that began it, or pass --overwrite to begin again",
            )


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"cannot read shard `{path}`: {error.strerror}", hint="it is missing; write the data again"
        ) from error


def read_header(directory: Path | str) -> Record:
    """The `config.json` of a finished directory, whose shards are checked against it.

    Raises:
        InputError: the directory is none of ours, is unfinished, or a shard is missing, cut short or changed.
    """
    directory = Path(directory)
    if not (directory / "config.json").is_file():
        if (directory / "unfinished.json").is_file():
            raise InputError(
                f"`{directory}` is unfinished: it has no `config.json`",
                hint="go on with it by --resume and the command that began it",
            )
        raise InputError(
            f"`{directory}` is no dataset: it has no `config.json`", hint="write one with `tinysql data make`"
        )
    header = read_json(directory / "config.json")
    if header.get("format") not in FORMATS or not isinstance(header.get("shards"), list):
        raise InputError(
            f"`{directory / 'config.json'}` describes no dataset: it has no `format` and `shards`",
            hint="give a directory that `tinysql data make` wrote",
        )
    for shard in header["shards"]:
        if not _is_shard(shard):
            raise InputError(
                f"`{directory / 'config.json'}` holds the shard {json.dumps(shard)}, "
                "expected the name of a file beside it and its SHA-256",
                hint="write the dataset again with --overwrite",
            )
        found = _digest(directory / shard["file"])
        if found != shard["sha256"]:
            raise InputError(
                f"shard `{directory / shard['file']}` is cut short or changed: "
                f"its SHA-256 is {found[:12]}..., expected {shard['sha256'][:12]}...",
                hint="write the dataset again with --overwrite",
            )
    return header


def _is_shard(shard: Any) -> bool:
    if not isinstance(shard, dict):
        return False
    file, digest = shard.get("file"), shard.get("sha256")
    # A plain name, so that nothing outside the directory is read.
    return isinstance(file, str) and isinstance(digest, str) and bool(re.fullmatch(r"\w[\w.-]*", file))


def read_shards(directory: Path | str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The tables of a finished directory in order; all shards are checked before the first is given.

    The tables have all columns, or these.

    Raises:
        InputError: as `read_header`.
    """
    header = read_header(directory)
    paths = [Path(directory) / shard["file"] for shard in header["shards"]]
    return (table for path in paths for table in read_tables(path, header["format"], columns))

"""A job and its rows -> a directory of shards, each written whole or not at all, finished by `config.json`.

`unfinished.json` holds the job while it runs. A killed job leaves whole shards, their SHA-256 and that file, so
`resume` goes on with the shards that are missing or changed and ends with the same bytes. `config.json` comes last
and holds the SHA-256 of each shard, so nothing cut short is ever read as whole. Shards can be written in any order, by
several processes or machines: which rows a shard holds, and so its bytes, depends on the job alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from data_gen.errors import InputError
from data_gen.files import read_json, remove_leftovers, write_atomic
from data_gen.store.card import write_card
from data_gen.store.claim import (
    FINISHED,
    begun_header,
    check_finished,
    check_same,
    claim,
    digest,
    is_shard,
    is_whole,
    record_digest,
    recorded_digests,
    remove_traces,
)
from data_gen.store.formats import FORMATS, features, plain_schema, read_tables, side_files
from data_gen.store.job import Job, Part, Record

if TYPE_CHECKING:
    import pyarrow as pa

Report = Callable[[int, int], None]
"""Told how many rows are done, and of how many, after each shard."""

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
    write_atomic(out / job.file(shard), data)
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
    own = Part() if part is None else part.check()
    mine = own.shards(job)
    if part is not None and overwrite:
        raise InputError(
            "cannot overwrite with one part of a job: each part would delete what the others wrote",
            hint="empty the directory before the parts begin",
        )
    if overwrite and resume:
        raise InputError(
            "cannot both overwrite and resume: one begins again, the other keeps what is there",
            hint="pass --overwrite or --resume, not both",
        )
    if not claim(job, out, part, overwrite=overwrite, resume=resume):
        return out
    total = sum(stop - start for start, stop in map(job.range, mine))
    recorded = recorded_digests(out, job)
    missing = [shard for shard in mine if not is_whole(job, out, shard, recorded)]
    done = total - sum(stop - start for start, stop in map(job.range, missing))
    if report is not None and done:
        report(done, total)
    for shard, found in engine(job, out, missing):
        record_digest(out, job, own, job.file(shard), found)
        start, stop = job.range(shard)
        done += stop - start
        if report is not None:
            report(done, total)
    _finish(job, out)
    return out


def _finish(job: Job, out: Path) -> None:
    header = begun_header(out)
    if header is None:
        raise InputError(f"`{out}` was emptied while data were written to it", hint="write the data again")
    # Another command may have begun its own job here with --overwrite, and it is the one to finish.
    check_same(job, header, out)
    header.pop("shards", None)
    write_atomic(out / "README.md", write_card(header, f"{job.stem}-*.{job.format}"))
    if not all((out / name).exists() for name in job.files):
        # Another part is still at work, and the last one finishes.
        return
    if job.format == "arrow":
        with open(out / job.file(0), "rb") as file:
            import pyarrow as pa

            schema = features(plain_schema(pa.ipc.open_stream(file).schema))
        identity = json.dumps(job.header())
        for name, text in side_files(schema, list(job.files), job.split, identity).items():
            write_atomic(out / name, text)
    recorded = recorded_digests(out, job)
    shards = [{"file": name, "sha256": recorded.get(name) or digest(out / name)} for name in job.files]
    # The header as it was begun, so that `made_by` is the command that began it and not one that resumed it.
    write_atomic(out / FINISHED, json.dumps({**header, "shards": shards}, indent=1) + "\n")
    remove_traces(out)
    # All shards have their names, so of other machines too only killed writers left parts of any.
    remove_leftovers(out, set(job.files), elsewhere=True)


_KINDS = {str: "text", int: "a whole number", dict: "an object"}
_HEADER = {"kind": str, "config": dict, "split": str, "rows": int, "shard_rows": int, "versions": dict}
"""What `config.json` says besides `format` and `shards` -> its type."""


def read_header(directory: Path | str) -> Record:
    """The `config.json` of a finished directory, whose shards are checked against it.

    Raises:
        InputError: the directory is none of ours, is unfinished, or a shard is missing, cut short or changed.
    """
    directory = Path(directory)
    check_finished(directory)
    if not (directory / FINISHED).is_file():
        raise InputError(
            f"`{directory}` is no dataset: it has no `config.json`", hint="write one with `tinysql data make`"
        )
    header = read_json(directory / FINISHED)
    _check_header(header, directory / FINISHED)
    for shard in header["shards"]:
        found = digest(directory / shard["file"])
        if found != shard["sha256"]:
            raise InputError(
                f"shard `{directory / shard['file']}` is cut short or changed: "
                f"its SHA-256 is {found[:12]}..., expected {shard['sha256'][:12]}...",
                hint="write the dataset again: `tinysql data make --overwrite`",
            )
    return header


def _check_header(header: Record, path: Path) -> None:
    if header.get("format") not in FORMATS or not isinstance(header.get("shards"), list):
        raise InputError(
            f"`{path}` describes no dataset: it has no `format` and `shards`",
            hint="give a directory that `tinysql data make` wrote",
        )
    for shard in header["shards"]:
        if not is_shard(shard):
            raise InputError(
                f"`{path}` holds the shard {json.dumps(shard)}, "
                "expected the name of a file beside it and its SHA-256",
                hint="write the dataset again: `tinysql data make --overwrite`",
            )
    for name, kind in _HEADER.items():
        if type(header.get(name)) is not kind:
            raise InputError(
                f"`{path}` has {json.dumps(header.get(name))[:60]} for `{name}`, expected {_KINDS[kind]}",
                hint="write the dataset again: `tinysql data make --overwrite`",
            )


def read_shards(directory: Path | str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The tables of a finished directory in order; all shards are checked before the first is given.

    The tables have all columns, or these.

    Raises:
        InputError: as `read_header`.
    """
    header = read_header(directory)
    paths = [Path(directory) / shard["file"] for shard in header["shards"]]
    return (table for path in paths for table in read_tables(path, header["format"], columns))

"""A job and its rows -> a directory of shards, each written whole or not at all, finished by `config.json`.

`unfinished.json` holds the job while it runs. A killed job leaves whole shards and that file, so `resume`
goes on after the last whole shard and ends with the same bytes. `config.json` comes last and holds the
SHA-256 of each shard, so nothing cut short is ever read as whole.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from data_gen.errors import InputError, nearest
from data_gen.files import claim_directory, read_json, remove_leftovers, write_atomic

FORMATS = ("parquet", "jsonl")
SHARD_ROWS = 10_000

Record = dict[str, Any]
"""One row: column name -> plain value."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be written; two equal jobs write the same bytes, but for `made_by`."""

    kind: str
    """`dataset` or `pairs`."""
    settings: Record
    """Everything that determines the rows, as plain JSON values."""
    columns: Record
    """Column name -> Arrow type in the notation of `datasets.Features`, in plain form: see `_features`."""
    stem: str
    """Shards are called `<stem>-00000.parquet`, ..."""
    rows: int
    format: str = "parquet"
    shard_rows: int = SHARD_ROWS

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise InputError(f"rows is {self.rows}, expected at least 1")
        if self.format not in FORMATS:
            raise InputError(
                f"no format `{self.format}`{nearest(self.format, FORMATS)}",
                hint=f"formats: {', '.join(FORMATS)}",
            )

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all shards."""
        count = -(-self.rows // self.shard_rows)
        return tuple(f"{self.stem}-{shard:05d}.{self.format}" for shard in range(count))

    def header(self) -> Record:
        """The job as JSON: what `unfinished.json` holds besides what made it; `config.json` adds the shards."""
        libraries = ("datasets", "pyarrow") if self.format == "parquet" else ()
        return {
            "kind": self.kind,
            **self.settings,
            "rows": self.rows,
            "format": self.format,
            "shard_rows": self.shard_rows,
            "versions": {name: _version(name) for name in ("tinysql", *libraries)},
        }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def write_job(
    job: Job,
    row_of: Callable[[int], Record],
    out: Path | str,
    *,
    overwrite: bool = False,
    resume: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Path:
    """Write all rows of `job` to the directory `out`; `report(done, rows)` is called after each shard.

    Raises:
        InputError: `out` holds something else, cannot be written, or the disk is full. Whole shards stay.
    """
    out = Path(out)
    if not _claim(job, out, overwrite=overwrite, resume=resume):
        return out
    for shard, name in enumerate(job.files):
        start, stop = shard * job.shard_rows, min((shard + 1) * job.shard_rows, job.rows)
        # A shard gets its name only when it is whole, so one that is there is done.
        if not (out / name).exists():
            write_atomic(out / name, _encode(job, [row_of(index) for index in range(start, stop)]))
        if report is not None:
            report(stop, job.rows)
    shards = [{"file": name, "sha256": _digest(out / name)} for name in job.files]
    # The header as it was begun, so that `made_by` is the command that began it and not one that resumed it.
    header = read_json(out / "unfinished.json")
    write_atomic(out / "config.json", json.dumps({**header, "shards": shards}, indent=1) + "\n")
    (out / "unfinished.json").unlink()
    return out


def _claim(job: Job, out: Path, *, overwrite: bool, resume: bool) -> bool:
    """Make `out` ready for the shards that are missing; False if none is."""
    unfinished, finished = out / "unfinished.json", out / "config.json"
    if resume and (finished.is_file() or unfinished.is_file()):
        done = finished.is_file()
        _check_same(job, read_json(finished if done else unfinished), out)
        remove_leftovers(out)
        if done:
            unfinished.unlink(missing_ok=True)
        return not done
    if unfinished.is_file() and not overwrite and not finished.is_file():
        raise InputError(
            f"output directory `{out}` holds an unfinished {job.kind}",
            hint="pass --resume to go on with it, or --overwrite to begin again",
        )
    claim_directory(out, overwrite, kind="dataset")
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


def _encode(job: Job, records: list[Record]) -> bytes:
    if job.format == "jsonl":
        return "".join([json.dumps(record) + "\n" for record in records]).encode()
    # Both take over a second to import, and JSON lines need neither.
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    table = pa.Table.from_pylist(records, schema=_features(job.columns).arrow_schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _features(columns: Record) -> Any:
    """`datasets.Features` of a plain description: a type name, `[item]` for a list, or a dict."""
    from datasets import Features, List, Value

    def feature(kind: Any) -> Any:
        if isinstance(kind, str):
            return Value(kind)
        if isinstance(kind, list):
            return List(feature(kind[0]))
        return {name: feature(part) for name, part in kind.items()}

    return Features({name: feature(kind) for name, kind in columns.items()})


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
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


def read_records(directory: Path | str) -> Iterator[Record]:
    """The rows of a finished directory in order; all shards are checked before the first row.

    Raises:
        InputError: as `read_header`.
    """
    return _records(Path(directory), read_header(directory))


def _records(directory: Path, header: Record) -> Iterator[Record]:
    for shard in header["shards"]:
        path = directory / shard["file"]
        if header["format"] == "jsonl":
            with open(path, encoding="utf-8") as lines:
                yield from map(json.loads, lines)
        else:
            import pyarrow.parquet as pq

            yield from pq.read_table(path).to_pylist()

"""Config -> a dataset on disk (Parquet or JSON lines), and back to rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from data_gen.config import DataConfig
from data_gen.counterfactual import make_pair
from data_gen.errors import InputError
from data_gen.example import Example, make_example
from data_gen.shards import SHARD_ROWS, Job, Record, read_header, read_records, write_job
from data_gen.text import Text

_ROLES = [{"start": "int32", "end": "int32", "role": "string"}]

COLUMNS: Record = {
    "index": "int64",
    "command_set": "string",
    "split": "string",
    "english": "string",
    "schema": "string",
    "prompt": "string",
    "sql": "string",
    "query": "string",
    "roles": _ROLES,
}
"""Columns of a dataset; `roles` covers `prompt + " " + sql`, `query` is JSON for `Query.from_json`."""

_SIDE = ("prompt", "sql", "query", "roles")
PAIR_COLUMNS: Record = {
    "index": "int64",
    "edit": "string",
    "command_set": "string",
    "split": "string",
    **{f"{side}_{name}": COLUMNS[name] for side in ("clean", "corrupt") for name in _SIDE},
}
"""Columns of a file of counterfactual pairs."""


def _roles(text: Text) -> list[Record]:
    return [span._asdict() for span in text.spans]


def example_record(config: DataConfig, example: Example) -> Record:
    """One row of a dataset, with the columns `COLUMNS`."""
    return {
        "index": example.index,
        "command_set": example.query.command_set,
        "split": config.split,
        "english": example.english.string,
        "schema": example.schema_text.string,
        "prompt": example.prompt.string,
        "sql": example.sql.string,
        "query": example.query.to_json(),
        "roles": _roles(example.text),
    }


def write_dataset(
    config: DataConfig,
    rows: int,
    out: Path | str,
    format: str = "parquet",
    overwrite: bool = False,
    resume: bool = False,
    *,
    shard_rows: int = SHARD_ROWS,
    report: Callable[[int, int], None] | None = None,
) -> Path:
    """Write rows 0 to `rows - 1` of `config` to the directory `out`; `report(done, rows)` follows each shard.

    Raises:
        InputError: rows is not positive, the format is unknown, `out` is not empty (and neither `overwrite`
            nor a fitting `resume`), or the disk is full; whole shards stay and `resume` goes on after them.
    """
    job = Job(
        kind="dataset",
        settings={"config": config.to_dict()},
        columns=COLUMNS,
        stem=config.split,
        rows=rows,
        format=format,
        shard_rows=shard_rows,
    )

    def row(index: int) -> Record:
        return example_record(config, make_example(config, index))

    return write_job(job, row, out, overwrite=overwrite, resume=resume, report=report)


def write_pairs(
    config: DataConfig,
    edit: str,
    rows: int,
    out: Path | str,
    format: str = "parquet",
    overwrite: bool = False,
    resume: bool = False,
    *,
    shard_rows: int = SHARD_ROWS,
    report: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the pairs that `counterfactuals(config, edit=edit, n=rows)` gives to the directory `out`.

    Raises:
        InputError: as `write_dataset` and `make_pair`.
    """
    config = replace(config, random_names=0.0)
    job = Job(
        kind="pairs",
        settings={"config": config.to_dict(), "edit": edit},
        columns=PAIR_COLUMNS,
        stem=f"{config.split}-pairs",
        rows=rows,
        format=format,
        shard_rows=shard_rows,
    )
    # An edit that cannot be made is found out before anything is written.
    make_pair(config, edit, 0)

    def row(index: int) -> Record:
        pair = make_pair(config, edit, index)
        sides = {"clean": pair.clean, "corrupt": pair.corrupt}
        record = {side: example_record(config, example) for side, example in sides.items()}
        return {
            "index": index,
            "edit": edit,
            "command_set": record["clean"]["command_set"],
            "split": config.split,
            **{f"{side}_{name}": record[side][name] for side in sides for name in _SIDE},
        }

    return write_job(job, row, out, overwrite=overwrite, resume=resume, report=report)


def read_dataset(directory: Path | str) -> Iterator[Record]:
    """The rows of a dataset that `write_dataset` finished, in order, with the columns `COLUMNS`.

    Every shard is checked before the first row is given.

    Raises:
        InputError: the directory is no dataset, is unfinished, or a shard is missing, cut short or changed.
    """
    return read_records(directory)


def read_config(directory: Path | str) -> DataConfig:
    """The config that a finished dataset was written from.

    Raises:
        InputError: as `read_dataset`.
    """
    header = read_header(directory)
    if not isinstance(header.get("config"), dict):
        raise InputError(f"`{directory}/config.json` has no `config`", hint="write the dataset again")
    return DataConfig.from_dict(header["config"])

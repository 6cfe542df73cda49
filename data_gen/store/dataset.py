"""Config -> a dataset on disk (Parquet, JSON lines or Arrow), and back to rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from data_gen.config import DataConfig
from data_gen.errors import InputError, nearest
from data_gen.example import make_example, make_examples
from data_gen.outputs import check_apart
from data_gen.store.columns import COLUMNS as COLUMNS
from data_gen.store.job import Job, Part, Record
from data_gen.store.pair_columns import PAIR_COLUMNS as PAIR_COLUMNS
from data_gen.store.pair_columns import TOKEN_COLUMNS as TOKEN_COLUMNS
from data_gen.store.pair_columns import pair_table
from data_gen.store.shards import Engine, Report, in_turn, read_shards, write_job
from data_gen.store.tables import rows_table

if TYPE_CHECKING:
    import pyarrow as pa

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
DATABASES = "databases"
"""The column, written on request, of databases that tell a row's right answer from wrong ones: INSERT statements."""


def write_dataset(
    config: DataConfig,
    rows: int,
    out: Path | str,
    format: str = "parquet",
    overwrite: bool = False,
    resume: bool = False,
    *,
    databases: bool = False,
    shard_rows: int | None = None,
    part: Part | None = None,
    workers: int = 1,
    engine: str = "local",
    report: Report | None = None,
) -> Path:
    """Write rows 0 to `rows - 1` of `config` to the directory `out`; `report(done, rows)` follows each shard.

    The bytes of the shards are the same however many `workers` (processes) there are, whichever `engine` runs
    them, and whether one process writes all of them or several a `part` each.

    Raises:
        InputError: rows is not positive, there is no such format, part or engine, `out` is not empty (and neither
            `overwrite` nor a fitting `resume`), or the disk is full; whole shards stay and `resume` goes on.
    """
    job = Job(
        kind="dataset",
        settings={"config": config.to_dict(), **({"databases": True} if databases else {})},
        make=partial(dataset_rows, config, databases),
        split=config.split,
        stem=config.split,
        rows=rows,
        format=format,
        shard_rows=shard_rows,
    )
    chosen = choose_engine(engine, workers)
    for index in range(len(config.command_sets)):
        # An empty split of one of the sets is found out before anything is written.
        make_example(config, index)
    return write_job(job, out, part=part, engine=chosen, overwrite=overwrite, resume=resume, report=report)


def dataset_rows(config: DataConfig, databases: bool, start: int, stop: int) -> pa.Table:
    """Rows `start` to `stop - 1`, with the columns `COLUMNS` and on request `DATABASES`."""
    table = rows_table(config, range(start, stop))
    if not databases:
        return table
    import pyarrow as pa

    from data_gen.run.discriminating import databases as databases_of

    examples = make_examples(config, start, stop)
    fills = [[fill.inserts() for fill in databases_of(example.query)] for example in examples]
    return table.append_column(DATABASES, pa.array(fills, pa.list_(pa.list_(pa.string()))))


def write_pairs(
    config: DataConfig,
    edit: str,
    rows: int,
    out: Path | str,
    format: str = "parquet",
    overwrite: bool = False,
    resume: bool = False,
    *,
    shard_rows: int | None = None,
    part: Part | None = None,
    workers: int = 1,
    engine: str = "local",
    report: Report | None = None,
    tokenizer: Path | str | None = None,
    seed: int = 0,
    novel: bool = False,
) -> Path:
    """Write the pairs that `counterfactuals(config, edit=edit, n=rows, seed=seed, novel=novel)` gives to `out`.

    With `tokenizer`, a `tokenizer.json`, they are those of `encode=encoder_of(tokenizer)`: the two sides of each
    have equally many tokens under it. The columns then say besides in which token the answers part.

    Raises:
        InputError: as `write_dataset` and `make_pair`; or the tokenizer's file is none, or stands in an `out` that
            is to be overwritten.
    """
    config = replace(config, random_names=0.0, invented_names=0.0, invented_openings=0.0)
    file = None if tokenizer is None else str(tokenizer)
    if overwrite and file is not None:
        check_apart(Path(out), [file])
    chosen_by = {"edit": edit, "pair_seed": seed, **({"novel": True} if novel else {})}
    aligned = {} if file is None else {"tokenizer_sha256": _digest(file)}
    make = partial(pair_rows, config, edit, seed, novel, file)
    job = Job(
        kind="pairs",
        settings={"config": config.to_dict(), **chosen_by, **aligned},
        make=make,
        split=config.split,
        stem=f"{config.split}-pairs",
        rows=rows,
        format=format,
        shard_rows=shard_rows,
    )
    chosen = choose_engine(engine, workers)
    # An edit that cannot be made is found out before anything is written.
    make(0, 1)
    return write_job(job, out, part=part, engine=chosen, overwrite=overwrite, resume=resume, report=report)


def _digest(tokenizer: str) -> str:
    """What tells this tokenizer from others; reading it finds out first whether it is one."""
    from data_gen.pairs.alignment import encoder_of

    encoder_of(tokenizer)
    return sha256(Path(tokenizer).read_bytes()).hexdigest()


def pair_rows(
    config: DataConfig, edit: str, seed: int, novel: bool, tokenizer: str | None, start: int, stop: int
) -> pa.Table:
    """Pairs `start` to `stop - 1`, with the columns `PAIR_COLUMNS`, and with a tokenizer `TOKEN_COLUMNS`."""
    from data_gen.pairs.alignment import encode_with, tokenizer_of
    from data_gen.pairs.counterfactual import make_pair

    backend = None if tokenizer is None else tokenizer_of(tokenizer)
    encode = None if backend is None else encode_with(backend)
    pairs = [make_pair(config, edit, index, seed, encode, novel=novel) for index in range(start, stop)]
    return pair_table(pairs, seed=seed, split=config.split, tokenizer=backend)


def choose_engine(name: str, workers: int) -> Engine:
    """What writes the shards: this process, several of this machine, or a Ray cluster.

    Raises:
        InputError: there is no such engine, or no worker.
    """
    if name not in ENGINES:
        raise InputError(f"no engine `{name}`{nearest(name, ENGINES)}", hint=f"engines: {', '.join(ENGINES)}")
    if workers < 1:
        raise InputError(f"workers is {workers}, expected at least 1", hint="leave it out for one process")
    from data_gen.store.cluster import check_ray, on_processes, on_ray

    if name == "ray":
        if workers > 1:
            raise InputError(
                f"workers is {workers}, but Ray takes every core of its cluster", hint="leave out --workers"
            )
        check_ray()
        return on_ray
    return in_turn if workers == 1 else partial(on_processes, workers=workers)


def read_dataset(directory: Path | str, columns: Sequence[str] | None = None) -> Iterator[Record]:
    """The rows of what `write_dataset` or `write_pairs` finished, in order: with all columns, or with these.

    Every shard is checked before the first row is given.

    Raises:
        InputError: the directory is no dataset, is unfinished, or a shard is missing, cut short or changed.
    """
    tables = read_shards(directory, columns)
    return (row for table in tables for row in table.to_pylist())

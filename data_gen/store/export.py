"""Dataset on disk -> one file, a directory for `datasets`, or a repository of the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, get_args

from data_gen.errors import InputError, nearest
from data_gen.files import atomic_directory, atomic_file, refusal, write_atomic
from data_gen.outputs import check_apart, check_output
from data_gen.store.card import write_card
from data_gen.store.columns import PUBLISHED, published_table
from data_gen.store.formats import check_format, encode_table, features, open_writer, plain_schema, side_files
from data_gen.store.job import Record
from data_gen.store.pair_columns import PAIR_COLUMNS
from data_gen.store.shards import read_header, read_shards

if TYPE_CHECKING:
    import pyarrow as pa

Columns = Literal["all", "published"]
COLUMN_CHOICES: tuple[Columns, ...] = get_args(Columns)
LONGEST_LINE = 1 << 24
"""Bytes of a line of JSON that is looked at; a row of ours with its databases has some thousands."""


def export_dataset(
    directory: Path | str,
    out: Path | str,
    *,
    format: str = "parquet",
    columns: str = "all",
    overwrite: bool = False,
) -> Path:
    """Write all rows of a finished dataset to `out`: one file, or for `arrow` a directory for `load_from_disk`.

    `columns="published"` keeps the columns of the published datasets alone.

    Raises:
        InputError: as `read_dataset`; there is no such format or choice of columns; `out` would replace some of the
            dataset, or exists and `overwrite` is false or it holds something else than rows or pairs; or it cannot be
            written.
    """
    out = Path(out)
    check_format(format)
    if format == "arrow":
        _check_directory(out, directory, overwrite)
    else:
        check_apart(out, [directory])
        _check_file(out)  # first, or a file of somebody else would be offered for --overwrite
        check_output(out, overwrite=overwrite, sources=[directory])
    header = read_header(directory)
    _check_columns(columns, header)
    tables = (published_table(table) if columns == "published" else table for table in read_shards(directory))
    if format == "arrow":
        with atomic_directory(out, overwrite=overwrite) as part:
            _write_arrow(tables, header, part)
        return out
    with atomic_file(out) as file:
        first = next(tables)
        with open_writer(file, first.schema, format) as writer:
            writer.write(first)
            for table in tables:
                writer.write(table)
    return out


def _check_file(out: Path) -> None:
    """Refuse what may not be replaced: a file with something else in it than an export, in whatever format, has."""
    try:
        # What somebody made to have a name, as `mktemp` does, is empty.
        if not out.is_file() or out.stat().st_size == 0:
            return
        names = set(_columns_in(out))
    except OSError as error:
        raise refusal("read", out, error) from error
    if not any(names.issuperset(columns) for columns in (PUBLISHED, PAIR_COLUMNS)):
        raise InputError(
            f"output `{out}` exists and is no file of rows or pairs that tinysql wrote, so it is not overwritten",
            hint="choose another --out, or delete the file by hand",
        )


def _columns_in(path: Path) -> Collection[str]:
    """The columns of a file of Parquet, or of the first line of JSON; none where it is neither."""
    with open(path, "rb") as file:
        line = file.readline(LONGEST_LINE)
    if line.startswith(b"PAR1"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            names: list[str] = pq.read_schema(path).names
        except pa.ArrowException:
            return []
        return names
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return row if isinstance(row, dict) else []


def _check_directory(out: Path, directory: Path | str, overwrite: bool) -> None:
    """Refuse what may not be replaced: all but, with `overwrite`, a directory that holds an earlier export alone."""
    check_apart(out, [directory])
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"output `{out}` is a file, expected a directory", hint="choose another --out")
    names = [path.name for path in out.iterdir()]
    if names and not overwrite:
        raise InputError(
            f"output `{out}` exists", hint="choose another --out, or pass --overwrite to replace it"
        )
    if names and not (set(_SIDE_FILES) <= set(names) and all(map(_EXPORTED.fullmatch, names))):
        raise InputError(
            f"output `{out}` exists and holds more than an export in the format arrow",
            hint="choose another --out, or empty the directory by hand",
        )


_SIDE_FILES = ("state.json", "dataset_info.json")
_EXPORTED = re.compile(rf"data-[0-9]{{5}}-of-[0-9]{{5}}\.arrow|{'|'.join(map(re.escape, _SIDE_FILES))}")
"""The names that `datasets` gives to what it saves, as `_write_arrow` does."""


def _write_arrow(tables: Any, header: Record, out: Path) -> None:
    files = []
    schema: pa.Schema | None = None
    for number, table in enumerate(tables):
        schema = plain_schema(table.schema)
        files.append(f"data-{number:05d}-of-{len(header['shards']):05d}.arrow")
        write_atomic(out / files[-1], encode_table(table, "arrow"))
    identity = str([shard["sha256"] for shard in header["shards"]])
    for name, text in side_files(features(schema), files, header["split"], identity).items():
        write_atomic(out / name, text)


def _check_columns(columns: str, header: Record) -> None:
    if columns not in COLUMN_CHOICES:
        raise InputError(
            f"no columns `{columns}`{nearest(columns, COLUMN_CHOICES)}",
            hint=f"columns: {', '.join(COLUMN_CHOICES)}",
        )
    if columns == "published" and header.get("kind") != "dataset":
        raise InputError(
            "pairs have no published columns", hint="export them with all columns, or export a dataset"
        )


def push_dataset(directory: Path | str, name: str, *, columns: str = "all", api: Any = None) -> str:
    """Upload a finished dataset to the repository `name` of the hub, and return its address.

    The hub is reached with the token of `hf auth login`; `api` is a `huggingface_hub.HfApi` or acts like one.

    Raises:
        InputError: as `export_dataset`, or the hub refuses.
    """
    header = read_header(directory)
    _check_columns(columns, header)
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi()
    with TemporaryDirectory() as scratch:
        folder = Path(directory)
        if columns == "published":
            folder = Path(scratch)
            files = ["README.md", f"{header['split']}.parquet"]
            export_dataset(directory, folder / files[1], columns=columns)
            write_atomic(folder / files[0], write_card(header, files[1], published=True))
        else:
            files = ["README.md", "config.json", *[shard["file"] for shard in header["shards"]]]
        try:
            repository = api.create_repo(name, repo_type="dataset", exist_ok=True)
            api.upload_folder(
                repo_id=repository.repo_id, repo_type="dataset", folder_path=str(folder), allow_patterns=files
            )
        except Exception as error:  # of the hub's library, the HTTP library below it and the disk
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"cannot push to `{name}`: {reason}",
                hint="check the connection and the name, and log in with `hf auth login`",
            ) from error
    return str(repository)

"""Dataset on disk, ours or anybody's -> its rows, whose columns hold the kinds of values that ours hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import read_json
from data_gen.store.claim import FINISHED, check_finished
from data_gen.store.columns import COLUMNS
from data_gen.store.pair_columns import SIDES

Row = dict[str, Any]


def read_rows(path: Path | str) -> Iterator[Row]:
    """The rows or pairs of a dataset: a directory of ours, or Parquet or JSON-lines files of anybody.

    Every column that has the name of one of ours is null or of that one's type; what text is in it is not looked at.

    Raises:
        InputError: there is nothing to read, a file is damaged, a column is of another type, or a directory of
            ours is unfinished or was changed.
    """
    rows = _read(Path(path))
    first = next(rows, None)
    if first is None:
        raise InputError(f"`{path}` holds no rows: its files are empty", hint="write it again")
    return chain([first], rows)


def _read(path: Path) -> Iterator[Row]:
    if path.is_dir() and (path / FINISHED).is_file() and "shards" in read_json(path / FINISHED):
        from data_gen.store.dataset import read_dataset

        yield from _checked(read_dataset(path), path, "row", 0)
        return
    files = sorted([*path.rglob("*.parquet"), *path.rglob("*.jsonl")]) if path.is_dir() else [path]
    if path.is_dir():
        for directory in {path, *(file.parent for file in files)}:
            check_finished(directory)
    if not files or not all(file.is_file() for file in files):
        lacks = "holds no rows" if path.exists() else "does not exist"
        raise InputError(f"`{path}` {lacks}", hint="give a dataset directory, or a .parquet or .jsonl file")
    for file in files:
        if file.suffix == ".jsonl":
            yield from _checked(_read_lines(file), file, "line", 1)
        else:
            yield from _checked(_read_parquet(file), file, "row", 0)


def _read_lines(file: Path) -> Iterator[Row]:
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                if b"\\ud" in line.lower():
                    # Half of a surrogate pair may be written in JSON, but is no character.
                    json.dumps(row, ensure_ascii=False).encode()
            except RecursionError as error:
                raise InputError(
                    f"line {number} of `{file}` is nested too deeply", hint="write one flat row a line"
                ) from error
            except ValueError as error:
                raise InputError(
                    f"line {number} of `{file}` is no JSON in UTF-8: {error}", hint="write the file again"
                ) from error
            if not isinstance(row, dict):
                raise InputError(
                    f"line {number} of `{file}` is a JSON {type(row).__name__}, expected an object",
                    hint="write one row a line, with its columns as keys",
                )
            yield row


def _read_parquet(file: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=1000):
                yield from batch.to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(f"`{file}` holds text that is not UTF-8: {error}", hint="write it again") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"`{file}` is no whole Parquet file: {str(error).splitlines()[0]}", hint="write it again"
        ) from error


_TYPES: dict[str, tuple[type, str]] = {
    "index": (int, "a whole number"),
    "seed": (int, "a whole number"),
    "table_name_use_synonym": (bool, "true or false"),
    "roles": (list, "a list of spans, each with start, end and role"),
    "databases": (list, "a list of lists of statements"),
}
"""Column -> what is in it, where that is not text."""
_NAMES = (*COLUMNS, "databases", "edit")
_EXPECTED = {
    **{name: _TYPES.get(name, (str, "text")) for name in _NAMES},
    **{f"{side}_{name}": _TYPES.get(name, (str, "text")) for name in COLUMNS for side in SIDES},
}


def _checked(rows: Iterable[Row], file: Path, unit: str, first: int) -> Iterator[Row]:
    for number, row in enumerate(rows, first):
        for name, value in row.items():
            if value is not None and name in _EXPECTED and not _fits(name, value):
                raise InputError(
                    f"{unit} {number} of `{file}` has {json.dumps(value, default=str)[:60]} in column `{name}`, "
                    f"expected {_EXPECTED[name][1]}",
                    hint="write the column as `tinysql data make` does, or leave it out",
                )
        yield row


def _fits(name: str, value: Any) -> bool:
    kind = _EXPECTED[name][0]
    if name == "command_set":
        # The published rows have numbers.
        return isinstance(value, str | int) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is list and name.endswith("roles"):
        return isinstance(value, list) and all(_is_span(one) for one in value)
    return isinstance(value, kind)


def _is_span(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("start")) is type(value.get("end")) is int
        and isinstance(value.get("role"), str)
    )

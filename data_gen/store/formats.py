"""Arrow table <-> the bytes of a file, in one of three formats that `datasets` reads."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_gen.errors import InputError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("parquet", "jsonl", "arrow")
"""Also the endings of the files."""

_REPEATED = ("command_set", "edit", "split", "table_name", "table_name_synonym", "variant")
"""Columns of few values, which Parquet keeps once each."""


def check_format(name: str) -> str:
    """`name` itself.

    Raises:
        InputError: it is none of `FORMATS`.
    """
    if name not in FORMATS:
        raise InputError(f"no format `{name}`{nearest(name, FORMATS)}", hint=f"formats: {', '.join(FORMATS)}")
    return name


def encode_table(table: pa.Table, format: str) -> bytes:
    """The whole file; equal tables give equal bytes with one version of pyarrow."""
    buffer = io.BytesIO()
    with open_writer(buffer, table.schema, format) as writer:
        writer.write(table)
    return buffer.getvalue()


class open_writer:
    """A context that writes tables of one schema, one behind the other, to an open file.

    A table becomes one row group of Parquet, one batch of Arrow, or lines of JSON.
    """

    def __init__(self, file: Any, schema: pa.Schema, format: str) -> None:
        self.file, self.format = file, format
        self.writer: Any = None
        if format == "parquet":
            self.writer = _parquet_writer(file, schema)
        elif format == "arrow":
            import pyarrow as pa

            self.writer = pa.ipc.new_stream(file, plain_schema(schema))

    def __enter__(self) -> open_writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()

    def write(self, table: pa.Table) -> None:
        """Append all rows of `table`."""
        if self.format == "parquet":
            self.writer.write_table(table, row_group_size=max(1, table.num_rows))
        elif self.format == "arrow":
            self.writer.write_table(plain_table(table).combine_chunks())
        else:
            import msgspec

            self.file.write(msgspec.json.Encoder().encode_lines(table.to_pylist()))


def _parquet_writer(file: Any, schema: pa.Schema) -> Any:
    import pyarrow.parquet as pq

    roles = [name for name in schema.names if name.endswith("roles")]
    return pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[*_REPEATED, *[f"{name}.list.element.role" for name in roles]],
        # Ends of spans grow by a few characters at a time, so their differences take little room and time.
        column_encoding={
            f"{name}.list.element.{end}": "DELTA_BINARY_PACKED" for name in roles for end in ("start", "end")
        },
        write_statistics=["index"],
        write_batch_size=16384,
        # With Arrow's own schema a reader would get roles as a dictionary type, which some do not know.
        store_schema=False,
    )


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with the values' own types where it has dictionaries of them."""
    import pyarrow as pa

    return pa.schema([field.with_type(_plain(field.type)) for field in schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind


def plain_table(table: pa.Table) -> pa.Table:
    """The table with strings where it has dictionaries of strings."""
    return table.cast(plain_schema(table.schema))


def read_tables(path: Path, format: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The tables in one file, in order: with all columns, or with these."""
    import pyarrow as pa

    wanted = None if columns is None else list(columns)

    if format == "parquet":
        import pyarrow.parquet as pq

        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, wanted)
    elif format == "arrow":
        with pa.memory_map(str(path)) as source:
            for batch in pa.ipc.open_stream(source):
                table = pa.Table.from_batches([batch])
                yield table if wanted is None else table.select(wanted)
    else:
        with open(path, encoding="utf-8") as lines:
            table = pa.Table.from_pylist([json.loads(line) for line in lines])
            yield table if wanted is None else table.select(wanted)


def side_files(schema: Mapping[str, Any], files: Sequence[str], split: str, identity: str) -> dict[str, str]:
    """The two JSON files by which `datasets.load_from_disk` knows a directory of Arrow files as its own."""
    info = {"citation": "", "description": "", "features": schema, "homepage": "", "license": ""}
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in files],
        "_fingerprint": sha256(identity.encode()).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    return {
        "dataset_info.json": json.dumps(info, indent=2) + "\n",
        "state.json": json.dumps(state, indent=2) + "\n",
    }


def features(kind: Any) -> Any:
    """What `datasets` calls the features of an Arrow schema or type, as JSON."""
    import pyarrow as pa

    if isinstance(kind, pa.Schema):
        return {field.name: features(field.type) for field in kind}
    if pa.types.is_struct(kind):
        return {field.name: features(field.type) for field in kind}
    if pa.types.is_list(kind):
        return {"feature": features(kind.value_type), "_type": "List"}
    return {"dtype": str(kind), "_type": "Value"}


def count_rows(path: Path, format: str) -> int | None:
    """The rows of a file; None for one that is damaged."""
    import pyarrow as pa

    try:
        if format == "parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as file:
                return int(file.metadata.num_rows)
        if format == "arrow":
            with pa.OSFile(str(path)) as source:
                return sum(batch.num_rows for batch in pa.ipc.open_stream(source))
        content = path.read_bytes()
        return content.count(b"\n") if content.endswith(b"\n") else None
    except (pa.ArrowInvalid, OSError):
        return None

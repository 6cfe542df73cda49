"""Published rows -> what of them is a query of ours, and why the rest is not; our rows -> the published columns.

A published row states its query twice, as SQL and as JSON, and its question once, without saying which words mean
what. So schema and SQL get their roles back, because they can be rendered from the query, and the question is one
span of an unknown role.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from data_gen.errors import InputError
from data_gen.example import MARKUP, Example
from data_gen.query import COMMAND_SETS, Query, SelectItem
from data_gen.read.parse import SqlError, parse_sql
from data_gen.schema import (
    KINDS,
    Column,
    Schema,
    SqlType,
    Table,
    add_schema,
    parse_schema,
    split_create,
    write_schema,
)
from data_gen.sql import add_sql, write_sql
from data_gen.text import BREAK, Pieces, Text

T = TypeVar("T")

UNKNOWN = "english.unknown"
"""The role of a question whose words nobody has labelled."""
EQUIVALENTS: Mapping[str, SqlType] = {
    **{name: name for name in KINDS},
    "SMALLINT": "INTEGER",
    "TINYINT": "INTEGER",
    "SERIAL": "INTEGER",
    "YEAR": "INTEGER",
    "BIGSERIAL": "BIGINT",
    "FLOAT": "REAL",
    "NUMERIC": "DECIMAL",
    "CHAR": "VARCHAR",
    "MEDIUMTEXT": "TEXT",
    "LONGTEXT": "TEXT",
    "DATETIME": "DATE",
    "TIMESTAMP": "DATE",
}
"""Published type -> ours, with its length left out. Points in time become days: the published literals are days."""
BATCH = 512
"""Rows that are turned into columns together."""


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """A published row as a query of ours, under the names that `Example` has; what is missing is its style."""

    index: int
    query: Query
    question: str

    @cached_property
    def english(self) -> Text:
        """The question as it was given."""
        return Text.of([(self.question, UNKNOWN)])

    @cached_property
    def schema_text(self) -> Text:
        """CREATE TABLE with our names of the types."""
        return write_schema(self.query.schema)

    @cached_property
    def sql(self) -> Text:
        """The right answer in our way of writing."""
        return write_sql(self.query)

    @cached_property
    def prompt(self) -> Text:
        """Question and schema in the frame that `Example.prompt` has."""
        return self._prompt().text()

    @cached_property
    def text(self) -> Text:
        """The prompt, a space, and the SQL."""
        pieces = self._prompt()
        add_sql(pieces, self.query)
        return pieces.text()

    def _prompt(self) -> Pieces:
        pieces = Pieces()
        pieces.add("### Instruction:", MARKUP)
        pieces.add(f" {self.question}", UNKNOWN)
        pieces.add(" ### Context:", MARKUP)
        add_schema(pieces, self.query.schema)
        pieces.add(" ### Response:", MARKUP)
        return pieces


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What `read_published` gives."""

    rows: tuple[Recovered, ...]
    lost: Counter[str]
    """Why a row is no query of ours -> how many rows; each lost row counts once."""
    mapped: Counter[str]
    """`FLOAT -> REAL` -> how many columns of recovered rows have the type on the right for the one on the left."""
    respelled: int
    """Recovered rows whose SQL differs from ours in its spaces."""
    written: int = 0
    """Recovered rows that are in a file instead of in `rows`."""

    def __str__(self) -> str:
        recovered = len(self.rows) + self.written
        total = recovered + self.lost.total()
        share = f" ({recovered / total:.1%})" if total else ""
        lines = [f"{recovered:,} of {total:,} rows recovered{share}"]
        lines += [f"  {rows:>9,} lost: {reason}" for reason, rows in self.lost.most_common()]
        lines += [f"  {columns:>9,} columns: {change}" for change, columns in self.mapped.most_common()]
        if self.respelled:
            lines.append(f"  {self.respelled:>9,} rows whose SQL has other spaces")
        return "\n".join(lines)


class Loss(InputError):
    """Why a published row is no query of ours; `message` names the reason and nothing of this row alone."""


class Importer:
    """Published rows, one at a time; counts what is lost."""

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()
        self.mapped: Counter[str] = Counter()
        self.respelled = 0

    def add(self, row: Mapping[str, Any], index: int) -> Recovered | None:
        """The row as a query of ours, or None, and its reason counted."""
        try:
            schema, mapped = _schema(str(_cell(row, "create_statement")))
            query = _query(row, schema)
            question = str(_cell(row, "english_prompt"))
            if BREAK in question:
                raise Loss("english_prompt has a NUL character")
        except Loss as loss:
            self.lost[loss.message] += 1
            return None
        found = Recovered(index=index, query=query, question=question)
        self.mapped.update(mapped)
        self.respelled += row["sql_statement"] != found.sql.string
        return found

    def imported(self, rows: Iterable[Recovered] = (), *, written: int = 0) -> Imported:
        """These rows with what was counted."""
        return Imported(
            rows=tuple(rows), lost=self.lost, mapped=self.mapped, respelled=self.respelled, written=written
        )


def read_published(rows: Iterable[Mapping[str, Any]]) -> Imported:
    """Published rows as queries of ours.

    A row needs the columns `command_set`, `create_statement`, `english_prompt` and `sql_statement`; where it has
    `table_name`, `select` and `order_by` too, they must say what the SQL says. A row that says command set 2 and
    has an aggregate is one of CS3: that is how CS3 was published.
    """
    importer = Importer()
    found = [importer.add(row, index) for index, row in enumerate(rows)]
    return importer.imported([row for row in found if row is not None])


def _cell(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    if value is None:
        raise Loss(f"the row has no `{name}`")
    return value


_COLUMN = re.compile(r"(\w+)\s+(\w+)(?:\s*\([\d\s,]*\))?")


def _schema(statements: str) -> tuple[Schema, Counter[str]]:
    try:
        return parse_schema(statements), Counter()
    except InputError:
        # Types that ours does not have, or lengths behind them.
        pass
    mapped: Counter[str] = Counter()
    try:
        parts = split_create(statements)
    except InputError as error:
        raise Loss("create_statement is not CREATE TABLE with names and types alone") from error
    tables = [_table(name, columns, mapped) for name, columns in parts]
    try:
        return Schema(tuple(tables)).check(), mapped
    except InputError as error:
        raise Loss("create_statement has one name twice, or a table without columns") from error


def _table(table: str, parts: list[str], mapped: Counter[str]) -> Table:
    found = [_COLUMN.fullmatch(part) for part in parts]
    if None in found:
        raise Loss("create_statement is not CREATE TABLE with names and types alone")
    columns = []
    for name, written in [column.groups() for column in found if column is not None]:
        kind = EQUIVALENTS.get(written.upper())
        if kind is None:
            raise Loss(f"column type {written.upper()} has no equivalent")
        if kind != written.upper():
            mapped[f"{written.upper()} -> {kind}"] += 1
        columns.append(Column(name, kind))
    return Table(table, tuple(columns))


def _query(row: Mapping[str, Any], schema: Schema) -> Query:
    sql = str(_cell(row, "sql_statement"))
    try:
        query = parse_sql(sql, schema, _command_set(_cell(row, "command_set"), sql))
    except SqlError as error:
        raise Loss(_reason(error, row, sql)) from error
    _check_grouping(query)
    check_columns(row, query)
    return query


def _command_set(given: object, sql: str) -> str:
    name = set_name(given, sql)
    if name not in COMMAND_SETS:
        raise Loss("command_set is none of the published ones, 1 to 5")
    return name


def set_name(given: object, sql: str) -> str:
    """Our name of a command set that was published as a number; CS3 was published under the number of CS2."""
    name = f"cs{str(given).lower().removeprefix('cs')}"
    return "cs3" if name == "cs2" and _AGGREGATE.search(sql) else name


_AGGREGATE = re.compile(r"\b(?:SUM|AVG|MIN|MAX|COUNT)\(")
_JOINED = re.compile(r"\bFROM (\w+) JOIN (\w+) ")


def _reason(error: SqlError, row: Mapping[str, Any], sql: str) -> str:
    joined = _JOINED.search(sql)
    if joined is not None and joined[1] == joined[2]:
        return "a table is joined with itself without an alias"
    if joined is not None and f"TABLE {joined[2]} " not in str(row["create_statement"]):
        return "create_statement lacks the joined table"
    if error.message.startswith("SQL does not parse"):
        return "the SQL does not parse"
    return "the SQL is outside the grammar of its command set, or names what its schema lacks"


def _check_grouping(query: Query) -> None:
    """Refuse what SQLite answers with the values of any row, and other databases not at all."""
    if query.group_by or not any(item.aggregate for item in query.select):
        return
    if not all(item.aggregate for item in query.select):
        raise Loss("a bare column stands beside an aggregate without GROUP BY")
    if query.order_by:
        raise Loss("ORDER BY of an answer that has one row")


def check_columns(row: Mapping[str, Any], query: Query) -> None:
    """Hold the columns that state the query a second time against it; a column that is null states nothing.

    Raises:
        Loss: one of them is not JSON of the published kind, or says something else than the query.
    """
    stated = {
        # A CTE's name is no name of the schema.
        "table_name": query.table if query.cte is None else query.cte.select.table,
        "select": [(item.column, _function(item)) for item in query.select],
        "order_by": [(key.column, key.direction == "ASC") for key in query.order_by],
    }
    given = {"table_name": row.get("table_name")}
    try:
        _fields(row)
        for column, parts in (("select", ("name", "aggregate")), ("order_by", ("name", "asc"))):
            text = row.get(column)
            listed = None if text is None else json.loads(text)
            given[column] = None if listed is None else [tuple(one[part] for part in parts) for one in listed]
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise Loss("`table_fields`, `select` or `order_by` is not the published JSON") from error
    if any(value not in (None, stated[column]) for column, value in given.items()):
        raise Loss("`table_name`, `select` or `order_by` contradicts the SQL")


def _function(item: SelectItem) -> str:
    return item.aggregate or (item.window.function if item.window is not None else "")


def _fields(row: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]] | None:
    """The name and the type of each of the row's `table_fields`, and all that is said of it."""
    text = row.get("table_fields")
    if text is None:
        return None
    found = [(one["name"], one["type"], {**one}) for one in json.loads(text)]
    if not all(isinstance(name, str) and isinstance(kind, str) for name, kind, _ in found):
        raise TypeError("the name or the type of a field is no text")
    return found


def published_rows(examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
    """Our rows in the published columns, with the number of the command set as published (`3` for `cs3`).

    The published scorer gives our SQL 1.0, but for rows with GROUP BY, which it does not know.

    Raises:
        InputError: a row of a command set with switches, which has no number.
    """
    from data_gen.store.columns import example_table, published_table

    for batch in _batches(examples):
        yield from published_table(example_table(batch, seed=0, split="")).to_pylist()


def import_rows(
    path: Path | str, out: Path | str, *, format: str = "parquet", overwrite: bool = False
) -> Imported:
    """Write what can be recovered of the published rows in `path` to the file `out`, in the columns of our datasets.

    What nobody knows of these rows is null: style, variant, split and seed. `index` is the number of the row in
    `path`. The rows of the result are in the file, so its own `rows` are empty.

    Raises:
        InputError: there is nothing to read in `path`; nothing of it can be recovered; there is no such format;
            `out` would replace some of `path`, or exists and `overwrite` is false; or it cannot be written.
    """
    import pyarrow as pa

    from data_gen.files import atomic_file
    from data_gen.outputs import check_output
    from data_gen.review.rows import read_rows
    from data_gen.store.columns import arrow_schema
    from data_gen.store.formats import check_format, open_writer

    out = Path(out)
    check_format(format)
    check_output(out, overwrite=overwrite, sources=[path])
    importer = Importer()
    written = 0
    with atomic_file(out) as file, open_writer(file, arrow_schema(), format) as writer:
        for batch in _batches(enumerate(read_rows(path))):
            found = [(row, importer.add(row, index)) for index, row in batch]
            records = [imported_record(row, one) for row, one in found if one is not None]
            written += len(records)
            if records:
                writer.write(pa.Table.from_pylist(records, schema=arrow_schema()))
        if not written:
            raise InputError(
                f"no row of `{path}` can be recovered",
                hint=f"most often: {next(iter(importer.lost), 'it has no rows')}",
            )
    return importer.imported(written=written)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, BATCH)):
        yield batch


def imported_record(row: Mapping[str, Any], found: Recovered) -> dict[str, Any]:
    """A row with the columns of a dataset of ours: what it stated besides its texts is kept."""
    query, create = found.query, found.schema_text.string
    types = {column.name: column.type for table in query.schema.tables for column in table.columns}
    given = _fields(row)
    fields = None
    if given is not None:
        fields = json.dumps([{**one, "type": types.get(name, written)} for name, written, one in given])
    kept = ("table_name_synonym", "table_name_use_synonym", "select", "order_by")
    return {
        **{name: row.get(name) for name in kept},
        "command_set": query.command_set,
        "table_name": query.table,
        "create_statement": create,
        "english_prompt": found.question,
        "sql_statement": found.sql.string,
        "table_fields": fields,
        "index": found.index,
        "prompt": found.prompt.string,
        "query": query.to_json(),
        "roles": [span._asdict() for span in found.text.spans],
    }

"""Schema -> CREATE TABLE text, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from data_gen.errors import InputError, nearest
from data_gen.text import BREAK, Pieces, Text, marks

SqlType = Literal["INTEGER", "BIGINT", "REAL", "DOUBLE", "DECIMAL", "TEXT", "VARCHAR", "DATE", "BOOLEAN"]
Kind = Literal["number", "text", "date", "boolean"]
KINDS: dict[SqlType, Kind] = {
    "INTEGER": "number",
    "BIGINT": "number",
    "REAL": "number",
    "DOUBLE": "number",
    "DECIMAL": "number",
    "TEXT": "text",
    "VARCHAR": "text",
    "DATE": "date",
    "BOOLEAN": "boolean",
}
"""Every column type -> what its values are, which decides the phrases, operators and aggregates that suit it."""
SQL_TYPES: tuple[SqlType, ...] = tuple(KINDS)
WHOLE: tuple[SqlType, ...] = ("INTEGER", "BIGINT")
"""The number types whose values are whole."""


class Column(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One typed column; DATE values are ISO text in SQLite."""

    name: str
    type: SqlType
    references: str | None = None
    """The table whose `id` this foreign key refers to, where CREATE TABLE says so."""
    primary: bool = False
    """Whether CREATE TABLE says PRIMARY KEY."""

    @property
    def kind(self) -> Kind:
        return KINDS[self.type]


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A table and its columns, whose names all differ."""

    name: str
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        """The column called `name`.

        Raises:
            InputError: the table has no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        known = ", ".join(column.name for column in self.columns)
        raise InputError(f"table `{self.name}` has no column `{name}`", hint=f"its columns: {known}")


class Schema(Struct, frozen=True, forbid_unknown_fields=True):
    """The tables an answer may use."""

    tables: tuple[Table, ...]

    def table(self, name: str) -> Table:
        """The table called `name`.

        Raises:
            InputError: the schema has no such table.
        """
        for table in self.tables:
            if table.name == name:
                return table
        known = ", ".join(table.name for table in self.tables)
        raise InputError(f"schema has no table `{name}`", hint=f"its tables: {known}")

    def check(self) -> Schema:
        """The schema itself, if its names are ones that SQL can tell apart.

        Raises:
            InputError: no table, a table without columns, or one name twice. SQLite compares names without case.
        """
        if not self.tables:
            raise InputError("schema has no tables, expected at least one", hint=_EXAMPLE)
        _check_distinct("schema has two tables", [table.name for table in self.tables])
        for table in self.tables:
            if not table.columns:
                raise InputError(f"table `{table.name}` has no columns, expected at least one")
            _check_distinct(f"table `{table.name}` has two columns", [c.name for c in table.columns])
        return self


def _check_distinct(what: str, names: list[str]) -> None:
    if len({name.lower() for name in names}) != len(names):
        twice = next(name for name in names if [n.lower() for n in names].count(name.lower()) > 1)
        raise InputError(f"{what} of one name, `{twice}`", hint="rename one; SQL compares names without case")


def write_schema(schema: Schema) -> Text:
    """One CREATE TABLE per table on one line; every name has a space before it.

    Roles are `schema.table`, `schema.columns.2.name`, `schema.columns.2.type`, `schema.keyword` and
    `schema.separator`; those of a second table begin with `schema.tables.1`.

    Example: `CREATE TABLE orders ( price INTEGER, name TEXT )`.
    """
    pieces = Pieces()
    add_schema(pieces, schema)
    return pieces.text()


def add_schema(pieces: Pieces, schema: Schema) -> None:
    """Append what `write_schema` gives, behind a space."""
    for number, table in enumerate(schema.tables):
        columns = _BETWEEN.join(
            [
                _constrained(c) if c.primary or c.references else f" {c.name}{BREAK} {c.type}"
                for c in table.columns
            ]
        )
        head = "; CREATE TABLE" if number else " CREATE TABLE"
        pieces.strings.append(f"{head}{BREAK} {table.name}{BREAK} ({BREAK}{columns}{BREAK} )")
        if " PRIMARY KEY" in columns or " REFERENCES" in columns:
            kinds = [2 if c.references else 1 if c.primary else 0 for c in table.columns]
            pieces.roles.append(_constrained_marks(number, tuple(kinds)))
        else:
            pieces.roles.append(_table_marks(number, len(table.columns)))


_BETWEEN = f"{BREAK},{BREAK}"


def _constrained(column: Column) -> str:
    parts = [f" {column.name}", f" {column.type}"]
    if column.primary:
        parts.append(" PRIMARY KEY")
    if column.references is not None:
        parts += [" REFERENCES", f" {column.references}", " ( id )"]
    return BREAK.join(parts)


@lru_cache(maxsize=1024)
def _table_marks(number: int, columns: int) -> str:
    return _constrained_marks(number, (0,) * columns)


@lru_cache(maxsize=4096)
def _constrained_marks(number: int, constraints: tuple[int, ...]) -> str:
    place = f"schema.tables.{number}" if number else "schema"
    roles = [f"{place}.keyword", f"{place}.table"]
    for index, constraint in enumerate(constraints):
        at = f"{place}.columns.{index}"
        roles += [f"{place}.separator" if index else f"{place}.keyword", f"{at}.name", f"{at}.type"]
        if constraint == 1:
            roles.append(f"{at}.key")
        if constraint == 2:
            roles += [f"{place}.keyword", f"{at}.references", f"{place}.keyword"]
    roles.append(f"{place}.keyword")
    return marks(*roles)


_EXAMPLE = "write CREATE TABLE orders ( price INTEGER, name TEXT )"
_STATEMENT = re.compile(r"CREATE\s+TABLE\s+(\w+)\s*\((.*)\)", re.IGNORECASE | re.DOTALL)
_BRACKET_OR_COMMA = re.compile(r"[(),]")
_COLUMN = re.compile(
    r"(\w+)\s+(\w+)(\s+PRIMARY\s+KEY)?(?:\s+REFERENCES\s+(\w+)\s*\(\s*id\s*\))?", re.IGNORECASE
)


def parse_schema(statements: str) -> Schema:
    """The schema of CREATE TABLE statements, one or several; `parse_schema(write_schema(s).string) == s`.

    Example: `parse_schema("CREATE TABLE orders ( price INTEGER, name TEXT )")`.

    Raises:
        InputError: another statement, a constraint, or a column type that is none of `SQL_TYPES`.
    """
    tables = [Table(name, tuple(_parse_columns(columns))) for name, columns in split_create(statements)]
    return Schema(tuple(tables)).check()


def split_create(statements: str) -> list[tuple[str, list[str]]]:
    """The name of each table, and what is written of each of its columns; a comma in brackets ends no column.

    Takes time in proportion to the text, whatever stands in it.

    Example: `split_create("CREATE TABLE orders ( price DECIMAL(10,2), name TEXT )")` gives
    `[("orders", ["price DECIMAL(10,2)", "name TEXT"])]`.

    Raises:
        InputError: a statement is not CREATE TABLE, a name and something in brackets.
    """
    found = []
    for part in statements.strip().rstrip("; \n").split(";"):
        match = _STATEMENT.fullmatch(part.strip())
        if match is None:
            raise InputError(f"schema `{part.strip()[:60]}` is not CREATE TABLE statements", hint=_EXAMPLE)
        found.append((match[1], [column.strip() for column in _split_columns(match[2])]))
    return found


def _split_columns(body: str) -> list[str]:
    if "(" not in body:
        return body.split(",")
    parts, begin, depth = [], 0, 0
    for match in _BRACKET_OR_COMMA.finditer(body):
        if match[0] == ",":
            if depth == 0:
                parts.append(body[begin : match.start()])
                begin = match.end()
        else:
            depth += 1 if match[0] == "(" else -1
    return [*parts, body[begin:]]


def _parse_columns(parts: Iterable[str]) -> Iterable[Column]:
    for part in parts:
        match = _COLUMN.fullmatch(part)
        if match is None:
            raise InputError(f"column `{part[:60]}` of the schema is not a name and a type", hint=_EXAMPLE)
        name, written, primary, references = match.groups()
        kind = next((known for known in SQL_TYPES if known == written.upper()), None)
        if kind is None:
            known = ", ".join(SQL_TYPES)
            raise InputError(
                f"column `{name}` has type `{written}`, expected one of {known}{nearest(written, SQL_TYPES)}"
            )
        yield Column(name, kind, references, primary is not None)

"""Schema -> CREATE TABLE text, and back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from data_gen.errors import InputError, nearest
from data_gen.text import Text

SqlType = Literal["INTEGER", "REAL", "TEXT", "DATE"]
SQL_TYPES: tuple[SqlType, ...] = ("INTEGER", "REAL", "TEXT", "DATE")


@dataclass(frozen=True)
class Column:
    """One typed column; DATE values are ISO text."""

    name: str
    type: SqlType


@dataclass(frozen=True)
class Table:
    """A table and its columns, whose names all differ."""

    name: str
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        if not self.columns:
            raise InputError(f"table `{self.name}` has no columns, expected at least one")
        # SQLite compares names without case, so `Price` beside `price` would be one name twice.
        if len({column.name.lower() for column in self.columns}) != len(self.columns):
            raise InputError(f"table `{self.name}` has two columns of one name")

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


@dataclass(frozen=True)
class Schema:
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


def write_schema(schema: Schema) -> Text:
    """One CREATE TABLE per table on one line; every name has a space before it, so it is always one token.

    Roles are `schema.table`, `schema.columns.2.name`, `schema.columns.2.type`, `schema.keyword` and
    `schema.separator`; those of a second table begin with `schema.tables.1`.

    Example: `CREATE TABLE orders ( price INTEGER, name TEXT )`.
    """
    pieces: list[tuple[str, str]] = []
    for number, table in enumerate(schema.tables):
        place = f"schema.tables.{number}" if number else "schema"
        pieces.append(("; CREATE TABLE" if number else "CREATE TABLE", f"{place}.keyword"))
        pieces.append((f" {table.name}", f"{place}.table"))
        before = (" (", f"{place}.keyword")
        for index, column in enumerate(table.columns):
            pieces.append(before)
            pieces.append((f" {column.name}", f"{place}.columns.{index}.name"))
            pieces.append((f" {column.type}", f"{place}.columns.{index}.type"))
            before = (",", f"{place}.separator")
        pieces.append((" )", f"{place}.keyword"))
    return Text.of(pieces)


def parse_schema(statement: str) -> Schema:
    """The schema of one CREATE TABLE statement; `parse_schema(write_schema(s).string) == s` for one table.

    Example: `parse_schema("CREATE TABLE orders ( price INTEGER, name TEXT )")`.

    Raises:
        InputError: another statement, a constraint, or a column type that is none of `SQL_TYPES`.
    """
    example = "write CREATE TABLE orders ( price INTEGER, name TEXT )"
    match = re.fullmatch(r"CREATE\s+TABLE\s+(\w+)\s*\(([^()]*)\)\s*;?", statement.strip(), re.IGNORECASE)
    if match is None:
        raise InputError(f"schema `{statement.strip()[:60]}` is not one CREATE TABLE statement", hint=example)
    columns = []
    for part in match[2].split(","):
        words = part.split()
        if len(words) != 2 or not re.fullmatch(r"\w+", words[0]):
            raise InputError(f"column `{part.strip()}` of the schema is not a name and a type", hint=example)
        kind = next((known for known in SQL_TYPES if known == words[1].upper()), None)
        if kind is None:
            known = ", ".join(SQL_TYPES)
            raise InputError(
                f"column `{words[0]}` has type `{words[1]}`, expected one of {known}{nearest(words[1], SQL_TYPES)}"
            )
        columns.append(Column(words[0], kind))
    return Schema((Table(match[1], tuple(columns)),))

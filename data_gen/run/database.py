"""A schema and its rows -> a database that SQL runs on."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data_gen.run.sqlite import Result, Row, open_tables, run_statement
from data_gen.schema import Schema
from data_gen.sql import write_value

INDEX = "by_group"
"""The name of a database's index."""


@dataclass(frozen=True)
class Database:
    """A schema, and for each of its tables the rows in the order of insertion."""

    schema: Schema
    rows: tuple[tuple[Row, ...], ...]
    index: str | None = None
    """CREATE INDEX, so that rows are read, and groups come, in another order than that of insertion."""

    def inserts(self) -> list[str]:
        """One INSERT statement per table that has rows."""
        statements = []
        for table, rows in zip(self.schema.tables, self.rows, strict=True):
            values = ", ".join(
                "(" + ", ".join("NULL" if v is None else write_value(v) for v in row) + ")" for row in rows
            )
            if rows:
                statements.append(f"INSERT INTO {table.name} VALUES {values}")
        return statements


def open_database(database: Database) -> sqlite3.Connection:
    """A connection that can only read, for several statements on one database."""
    return open_tables(database.schema, database.rows, database.index)


def run_sql(database: Database, sql: str) -> Result:
    """Run one statement read-only in a fresh in-memory SQLite; whatever it says, it gives a `Result`.

    A statement is refused if it writes, calls a function that is not on the short list, recurses, or gives
    more than a thousand rows; it is stopped after half a second of processor time or a fixed number of steps.
    """
    connection = open_database(database)
    try:
        return run_statement(connection, sql)
    finally:
        connection.close()


def same_rows(right: Sequence[Row], given: Sequence[Row], *, ordered: bool) -> bool:
    """Whether two results are equal: as lists where the query sorts, as multisets elsewhere.

    Both are lists, or both tuples.
    """
    if right == given:
        return True
    return not ordered and len(right) == len(given) and Counter(right) == Counter(given)
